"""The exercises of notebook 00: read a version table, predict which sex matures first, two decisions from figures."""

import platform
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch

import bonexage_utils
from bonexage_utils.course.exercise import Exercise, Verdict, choice, right, wrong
from bonexage_utils.course.nb00.figures import centres_present, is_lead
from bonexage_utils.course.sliders import OLDEST, YOUNGEST
from bonexage_utils.course.start import Course
from bonexage_utils.phantom import anatomy, grow
from bonexage_utils.prediction import format_age

TOLERANCE = 6  # months: the largest error of a guessed lead that counts as right
STEEP = 3  # so many new centres in a span of ages, or more: counting them tells the age well


def build(course: Course) -> SimpleNamespace:
    """`version` (read a table), `first` (a prediction), `plateau` and `ahead` (decisions)."""
    return SimpleNamespace(version=_version(), first=_first(), plateau=_plateau(), ahead=_ahead())


def _version() -> Exercise:
    def first_two(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split(".")[:2])

    truth = first_two(torch.__version__)
    shown = f"{truth[0]}.{truth[1]}"
    others = {"Python": platform.python_version(), "timm": timm.__version__, "NumPy": np.__version__,
              "pandas": pd.__version__, "bonexage_utils": bonexage_utils.__version__}

    def judge(answer: Any) -> Verdict:
        if isinstance(answer, float):
            return wrong("A version is not a decimal number: 2.10 comes after 2.9, but as a number 2.10 is smaller. "
                         "Give two whole numbers, such as (2, 9).")
        if isinstance(answer, str):
            return wrong("As text, '2.10' sorts before '2.9', letter by letter. Give two whole numbers, such as "
                         "(2, 9).")
        pair = tuple(answer)
        if pair == truth:
            return right(f"This machine computes with torch {shown}, and the pair sorts as versions do. When you ask "
                         "for help, copy the whole table: it answers the first three questions anybody will ask.")
        if len(pair) != 2:
            return wrong("Two numbers are enough: the first two of the version, such as (2, 9).")
        for name, version in others.items():
            if pair == first_two(version):
                return wrong(f"That is {name}, another line of the table.")
        return wrong("No torch like that is running here. Look for the line that begins with torch.")

    mistakes: dict[str, Any] = {"a decimal number": float(shown), "text": shown, "all three numbers": (*truth, 0),
                                "not in the table": (99, 0), "another line": first_two(others["Python"])}
    return Exercise(
        question="Which torch runs here? Give the first two numbers of its version, such as (2, 9).",
        judge=judge,
        hints=("The table is the output of start(), in the second code cell.", "The line begins with torch."),
        solution_value=truth,
        explanation=f"torch {shown}, so {truth}.",
        likely_mistakes=mistakes,
    )


def _all_present_at(sex: str) -> int:
    """The youngest age (months) at which the average child shows every centre."""
    centres = len(anatomy.APPEARANCE)
    return next(age for age in range(YOUNGEST, OLDEST + 1) if centres_present(sex, age) == centres)


def _first() -> Exercise:
    girl, boy = _all_present_at("F"), _all_present_at("M")
    lead = boy - girl

    def judge(answer: Any) -> Verdict:
        if not is_lead(answer):
            return wrong('Write who is first and by how many months, such as ("boy", 3).')
        sex, months = answer
        if sex == "boy" and months:
            return wrong("Boys end up with the longer bones, but longer is not more mature: the girl's centres "
                         "appear earlier.")
        if months <= 3:
            if abs(12 * months - lead) <= TOLERANCE:
                return wrong(f"The girl, yes. But {months:g} what? The lead is asked in months: write it 12 times as "
                             "large if you meant years.")
            return wrong("Girls and boys do not mature in step. Look how far apart the two curves are at their top.")
        if abs(months - lead) <= TOLERANCE:
            return right(f"She shows all of them at {format_age(girl)}, he at {format_age(boy)}: {lead} months "
                         "apart. The same film means another age for a boy than for a girl.")
        if months < lead:
            return wrong(f"The girl, yes. But {months:g} months is too near: the last small bone by the thumb takes "
                         f"her lead to {lead} months, and up to {TOLERANCE} off counts as right.")
        return wrong(f"The girl, yes. But {months:g} months is too far: it is {lead}, and up to {TOLERANCE} off "
                     "counts as right.")

    return Exercise(
        question="Who shows all 30 ossification centres first, the average girl or the average boy, and how many "
                 f'months before the other? Such as ("boy", 3); up to {TOLERANCE} months off counts as right.',
        judge=judge,
        hints=("At five years, who shows more centres in the picture above?",
               "The last centre to come is a small bone beside the thumb, at the beginning of puberty.",
               "When does puberty begin in girls, and when in boys?"),
        solution_value=("girl", lead),
        explanation=f'("girl", {lead}): she at {girl} months, he at {boy}.',
        likely_mistakes={"the taller is the more mature": ("boy", 12), "no difference": ("girl", 0),
                         "too small": ("girl", 10), "too large": ("girl", 60), "in years": ("girl", round(lead / 12)),
                         "only who": "girl"},
    )


def _plateau() -> Exercise:
    spans = {"1 to 2": (12, 24), "2 to 4": (24, 48), "6 to 8": (72, 96), "8 to 11": (96, 132)}
    gained = {text: centres_present("F", end) - centres_present("F", start) for text, (start, end) in spans.items()}
    truth = min(gained, key=gained.__getitem__)

    def reply(text: str) -> str:
        new = gained[text]
        if text == truth:
            return (f"{new} new centres in two years: the count stands still while the child grows on. Now bone age "
                    "is in the shape and width of the bone ends, which is why we look at the whole film.")
        if new >= STEEP:
            return (f"From {text} there appear {new} centres. A steep curve is a good clock; look for a flat one.")
        return f"From {text} it is nearly flat, but {new} still come, and each dates the hand. Look for no step."

    options = {text: reply(text) for text in spans}
    return Exercise(
        question="Between which ages, in years, does counting centres say nothing about how mature a girl's hand is? "
                 f"One of {', '.join(repr(text) for text in spans)}.",
        judge=choice(options, truth),
        hints=("Follow the girls' line. Where does a year change the height of the line, and where not?",
               "The axis counts months: 24 is two years, 96 is eight."),
        solution_value=truth,
        explanation=f"{truth!r}: {gained[truth]} new centres, against {max(gained.values())} where the line is "
                    "steepest.",
        likely_mistakes={f"girls from {text}": text for text in spans if text != truth},
    )


def _ahead() -> Exercise:
    age, reading = 120, 140
    average = {"rng": np.random.default_rng(0), "jitter": False}
    mean = grow("F", age, tempo=0.0, **average).bone_age_months
    sd = grow("F", age, tempo=1.0, **average).bone_age_months - mean
    deviation = (reading - mean) / sd
    truth = "usual" if abs(deviation) <= 2 else "unusual"
    options = {
        "usual": f"At ten, one standard deviation is {sd:.0f} months, so {reading} months is {deviation:+.1f} of them "
                 "from the mean. Up to two on either side is usual.",
        "unusual": f"{reading - age} months sounds like much, but at ten one standard deviation is {sd:.0f}: she "
                   f"is {deviation:+.1f} of them from the mean. Compare a distance with the spread first.",
        "a wrong reading": "A bone age need not agree with the birthday: the gap between the two is what the film "
                           "was taken for.",
    }
    return Exercise(
        question=f"A girl of {format_age(age)} has a bone age of {format_age(reading)}. Is that 'usual', 'unusual' "
                 "or 'a wrong reading'?",
        judge=choice(options, truth),
        hints=("How far are healthy children of the same age apart? The text above names the standard deviation.",
               "Count in standard deviations: up to two is usual."),
        solution_value=truth,
        explanation=f"{truth!r}: {deviation:+.1f} standard deviations.",
        likely_mistakes={f"she is {name}": name for name in options if name != truth},
    )
