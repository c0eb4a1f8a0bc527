"""What learners write, read for what it means: a number, several numbers, a share, letters, one of several words.

What is right in sense is right: "about 2 years" is 24 months, "B, because ..." is B. What takes an answer back is not
read over: "not B", "B or C", "less than 19".
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# Words around an answer that do not change it: "run C", "from 6 to 8 years", "p=3".
FILLER = frozenset({
    "age", "ages", "and", "answer", "are", "at", "between", "bit", "bits", "bug", "choose", "clinic", "comparison",
    "curve", "for", "from", "group", "has", "i", "in", "is", "it", "loss", "number", "of", "old", "one", "option",
    "output", "p", "panel", "part", "policy", "reader", "run", "s", "table", "take", "that", "the", "through", "to",
    "torch", "until", "with", "y", "year", "years", "yr", "yrs"})
# Words that take back or change what stands beside them. (Ages are asked in years where there is a choice.)
TURNING = frozenset({
    "above", "after", "before", "below", "but", "except", "fewer", "instead", "less", "month", "months", "more",
    "neither", "never", "no", "nor", "not", "nothing", "or", "over", "percent", "than", "under", "without", "hardly",
    "impossible", "unlikely", "wrong"})
TURN_A_NUMBER = re.compile(
    r"\b(not|no|never|less|more|fewer|than|under|over|below|above|before|after|until|up to|most|or)\b|[<>≠]")
_SMALL = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
          "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
WORDS = {**{word: value for value, word in enumerate(_SMALL)}, **{word: 10 * n for n, word in enumerate(_TENS, 2)},
         **{word: n for n, word in enumerate(_ORDINALS, 1)}}
_UNITS = {"mo": 1, "y": 12, "%": 0.01, "p": 0.01}  # by how a unit begins
_TERM = r"(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?"
_QUANTITY = re.compile(
    rf"(?<![\w.])([-+]?{_TERM})(?:\s*\^\s*([-+]?\d+))?(?:\s*/\s*({_TERM})(?:\s*\^\s*([-+]?\d+))?)?"
    r"(?:\s*(months?|mo|mths?|m|years?|yrs?|y|%|per ?cent|pct|st|nd|rd|th)(?![a-z]))?(?![\w^]|\.\d)")


class Unreadable(ValueError):
    """An answer that is not of the kind asked for; the text says why."""


# --- numbers ---

def number(answer: Any) -> float:
    """A number in whatever kind: 24, "about 24 months", "2 years" (24 months), "2^-3", "12 %", an array of one value.

    Raises Unreadable for what is no number.
    """
    found = list(_flat(answer))
    if len(found) != 1:
        raise Unreadable(f"One number is asked; this has {len(found)}")
    (answer,) = found
    if isinstance(answer, str):
        values = _in_text(answer)
        if len(values) != 1:
            raise Unreadable(f"One number is asked, not {answer!r}" if re.search(r"\d", answer)
                             else f"{answer!r} is not a number")
        return values[0]
    if callable(answer):
        raise Unreadable("This is a function, not what it gives: the brackets () are missing")
    try:
        if isinstance(answer, bool):
            raise TypeError
        return float(answer)
    except (TypeError, ValueError):
        raise Unreadable(f"{repr(answer)[:40]} is not a number") from None


def numbers(answer: Any, names: Sequence[Any] = ()) -> np.ndarray:
    """Several numbers (n,): a list, array, tensor, dictionary, or a text such as "0.4, 0.2" or "0,4; 0,2".

    `names` gives the order of those that come with names, as in {"std": 0.2, "mean": 0.4} or "std 0.2, mean 0.4".
    Raises as `number` does.
    """
    if isinstance(answer, set | frozenset):
        raise Unreadable("A set has no order: give a list")
    if isinstance(answer, str):
        found = _in_text(answer)
        places = [re.search(rf"\b{name}", answer.lower()) for name in names if isinstance(name, str)]
        if len(found) == len(places) == len(names) and all(places):
            spoken = sorted(range(len(names)), key=lambda name: places[name].start())  # 'std 0.2, mean 0.4'
            found = [value for _, value in sorted(zip(spoken, found, strict=True))]
        return np.array(found)
    if hasattr(answer, "to_dict") and getattr(answer, "ndim", 0) == 1:  # a pandas Series
        named = answer.to_dict()
        answer = named if len(named) == len(answer) else answer.tolist()
    if isinstance(answer, Mapping):
        by_name = {name: value for name in names for key, value in answer.items()
                   if (told := str(key).lower().removeprefix("torch.")) == str(name)
                   or (isinstance(name, str) and told.startswith(name))}
        answer = [by_name[name] for name in names] if names and len(by_name) == len(names) else list(answer.values())
    return np.array([number(value) for value in _flat(answer)])


def share(answer: Any) -> float:
    """A share from 0 to 1, also of "45 %" or 45."""
    value = number(answer)
    if isinstance(answer, str) and value > 1 and re.search("[a-z]{3}", answer.lower()):
        raise Unreadable(f"{answer!r} is not a share")
    counted = isinstance(answer, str) and re.search("%|per ?cent|pct", answer.lower())  # by `number`
    return value / 100 if 1 < value <= 100 and not counted else value


def _flat(answer: Any) -> Iterator[Any]:
    """The single values of whatever holds them: lists in lists, arrays, tensors, tables, generators."""
    if isinstance(answer, type):
        yield answer
        return
    for to_list in ("to_numpy", "tolist"):
        if hasattr(answer, to_list) and not isinstance(answer, list):
            answer = getattr(answer, to_list)()
    if isinstance(answer, str | bytes | Mapping) or not isinstance(answer, Iterable):
        yield answer
    else:
        for value in answer:
            yield from _flat(value)


def _in_text(text: str) -> list[float]:
    """The numbers of a text; none if it takes one back with "not", "or" or "less than"."""
    if re.fullmatch(r"\s*((np|math)\.)?inf(inity)?\s*|∞", text.lower()):
        return [np.inf]
    text = _spelled(_plain(text), leave=("one", "first", "second"))  # as in "the first one"
    # "3 months: 2.96", "3 -> 2.96" and "8/17.9 = 0.45": what stands before is a name or the way there.
    text = re.sub(rf"(?<![\w.])(?:{_TERM}\s*[-+/*^·]\s*)*{_TERM}\s*(?:months?|years?)?\s*(?::|->|→|=)(?=\s*[-+.\d])",
                  " ", text)
    text = re.sub(r"\b(or more|at least)\b|>=|≥", " ", text)
    values, behind, unit_before = [], 0, ""
    for found in _QUANTITY.finditer(text):
        between = text[behind:found.start()]
        if TURN_A_NUMBER.search(between):
            return []
        value = float(found[1]) ** float(found[2] or 1)
        if found[3]:
            value /= (float(found[3]) ** float(found[4] or 1)) or np.nan
        unit = found[5] or ""
        value *= next((times for start, times in _UNITS.items() if unit.startswith(start)), 1)
        if unit_before.startswith("y") and unit.startswith("m") and between.strip() in ("", "and", ","):
            values[-1] += value  # 3 years and 4 months
        else:
            values.append(value)
        behind, unit_before = found.end(), unit
    return [] if re.match(r"\s*(or (less|fewer)|at most|≠)", text[behind:]) else values


def _spelled(text: str, leave: Iterable[str] = ("one",)) -> str:
    """The text with digits for the numbers in words, but for some of these."""
    text = re.sub(rf"\b({'|'.join(_TENS)})[ -]({'|'.join(_SMALL[1:10])})\b",
                  lambda both: str(WORDS[both[1]] + WORDS[both[2]]), text)
    return re.sub("[a-z]+", lambda word: word[0] if word[0] in leave else str(WORDS.get(word[0], word[0])), text)


def _plain(text: str) -> str:
    """Small letters, decimal points, one kind of minus, and powers written with ^."""
    text = text.lower().replace("−", "-").replace("**", "^").replace("per cent", "percent")
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    text = re.sub("[⁻⁰¹²³⁴-⁹]+", lambda found: "^" + found[0].translate(raised), text)
    text = re.sub(r"\s*[×·x*]\s*10\s*\^\s*", "e", text)
    text = re.sub(r"\+\s*/?\s*-", "±", text)
    text = re.sub(r"(^|[=:(,;]|(?<!\d )\b(?:minus|of|is)\b)\s*[-–—]\s*(?=\.?\d)", r"\1 -", text)
    text = re.sub(r"(?<!\d)(?<!\d )\bminus\s+(?=\.?\d)", "-", text)
    text = re.sub(r"\bno\.\s*(?=\d)", "", text)
    text = re.sub(r"(?<=\d)\s*(?:out of|in|of)\s+(?=\d)", "/", text)
    text = re.sub(r"(?<![\d.,])([1-9]\d{0,2}),000(?![\d.,])", r"\g<1>000", text)
    if not re.search(r"\.\d", text):  # else a comma parts numbers
        text = re.sub(r"(?<![\d,a-z])(\d*),(\d+)(?!,?\d)", r"\1.\2", text)
    return text.replace(",", " , ")


# --- letters ---

def letters(answer: Any, among: Iterable[str], ordered: bool = False, spans: bool = False) -> str:
    """The letters of `among` that are meant, as capitals, in the order given: "CF" of "C, then F" or ["c", "F"].

    `ordered`: the order matters, so a set or an "or" says nothing. `spans`: "A to F" is six letters. Other capitals
    stay as they are; an answer that names none is empty.
    """
    among = "".join(among)
    if isinstance(answer, Mapping):
        told = all(isinstance(value, bool | np.bool_) for value in answer.values())
        answer = [key for key, value in answer.items() if value or not told]
    if isinstance(answer, set | frozenset):
        if ordered:
            return ""
        answer = sorted(map(str, answer))
    text = ", ".join(map(str, _flat(answer)))
    rest = re.match(r"\s*(?:all|everything|any|anything)\b.*?\b(?:but|except|without)\b(.*)", text, re.DOTALL)
    if rest:
        left_out = letters(rest[1], among)
        return "".join(letter for letter in among if letter not in left_out) if left_out else ""
    taken_back = r"\b(not|except|without|neither|nor|none)\b|n['’]t\b"
    unordered = r"\bor\b|\b[a-z]\s*=\s*[a-z]\b"
    if re.search(f"{taken_back}|{unordered}" if ordered else taken_back, text.lower()):
        return ""
    text = re.sub(r"^\s*I(['’]\w+)?\s+(?=[a-z]{2})|['’]s\b", " ", text)
    if spans:
        text = re.sub(r"\b([A-Z])\s*(?:[-–—−…]|\.\.+|(?:up )?to|through|until)\s*([A-Z])\b", lambda ends: "".join(
            letter for letter in among if ends[1].upper() <= letter <= ends[2].upper()), text, flags=re.IGNORECASE)
    said = re.findall("[A-Za-z]+", _without_article(text))
    shouted = any(word.isupper() for word in said)

    def is_meant(word: str) -> bool:
        known, loud = set(word.upper()) <= set(among), word.isupper() or not shouted
        return known or loud if len(word) == 1 else known and loud

    return "".join(filter(is_meant, said)).upper()


def _without_article(text: str) -> str:
    """The text without the "a" of "a zoom"; that of "a and f" is a letter."""
    return re.sub(r"\ba\s+(?!(?:and|or|then|is|has|but|to)\b)(?=[a-z]{2})", " ", text)


# --- one of several words ---

def words(answer: Any, spelled: bool = True) -> tuple[str, ...]:
    """What an answer says, in small letters and without filler: ("6", "8") of "from 6 to 8 years", "6-8" or (6, 8).

    `spelled`: "six" is "6".
    """
    answer = getattr(answer, "__name__", answer)  # of a class or function, such as nn.HuberLoss
    if isinstance(answer, set | frozenset):
        answer = sorted(answer, key=lambda part: (len(str(part)), str(part)))
    if hasattr(answer, "tolist"):  # an array or a tensor
        answer = answer.tolist()
    if isinstance(answer, list | tuple):
        answer = " and ".join("nothing" if part is None else str(part) for part in answer)
    text = re.sub(r"(?<=\d)\s*[-–—−]\s*(?=\d)", " to ", _without_article(str(answer))).lower().replace("−", "-")
    text = re.sub(r"\bno\.\s*(?=\d)|['’](?:s|d|m|ve|ll|re)\b|(?<=\d)(st|nd|rd|th)\b", " ", text)
    for sign, word in (("<", "below"), (">", "above"), ("≠", "not"), ("%", "percent"), ("n't", "not"),
                       ("at least", "above"), ("at most", "below")):
        text = text.replace(sign, f" {word} ")
    text = re.sub(r"(?<=\d)(?=(?:y|years?|yrs?|mo|months?)\b)", " ", re.sub(r"(?<=\d)\.0+\b", "", text))
    text = _spelled(text) if spelled else text
    found = tuple(re.findall(r"(?<!\S)-\d+|\d+(?:\.\d+)?(?![^\W_])|[^\W_]+", text))
    kept = tuple(word for word in found if word not in FILLER)
    return kept or tuple("1" if word == "one" else word for word in found)


class Choice:
    """The names of several options, and which of them an answer means."""

    def __init__(self, names: Mapping[str, str], options: Iterable[str]) -> None:
        self.known = {words(name): option for name, option in names.items()}
        self.vocabulary = {word for name in self.known for word in name}
        self.parts = {word for option in options for word in words(option)}

    def meant(self, answer: Any) -> set[str]:
        """The options that an answer names; none if it takes back what it says."""
        chosen, others = self._scan(words(answer))
        if not others:
            return chosen
        if isinstance(answer, str):
            head, *why = re.split(r"\s*(?:[,;:(–—]|\s-\s|\bbecause\b|\bsince\b)\s*", answer.strip(), maxsplit=1)
            chosen, others = self._scan(words(head))
            if why and len(chosen) == 1 and not others:
                return chosen | self._scan(words(why[0], spelled=False))[0]
        return self._among_others(words(answer)) or self._among_others(words(answer, spelled=False))

    def _among_others(self, said: tuple[str, ...]) -> set[str]:
        """The options that stand among words that mean nothing here; none if one of these may change the answer."""
        chosen, others = self._scan(tuple(word for word in said if word in self.vocabulary or word in TURNING))
        others += [word for word in said if word not in self.vocabulary]
        changed = any(word in TURNING or word in self.parts or re.search(r"\d", word) for word in others)
        return set() if changed else chosen

    def _scan(self, said: tuple[str, ...]) -> tuple[set[str], list[str]]:
        """The options that the words name, one name after the other, and the words that belong to no name."""
        chosen, others = set(), []
        while said:
            length = next((n for n in range(len(said), 0, -1) if said[:n] in self.known), 0)
            if length:
                chosen.add(self.known[said[:length]])
            else:
                others.append(said[0])
            said = said[max(length, 1):]
        return chosen, others
