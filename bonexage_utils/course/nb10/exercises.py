"""The exercises of notebook 10: a hospital's table and films in order, what a report may say, six claims refuted."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from bonexage_utils.course.answers import letters, number
from bonexage_utils.course.answers import share as read_share
from bonexage_utils.course.exercise import Exercise, Verdict, choice, right, wrong
from bonexage_utils.course.nb10.clinic import SEEDS, VARIANTS, Claim, claims
from bonexage_utils.course.nb10.hospital import CODES, to_months
from bonexage_utils.course.start import Course
from bonexage_utils.statistics import bootstrap_mean, paired_difference, share

AGES = ("6y 10m", "82", "7y", "9m", "14", "17y 11m", "216")
KINDS = {  # what `check` finds, in the order of the alphabet
    "A": "blank", "B": "duplicate file", "C": "inverted", "D": "mirrored", "E": "missing", "F": "near-duplicate",
    "G": "rotated", "H": "truncated", "I": "unreadable",
}  # fmt: skip
OUT = "ABEFHI"
SENTENCES = {
    "A": "It reads as well as a radiologist.",
    "B": "On these test films its MAE is such and such, with this 95 % interval.",
    "C": "In other hospitals it is off by as much.",
    "D": "Its 90 % intervals hold nine labels in ten, for girls under five as for everybody.",
    "E": "On these films it is nearer the label than the median by sex, and the two intervals are far apart.",
    "F": "With another backbone it would have been worse.",
}
ALLOWED = "BE"


def build(course: Course) -> SimpleNamespace:
    """The sprint: `months` (a function), `codes`, `out` and `sentences` (decisions). The clinic, a number each:
    `trained`, `chosen`, `seeds`, `twins`, `intervals`, `reader`."""
    cards = claims(course)
    clinic = {"trained": _trained(cards["A"]), "chosen": _chosen(cards["B"]), "seeds": _seeds(cards["C"]),
              "twins": _twins(cards["D"]), "intervals": _intervals(cards["E"]), "reader": _reader(cards["F"])}
    return SimpleNamespace(months=_months(), codes=_codes(), out=_out(), sentences=_sentences(), **clinic)


# --- the hospital's folder ---

def _parts(text: str) -> tuple[int, int]:
    """Years and months of "6y 10m", "7y" or "9m"."""
    found = dict((unit, int(n)) for n, unit in re.findall(r"(\d+)([ym])", text))
    return found.get("y", 0), found.get("m", 0)


def _months() -> Exercise:
    def with_units(convert: Callable[[int, int], float]) -> Callable[[str], float]:
        return lambda text: float(text) if text.isdigit() else convert(*_parts(text))

    known: dict[str, tuple[Callable, str]] = {
        "years alone": (with_units(lambda y, m: 12 * y), "The months behind the years are lost: '6y 10m' is 82 "
                        "months."),
        "as a decimal": (with_units(lambda y, m: 12 * float(f"{y}.{m}")), "'6y 10m' is not 6.10 years. Ten months are "
                         "ten twelfths of a year."),
        "added up": (with_units(lambda y, m: y + m), "Years and months are added as if they were the same. A year has "
                     "twelve months."),
        "in years": (with_units(lambda y, m: y + m / 12), "These are years. The table is to hold months."),
        "small numbers as years": (lambda text: to_months(text) * (12 if text.isdigit() and int(text) < 20 else 1),
                                   "You made years of a small number. '14' may well be 14 months: the letter says that "
                                   "the second half of the table is in months, and this is a children's hospital."),
        "every number as years": (lambda text: to_months(text) * (12 if text.isdigit() else 1), "A bare number is in "
                                  "months already, says the letter."),
    }

    def judge(answer: Callable[[str], Any]) -> Verdict:
        made = []
        for text in AGES:
            try:
                found = answer(text)
            except Exception as error:  # a learner's function may do anything
                return wrong(f"It stops at {text!r} ({type(error).__name__}: {error}). The table has four forms: "
                             "'17y 5m', '15y', '9m' and '138'.")
            made.append(float(found) if isinstance(found, str) else number(found))
        for function, message in known.values():
            if np.allclose(made, [function(text) for text in AGES]):
                return wrong(message)
        for text, found in zip(AGES, made, strict=True):
            if not np.isclose(found, to_months(text)):
                return wrong(f"Of {text!r} it makes {found:g}; by hand it is {to_months(text):g} months.")
        return right("All ages in one unit. That you read the letter first was part of the work: from the table alone "
                     "nobody can tell whether 14 is months or years.")

    return Exercise(
        question="Write my_months(text): the age in months, of '6y 10m', '7y', '9m' and of a bare number of months.",
        judge=judge,
        hints=("text.isdigit() tells a bare number from an age with units.",
               "re.findall(r'(\\d+)([ym])', '6y 10m') gives [('6', 'y'), ('10', 'm')].",
               "Add up: 12 for each year, 1 for each month."),
        solution_value=to_months,
        explanation="Each number counts by its unit, 12 for years and 1 for months; a bare number is in months.",
        code="""
def my_months(text):
    import re

    if text.isdigit():
        return float(text)
    parts = re.findall(r"(\\d+)([ym])", text)
    return float(sum(int(n) * (12 if unit == "y" else 1) for n, unit in parts))
""",
        likely_mistakes={name: function for name, (function, _) in known.items()}
        | {"both units wanted": lambda text: with_units(lambda y, m: 12 * y + m)(text) if "y" in text and "m" in text
           else {}[text]},
    )


def _codes() -> Exercise:
    girls, boys = CODES["F"], CODES["M"]
    options = {
        girls: "The labels give it away: plates that are in the girls' part of the atlas alone are named nearly always "
               "under this code. RSNA's column `male` has it the other way round. Ask the hospital all the same, and "
               "write into the report how you know.",
        boys: "So it would be in RSNA's column `male`, but nobody said that it is so here. Which code has the labels "
              "82, 94 and 106, plates that only the girls' atlas has?",
        "cannot be told": "Not from the letter. But readers name the plates of an atlas (01), and girls and boys have "
                          "different ones. Look at the table again.",
    }
    return Exercise(
        question=f"Which code is the girls': {boys!r}, {girls!r}, or 'cannot be told'?",
        judge=choice(options, girls, {
            "unknown": "cannot be told",
            **{words: meant for own, other, names in ((girls, boys, ("girls", "girl", "female", "F")),
                                                      (boys, girls, ("boys", "boy", "male", "M")))
               for name in names for code, meant in ((own, girls), (other, boys))
               for words in (f"{name} {code}", f"{code} {name}")}}),
        hints=("Which of the two codes was read with which part of the atlas?",
               "In the table, find the row of the plates that only girls have. Which column is the larger?"),
        solution_value=girls,
        explanation=f"{girls!r}: labels that stand in the girls' atlas alone are its labels.",
        likely_mistakes={"as RSNA has it": boys, "gave up": "cannot be told", "a letter": "F"},
    )


def _out() -> Exercise:
    too_many = {
        "C": "An inverted film shows its hand, and its label fits it. It is a note, not a fault: such films will come "
             "tomorrow, too, and the test must hold some.",
        "D": "'Mirrored' may be a right hand, which is as it should be (01). And who leaves out what is expected to be "
             "read badly chooses his own test.",
        "G": "A turned film shows its hand, and its label fits it. Turn it back if you like; but do it to every film "
             "that will ever come, or to none.",
    }
    absent = {
        "A": "A blank film has a label and no hand. The network would learn an age for nothing.",
        "B": "Two rows have one and the same file: at least one of the labels belongs to another hand, and nobody can "
             "tell which. So both go.",
        "E": "A row without a film: there is nothing to learn from, and the training would stop there.",
        "F": "A note only, but look at what it means: one film stands there twice under two names and two labels. Were "
             "one learned and the other tested, the test would not be one. Both go: nobody knows whose label it is.",
        "H": "A file that was cut short: half a hand at best.",
        "I": "It cannot be read at all, so nothing can be learned from it.",
    }

    def judge(answer: Any) -> Verdict:
        given = set(letters(answer, KINDS))
        if not given or not given <= set(KINDS):
            return wrong("Give the letters of the kinds that go, such as 'AC'.")
        for letter in sorted(given - set(OUT)):
            return wrong(f"{letter}: {too_many[letter]}")
        for letter in sorted(set(OUT) - given):
            return wrong(f"{letter} is missing. {absent[letter]}")
        return right("What goes has no hand, no film, or a film of which nobody knows whose label it is. What is only "
                     "odd stays.")

    return Exercise(
        question="Which kinds of findings have to be left out? Give their letters, such as 'AC'.",
        judge=judge,
        hints=("For each kind: is there a hand on the film, and does its label belong to this hand?",
               "'fault' and 'note' are the program's words. One of the notes has to go as well: think of the splits."),
        solution_value=OUT,
        explanation=f"{OUT!r}: no film, no hand, or two rows that claim one film. Films that are only odd stay.",
        likely_mistakes={"faults alone": "ABEHI", "everything": "ABCDEFGHI", "and the mirrored": "ABDEFHI",
                         "and the turned": "ABEFGHI", "one of two stays": "AEFHI", "not the missing": "ABFHI",
                         "blank ones stay": "BEFHI", "cut ones stay": "ABEFI", "no letters": "XYZ"},
    )


def _sentences() -> Exercise:
    why_not = {
        "A": "A: no radiologist read these films. The label is one reader's, and being near a label is not reading as "
             "well as its author.",
        "C": "C: no other hospital was measured, and what nobody measured is unknown.",
        "D": "D: nine in ten was promised, and checked, over all films together. Girls under five are few here: their "
             "row of the table is a dash or very wide.",
        "F": "F: in this run there was one backbone. What was not run cannot have been worse.",
    }
    missed = {
        "B": "B is missing: a number with its films and its interval is exactly what was measured.",
        "E": "E is missing: both errors are in the report, of the same films, with intervals that do not come near "
             "each other.",
    }

    def judge(answer: Any) -> Verdict:
        given = set(letters(answer, SENTENCES))
        if not given or not given <= set(SENTENCES):
            return wrong("Give the letters of the sentences, such as 'AC'.")
        too_many, absent = sorted(given - set(ALLOWED)), sorted(set(ALLOWED) - given)
        if too_many:
            return wrong(why_not[too_many[0]] + (f" (And {len(too_many) - 1} more of yours.)" if too_many[1:] else ""))
        if absent:
            return wrong(missed[absent[0]])
        return right("B and E: numbers with their films and intervals. The other four are what such a report is "
                     "usually read as, and what you will be asked for.")

    return Exercise(
        question="Which of the sentences may stand in your report? Give their letters, such as 'AC'.",
        judge=judge,
        hints=("For each sentence: which file of the report would you open to show it?",
               "Nobody else read the films, one backbone was trained, small groups have no number."),
        solution_value=ALLOWED,
        explanation="'BE'. A needs readers, C other hospitals, D more films of that group, F another run.",
        likely_mistakes={"as a radiologist": "ABE", "elsewhere": "BCE", "small groups": "BDE", "other backbones": "BEF",
                         "forgot the error": "E", "forgot the median": "B", "all": "ABCDEF", "no letters": "XYZ"},
    )


# --- the critique clinic ---

def _refutation(question: str, truth: float, said: str, known: dict[str, tuple[float, str]], hints: tuple[str, ...],
                code: str, why: str, decimals: int = 1, is_share: bool = False) -> Exercise:
    """An exercise whose answer is a number, right to half a unit of its last decimal; `known` are wrong numbers and
    what is said of each. A wrong number that happens to be the right one is left out: nobody could tell them apart."""
    reach = 0.51 * 10.0**-decimals
    told = {}
    for name, (value, message) in known.items():
        if all(abs(value - other) > 2 * reach for other in (truth, *(v for v, _ in told.values()))):
            told[name] = (value, message)

    def judge(answer: Any) -> Verdict:
        value = read_share(answer) if is_share else number(answer)
        if abs(value - truth) <= reach:
            return right(said)
        for wrong_value, message in told.values():
            if abs(value - wrong_value) <= reach:
                return wrong(message)
        return wrong("That is another number. Which films count, and what is averaged? Try the hint.")

    mistakes = {name: value for name, (value, _) in told.items()} | {"a guess": truth + 1000}
    return Exercise(question, judge, hints, round(float(truth), 4), why, mistakes, code)


def _trained(card: Claim) -> Exercise:
    data = card.data
    error = data["predicted"] - data["label"]
    new, old = error[~data["learned"]], error[data["learned"]]
    return _refutation(
        "How far off is it on films that it did not learn from? Their MAE, months.", new.abs().mean(),
        f"{bootstrap_mean(new.abs())} months on {len(new)} films that it had not seen. The card's "
        f"{old.abs().mean():.1f} is how well it knows films by heart.",
        {"the card's": (old.abs().mean(), "That is the card's own number: of the films that it learned from."),
         "all films": (error.abs().mean(), "That is over all films, those that it learned by heart among them."),
         "with signs": (new.mean(), "With their signs, errors cancel. Take them without: .abs()."),
         "the root of the mean square": (float(np.sqrt((new**2).mean())), "That is the RMSE. The card says how far off "
                                         "it is on average: the MAE.")},
        ("`learned` says which films had a part in the training. `~` turns True and False round.",
         "error = (a.predicted - a.label).abs(), then only the rows where learned is False."),
        "(a.predicted - a.label).abs()[~a.learned].mean()",
        "A model may know films by heart. What it does with others only others tell.")


def _chosen(card: Claim) -> Exercise:
    data = card.data
    best = data["test"].idxmin()
    lead = data.mean() - data.loc[best]  # over a variant that is picked blindly
    return _refutation(
        "The variant that won on the test films: its MAE on the new films, months (two decimals)?", data["new"][best],
        f"{data['new'][best]:.1f} months on films that did not choose it, {data['test'][best]:.1f} on those that did. "
        f"Over a variant picked blindly the winner leads by {lead['test']:.1f} months on the films that chose, and by "
        f"{lead['new']:.1f} on the new ones. What is left there is merit, the rest was luck.",
        {"the card's": (data["test"].min(), "That is the card's number: the test films chose, and then they judged."),
         "the best on the new ones": (data["new"].min(), "Now the new films have chosen. The winner is the one that "
                                      "the *test* films picked."),
         "all variants": (data["new"].mean(), "That is the mean of all variants. Which one is on the card?"),
         "the worst": (data["new"][data["test"].idxmax()], "That is the variant with the largest error on the test "
                       "films.")},
        ("b.test.idxmin() is the number of the variant that won.", "b.new[...] of that variant."),
        "b.new[b.test.idxmin()]",
        f"Of {VARIANTS} tries one is lucky on any films. Films that chose cannot judge.", decimals=2)


def _seeds(card: Claim) -> Exercise:
    data = card.data
    gain = data["ours"] - data["theirs"]
    over = bootstrap_mean(gain)
    wins = int((gain < 0).sum())
    return _refutation(
        f"MAE of ours minus MAE of theirs, the mean over all {SEEDS} seeds, months (two decimals)?", gain.mean(),
        f"{over} months over {SEEDS} seeds; ours has the lower error in {wins} of them. In truth {card.beside}.",
        {"the card's": (gain.min(), "That is the one seed on the card. There are ten."),
         "upside down": (-gain.mean(), "Ours *minus* theirs: below 0, ours is better."),
         "without signs": (gain.abs().mean(), "Without signs every difference counts for one side. Keep them."),
         "best against best": (data["ours"].min() - data["theirs"].min(), "The best seed of each: that is choosing, "
                               "twice. Take the mean over all.")},
        ("One difference for each seed, then their mean.", "(c.ours - c.theirs) has a number for each seed."),
        "(c.ours - c.theirs).mean()",
        "A seed is a draw. One draw shows no difference between two recipes.", decimals=2)


def _twins(card: Claim) -> Exercise:
    data = card.data
    error, tested = (data["predicted"] - data["label"]).abs(), ~data["learned"]
    known_child = data["child"].isin(data["child"][data["learned"]])
    new = error[tested & ~known_child]
    return _refutation(
        "Its MAE on films of children of whom it knows no other film, months?", new.mean(),
        f"{bootstrap_mean(new)} months on {len(new)} films of new children. The other "
        f"{int((tested & known_child).sum())} tested films have a twin among those it learned from, and get the twin's "
        "label for the most part.",
        {"the card's": (error[tested].mean(), "That is the card's number: some of these children it knows already."),
         "twins alone": (error[tested & known_child].mean(), "These are the films *with* a twin among the learned "
                         "ones. Turn it round."),
         "with signs": ((data["predicted"] - data["label"])[tested & ~known_child].mean(), "With their signs, errors "
                        "cancel. Take them without: .abs()."),
         "once per child": (error[tested & ~data["child"].duplicated(keep=False)].mean(), "Those are children with "
                            "only one film. Two films of a child may both be tested; what counts is whether one was "
                            "*learned*.")},
        ("d.child[d.learned] are the children it knows.",
         "known = d.child.isin(d.child[d.learned]); take the films with ~known.",
         "Films that were learned have no prediction, and .mean() passes over them."),
        "(d.predicted - d.label).abs()[~d.child.isin(d.child[d.learned])].mean()",
        "A split film by film puts one child on both sides. Draw it child by child (01).")


def _intervals(card: Claim) -> Exercise:
    data = card.data
    inside = data["label"].between(data["low"], data["high"])
    new, old = inside[~data["learned"]], inside[data["learned"]]
    held = share(new.to_numpy())
    return _refutation(
        "Of the films that it did not learn from: which share of the labels lies inside the interval (0 to 1)?",
        new.mean(),
        f"{held.value:.0%} [{held.low:.0%}, {held.high:.0%}], and nine in ten were promised. Errors on learned films "
        "are too small to learn an interval from.",
        {"the card's": (old.mean(), "That is the share among the films that it learned from, the card's own."),
         "all films": (inside.mean(), "That is over all films, those that it learned from among them."),
         "outside": (1 - new.mean(), "That is the share *outside*."),
         "above the low end": ((data["label"] >= data["low"])[~data["learned"]].mean(), "A label may also lie above "
                               "the interval. Look at both ends.")},
        ("e.label.between(e.low, e.high) is True where the label lies inside.",
         "Only the rows where learned is False."),
        "e.label.between(e.low, e.high)[~e.learned].mean()",
        "An interval has to be learned from films with no part in the training (09).", decimals=2, is_share=True)


def _reader(card: Claim) -> Exercise:
    data = card.data
    network, reader = (data[name] - data["label"] for name in ("network", "second_reader"))
    apart = paired_difference(network.to_numpy(), reader.to_numpy())
    return _refutation(
        "Held against the same labels: the network's MAE minus the second reader's, months?", apart.value,
        f"{apart} months, film by film, and above 0 the network is further off. The card held the widest distances of "
        f"two readers against the network's usual ones. What the simulator knows: {card.beside}.",
        {"the network's": (network.abs().mean(), "That is the network's MAE. A reader is off from that label, too: "
                           "subtract it."),
         "the reader's": (reader.abs().mean(), "That is the second reader's MAE. Subtract it from the network's."),
         "upside down": (-apart.value, "The network's *minus* the reader's: above 0, the network is further off."),
         "with signs": ((network - reader).mean(), "With signs, errors cancel. Take both without: .abs()."),
         "from each other": ((data["network"] - data["second_reader"]).abs().mean(), "That is how far the two are from "
                             "each other. Hold both against the label.")},
        ("Two MAEs, one of each, against f.label; then the difference.",
         "(f.network - f.label).abs() and (f.second_reader - f.label).abs()"),
        "((f.network - f.label).abs() - (f.second_reader - f.label).abs()).mean()",
        "Compare like with like: the same measure, the same films, the same labels.")
