"""Notebook 09: what to tell a hospital with twenty films, which error becomes the half-width, how few films are too
few, for whom it holds, since when not, and what a note is worth."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from bonexage_utils.calibration import half_width
from bonexage_utils.course.answers import number
from bonexage_utils.course.answers import share as read_share
from bonexage_utils.course.exercise import Exercise, Verdict, choice, right, wrong
from bonexage_utils.course.start import Course
from bonexage_utils.figures import ACCENT, BOYS, MUTED, SEX_COLOUR, Picture, new_figure
from bonexage_utils.statistics import bootstrap_mean, share

WANTED = 0.9
CLINIC_FILMS, ODD_FILMS, FOUND, FALSE_ALARMS = 1000, 10, 0.8, 0.01  # what a clinic sends, and what notes find of it
CLOSE = 1e-6
# A hospital's own films: so many of each sex, how far off they are (months), and the seed that draws them.
TWENTY, TWENTY_BIAS, SPREAD_OF_TWENTY, TWENTY_SEED = 10, -4.0, 11.0, 23
# Errors to try a learner's function on: so many films, so much coverage; the last is more than they can promise.
CASES = ((19, 0.9), (200, 0.9), (57, 0.8), (99, 0.95), (8, 0.9))
# Group: films, and how many of their labels lie inside.
GROUPS = {"A": (9, 7), "B": (210, 183), "C": (160, 130), "D": (120, 116)}
# A department's months, so many films each; from month SINCE on all answers are SHIFT months too high.
MONTHS, FILMS_A_MONTH, SINCE, SHIFT, SPREAD = 14, 60, 9, 8.0, 8.0


def build(course: Course) -> SimpleNamespace:
    return SimpleNamespace(twenty=_twenty(), half=_half(), few=_few(), group=_group(), since=_since(), noted=_noted())


# --- a hospital with twenty films ---

def twenty_films() -> pd.DataFrame:
    """A hospital's own films: `sex`, `predicted` and `months` (label). On the whole the network is read TWENTY_BIAS
    months off there; these films do not show it."""
    rng = np.random.default_rng(TWENTY_SEED)
    sex = np.repeat(["F", "M"], TWENTY)
    months = rng.uniform(36, 200, len(sex)).round()
    return pd.DataFrame({"sex": sex, "months": months,
                         "predicted": months + rng.normal(TWENTY_BIAS, SPREAD_OF_TWENTY, len(sex))})


def draw_twenty() -> Picture:
    """Prediction minus label against the prediction, what the lines by sex would take away, and the bias."""
    films = twenty_films()
    off = films["predicted"] - films["months"]
    bias = bootstrap_mean(off)
    figure, ax = new_figure(7, 3.8)
    ax.axhspan(bias.low, bias.high, color=MUTED, alpha=0.25, label="bias and its 95 % interval")
    ax.axhline(bias.value, color=MUTED)
    ax.axhline(0, color="black", linewidth=0.8, zorder=0)
    parts = []
    for (sex, part), name, marker in zip(films.groupby("sex"), ("girls", "boys"), "os", strict=True):
        slope, intercept = np.polyfit(part["predicted"], part["months"], 1)
        ends = np.array([part["predicted"].min(), part["predicted"].max()])
        ax.plot(part["predicted"], off[part.index], marker, color=SEX_COLOUR[sex], label=name)
        ax.plot(ends, ends - (intercept + slope * ends), color=SEX_COLOUR[sex], linestyle="--", label=f"{name}' line")
        parts.append(f"the line of {len(part)} {name} would make {ends[0]:.0f} months "
                     f"{intercept + slope * ends[0]:.0f} and {ends[1]:.0f} months {intercept + slope * ends[1]:.0f}")
    ax.set(xlabel="prediction (months)", ylabel="prediction minus label (months)",
           title=f"{len(films)} films of one hospital: bias {bias} months")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return Picture(figure, f"""Prediction minus label against the prediction for {len(films)} films of one hospital, in
        months. The bias is {bias}, a grey band. Dashed, two lines fitted by sex: {'; '.join(parts)}.""")


def _twenty() -> Exercise:
    films = twenty_films()
    off = films["predicted"] - films["months"]
    bias = bootstrap_mean(off)
    return Exercise(
        question="A hospital has 20 films with labels: 'A' use the lines, 'B' use the shift, 'C' not yet, tell the "
                 "bias with its interval and read more, or 'D' no, it reads as you do?",
        judge=choice({
            "A": f"Any line fits the films that it was fitted to. Each of these rests on {TWENTY} films, which scatter "
                 f"by {off.std():.0f} months, and the films of next week lie elsewhere. The table above has what lines "
                 "from 20 films did to the error of other films.",
            "B": f"One number is safer than four, not safe. The bias is {bias} months: the truth may lie on either "
                 "side of zero, and then the shift goes the wrong way. The table above has the share of hospitals that "
                 "a shift from 20 films harmed by more than half a month.",
            "C": f"The bias is {bias} months. That is a suspicion: zero lies inside, and so does a bias worth mending. "
                 "A hundred films would make the interval less than half as wide; then a shift can be decided on, and "
                 "with some hundreds a line.",
            "D": f"Zero lies inside the interval of the bias, {bias} months. But so does {bias.low:.0f}. That 20 films "
                 "do not show a difference does not show that there is none.",
        }, "C", {"lines": "A", "line": "A", "shift": "B", "not yet": "C", "no": "D"}),
        hints=("What does the grey band say about the bias? And how many films does each line rest on?",
               "Two of the four claim something that the band forbids: that the bias is known, or that there is none."),
        solution_value="C",
        explanation=f"'C': a bias of {bias} months is not known well enough to correct by, nor to be ruled out.",
        likely_mistakes={"it fits": "A", "one number is safe": "B", "not significant, so none": "D", "all": "A and B"},
    )


# --- the half-width ---

def _errors(films: int) -> np.ndarray:
    """Errors (films,), months, of both signs and no two of a size; a little too high on average."""
    return np.random.default_rng([9, films]).normal(2.0, 8.0, films)


def _half() -> Exercise:
    def judge(answer: Callable[[np.ndarray, float], Any]) -> Verdict:
        for films, coverage in CASES:
            errors, truth = _errors(films), half_width(_errors(films), coverage)
            given = errors.copy()
            with np.errstate(all="ignore"):
                try:
                    made = answer(given, coverage)
                except (IndexError, ValueError):
                    if math.isinf(truth):
                        return wrong(_too_few(films, coverage, "stops with an error"))
                    raise
            found = number(made)
            if np.isclose(found, truth, rtol=CLOSE):
                continue
            return wrong(_explain(errors, coverage, truth, found))
        return right("The same as the package's, also for eight films, which cannot promise 90 % at any width. You "
                     "need nothing else about the network: not its loss, not its shape, not whether it is any good.")

    def ranked(errors: np.ndarray, coverage: float, rank: int) -> float:
        return float(np.sort(np.abs(errors))[rank]) if -1 < rank < len(errors) else math.inf

    return Exercise(
        question="Write my_half_width(errors, coverage): the ⌈(n + 1) · coverage⌉-th smallest |error|, or infinity "
                 "(np.inf) where there are not so many.",
        judge=judge,
        hints=("Three steps: the sizes of the errors, in order, and one of them picked by its rank.",
               "rank = int(np.ceil((len(errors) + 1) * coverage)); Python counts from 0, so number rank is at "
               "[rank - 1].",
               "return np.sort(np.abs(errors))[rank - 1] if rank <= len(errors) else np.inf"),
        solution_value=half_width,
        explanation="The sizes in order, and the one of that rank; where there are too few, no width can be promised.",
        code="""
def my_half_width(errors, coverage):
    rank = int(np.ceil((len(errors) + 1) * coverage))
    return np.sort(np.abs(errors))[rank - 1] if rank <= len(errors) else np.inf
""",
        likely_mistakes={
            "signed": lambda e, c: ranked(e + 1e3, c, math.ceil((len(e) + 1) * c - 1e-9) - 1) - 1e3,
            "n instead of n + 1": lambda e, c: ranked(e, c, math.ceil(len(e) * c - 1e-9) - 1),
            "counts from one": lambda e, c: ranked(e, c, math.ceil((len(e) + 1) * c - 1e-9)),
            "interpolated quantile": lambda e, c: float(np.quantile(np.abs(e), c)),
            "normal": lambda e, c: 1.645 * float(np.std(e)),
            "the mean": lambda e, c: float(np.abs(e).mean()),
            "the widest where there are too few": lambda e, c: min(half_width(e, c), float(np.abs(e).max())),
            "not sorted": lambda e, c: float(np.abs(e)[min(math.ceil((len(e) + 1) * c - 1e-9), len(e)) - 1]),
            "both sides": lambda e, c: 2 * half_width(e, c),
        },
    )


def _too_few(films: int, coverage: float, does: str) -> str:
    rank = math.ceil(round((films + 1) * coverage, 9))
    return (f"For {films} films and {coverage:.0%} yours {does}. The rank is {rank} there, more than there are films: "
            "no finite width can be promised, and the honest answer is np.inf.")


def _explain(errors: np.ndarray, coverage: float, truth: float, found: float) -> str:
    sizes, n = np.sort(np.abs(errors)), len(errors)
    rank = math.ceil(round((n + 1) * coverage, 9))
    if math.isinf(truth):
        return _too_few(n, coverage, f"gives {found:.1f}")

    def at(place: int) -> float:
        return float(sizes[place]) if place < n else math.inf

    known = [
        (np.sort(errors)[rank - 1], "You sorted the errors with their signs. A film read five months too low is as far "
                                    "off as one read five too high: take np.abs first."),
        (at(math.ceil(round(n * coverage, 9)) - 1), "Your rank is one too low. The new film is one more, and may have "
                                                    "any place among the n: (n + 1) · coverage, rounded up."),
        (at(rank), "One place too far. If you index: Python counts from 0, so the film of that rank is at [rank - 1]. "
                   "If you use np.quantile(…, method='higher'): it counts n - 1 gaps; 'inverted_cdf' gives the rank."),
        (float(np.quantile(sizes, coverage)), "np.quantile interpolates between two errors and counts n - 1 gaps. The "
                                            "promise is one of the errors itself, the one of that rank."),
        (1.645 * float(np.std(errors)), "1.645 SD is right where errors are normal and have no bias. Nobody promised "
                                        "you that; the rank needs neither."),
        (float(sizes.mean()), "That is the MAE: more than a third of all films are further off than that."),
        (float(np.abs(errors)[min(rank, n) - 1]), "You picked by the rank, but did not put the sizes in order first."),
        (2 * truth, "That is the width of the whole interval, from low to high. Asked is the half of it, what goes to "
                    "either side."),
    ]
    for value, message in known:
        if np.isclose(found, value, rtol=CLOSE):
            return message
    return f"For {n} errors and {coverage:.0%} it gives {found:.3f}; the one of rank {rank} is {truth:.3f}."


# --- how many films at least ---

def _few() -> Exercise:
    truth, wanted = 19, 0.95

    def judge(answer: Any) -> Verdict:
        given = number(answer)
        if np.isclose(given, truth):  # 0.95 / 0.05 is a little less
            return right("⌈20 · 0.95⌉ = 19: the very largest of 19 errors. One film less, and nothing finite can be "
                         "promised. With 19 it can, but it rests on a single film. So in practice one takes hundreds.")
        messages = {
            18: "⌈19 · 0.95⌉ = ⌈18.05⌉ = 19, and there are only 18. So near, and not enough.",
            20: "20 are enough, but fewer do, too: 1 / (1 − 0.95) is n + 1, not n.",
            9: "9 is for 90 %: ⌈10 · 0.9⌉ = 9. Here 95 % are promised.",
            95: "95 would be of a hundred. But the rank is taken of n + 1, whatever n is.",
            100: "A hundred are plenty. Asked are the fewest: try n = 10, 20, … and see when ⌈(n + 1) · 0.95⌉ is not "
                 "more than n.",
            30: "30 is a rule of thumb from other problems. Here the ranks decide: try them.",
            1: "With one film the rank is ⌈2 · 0.95⌉ = 2, and there is no second.",
        }
        if given in messages:
            return wrong(messages[given])
        if not given >= 0:
            return wrong("A number of films, please.")
        rank = math.ceil(round((given + 1) * wanted, 9))
        return wrong(f"{given:g} films: the rank would be ⌈{given + 1:g} · 0.95⌉ = {rank}, "
                     + ("which is more than there are." if rank > given else "and fewer films do as well."))

    return Exercise(
        question="What is the smallest number of calibration films with which a finite 95 % interval can be promised?",
        judge=judge,
        hints=("The rank ⌈(n + 1) · 0.95⌉ must not be larger than n.",
               "(n + 1) · 0.95 ≤ n; solve for n.",
               "n ≥ 0.95 / 0.05"),
        solution_value=truth,
        explanation="19: ⌈20 · 0.95⌉ = 19. In general n ≥ coverage / (1 − coverage).",
        likely_mistakes={"one too few": 18, "one too many": 20, "that of 90 %": 9, "of a hundred": 95, "hundred": 100,
                         "rule of thumb": 30, "one": 1, "another": 40, "too few": 12},
    )


# --- decisions ---

def draw_groups() -> Picture:
    """The share inside of four groups with its 95 % interval, as a coverage table has them."""
    figure, ax = new_figure(6, 3.6)
    parts = []
    for place, (name, (n, inside)) in enumerate(GROUPS.items()):
        found = share(np.arange(n) < inside)
        ax.errorbar(place, found.value, [[found.value - found.low], [found.high - found.value]], fmt="o", color=BOYS,
                    capsize=4)
        ax.annotate(f"n={n}", (place, found.value), (9, 0), textcoords="offset points", va="center", fontsize=9)
        parts.append(f"{name}: {found.value:.0%} of {n} films, interval {found.low:.0%} to {found.high:.0%}")
    ax.axhline(WANTED, color=ACCENT, linestyle="--", label=f"promised: {WANTED:.0%}")
    ax.set(xticks=range(len(GROUPS)), xticklabels=list(GROUPS), xlabel="group", ylabel="share of labels inside",
           xlim=(-0.5, len(GROUPS) - 0.2), ylim=(0.3, 1.02))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower right")
    return Picture(figure, f"""Share of labels inside their intervals in four groups, with 95 % intervals; a dashed line
        at {WANTED:.0%}. {'; '.join(parts)}.""")


def _group() -> Exercise:
    found = {name: share(np.arange(n) < inside) for name, (n, inside) in GROUPS.items()}
    short = [name for name, interval in found.items() if interval.high < WANTED]
    (truth,) = short
    edge = {name: f"[{interval.low:.0%}, {interval.high:.0%}]" for name, interval in found.items()}
    return Exercise(
        question="In which group are too few labels inside, beyond what chance explains: 'A', 'B', 'C' or 'D'?",
        judge=choice({
            "A": f"The lowest point, and the weakest evidence: nine films. Their interval, {edge['A']}, reaches well "
                 "above the line. Such a group gets more films, not a verdict.",
            "B": f"A little below the line, and with many films. But the line lies inside {edge['B']}: a model that "
                 "keeps its promise looks like this often enough.",
            "C": f"The whole interval, {edge['C']}, lies below the line. The point of A is lower still, but nine films "
                 "prove little. Of the children in C too many would be told something wrong, whatever the overall "
                 "share is.",
            "D": f"There the intervals held *more* often than promised, {edge['D']}. That costs width, and it is not "
                 "what was asked.",
        }, truth),
        hints=("Do not look at the points alone. What does a bar that crosses the dashed line say?",
               "A bar below the dashed line from end to end: chance alone would hardly do that."),
        solution_value=truth,
        explanation=f"{truth!r}: its whole interval, {edge[truth]}, is below {WANTED:.0%}.",
        likely_mistakes={"the lowest point": "A", "below the line": "B", "off the line": "D", "all": "A, B and C"},
    )


def monthly() -> np.ndarray:
    """Whether each label was inside, bool (MONTHS, FILMS_A_MONTH), in a department whose scanner changes."""
    rng = np.random.default_rng(229)
    half = half_width(rng.normal(0, SPREAD, 400), WANTED)
    errors = rng.normal(0, SPREAD, (MONTHS, FILMS_A_MONTH))
    errors[SINCE - 1:] += SHIFT
    return np.abs(errors) <= half


def draw_months() -> Picture:
    """The share inside by month, with its 95 % interval."""
    figure, ax = new_figure(7.5, 3.6)
    parts = []
    for month, inside in enumerate(monthly(), 1):
        found = share(inside)
        ax.errorbar(month, found.value, [[found.value - found.low], [found.high - found.value]], fmt="o", color=BOYS,
                    capsize=3)
        parts.append(f"{month}: {found.value:.0%} [{found.low:.0%}, {found.high:.0%}]")
    ax.axhline(WANTED, color=ACCENT, linestyle="--", label=f"promised: {WANTED:.0%}")
    ax.set(xlabel="month", ylabel="share of labels inside", xticks=range(1, MONTHS + 1), ylim=(0.35, 1.02))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower left")
    return Picture(figure, f"""Share of labels inside their intervals, with 95 % intervals, in {MONTHS} months with
        {FILMS_A_MONTH} films each; a dashed line at {WANTED:.0%}. Month {'; '.join(parts)}.""")


def _since() -> Exercise:
    by_month = [share(inside) for inside in monthly()]
    low = 1 + int(np.argmin([found.value for found in by_month]))
    dip = 1 + int(np.argmin([found.value for found in by_month[:SINCE - 1]]))

    def judge(answer: Any) -> Verdict:
        month = number(answer)
        if month not in range(1, MONTHS + 1):
            return wrong(f"A month, please: a whole number from 1 to {MONTHS}.")
        if month == SINCE:
            return right(f"From month {SINCE} on the bars lie below the line, one after the other, and do not come "
                         "back: that is when the scanner was changed. The half-width has not noticed. It was learned "
                         "before, and only labels could tell. (The figure cannot tell a scanner from a new reader: had "
                         "no date been known, either would explain it.)")
        if month == dip:
            return wrong(f"Month {dip} is the lowest of the first {SINCE - 1}, but its bar reaches the line, and the "
                         "next months are back above or about it. One low month is what chance does.")
        if month == low:
            return wrong(f"Month {low} is the lowest of all. But look to its left: the trouble was there already.")
        if month == SINCE + 1:
            return wrong("By then it is plain. But the month before belongs to it: its bar, too, is below the line.")
        if month > SINCE:
            return wrong("The months before it are low, too. Go left until the low months end.")
        if month == SINCE - 1:
            return wrong("Nearly. But the bar of that month still reaches the line: go one bar to the right.")
        return wrong("After that month bars still reach the line. Look for the month from which on none does.")

    mistakes = {"a dip": dip, "the month after": SINCE + 1, "the month before": SINCE - 1, "the first": 1,
                "the last": MONTHS, "no month": 0}
    if low not in mistakes.values() and low != SINCE:
        mistakes["the lowest"] = low
    return Exercise(
        question="The department changed its scanner once. From which month on? Give its number.",
        judge=judge,
        hints=("A single low month may be chance; a change stays.",
               "From which month on does no bar reach the dashed line any more?"),
        solution_value=SINCE,
        explanation=f"{SINCE}: from then on every answer is {SHIFT:g} months too high, with the same half-width.",
        likely_mistakes=mistakes,
    )


# --- notes ---

def _noted() -> Exercise:
    found, false = ODD_FILMS * FOUND, (CLINIC_FILMS - ODD_FILMS) * FALSE_ALARMS
    truth = found / (found + false)

    def judge(answer: Any) -> Verdict:
        share_of = read_share(answer)
        if not 0 <= share_of <= 1:
            return wrong("A share, please: a number from 0 to 1, or per cent.")
        if abs(share_of - truth) < 0.006:
            return right(f"{found:.0f} of {found + false:.1f} noted films are odd, {truth:.0%}. More than half of the "
                         "notes are false alarms, although only one usual film in a hundred has one: usual films are "
                         "so many. A note is a reason to look, not a verdict.")
        if abs(share_of - FOUND) < 0.006:
            return wrong(f"{FOUND:.0%} of the odd films have a note. Asked is the reverse: of the films with a note, "
                         "how many are odd?")
        if abs(share_of - (1 - FALSE_ALARMS)) < 0.006:
            return wrong("That is the share of usual films without a note. Count films: how many odd ones have a note, "
                         "and how many usual ones?")
        if abs(share_of - ODD_FILMS / CLINIC_FILMS) < 0.006:
            return wrong("That is the share of odd films among all. Among those with a note it is larger.")
        return wrong("Count films: odd ones with a note, and usual ones with a note. The first over the sum of both.")

    return Exercise(
        question=f"Of {CLINIC_FILMS:,} films {ODD_FILMS} are odd. {FOUND:.0%} of the odd ones have a note, and "
                 f"{FALSE_ALARMS:.0%} of the others. What share of the films with a note is odd?",
        judge=judge,
        hints=(f"Odd films with a note: {ODD_FILMS} · {FOUND:g}. And usual ones?",
               f"Usual films with a note: {CLINIC_FILMS - ODD_FILMS} · {FALSE_ALARMS:g}; then the first over the sum."),
        solution_value=truth,
        explanation=f"{found:g} / ({found:g} + {false:g}) = {truth:.2f}",
        likely_mistakes={"the share found": FOUND, "the share of usual ones without": 1 - FALSE_ALARMS,
                         "the share of odd ones": ODD_FILMS / CLINIC_FILMS, "all": 1.0, "films": 1000},
    )
