"""The exercises of notebook 05: code a column of sexes, the size of a gain, two decisions from figures."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from bonexage_utils.batches import SEX_CODE
from bonexage_utils.course.answers import numbers
from bonexage_utils.course.exercise import Exercise, Verdict, choice, listed, right, wrong
from bonexage_utils.course.nb05.fusion import policy_errors, tables_reader
from bonexage_utils.course.nb05.same_hand import ages_of, error_without_sex, in_spreads
from bonexage_utils.course.sliders import SEXES
from bonexage_utils.course.start import Course
from bonexage_utils.labels import parse_sex
from bonexage_utils.statistics import Interval, paired_difference

SPELLED = ("F", "M", "female", " Male ", "f", "MALE")
NO_SEX = (float("nan"), None, "", "missing", "unknown")
SPANS = {"below 5": (11, 59), "5 to 10": (59, 119), "above 10": (119, 228)}  # years: places in MONTHS
SMALL = 0.5  # SD
MOST_FILMS = 400  # in the exercise on the gain
READING_SD = 16.0  # months: of a reader's random error on a film, with or without the sex
CLOSE = 0.2  # the largest error of an end of the interval, in widths of the interval
NARROW = 0.9  # of the width; an interval of 90 % has 0.84


def build(course: Course) -> SimpleNamespace:
    """`encode` and `gain` (write a function), `spread` and `unknown` (decisions from a figure)."""
    return SimpleNamespace(encode=_encode(course), gain=_gain(course), spread=_spread(), unknown=_unknown(course))


# --- a column of sexes ---

def encode(column: pd.Series) -> list[int]:
    """The exercise's solution: spellings of a sex to 0 (girl) and 1 (boy). Raises ValueError where one is unknown."""
    codes = column.map(parse_sex).map(SEX_CODE)
    if codes.isna().any():
        raise ValueError(f"unknown sex in row {list(codes.index[codes.isna()])[:3]}: ask, then write M or F")
    return codes.astype(int).to_list()


def _encode(course: Course) -> Exercise:
    clean = course.cohort.table["sex"].head(40).reset_index(drop=True)
    truth, spelled = encode(clean), pd.Series(SPELLED)
    lost_months = float(np.mean([2 * abs(error_without_sex(sex, 120.0)) for sex in SEXES]))  # at ten years

    def judge(answer: Callable[[pd.Series], Any]) -> Verdict:
        codes, failed = _try(answer, clean)
        if failed:
            return wrong(f"It stops at a column in which every sex is M or F, so nobody gets an answer. {failed}")
        if codes.shape != (len(clean),):
            return wrong(f"One code for each row, please: {len(clean)} rows went in and {codes.shape} came out.")
        if (codes == 1 - np.array(truth)).all():
            return wrong("Your codes are swapped: the embedding's row 0 was learned from girls and row 1 from boys. "
                         f"Each child is read as the other sex, at ten years {lost_months:.0f} months off, and nothing "
                         "complains.")
        if (codes == 1).all():
            return wrong("Everybody is a boy: any text that is not empty counts as true, 'F' as well, and so does "
                         "NaN.")
        if (codes != truth).any():
            return wrong("On the cohort's own column M should give 1 and F 0. Print a few rows beside their codes.")
        codes, failed = _try(answer, spelled)
        if failed:
            return wrong(f"A table may write {', '.join(map(repr, SPELLED[2:4]))}: known sexes, spelled otherwise, "
                         "with blanks. To refuse those is safe but costs children their answer; `parse_sex` knows "
                         "them.")
        if np.isnan(codes).any():
            return wrong("'female' or ' Male ' stays NaN: a known sex is lost, without an error. Bring the spellings "
                         "to M and F first (`parse_sex` does), and stop where a NaN is left.")
        if codes.tolist() != encode(spelled):
            return wrong("'female' or ' Male ' went wrong: a comparison with one spelling makes a girl of every other. "
                         "Look a spelling up, and let what is not found be nobody's sex.")
        return _unknown_values(answer)

    return Exercise(
        question="Write my_encode(column): a pandas column of sexes to 0 (girl) and 1 (boy), with an error where a sex "
                 "is unknown.",
        judge=judge,
        hints=("Two steps: from the spelling to M, F or nothing, then from M and F to a code. What does the second "
               "step give for nothing?",
               "bonexage_utils.labels.parse_sex does the first step for one value; bonexage_utils.batches.SEX_CODE "
               "is a dictionary for the second; a column has .map().",
               "Before you return: if any code .isna(), raise ValueError and name the rows."),
        solution_value=encode,
        explanation="Two look-ups; what neither of them knows stays empty, and an empty code stops everything.",
        code="""
def my_encode(column):
    codes = column.map(parse_sex).map({"F": 0, "M": 1})
    if codes.isna().any():
        raise ValueError(f"unknown sex in rows {list(codes.index[codes.isna()])}")
    return codes.astype(int).to_list()
""",
        likely_mistakes={
            "equal to M": lambda c: (c == "M").astype(int).to_list(),
            "truth": lambda c: [int(bool(x)) for x in c],
            "swapped": lambda c: [1 - code for code in encode(c)],
            "capitals only": lambda c: [{"F": 0, "M": 1}[x] for x in c],
            "the first letter": lambda c: [{"f": 0, "m": 1}[str(x).strip().lower()[0]] if str(x).strip()[:1] in
                                           tuple("fmFM") else _raise() for x in c],
            "not a boy, so a girl": lambda c: [int(parse_sex(x) == "M") for x in c],
            "a dictionary alone": lambda c: c.map(SEX_CODE),
            "minus one": lambda c: [SEX_CODE.get(parse_sex(x), -1) for x in c],
            "left out": lambda c: [SEX_CODE[parse_sex(x)] for x in c if parse_sex(x)],
            "NaN kept": lambda c: c.map(parse_sex).map(SEX_CODE),
        },
    )


def _raise() -> int:
    raise ValueError("unknown sex")


def _try(function: Callable, column: pd.Series) -> tuple[np.ndarray, str]:
    """The result of `function` for a copy of the column, float, and which error it raised instead."""
    try:
        result = function(column.copy())
        result = list(result) if isinstance(result, Iterator) else result  # a generator fails where it is read
    except Exception as error:  # the learner may choose which error refuses
        return np.array([]), f"{type(error).__name__}: {error}"
    return np.squeeze(np.asarray(list(result.values()) if isinstance(result, dict) else result, float)), ""


def _unknown_values(answer: Callable[[pd.Series], Any]) -> Verdict:
    for value in NO_SEX:
        codes, failed = _try(answer, pd.Series(["F", value, "M"], dtype=object))
        if failed:
            continue
        if len(codes) != 3:
            return wrong("You leave the unknown row out. From there on sexes and films are out of step, and a child "
                         "gets its neighbour's sex. Refuse, or keep the row and say so.")
        code = codes[1]
        if np.isnan(code):
            return wrong("NaN stays in the column as a code. Turned into whole numbers later it becomes whatever the "
                         "machine makes of it: stop here, where the row can still be named.")
        if code not in (0, 1):
            return wrong(f"An unknown sex gets the code {code:g}. That is not a refusal: as an index, −1 is the last "
                         "row in NumPy (a boy), and elsewhere an error far from its cause.")
        if value == "missing":
            return wrong("The first letter is too little: 'missing' begins like 'male', and becomes a boy.")
        return wrong(f"{value!r} becomes a {'boy' if code else 'girl'}. An unknown sex is not a sex: whatever is not M "
                     "in your test is F by default, without a word.")
    return right("Known spellings become codes, and whatever is no sex stops with an error, where somebody can still "
                 "ask. The package does the same when it reads a label table, and names the lines.")


# --- the size of the gain ---

def two_readers(course: Course) -> tuple[np.ndarray, np.ndarray]:
    """Errors in months (films,) of a reader with the sex and of the same reader without it, on the films of the cohort.

    Both make the same random errors; the second adds the error that the tables give for the mean of both readings.
    """
    films = course.cohort.table.dropna(subset=["months"]).head(MOST_FILMS)
    errors = np.random.default_rng(0).normal(0.0, READING_SD, len(films))
    added = {sex: error_without_sex(sex, films["months"].to_numpy()) for sex in SEXES}
    return errors, errors + np.where(films["sex"] == "F", added["F"], added["M"])


def _gain(course: Course) -> Exercise:
    told, not_told = two_readers(course)
    truth = paired_difference(not_told, told)
    width = truth.high - truth.low
    each = [paired_difference(errors, np.zeros_like(errors)) for errors in (told, not_told)]

    def judge(answer: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
        given = answer(told.copy(), not_told.copy())
        if isinstance(given, Interval):
            given = (given.value, given.low, given.high)
        given = numbers(given, ("gain", "low", "high"))
        if len(given) != 3:
            return wrong(f"Three numbers, please: gain, low, high. You gave {len(given)}.")
        value, low, high = map(float, given)
        if np.isclose(value, -truth.value, rtol=1e-3):
            return wrong("The sign is turned round: this is the MAE of the told reader minus the other's. A *gain* is "
                         "how much the MAE falls when the reader is told. Change the order.")
        if np.isclose(value, (not_told - told).mean(), rtol=1e-3):
            return wrong("You average the errors with their signs. Girls are read too old and boys too young, so they "
                         f"cancel, to {value:.2f} months here: take the distances first.")
        if np.isclose(low, truth.value, rtol=1e-3):
            return wrong("The right numbers in another order: first the gain, then low, then high.")
        if not np.isclose(value, truth.value, rtol=1e-3):
            return wrong(f"The gain comes out as {value:.2f} months, by hand it is {truth.value:.2f}: the mean, over "
                         "the films, of |not told| minus |told|.")
        if not low <= value <= high:
            return wrong("The gain should lie between the ends of its interval: first the gain, then low, then high.")
        if (high - low) > 3 * width:
            return wrong("That is about where the gain of *one film* lies. The question is how sure the mean over all "
                         "films is: resample the films, or divide the standard deviation by the root of their "
                         "number.")
        if (high - low) > (1 + CLOSE) * width:
            return wrong(f"Your interval is {high - low:.1f} months wide, the paired one {width:.1f}. Two separate "
                         "intervals, or two separate resamplings, ignore that both readers saw the *same* films and "
                         "made the same errors on them: take the difference film by film, then resample.")
        if max(abs(low - truth.low), abs(high - truth.high)) > CLOSE * width or high - low < NARROW * width:
            return wrong(f"The gain is right, its interval is not: [{low:.2f}, {high:.2f}] against [{truth.low:.2f}, "
                         f"{truth.high:.2f}]. 95 % means from the 2.5th to the 97.5th percentile of the resampled "
                         "means.")
        return right(f"{truth} months: this reader gains so much when told the sex. Film by film, the errors that "
                     "both make cancel. So the interval is narrower than from two separate ones.")

    rng = np.random.default_rng(1)

    def spread_of(values: np.ndarray, factor: float) -> tuple[float, float, float]:
        mean, reach = values.mean(), factor * values.std()
        return mean, mean - reach, mean + reach

    def separately(a: np.ndarray, b: np.ndarray) -> tuple[float, ...]:
        draws = [np.abs(x)[rng.integers(0, len(x), (2000, len(x)))].mean(1) for x in (a, b)]
        return np.abs(b).mean() - np.abs(a).mean(), *np.percentile(draws[1] - draws[0], [2.5, 97.5])

    return Exercise(
        question="Write my_gain(told, not_told): from the errors (films,) of the two readers to (gain, low, high), the "
                 "months by which the MAE is smaller when told, with its 95 % interval.",
        judge=judge,
        hints=("The films are the same for both. What is one film's gain?",
               "One number for each film, |not told| minus |told|; then the interval of a mean, as in notebook 03.",
               "bonexage_utils.evaluation.paired_difference(a, b) gives MAE of a minus MAE of b. Which is a?"),
        solution_value=lambda told, not_told: paired_difference(not_told, told),
        explanation=f"It gives {truth} months: the MAE of the first minus that of the second, film by film. The two "
                    f"MAEs alone are {each[0].value:.1f} and {each[1].value:.1f}.",
        code="""
def my_gain(told, not_told):
    from bonexage_utils.statistics import paired_difference

    gain = paired_difference(not_told, told)
    return gain.value, gain.low, gain.high
""",
        likely_mistakes={
            "one number": lambda a, b: paired_difference(b, a).value,
            "the other way round": lambda a, b: paired_difference(a, b),
            "with their signs": lambda a, b: spread_of(b - a, 1.96 / np.sqrt(len(a))),
            "two separate resamplings": separately,
            "one film": lambda a, b: spread_of(np.abs(b) - np.abs(a), 1.96),
            "90 %": lambda a, b: spread_of(np.abs(b) - np.abs(a), 1.645 / np.sqrt(len(a))),
            "a standard error": lambda a, b: spread_of(np.abs(b) - np.abs(a), 1 / np.sqrt(len(a))),
            "low first": lambda a, b: tuple(sorted(spread_of(np.abs(b) - np.abs(a), 1.96 / np.sqrt(len(a))))),
            "squares": lambda a, b: spread_of(b**2 - a**2, 1.96 / np.sqrt(len(a))),
        },
    )


# --- decisions ---

def _spread() -> Exercise:
    def mean_over(function: Callable, span: tuple[int, int]) -> float:
        values = [function(sex, ages_of(sex)[span[0]:span[1]]) for sex in SEXES]
        return float(np.mean(np.abs(np.concatenate(values))))

    spreads = {name: mean_over(in_spreads, span) for name, span in SPANS.items()}
    months = {name: mean_over(error_without_sex, span) for name, span in SPANS.items()}
    harmless = [name for name in SPANS if spreads[name] < SMALL]
    truth = harmless[0] if harmless else "nowhere"
    shown = ", ".join(f"{name}: {value:.1f} SD" for name, value in spreads.items())

    def reply(name: str) -> str:
        if name == truth:
            return (f"It may be left out at no age ({shown}). The months differ, but so do healthy children: without "
                    "the sex a child's reading moves by about one SD at any age, in the smallest, too.")
        if name == min(months, key=months.__getitem__):
            return (f"Only {months[name]:.0f} months, that is true. But small children are much alike, so these few "
                    f"months are {spreads[name]:.1f} SD: read the axis of this figure, not of the last one.")
        return (f"The line dips there, but on average it costs {spreads[name]:.1f} SD ({months[name]:.0f} months), "
                f"more than {SMALL:g}. All centres show by then, but that does not help: now they fuse, hers years "
                "before "
                "his." if name == "above 10" else
                f"From {name} years the line looks level, but it is not low: it lies at {spreads[name]:.1f} SD "
                f"({months[name]:.0f} months), more than {SMALL:g}.")

    return Exercise(
        question="Where may a ward leave out the sex, if that must cost less than half an SD on average? "
                 f"{listed([*SPANS, 'nowhere'])} (years)?",
        judge=choice({name: reply(name) for name in [*SPANS, "nowhere"]}, truth, {
            **dict.fromkeys(("no", "none", "never", "not at all", "no where", "not anywhere",
                             "not any", "no group"), "nowhere"),
            "under 5": "below 5", "over 10": "above 10"}),
        hints=("The vertical axis counts standard deviations of healthy children. Where is half of one?",
               "The horizontal axis is in months: 60 is five years, 120 is ten."),
        solution_value=truth,
        explanation=f"In SD: {shown}.",
        likely_mistakes={name: name for name in SPANS if name != truth} | {"a number": 5},
    )


def _unknown(course: Course) -> Exercise:
    table = course.cohort.table
    films = table[table["split"].isin(["selection", "calibration"])].dropna(subset=["months"])
    errors = policy_errors(tables_reader(films)).drop(index="told the sex")
    worse = errors[["girls", "boys"]].max(axis=1)
    truth = str(worse.idxmin())

    def reply(name: str) -> str:
        girls, boys, overall = errors.loc[name, ["girls", "boys", "all"]]
        if name == truth:
            return (f"Girls are {girls:.0f} and boys {boys:.0f} months off: nobody is read right, and nobody is "
                    f"{worse.drop(truth).min():.0f} months off. For one film, the mean of two answers is never further "
                    "off than the two are on average. Print beside each such answer that the sex was not known.")
        group, error = ("boys", boys) if boys > girls else ("girls", girls)
        return (f"On all films {overall:.0f} months, which looks like the others. But look at the two bars: the "
                f"{group} pay for it, with {error:.0f} months each, and the overall mean hides them.")

    options = {name: reply(name) for name in errors.index} | {
        "refuse": "Where somebody can be asked, yes: that is what the package does unless it is told otherwise. Here "
                  "nobody can, and without an answer all these films fall out. Choose among those that answer."}
    synonyms = {**dict.fromkeys(("mean", "average", "both", "average of both", "mean of two", "mean of both answers",
                                 "mean of girl and boy", "mean of boy and girl", "average of girl and boy",
                                 "average of boy and girl"), "mean of both"),
                "girl": "always girl", "boy": "always boy", "girls": "always girl", "boys": "always boy",
                "refuse them": "refuse"}
    return Exercise(
        question=f"Nobody can be asked, and neither sex should pay for it. {listed(options)}?",
        judge=choice(options, truth, synonyms),
        hints=("Do not look at the diamonds: they are all at about the same height. Whose bar is the longest?",
               "Compare, for each policy, the longer of its two bars."),
        solution_value=truth,
        explanation=f"The longer of the two bars is {worse[truth]:.0f} months; with the others, "
                    f"{worse.drop(truth).min():.0f} or more.",
        likely_mistakes={"a girl": "always girl", "a boy": "always boy", "no answer": "refuse", "none of these": "ask"},
    )
