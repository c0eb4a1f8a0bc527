"""The exercises of notebook 00: put three hands in order, predict which sex matures first, two decisions."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from bonexage_utils.course.answers import letters
from bonexage_utils.course.exercise import Exercise, Verdict, choice, listed, right, wrong
from bonexage_utils.course.nb00.figures import THREE, centres_present, read_lead
from bonexage_utils.course.sliders import OLDEST, YOUNGEST
from bonexage_utils.course.start import Course
from bonexage_utils.phantom import anatomy, grow
from bonexage_utils.prediction import format_age

TOLERANCE = 6  # months: the largest error of a guessed lead that counts as right
STEEP = 3  # so many new centres in a span of ages, or more: counting them tells the age well


def build(course: Course) -> SimpleNamespace:
    """`order` (look at three films), `first` (a prediction), `plateau` and `ahead` (decisions)."""
    return SimpleNamespace(order=_order(), first=_first(), plateau=_plateau(), ahead=_ahead())


def _order() -> Exercise:
    truth = "".join(sorted(THREE, key=THREE.__getitem__))
    young, middle, old = truth
    ages = ", ".join(f"{name} {format_age(THREE[name])}" for name in truth)

    def judge(answer: Any) -> Verdict:
        given = letters(answer, sorted(THREE), ordered=True)
        if sorted(given) != sorted(THREE):
            return wrong("Give the three letters, each once, such as 'ABC'.")
        if given == truth:
            return right(f"{ages}. All three hands fill their film: you read the bones, not the size.")
        if given == truth[::-1]:
            return wrong("That is the order from old to young. The youngest comes first.")
        if given[0] == young:
            return wrong(f"{young} is the youngest, yes. Now look at the ends of the finger bones. Where there is a "
                         "dark gap between a cap and its shaft, the bone still grows.")
        if given[2] == old:
            return wrong(f"{old} is the oldest, yes. Now count the small bones in the wrists of {young} and "
                         f"{middle}.")
        return wrong("Begin with the wrist: the fewer small bones it holds, the younger the child.")

    return Exercise(
        question="Put the three girls in order, the youngest first. Three letters, such as 'ABC'.",
        judge=judge,
        hints=("The wrist of a small child is nearly empty. Which film is that?",
               "In a child who still grows, a thin dark gap lies between the cap and the shaft of a finger bone."),
        solution_value=truth,
        explanation=f"{ages}.",
        likely_mistakes={"from old to young": truth[::-1], "the young ones swapped": middle + young + old,
                         "the old ones swapped": young + old + middle, "the oldest first": old + young + middle,
                         "one letter": young},
    )


def _all_present_at(sex: str) -> int:
    """The youngest age (months) at which the average child shows every centre."""
    centres = len(anatomy.APPEARANCE)
    return next(age for age in range(YOUNGEST, OLDEST + 1) if centres_present(sex, age) == centres)


def _first() -> Exercise:
    girl, boy = _all_present_at("F"), _all_present_at("M")
    lead = boy - girl

    def judge(answer: Any) -> Verdict:
        read = read_lead(answer)
        if not read:
            return wrong('Write who is first and by how many months, such as ("boy", 3).')
        sex, months = read
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
        explanation=f"She shows all {len(anatomy.APPEARANCE)} at {girl} months, he at {boy}.",
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
                 f"{listed(spans)}?",
        judge=choice(options, truth, {
            f"{start} to {end}{unit}": text for text, (start, end) in spans.items() for unit in ("", " months")}),
        hints=("Follow the girls' line. Where does a year change the height of the line, and where not?",
               "The axis counts months: 24 is two years, 96 is eight."),
        solution_value=truth,
        explanation=f"{gained[truth]} new centres, against {max(gained.values())} where the line is "
                    "steepest.",
        likely_mistakes={f"girls from {text}": text for text in spans if text != truth},
    )


def _ahead() -> Exercise:
    age, reading = 120, 145
    average = {"rng": np.random.default_rng(0), "jitter": False}
    mean = grow("F", age, tempo=0.0, **average).bone_age_months
    sd = grow("F", age, tempo=1.0, **average).bone_age_months - mean
    deviation = (reading - mean) / sd
    truth = "usual" if abs(deviation) <= 2 else "unusual"
    options = {
        "usual": f"The average girl of ten is at {mean:.1f} months, so she is {reading - mean:.0f} months ahead. One "
                 f"standard deviation is {sd:.1f}: that makes {deviation:+.1f}. Up to two on either side is usual.",
        "unusual": f"From which age did you count? The average girl of ten is not at {age} months but at {mean:.1f}. "
                   f"Divide the distance from there by one standard deviation, {sd:.1f} months.",
        "a wrong reading": "A bone age need not agree with the birthday: the gap between the two is what the film "
                           "was taken for.",
    }
    return Exercise(
        question=f"A girl of {format_age(age)} has a bone age of {format_age(reading)}. Is that "
                 f"{listed(options)}?",
        judge=choice(options, truth, {
            **dict.fromkeys(("normal", "typical", "not unusual", "usual reading", "within 2 SD",
                             "within 2 standard deviations"), "usual"),
            **dict.fromkeys(("not usual", "not normal"), "unusual"),
            **dict.fromkeys(("wrong reading", "wrong"), "a wrong reading")}),
        hints=("How far are healthy children of the same age apart? The text above names the standard deviation.",
               f"Count in standard deviations from the average girl of ten, who is at {mean:.1f} months. Up to two "
               "is usual."),
        solution_value=truth,
        explanation=f"She is {deviation:+.1f} standard deviations from the mean; up to two is usual.",
        likely_mistakes={f"she is {name}": name for name in options if name != truth},
    )
