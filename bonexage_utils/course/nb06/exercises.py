"""The exercises of notebook 06: from an age back to its score, the slope at four ages, the bound of a scale, and where
a bounded head moves least."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from bonexage_utils.course.answers import number, numbers
from bonexage_utils.course.exercise import Exercise, Verdict, choice, listed, right, wrong
from bonexage_utils.course.nb06.bounds import MAX_AGE, TWIN_AGES, bounded, months_per_step, score_of
from bonexage_utils.course.start import Course
from bonexage_utils.figures import BOYS, MUTED, Picture, new_figure

INSIDE = (3.0, 12.0, 120.0, 228.0, 237.0)  # months, where no clamp is needed
SATURATED = 16.0  # in float32, sigmoid says exactly 1 from a score of about 17 on
CLOSE = 0.02
HUNDREDTH = 0.006  # a score may be rounded to two decimals
CLINICS = {"A": ("everybody", 0, 241), "B": ("adolescents", 168, 241), "C": ("toddlers", 0, 37),
           "D": ("school children", 72, 145)}  # months: which labels a clinic has


def build(course: Course) -> SimpleNamespace:
    """`score` (write a function), `slope` (four numbers), `clamp` and `clinic` (decisions)."""
    return SimpleNamespace(score=_score(), slope=_slope(), clamp=_clamp(), clinic=_clinic(course))


# --- back from the age to the score ---

def clamped_score(months: float) -> float:
    """The exercise's solution: the logit of months / 240, with the share held between 0.01 and 0.99."""
    return score_of(MAX_AGE * min(max(months / MAX_AGE, 0.01), 0.99))


def _score() -> Exercise:
    truth = np.array([score_of(age) for age in INSIDE])
    share = np.array(INSIDE) / MAX_AGE

    def judge(answer: Callable[[float], Any]) -> Verdict:
        found = np.array([_ask(answer, age) for age in INSIDE])
        if np.isnan(found[1:-1]).all():
            return wrong("For 12 months it gives no number (or stops). Did you divide by 240 first? 12 / (1 − 12) is "
                         "negative, and has no logarithm; 0.05 / (1 − 0.05) has one.")
        known = [(-truth, "The sign is turned round: your score is high for the youngest. It is the logarithm of "
                          "share / (1 − share), not of its inverse."),
                 (share, "That is the share: the 240 is undone. Now undo the sigmoid, too."),
                 (truth / np.log(10), "That is the logarithm to the base of ten. The sigmoid is made with e: np.log."),
                 (np.log(share), "The logarithm of the share alone. The sigmoid of that is not the share: divide by "
                                 "1 − share before you take the logarithm."),
                 (share / (1 - share), "share / (1 − share) is right, those are the odds. Their logarithm is missing."),
                 ((np.array(INSIDE) - MAX_AGE / 2) / (MAX_AGE / 4),
                  "A straight line through 120. It is the tangent there: right in the middle, and at 12 months it says "
                  f"−1.80 instead of {truth[1]:.2f}."),
                 (bounded(np.array(INSIDE)), "That goes the same way again, from a score to an age. The question is "
                                             "the way back.")]
        for values, message in known:
            if np.allclose(found, values, rtol=1e-3, atol=1e-3):
                return wrong(message)
        off = ~np.isclose(found, truth, rtol=1e-3, atol=HUNDREDTH)
        if off.any():
            place = 1 if off[1] else int(np.argmax(off))
            return wrong(f"For {INSIDE[place]:g} months it gives {found[place]:.3f}; put into 240·sigmoid that says "
                         f"{float(bounded(found[place])):.1f} months. (A clamp must leave {INSIDE[0]:g} and "
                         f"{INSIDE[-1]:g} months as they are.)")
        ends = np.array([_ask(answer, age) for age in (0.0, MAX_AGE)])
        if not np.isfinite(ends).all():
            return wrong("Right inside. But 0 and 240 months have no score: no finite one says them. A bias of "
                         "infinity is a network that can never learn: clamp the share first.")
        if np.abs(ends).max() > SATURATED:
            return wrong(f"Finite, but far out: at a score of {np.abs(ends).max():.0f} the slope is all but zero, in "
                         "float32 exactly zero on the upper side. Clamp the share at 0.01 and 0.99, as the package "
                         "does.")
        if ends[0] > truth[0] or ends[1] < truth[-1]:
            return wrong(f"Right inside, but 0 months gets {ends[0]:.2f} and 240 months {ends[1]:.2f}: the ends should "
                         "lie beyond all others. Clamp the share, do not replace the answer.")
        return right(f"12 months is a score of {truth[1]:.2f}, and 228 of {truth[3]:+.2f}: as far from the middle on "
                     f"either side. The ends stop at {ends[0]:.1f} and {ends[1]:+.1f}.")

    def odds(share: float) -> float:
        with np.errstate(all="ignore"):
            return float(np.float64(share) / np.float64(1 - share))

    def log(value: float) -> float:
        with np.errstate(all="ignore"):
            return float(np.log(value))

    return Exercise(
        question="Write my_score(months): the score at which the bounded head says so many months; finite for 0 and "
                 "240, too.",
        judge=judge,
        hints=("Undo the steps in reverse. The last was: times 240. So first: divide.",
               "Solve share = 1 / (1 + e^(−score)) for the score: e^(−score) = 1 / share − 1.",
               "score = np.log(share / (1 − share)); before it, share = min(max(share, 0.01), 0.99)."),
        solution_value=clamped_score,
        explanation="Divide by 240, keep away from both walls, and undo the sigmoid: log(share / (1 − share)).",
        code="""
def my_score(months):
    share = min(max(months / 240, 0.01), 0.99)
    return np.log(share / (1 - share))
""",
        likely_mistakes={
            "not divided by 240": lambda m: log(odds(m)),
            "ends not clamped": lambda m: log(odds(m / MAX_AGE)),
            "clamped too late": lambda m: log(odds(min(max(m / MAX_AGE, 1e-12), 1 - 1e-12))),
            "clamped too early": lambda m: log(odds(min(max(m / MAX_AGE, 0.1), 0.9))),
            "sign": lambda m: -clamped_score(m),
            "odds": lambda m: odds(m / MAX_AGE),
            "logarithm of the share": lambda m: log(m / MAX_AGE),
            "the share": lambda m: min(max(m / MAX_AGE, 0.01), 0.99),
            "base ten": lambda m: log(odds(m / MAX_AGE)) / np.log(10),
            "the tangent": lambda m: (m - 120) / 60,
            "the sigmoid again": lambda m: float(bounded(m)),
            "zero at the ends": lambda m: 0.0 if m in (0.0, MAX_AGE) else clamped_score(m),
        },
    )


def _ask(answer: Callable[[float], Any], months: float) -> float:
    """The learner's function of an age; NaN where it raises an error, or returns a complex number or none."""
    try:
        with np.errstate(all="ignore"):
            return number(answer(months))
    except (ArithmeticError, ValueError):
        return float("nan")


# --- the slope at four ages ---

def _slope() -> Exercise:
    ages = np.array(TWIN_AGES, float)
    truth, share = months_per_step(ages), ages / MAX_AGE
    shown = ", ".join(f"{slope:.1f}" for slope in truth)

    def judge(answer: Any) -> Verdict:
        found = numbers(answer, TWIN_AGES)
        if found.shape != (4,):
            return wrong("Four numbers, please: at 3, 12, 120 and 228 months.")
        at_score = MAX_AGE * np.exp(-ages) / (1 + np.exp(-ages)) ** 2
        along = bounded(np.log(share / (1 - share)) + 1) - ages
        known = [(along, "You walked one whole step along the curve, and it bends on the way. The question is the "
                         "slope at that very age, the dashed tangent: 240 · share · (1 − share)."),
                 (share * (1 - share), "Those are the slopes of the sigmoid itself. The 240 in front of it multiplies "
                                       "the slope as well: what you give is 240 times too small."),
                 (at_score, "You put the age in where the score belongs: sigmoid(3) is not three months. Turn the age "
                            "into share = age / 240 first; the slope is 240 · share · (1 − share)."),
                 (ages, "That is 240 · share, which is the age itself. The second factor, 1 − share, is missing; "
                        "without it the slope would grow up to the wall, but near 240 it is small, too."),
                 (MAX_AGE - ages, "That is 240 · (1 − share): the first factor, share, is missing. Near 0 there is a "
                                  "wall, too."),
                 (np.full(4, MAX_AGE / 4), "60 is right at 120 months, and only there: the curve is an S, not a line."),
                 (truth / 12, "That is in years. Give months: multiply by 12."),
                 (truth[::-1], "The numbers are right, their order is not: 3, 12, 120, 228.")]
        for values, message in known:
            if np.allclose(found, values, rtol=CLOSE):
                return wrong(message)
        if np.ptp(found) == 0:
            return wrong(f"{found[0]:g} everywhere: that is how a line behaves. The curve is an S.")
        good = np.abs(found - truth) <= CLOSE * truth
        if good.all():
            return right(f"{shown} months per step. 12 months and 228 are equally far from a wall, and have the same "
                         f"slope; in the middle it is {truth[2] / truth[1]:.0f} times as steep as at either.")
        if good[:3].all() and np.isclose(found[3], -truth[3], rtol=CLOSE):
            return wrong("The slope at 228 is not negative: there, too, a higher score says an older age. It is flat, "
                         "not falling.")
        if good[:3].all():
            return wrong(f"The first three are right. But 12 and 228 are the same distance from their wall, and the "
                         f"curve is symmetrical about 120: the last is {truth[1]:.1f} as well, not {found[3]:.1f}.")
        if (np.abs(found - truth) < 0.7).all():
            return wrong("As good as right, and rounded too far: one decimal, please.")
        place = int(np.argmin(good))
        return wrong(f"At {ages[place]:g} months it is not {found[place]:.1f}. Take 240 · share · (1 − share), with "
                     "share = age / 240.")

    return Exercise(
        question="How many months is one step of the score worth where the head says 3, 12, 120 and 228 months? Give a "
                 "list of four numbers.",
        judge=judge,
        hints=("The formula just derived wants the share: 3 / 240, 12 / 240, 120 / 240, 228 / 240.",
               "At 120 the share is 0.5: 240 · 0.5 · 0.5.",
               "[240 * s * (1 - s) for s in (3 / 240, 12 / 240, 0.5, 228 / 240)]"),
        solution_value=truth.tolist(),
        explanation=f"240 · share · (1 − share), with share = age / 240: {shown}.",
        code="[240 * s * (1 - s) for s in (3 / 240, 12 / 240, 120 / 240, 228 / 240)]",
        likely_mistakes={
            "forgot the 240": (share * (1 - share)).tolist(),
            "slope at the age as a score": (MAX_AGE * np.exp(-ages) / (1 + np.exp(-ages)) ** 2).tolist(),
            "share alone": ages.tolist(),
            "one minus share alone": (MAX_AGE - ages).tolist(),
            "the same everywhere": [60.0] * 4,
            "a whole step": (bounded(np.log(share / (1 - share)) + 1) - ages).tolist(),
            "the line's": [52.0] * 4,
            "rounded": [3, 11, 60, 11],
            "not symmetrical": [*truth[:3], 108.3],
            "falling": [*truth[:3], -truth[3]],
            "years": (truth / 12).tolist(),
            "order": truth[::-1].tolist(),
            "three numbers": truth[:3].tolist(),
            "another number": [5.0, *truth[1:]],
        },
    )


# --- decisions ---

def _clamp() -> Exercise:
    """A question about the figure of `bounds.draw_outputs`."""
    options = {
        "clamped": "It has no arrow: below zero the clamp says 0 whatever the score, so no step of the score "
                   "changes the answer, and the film teaches nothing. The answer looks tidy, and the head is "
                   "stuck, unless other films happen to pull it out. Clamp a finished answer, if you must; never "
                   "what you train on.",
        "linear": "Its answer is impossible, below zero. But its arrow is as long as anywhere: the slope "
                  "of a line does not depend on where it stands. So this film pulls it back.",
        "bounded": "Its arrow is short, but it is there, and it grows with each step towards the middle. It learns "
                   "slowly, but it learns.",
    }
    return Exercise(
        question=f"Which output cannot learn from this film: {listed(options)}?",
        judge=choice(options, "clamped", {
            **dict.fromkeys(("clamp", "hard clamp", "clamping", "clipped"), "clamped"), "sigmoid": "bounded",
            "line": "linear"}),
        hints=("How long is the black arrow, that is, by how much does a step of the score move the answer?",
               "No arrow at all means a slope of zero, and a slope of zero means a gradient of zero."),
        solution_value="clamped",
        explanation="Its slope below zero is exactly 0, so its gradient is, too.",
        likely_mistakes={"the silliest answer": "linear", "the flat curve": "bounded", "none": "none of them"},
    )


def clinic_labels(course: Course) -> dict[str, np.ndarray]:
    """The labels (months) of each of CLINICS, from those of the cohort."""
    months = course.cohort.table["months"].dropna().to_numpy()
    return {name: months[(months >= low) & (months < high)] for name, (_, low, high) in CLINICS.items()}


def draw_clinics(course: Course) -> Picture:
    """The labels of four clinics under the slope of the bounded head."""
    figure, axes = new_figure(9.5, 2.9, 1, len(CLINICS), sharey=True)
    ages, parts = np.arange(0, MAX_AGE + 1), []
    for ax, (name, months) in zip(axes, clinic_labels(course).items(), strict=True):
        counts, edges = np.histogram(months, np.arange(0, MAX_AGE + 1, 12))
        ax.bar(edges[:-1], 50 * counts / max(counts.max(), 1), 11, align="edge", color=MUTED, alpha=0.5)
        ax.plot(ages, months_per_step(ages), color=BOYS, linewidth=2)
        ax.set(title=f"{name}: {CLINICS[name][0]}", xlabel="age (months)", xticks=range(0, 241, 60), ylim=(0, 65))
        if len(months):
            low, middle, high = np.percentile(months, [5, 50, 95])
            parts.append(f"{name}, {CLINICS[name][0]}: labels mostly from {low:.0f} to {high:.0f} months, half of them "
                         f"below {middle:.0f}")
    axes[0].set_ylabel("one step (months)")
    return Picture(figure, f"""Four clinics, each with a grey histogram of its children's labels under the same blue
        arch, the months that one step of the score is worth: 0 at 0 and 240 months, 60 at 120.
        {'; '.join(parts)}.""")


def _clinic(course: Course) -> Exercise:
    labels = clinic_labels(course)
    steps = {name: float(months_per_step(months).mean()) if len(months) else float("inf")
             for name, months in labels.items()}
    truth = min(steps, key=steps.__getitem__)
    order = sorted(steps, key=steps.__getitem__)
    shown = ", ".join(f"{name} {steps[name]:.0f}" for name in order)

    def feedback(name: str) -> str:
        group = CLINICS[name][0]
        if name == truth:
            return (f"{steps[name]:.0f} months per step on average, against {steps[order[-1]]:.0f} in {order[-1]}. The "
                    f"{group} stand nearest to a wall. For them the head learns slowly. A tremor of the score moves "
                    "their answers least, too.")
        if name == order[-1]:
            return (f"There the arch is at its highest: {steps[name]:.0f} months per step. The bounded head is quick "
                    "with them, quicker than the linear one.")
        if name == "A":
            return (f"A has children at both ends, but most stand in the middle: {steps[name]:.0f} months per step on "
                    "average. Weigh the arch by the bars, not by its ends.")
        return (f"These are near a wall, too, at {steps[name]:.0f} months per step. But the bars of {truth} are "
                "nearer to theirs.")

    return Exercise(
        question="In which clinic does one step of the score move the bounded head's answers least, on average? "
                 f"{listed(CLINICS)}?",
        judge=choice({name: feedback(name) for name in CLINICS}, truth, {CLINICS[name][0]: name for name in CLINICS}),
        hints=("Read the height of the arch above the tall bars.",
               "B and C are both near an end. From the tallest bars to the nearer wall, 0 or 240: which way is "
               "shorter?"),
        solution_value=truth,
        explanation=f"Months per step on average: {shown}.",
        likely_mistakes={CLINICS[name][0]: name for name in CLINICS if name != truth} | {"a number": 3},
    )
