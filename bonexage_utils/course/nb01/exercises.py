"""The exercises of notebook 01: the comb in the labels, a table to send back, twelve bad films, a leak, a baseline."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from bonexage_utils.cohort import Cohort
from bonexage_utils.course.answers import number
from bonexage_utils.course.exercise import Exercise, Verdict, choice, right, wrong
from bonexage_utils.course.nb01.exploration import TABLES, hospital, leak, share_of_multiples
from bonexage_utils.course.start import Course
from bonexage_utils.phantom.faults import PLANTED_FILE, unusual_films

ASKED = 0.4  # the share of films exported twice in the exercise on the leak
CLOSE = 0.05  # months: two ways to compute a baseline that differ by less count as the same
DECIMALS = (1, 2, 3)  # the baseline may be rounded to so many


def build(course: Course) -> SimpleNamespace:
    """`comb` (write a function), `table` (a decision from a figure), `twelve` (find them), `leak` (read off a figure),
    `baseline` (a number from the cohort)."""
    return SimpleNamespace(comb=_comb(), table=_table(), twelve=_twelve(), leak=_leak(course.cohort),
                           baseline=_baseline(course.cohort))


# --- the comb ---

def _comb() -> Exercise:
    months = np.array([6, 7, 12, 18, 21, 24, 25, 36, 38, 48, np.nan, np.nan])
    truth = share_of_multiples(months, 6)

    def judge(answer: Callable[[np.ndarray, int], float]) -> Verdict:
        try:
            first = answer(months.copy(), 6)
        except AttributeError as error:
            if "'numpy.ndarray' object" not in str(error):
                raise
            return wrong("months is a NumPy array, without the methods of pandas such as dropna. "
                         "months[~np.isnan(months)] are the labels that are there.")
        if np.size(np.asarray(first)) != 1:
            return wrong("One number is asked, the share of all labels; yours still has one value per film.")
        share, other = number(first), number(answer(months.copy(), 12))
        if np.isnan(share):
            return wrong("Two of the labels here are missing (NaN), and one NaN makes a whole mean NaN. Leave them out "
                         "before you count.")
        if np.isclose(share, np.nansum(months % 6 == 0)):
            return wrong(f"{share:g} is how many there are. A count says nothing without the number of labels: divide.")
        if np.isclose(share, 100 * truth):
            return wrong(f"{share:g} is per cent; a share runs from 0 to 1.")
        if np.isclose(share, np.nanmean(months % 6)):
            return wrong("That is the mean of the remainders. A multiple of six is a label whose remainder *is* zero.")
        if np.isclose(share, (months % 6 == 0).mean()):
            return wrong(f"{share:.2f} counts the films without a label as well: NaN is never a multiple of anything, "
                         "so it lands among the others. Divide by the labels that are there.")
        if not np.isclose(share, truth):
            return wrong(f"For {[6, 7, 12, 18, 21, 24, 25, 36, 38, 48]} and two missing labels it gives {share:.2f}; "
                         f"by hand, {truth:.2f} are multiples of six.")
        if not np.isclose(other, share_of_multiples(months, 12)):
            return wrong("Right for six, but not for twelve: use the second argument.")
        return right("If readers gave the month, every sixth label would be a multiple of six: 0.17. What goes beyond "
                     "that is rounding.")

    return Exercise(
        question="Write my_share(months, step): the share of the labels that are multiples of step; NaN is no label.",
        judge=judge,
        hints=("months % step is the remainder; compare it with 0.", "The mean of True and False is a share.",
               "months[~np.isnan(months)] are the labels that are there."),
        solution_value=share_of_multiples,
        explanation="Labels that are missing are taken out first; the mean of True and False is then a share.",
        code="""
def my_share(months, step):
    given = months[~np.isnan(months)]
    return (given % step == 0).mean()
""",
        likely_mistakes={
            "missing labels counted": lambda months, step: (months % step == 0).mean(),
            "a count": lambda months, step: (months % step == 0).sum(),
            "per cent": lambda months, step: 100 * share_of_multiples(months, step),
            "as if it were pandas": lambda months, step: (months.dropna() % step == 0).mean(),
            "the mean of the remainders": lambda months, step: np.nanmean(months % step),
            "NaN comes through": lambda months, step: (months % step).mean(),
            "always six": lambda months, step: share_of_multiples(months, 6),
            "one value per film": lambda months, step: months % step == 0,
        },
    )


# --- a table to send back ---

def _table() -> Exercise:
    letter = {kind: name for name, kind in TABLES.items()}

    options = {
        letter["years"]: f"Table {letter['years']} has a heap at its left end that no clinic has: every eighth age was "
                         "typed in *years*. 11 is a possible number of months, so no program refuses it; the histogram "
                         "does.",
        letter["to the month"]: f"Table {letter['to the month']} has no comb. That is no fault: its readers, or a "
                                "program, answered to the month and not to the nearest plate of an atlas. Look for "
                                "ages that cannot be.",
        letter["as it is"]: f"Table {letter['as it is']} is the one you have been working with. A comb is rounding: it "
                            "costs precision, but each tooth stands where children are.",
        letter["school"]: f"Table {letter['school']} has neither small children nor nearly grown ones. That is another "
                          "clinic, not a wrong one; only do not expect a model trained on it to know an infant's hand.",
    }
    return Exercise(
        question="Which of the four tables do you send back?",
        judge=choice(options, letter["years"]),
        hints=("One of them has labels where no such crowd of children can be.", "How old is a child of 11 months? And "
               "what if 11 were years?"),
        solution_value=letter["years"],
        explanation="Some of its ages are in years, a heap between 1 and 18.",
        likely_mistakes={"no comb": letter["to the month"], "a comb": letter["as it is"],
                         "a narrow range": letter["school"], "not a letter": 7},
    )


# --- twelve bad films ---

def _ids(answer: Any) -> set[str]:
    """The ids in a list, a column, a table with a column `id`, or a text, as whole numbers or names of files."""
    if isinstance(answer, pd.DataFrame):
        answer = answer.get("id", ())
    parts = answer if hasattr(answer, "__iter__") and not isinstance(answer, str) else [answer]
    return set(re.findall(r"(?<!\w)\d+", re.sub(r"\.0+\b", "", " ".join(map(str, parts)))))


def _twelve() -> Exercise:
    planted = pd.read_csv(hospital() / PLANTED_FILE, dtype=str, keep_default_na=False)
    truth, sources = set(planted["id"]), set(planted["source"]) - {""}
    unreadable = set(planted.loc[planted["finding"].isin(["missing", "truncated", "unreadable"]), "id"])
    films = {str(film) for film in pd.read_csv(hospital() / "ground_truth.csv")["id"]}
    right_hands = unusual_films(hospital())
    excused = sources | right_hands

    def judge(answer: Any) -> Verdict:
        given = _ids(answer)
        if len(given) < 2 and (isinstance(answer, str) or not hasattr(answer, "__iter__")):
            return wrong('Give a list of ids, such as ["1004", "1017"].')
        if not given or not given <= films:
            return wrong('Give the ids that stand over the films, such as ["1004", "1017"].')
        hits, extra = given & truth, given - truth - excused
        if given == films:
            return wrong("These are all films. Dropping all of them leaves nothing to learn from. Say *which* are bad.")
        if given == unreadable:
            return wrong(f"No program can open these {len(hits)}, so you would have noticed sooner or later. "
                         "The other bad films open without an error. Which are not what their row says?")
        if len(extra) > 2:
            return wrong(f"You have {len(hits)} of the {len(truth)}, and {len(extra)} films that nobody spoiled. A "
                         "hand that is small, dark or bent is not a bad film.")
        left = planted[~planted["id"].isin(given)]
        if len(left) > 1:
            twins = " Of two films that are equal or nearly, give both." if left["source"].isin(given).any() else ""
            return wrong(f"{len(hits)} of {len(truth)}. Still missing, among others: {left['fault'].iloc[0]}.{twins}")
        if given & right_hands:
            return wrong(f"{len(hits)} of {len(truth)}. You also list {', '.join(sorted(given & right_hands))}: "
                         "unusual, not spoiled. Read the letter on the film. Would you drop a right hand?")
        missing = f" One got away: {left['id'].iloc[0]}, {left['fault'].iloc[0]}." if len(left) else ""
        spared = f" Nobody spoiled {' or '.join(sorted(extra))}, though." if extra else ""
        return right(f"{len(hits)} of {len(truth)}.{missing}{spared} Some of them only a program finds, two equal "
                     "files among eighty; some are easier for the eye. Use both.")

    return Exercise(
        question="Which films are bad? A list of ids.",
        judge=judge,
        hints=("What the eye saw and what the audit found, together: a union of two lists.",
               "findings['id'].unique() are the films the audit remarks on; of two equal files, both.",
               "The table of what was planted, further down, settles it."),
        solution_value=sorted(truth),
        explanation="; ".join(f"{row.id} {row.fault}" for row in planted.itertuples()) + ".",
        likely_mistakes={"only what cannot be opened": sorted(unreadable), "everybody": sorted(films),
                         "half of them": sorted(truth)[:6], "one id": sorted(truth)[0],
                         "positions": list(range(12)), "the right hands too": sorted(truth | right_hands),
                         "too many": sorted(truth) + sorted(films - truth - excused)[:12]},
    )


# --- a leak ---

def _leak(cohort: Cohort) -> Exercise:
    table = leak(cohort).set_index("twice")
    honest, claimed, median = (float(value) for value in table.loc[ASKED, ["by child", "by film", "median"]])
    landmarks = (  # what can be read off, within how many months, and the message for it
        (honest, (honest - claimed) / 3, right(
            f"About {honest:.0f} months. The {claimed:.0f} months of the vendor mix two kinds of films: new children, "
            "and children whose other film the reader had already seen, label and all.")),
        (claimed, 3.0, wrong(
            f"About {claimed:.0f} is what the vendor's own split shows. Nearly half of the judged films had a twin "
            "among the known ones; a new child has none.")),
        (honest - claimed, 2.0, wrong(
            f"About {honest - claimed:.0f} is the *difference* of the two lines: how much the vendor's number "
            "flatters. Asked is the error itself.")),
        (median, 1.0, wrong(
            f"About {median:.0f} is the dotted line, the median: it looks at no film. Asked is this reader.")),
    )

    def judge(answer: Any) -> Verdict:
        given = number(answer)
        value, within, verdict = min(landmarks, key=lambda mark: abs(given - mark[0]))
        if abs(given - value) <= within:
            return verdict
        if claimed < given < honest:
            return wrong("There is nothing between the two lines. Which of the two splits asks the reader about "
                         "children it has never seen?")
        return wrong(f"Go along to {ASKED:.0%}, up to the split that no twin can cross, then left to the axis.")

    return Exercise(
        question=f"{ASKED:.0%} of a vendor's films were exported twice, and the split was drawn film by film. What "
                 "error, in months, do you expect on new children?",
        judge=judge,
        hints=("A new child has no second film among the known ones. Which line is drawn like that?",
               f"Read the height of that line at {ASKED:.0%}."),
        solution_value=round(honest),
        explanation=f"In months, read off the split by child; the vendor's split shows {claimed:.0f}.",
        likely_mistakes={"the vendor's number": round(claimed, 1), "the mean of both": (honest + claimed) / 2,
                         "the difference": round(honest - claimed, 1), "the dotted line": round(median, 1),
                         "far too high": honest + 40},
    )


# --- the guess that needs no film ---

def _baseline(cohort: Cohort) -> Exercise:
    train, selection = (cohort.split(name).dropna(subset=["months"]) for name in ("train", "selection"))
    label, sex = selection["months"], selection["sex"]

    def mae(guess: pd.Series | float) -> float:
        return float((label - guess).abs().mean())

    by_sex = train.groupby("sex")["months"]
    truth = mae(sex.map(by_sex.median()))
    others = {
        "the mean": (mae(sex.map(by_sex.mean())),
                     "That is the error of the *mean* by sex. For absolute errors the median is the best single "
                     "guess: as many labels above as below."),
        "its own films": (mae(sex.map(selection.groupby("sex")["months"].median())),
                          "You took the medians of the selection films themselves. A guess may not look at the "
                          "labels it is judged by; learn on train."),
        "everybody alike": (mae(float(train["months"].median())),
                            "One median for all is off by {value:.2f}, the median by sex by {truth:.2f}. Where girls "
                            "and boys are of like ages, as in the phantom, the sex does not help this guess. The "
                            "course keeps the median by sex because in RSNA's table the boys are older, by 17 months "
                            "on average, and there it helps."),
        "a sum": (mae(sex.map(by_sex.median())) * len(selection),
                  "That is the sum of all distances. It grows with the number of films: take the mean."),
        "with its sign": (float((label - sex.map(by_sex.median())).mean()),
                          "The distances have kept their signs, so too old and too young cancel: .abs() comes before "
                          "the mean."),
        "squared": (float(((label - sex.map(by_sex.median())) ** 2).mean() ** 0.5),
                    "That is the root mean square error. Asked is the mean *absolute* error."),
        "on the training films": (float((train["months"] - train["sex"].map(by_sex.median())).abs().mean()),
                                  "You judged on the training films: {value:.2f} there, {truth:.2f} on selection. "
                                  "The children differ, the guess is not worse. A network remembers the films it "
                                  "learned from, and there this would flatter it. Judge on selection."),
    }
    others["the sign turned"] = (-others["with its sign"][0], others["with its sign"][1] + " (And label minus guess is "
                                 "the other way round; without signs that does not matter.)")
    others = {name: pair for name, pair in others.items() if abs(pair[0] - truth) > CLOSE}

    def matches(given: float, value: float) -> bool:
        return abs(given - value) <= CLOSE / 2 or given in [round(value, decimals) for decimals in DECIMALS]

    def judge(answer: Any) -> Verdict:
        given = number(answer)
        if matches(given, truth):
            return right(f"{truth:.2f} months on {len(selection)} selection films, without a look at any of them. This "
                         "is the bar for every network of the course.")
        for value, reply in others.values():
            if matches(given, value):
                return wrong(reply.format(value=value, truth=truth))
        if given == round(truth):
            return wrong("That is it, rounded: give it with two decimals.")
        if abs(12 * given - truth) <= 1:
            return wrong("In years, that fits. The course counts in months.")
        return wrong("Not that. Median of the training labels for each sex; for each selection film its distance to "
                     "the median of its sex; the mean of the distances.")

    return Exercise(
        question="The MAE, in months with two decimals, of the median by sex (learned on train) on the selection "
                 "films.",
        judge=judge,
        hints=("train_films.groupby('sex')['months'].median() gives two numbers.",
               "selection['sex'].map(...) puts the right one beside each film.",
               "(selection['months'] - guess).abs().mean()"),
        solution_value=truth,
        explanation=f"{truth:.2f} months: each selection film's distance to the median of the *training* labels of its "
                    "sex, on average.",
        code="""(
    selection["months"]
    - selection["sex"].map(train_films.groupby("sex")["months"].median())
).abs().mean()""",
        likely_mistakes={**{name: value for name, (value, _) in others.items()}, "in years": truth / 12,
                         "something else": truth + 100},
    )
