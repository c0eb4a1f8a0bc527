"""The exercises of notebook 08: what the lock allows, limits of agreement, two figures to decide by, a map's score, a
hint or a proof."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from bonexage_utils.checks.attribution import enrichment
from bonexage_utils.course.answers import number, numbers
from bonexage_utils.course.exercise import Exercise, Verdict, choice, right, wrong
from bonexage_utils.course.nb08.readers import READERS, comparisons, four_readers
from bonexage_utils.course.start import Course
from bonexage_utils.statistics import Agreement, agreement, paired_difference

CLOSE = 0.01


def build(course: Course) -> SimpleNamespace:
    """`lock`, `readers`, `strip` and `pairs` (decisions, two of them read off figures), `limits` and `enrich`
    (functions)."""
    return SimpleNamespace(lock=_lock(), limits=_limits(), readers=_readers(course), enrich=_enrich(), strip=_strip(),
                           pairs=_pairs())


# --- what the lock allows ---

def best_of(models: int, films: int = 190, repeats: int = 2000, seed: int = 0) -> tuple[float, float]:
    """MAE (months) of one of several equally good models on their films, and of the one that looks best on them; their
    errors are independent, Laplace's with a mean size of seven months."""
    errors = np.random.default_rng(seed).exponential(7.0, (repeats, models, films)).mean(2)
    return float(errors.mean()), float(errors.min(1).mean())


def _lock() -> Exercise:
    usual, lucky = best_of(5)
    options = {
        "A": "Then the test films have chosen how long to train. They have become a second selection split, and "
             "nothing is left that has not been used to choose.",
        "B": f"The best of five equal models looks {usual - lucky:.1f} months better than any of them is "
             f"({lucky:.1f} instead of {usual:.1f}, if their errors are independent), and the test films are spent. "
             "Choose by the selection films, or report all five.",
        "C": "The predictions were made once and are not touched again: a table is another way of reading the same "
             "result, and this one was planned beforehand. Count what you look at, all the same: of eight groups one "
             "may look bad by luck.",
        "D": "A bias that was learned from the test films is a weight that was trained on them. On these films it "
             "tends to help; what it does elsewhere, nobody has measured. Learn it from the calibration films.",
    }
    return Exercise(
        question="The test films have been opened. Which of these may you still do: 'A', 'B', 'C' or 'D'?",
        judge=choice(options, "C"),
        hints=("Ask of each: does anything in the model, or in what is reported of it, come out otherwise because of "
               "the test films?", "Reading a result in a second way changes nothing; choosing by it does."),
        solution_value="C",
        explanation="'C': nothing is chosen by it. A, B and D each let the test films decide about the model.",
        likely_mistakes={"train on": "A", "best seed": "B", "mend the bias": "D", "all of them": "ABCD"},
    )


# --- limits of agreement ---

def limits(predicted: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """The exercise's solution: bias, lower and upper limit of agreement in months."""
    found = agreement(predicted, labels)
    return found.bias.value, found.lower.value, found.upper.value


def _limits() -> Exercise:
    rng = np.random.default_rng(3)
    labels = rng.uniform(20, 210, 200)
    predicted = labels + 6 + rng.gamma(2.0, 7.0, 200) - 14  # skewed, so that percentiles are not limits
    error = predicted - labels
    bias, spread = error.mean(), error.std(ddof=1)
    truth = limits(predicted, labels)

    def is_(found: np.ndarray, *numbers: float) -> bool:
        return bool(np.allclose(found, numbers, rtol=CLOSE, atol=0.05))

    def judge(answer: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
        made = answer(predicted.copy(), labels.copy())
        if isinstance(made, Agreement):
            made = (made.bias.value, made.lower.value, made.upper.value)
        found = numbers(made, ("bias", "lower", "upper"))
        if found.shape != (3,):
            return wrong(f"Three numbers, please: bias, lower limit, upper limit. You gave {found.size}.")
        if is_(found, *truth):
            return right(f"Bias {truth[0]:+.1f}, limits {truth[1]:+.1f} to {truth[2]:+.1f} months: were the errors "
                         "normal, nineteen films in twenty would lie between.")
        reach, se = 1.96 * spread, 1.96 * spread / np.sqrt(len(error))
        low, high = np.percentile(error, [2.5, 97.5])
        root = 1.96 * np.sqrt((error**2).mean())
        if is_(np.sort(found), *np.sort(truth)):
            return wrong("The right numbers in another order: bias, lower, upper.")
        if is_(np.sort(found), *np.sort([-value for value in truth])):
            return wrong("Label minus prediction: too old comes out as too young. By custom it is prediction minus "
                         "label.")
        if is_(found, bias, bias - se, bias + se):
            return wrong("You divided by the root of n: that says how sure the *bias* is. Limits say how far off *one "
                         "film* may be, and do not shrink when there are more films.")
        if is_(found, bias, -reach, reach):
            return wrong("Around zero. The limits lie around the bias: somebody who is always five months too high is "
                         "off to one side.")
        if is_(found, bias, bias - spread, bias + spread):
            return wrong("One standard deviation to each side holds two films in three. For nineteen in twenty take "
                         "1.96 of them.")
        if is_(found, bias, low, high):
            return wrong("Percentiles hold nineteen films in twenty by definition, here, and suppose nothing. But they "
                         "are not Bland and Altman's limits, bias ± 1.96 SD, which everybody will compare yours with.")
        if is_(found, bias, bias - root, bias + root):
            return wrong("That is 1.96 times the RMSE, which has the bias in it already; it is counted twice. Take the "
                         "standard deviation.")
        if np.isclose(found[0], np.abs(error).mean(), rtol=CLOSE):
            return wrong("You begin with the absolute errors. Then nobody can be too young, and the bias is the MAE: "
                         "keep the signs.")
        return wrong(f"It gives {', '.join(f'{value:.1f}' for value in found)}; by hand it is "
                     f"{', '.join(f'{value:.1f}' for value in truth)}: the mean error, and 1.96 standard deviations to "
                     "each side of it.")

    def around(center: float, reach: float, first: float | None = None) -> tuple[float, float, float]:
        return (center if first is None else first), center - reach, center + reach

    return Exercise(
        question="Write my_limits(predicted, labels): from two arrays in months to (bias, lower, upper).",
        judge=judge,
        hints=("One number for each film first: prediction minus label.",
               "Their mean is the bias. How far do they spread around it? .std(ddof=1).",
               "bias − 1.96 · SD and bias + 1.96 · SD."),
        solution_value=limits,
        explanation="The mean of the differences, and 1.96 of their standard deviations to either side.",
        code="""
def my_limits(predicted, labels):
    off = predicted - labels
    reach = 1.96 * off.std(ddof=1)
    return off.mean(), off.mean() - reach, off.mean() + reach
""",
        likely_mistakes={
            "sign": lambda p, m: limits(m, p),
            "one number": lambda p, m: (p - m).mean(),
            "order": lambda p, m: limits(p, m)[::-1],
            "standard error": lambda p, m: around((p - m).mean(), 1.96 * (p - m).std() / np.sqrt(len(p))),
            "around zero": lambda p, m: around(0.0, 1.96 * (p - m).std(), (p - m).mean()),
            "one SD": lambda p, m: around((p - m).mean(), (p - m).std()),
            "percentiles": lambda p, m: ((p - m).mean(), *np.percentile(p - m, [2.5, 97.5])),
            "RMSE": lambda p, m: around((p - m).mean(), 1.96 * np.sqrt(((p - m) ** 2).mean())),
            "absolute": lambda p, m: around(np.abs(p - m).mean(), 1.96 * np.abs(p - m).std()),
            "two numbers": lambda p, m: limits(p, m)[1:],
            "three SD": lambda p, m: around((p - m).mean(), 3 * (p - m).std()),
        },
    )


# --- four readers ---

def _readers(course: Course) -> Exercise:
    errors = four_readers(course)[1]
    before = {name: float(np.abs(error).mean()) for name, error in errors.items()}
    after = {name: float(np.abs(error - error.mean()).mean()) for name, error in errors.items()}
    truth = max(READERS, key=lambda name: before[name] - after[name])
    why = {
        "A": "Every reading is too high by about as much, and little else is wrong.",
        "B": "Its bias is about zero already: nothing to subtract. It is off by chance, to both sides, at every age.",
        "C": "On average it is right, and for nearly nobody: the young are read too old and the old too young. That "
             "takes a line, not one number; and a line is learned from calibration films.",
        "D": "Nearly always right, and now and then off by years, to either side. The limits blame every film for a "
             "few: look those up, one by one.",
    }
    options = {name: f"{why[name]} By subtracting its bias the MAE goes from {before[name]:.1f} to {after[name]:.1f} "
                     "months." for name in READERS}
    return Exercise(
        question="One number, subtracted from all its readings, makes one of the readers good. Which: 'A', 'B', 'C' or "
                 "'D'?",
        judge=choice(options, truth),
        hints=("To subtract one number is to shift the whole cloud up or down.",
               "Which cloud would lie closely around zero if it were shifted?"),
        solution_value=truth,
        explanation=f"{truth!r}. " + ", ".join(f"{name}: {before[name]:.1f} → {after[name]:.1f}" for name in READERS)
                    + " months by subtracting the bias.",
        likely_mistakes={f"reader {name}": name for name in READERS if name != truth} | {"a number": 1},
    )


# --- a map's score ---

def _enrich() -> Exercise:
    rng = np.random.default_rng(7)
    map, region = rng.normal(0, 1, (12, 12)), np.zeros((12, 12), bool)
    region[2:5, 3:8] = True
    map[region] *= 4
    map[2:5, 5:7] = -np.abs(map[2:5, 5:7])
    weight, area = np.abs(map), region.mean()
    truth = enrichment(map, region)
    share = weight[region].sum() / weight.sum()
    positive = np.clip(map, 0, None)

    def judge(answer: Callable[[np.ndarray, np.ndarray], Any]) -> Verdict:
        found = number(answer(map.copy(), region.copy()))
        known = [
            (map[region].sum() / map.sum() / area, "You add with the signs. What speaks for an older child and what "
                                                   "speaks for a younger one then cancel, as if nobody had looked: "
                                                   "take np.abs first."),
            (positive[region].sum() / positive.sum() / area, "You count only what speaks for an older child. A centre "
                                                             "that is *not* there yet speaks for a younger one, and is "
                                                             "evidence, too: np.abs."),
            (share, f"That is the share, {share:.2f}. Large regions get large shares for nothing: divide by the share "
                    f"of the area, {area:.3f}."),
            (weight[region].sum() / weight[~region].sum(), "Inside over *outside*, and no area. Inside over all, then "
                                                           "over the region's share of the area."),
            (weight[region].mean() / weight[~region].mean(), "Mean inside over mean *outside*: a good measure, and "
                                                             "another one. Asked is: over the mean of the whole "
                                                             "map."),
            (1 / truth, "Upside down: the attribution's share over the area's, not the other way round."),
            (share / region.sum(), "You divide by the number of pixels. Then a map twice as fine gets a quarter of the "
                                   "score: divide by the region's *share* of the area."),
            (weight[region].sum(), "The sum alone is in months: a network that says larger numbers would win. Divide "
                                   "by the sum over the whole map, then by the area's share."),
            ((weight**2)[region].sum() / (weight**2).sum() / area, "Squares let a few loud pixels decide. Absolute "
                                                                   "values are asked for."),
        ]
        if np.isclose(found, truth, rtol=CLOSE):
            turned = number(answer(-map, region.copy()))
            if not np.isclose(turned, truth, rtol=CLOSE):
                return wrong("Right for this map, not for the same with all signs turned: take np.abs.")
            return right(f"{truth:.2f}: the region gets that many times what an even map would give it.")
        for value, message in known:
            if np.isclose(found, value, rtol=CLOSE):
                return wrong(message)
        return wrong(f"It gives {found:.3f}, by hand it is {truth:.3f}: the share of |attribution| inside, divided by "
                     "the share of the area.")

    def ratio(map: np.ndarray, region: np.ndarray) -> float:
        return np.abs(map)[region].sum() / np.abs(map).sum()

    return Exercise(
        question="Write my_enrichment(map, region). Take the map without its signs. What share of its sum lies in the "
                 "region? Divide that by the region's share of the area. Both are (S, S), region is bool.",
        judge=judge,
        hints=("Two shares: of the attribution, and of the area. Which is divided by which?",
               "The share of the area of a bool array is its mean.",
               "np.abs(map)[region].sum() / np.abs(map).sum() is the first."),
        solution_value=enrichment,
        explanation="The region's share of the attribution, over its share of the area.",
        code="""
def my_enrichment(map, region):
    return np.abs(map)[region].sum() / np.abs(map).sum() / region.mean()
""",
        likely_mistakes={
            "signs cancel": lambda m, r: m[r].sum() / m.sum() / r.mean(),
            "only for older": lambda m, r: np.clip(m, 0, None)[r].sum() / np.clip(m, 0, None).sum() / r.mean(),
            "share": ratio,
            "inside over outside": lambda m, r: np.abs(m)[r].sum() / np.abs(m)[~r].sum(),
            "means": lambda m, r: np.abs(m)[r].mean() / np.abs(m)[~r].mean(),
            "upside down": lambda m, r: r.mean() / ratio(m, r),
            "pixels": lambda m, r: ratio(m, r) / r.sum(),
            "sum": lambda m, r: np.abs(m)[r].sum(),
            "squares": lambda m, r: (m**2)[r].sum() / (m**2).sum() / r.mean(),
            "one sign right": lambda m, r: ratio(m, r) / r.mean() if m[3, 6] < 0 else 0.0,
            "something else": lambda m, r: m.max(),
        },
    )


# --- a hint or a proof ---

def _strip() -> Exercise:
    options = {
        "A": "That says that it looks there, far more than at the rest of the film. Much attribution may change the "
             "answer little, and little may change it much: a hint.",
        "B": "That is the control for A: brightness and edges alone draw some attribution to the letter, but less. It "
             "makes the hint stronger. What the answers depend on, it does not say.",
        "C": "The test films come from the same archive and bear the letter, too. A very small error may raise a "
             "suspicion; a network that reads bones well would have it as well.",
        "D": "Only here is the letter taken away and everything else left as it was. The other network says what the "
             "paint itself costs: hardly anything.",
    }
    return Exercise(
        question="Which finding shows that the network's answers depend on the letter: 'A', 'B', 'C' or 'D'?",
        judge=choice(options, "D"),
        hints=("To *look at* something and to *depend on* it are two things.",
               "In which of the four is something changed, with a control beside it?"),
        solution_value="D",
        explanation="'D': change the suspect alone, see what the answers do, and do the same to a network that cannot "
                    "know it. A and B are a map and its control: a reason to try D.",
        likely_mistakes={"the map": "A", "the control alone": "B", "the test": "C", "map and control": "A and B"},
    )


# --- three comparisons ---

def _pairs() -> Exercise:
    pairs = comparisons()
    apart = {name: paired_difference(y, x) for name, (x, y) in pairs.items()}
    gap = {name: float(x.mean() - y.mean()) for name, (x, y) in pairs.items()}
    shown = [name for name in pairs if apart[name].high < 0]
    truth = shown[0] if shown else "none"
    widest = max(gap, key=gap.__getitem__)

    def feedback(name: str) -> str:
        if name == truth:
            return (f"The two dots lie only {gap[name]:.1f} months apart, and their own intervals overlap. But both "
                    f"models err on the same films, and film by film the difference is {apart[name]}: zero is outside.")
        if name == widest:
            return (f"The dots lie furthest apart here, {gap[name]:.1f} months. But the two err on different films, "
                    f"and the difference is {apart[name]}: zero is inside, so other films could turn it round.")
        return f"Nothing to choose between: {apart[name]} months, with zero well inside."

    options = {name: feedback(name) for name in pairs} | {
        "none": "The upper intervals do overlap in all three. That is no test: they say how sure each MAE is, on other "
                "films; the question is how sure the *difference* is, on the same ones. Read the lower row."}
    return Exercise(
        question="In which comparison may you say that Y is better: '1', '2', '3' or 'none'?",
        judge=choice(options, truth),
        hints=("Which row of panels answers a question about the difference?",
               "Where does an interval lie wholly on one side of zero?"),
        solution_value=truth,
        explanation=f"{truth!r}. " + ", ".join(f"{name}: {apart[name]}" for name in pairs) + " months, Y minus X.",
        likely_mistakes={f"comparison {name}": name for name in [*pairs, "none"] if name != truth} | {"all": "all"},
    )
