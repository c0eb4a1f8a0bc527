"""The exercises of notebook 04: GeM by hand, its slope in p, how many bits it needs, and which p to start from."""

from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from bonexage_utils.course.answers import number
from bonexage_utils.course.exercise import Exercise, Verdict, choice, listed, right, wrong
from bonexage_utils.course.nb04.pooling import (
    EPS,
    WAY_NAMES,
    cover,
    hands_and_maps,
    held_by,
    mean_share,
    places_for_half,
    wrong_values,
)
from bonexage_utils.course.start import Course
from bonexage_utils.figures import MUTED, Picture, new_figure

POWERS_OFFERED = (1, 2, 3, 10)
MOST_PLACES = 30  # in the figure
FEWEST_PLACES = 10  # half of a channel's sum has to be spread over so many
LARGEST_P = 20.0  # in the exercise on bits


def build(course: Course) -> SimpleNamespace:
    """`gem` (write it), `slope` (its derivative in p), `bits` and `power` (decisions from figures)."""
    return SimpleNamespace(gem=_gem(), slope=_slope(), bits=_bits(), power=_power())


# --- GeM by hand ---

def generalised_mean(x: Tensor, p: float) -> Tensor:
    """The exercise's solution: (B, C, H, W) to (B, C), in float32."""
    return x.float().clamp(min=EPS).pow(p).mean((-2, -1)).pow(1 / p)


def _gem() -> Exercise:
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3
    signed = x.clone()
    signed[:, :, 0, :2] = torch.tensor([-1.5, -0.4])

    def judge(answer: Callable[[Tensor, float], Tensor]) -> Verdict:
        found = torch.as_tensor(answer(x.clone(), 2.5)).detach()
        shape = _wrong_shape(tuple(found.shape))
        if shape:
            return wrong(shape)
        power = x**2.5
        known = [
            (x.mean((-2, -1)), "You take the mean first; power and root then undo each other, and what is left is "
                               "the average, whatever p. The power comes first."),
            (power.mean((-2, -1)), "The root is missing: a mean of x^p is not in the units of x. Take it to the power "
                                   "1/p."),
            (power.mean((-2, -1)) / 2.5, "Python reads `m ** 1 / p` as `(m ** 1) / p`. Brackets: `m ** (1 / p)`."),
            (power.sum((-2, -1)) ** 0.4, "You take the sum. It grows with the number of places, so a larger film "
                                         "would give larger numbers. Take the mean."),
            ((x**3).mean((-2, -1)) ** (1 / 3), "Your p is always 3. Use the one that is handed in."),
        ]
        for value, message in known:
            if torch.allclose(found.float(), value, rtol=1e-3):
                return wrong(message)
        if not torch.allclose(found.float(), generalised_mean(x, 2.5), rtol=1e-3):
            return wrong(f"For one channel and p = 2.5 it gives {float(found[0, 0]):.3f}; it should be "
                         f"{float(generalised_mean(x, 2.5)[0, 0]):.3f}. In this order: clamp, power, mean, root.")
        if not torch.allclose(torch.as_tensor(answer(x.clone(), 4.0)).float(), generalised_mean(x, 4.0), rtol=1e-3):
            return wrong("Right for p = 2.5, not for p = 4: use the p that is handed in.")
        return _judge_hard_cases(answer, signed)

    return Exercise(
        question="Write my_gem(x, p): (B, C, H, W) to (B, C), clamped at 1e-6, computed in float32.",
        judge=judge,
        hints=("Four steps in this order: clamp, power, mean, root. Before them, .float().",
               "Which axes are the places? The last two: .mean((-2, -1)).",
               "Mind the brackets of the root: ** (1 / p)."),
        solution_value=generalised_mean,
        explanation="Clamp, power, mean over the places, root; and float32 before all of it.",
        code="""
def my_gem(x, p):
    return x.float().clamp(min=1e-6).pow(p).mean((-2, -1)).pow(1 / p)
""",
        likely_mistakes={
            "mean before power": lambda x, p: x.float().clamp(min=EPS).mean((-2, -1)).pow(p).pow(1 / p),
            "clamp forgotten": lambda x, p: x.float().pow(p).mean((-2, -1)).pow(1 / p),
            "absolute values": lambda x, p: x.float().abs().clamp(min=EPS).pow(p).mean((-2, -1)).pow(1 / p),
            "root forgotten": lambda x, p: x.float().clamp(min=EPS).pow(p).mean((-2, -1)),
            "brackets forgotten": lambda x, p: x.float().clamp(min=EPS).pow(p).mean((-2, -1)) ** 1 / p,
            "over the channels": lambda x, p: x.float().clamp(min=EPS).pow(p).mean(1).pow(1 / p),
            "over channels and places": lambda x, p: x.float().clamp(min=EPS).pow(p).mean((1, 2, 3)).pow(1 / p),
            "over one axis": lambda x, p: x.float().clamp(min=EPS).pow(p).mean(-1).pow(1 / p),
            "sum": lambda x, p: x.float().clamp(min=EPS).pow(p).sum((-2, -1)).pow(1 / p),
            "always 3": lambda x, p: x.float().clamp(min=EPS).pow(3).mean((-2, -1)).pow(1 / 3),
            "float16 kept": lambda x, p: x.clamp(min=EPS).pow(p).mean((-2, -1)).pow(1 / p),
            "clamped at zero": lambda x, p: x.float().clamp(min=0).pow(p).mean((-2, -1)).pow(1 / p),
            "no gradient": lambda x, p: generalised_mean(x, p).detach(),
        },
    )


def _wrong_shape(shape: tuple[int, ...]) -> str:
    """The message for a result of this shape from a map (2, 3, 4, 5); empty if it is (B, C) = (2, 3)."""
    if shape == (2, 3):
        return ""
    known = {
        (2, 4, 5): "You averaged over the channels: every place is left, and no channel. Pooling is over places.",
        (2,): "One number for each film: you averaged over the channels, too. Each channel keeps its own number.",
        (2, 3, 1, 1): "The right numbers with two empty axes; leave keepdim out, the head wants (B, C).",
        (2, 3, 4, 5): "Still a whole map. The mean over the places is missing.",
    }
    if len(shape) == 3 and shape[:2] == (2, 3):
        return "You averaged over rows or over columns, not over both: .mean((-2, -1))."
    return known.get(shape, f"A map (2, 3, 4, 5) should become (2, 3); yours became {shape}.")


def _judge_hard_cases(answer: Callable[[Tensor, float], Tensor], signed: Tensor) -> Verdict:
    found = torch.as_tensor(answer(signed.clone(), 2.5))
    if found.isnan().any():
        return wrong("Right where the map is positive. But a negative number to the power 2.5 is not a number (NaN): "
                     "clamp before you take the power.")
    if torch.allclose(found.float(), generalised_mean(signed.abs(), 2.5), rtol=1e-3):
        return wrong("You take absolute values: a channel that says a loud no would count as a loud yes. Clamp.")
    if not torch.allclose(found.float(), generalised_mean(signed, 2.5), rtol=1e-3):
        return wrong("Right where the map is positive; where it is not, clamp at 1e-6 before the power.")
    large = torch.full((1, 1, 2, 2), 10.0, dtype=torch.float16)
    if not torch.isfinite(torch.as_tensor(answer(large, 6.0))).all():
        return wrong("Right in float32. For a map in float16, a 10 and p = 6 it overflows: float16 ends at 65,504, and "
                     "10^6 lies beyond. Begin with .float().")
    if not (torch.as_tensor(answer(torch.zeros(1, 1, 2, 2), 2.5)) > 0).all():
        return wrong("Right, except for a channel that is silent everywhere: it gives 0, where the root is infinitely "
                     "steep and the gradient is not a number. Clamp at 1e-6, not at 0.")
    leaf = signed.clone().requires_grad_()
    gradient = torch.as_tensor(answer(leaf, 2.5))
    if not gradient.requires_grad:
        return wrong("The numbers are right, but no gradient gets through. Stay with torch from end to end: no "
                     ".detach(), .item() or NumPy.")
    return right("Clamp, power, mean, root, over the places alone and in float32.")


# --- its slope in p ---

def slope_in_p(x: Tensor, p: float) -> Tensor:
    """The slope of GeM in p, of positive numbers (n,): m/p · (Σ w log x − log m) with w = x^p / Σ x^p."""
    power = x**p
    m, w = power.mean() ** (1 / p), power / power.sum()
    return m / p * ((w * x.log()).sum() - m.log())


def _slope() -> Exercise:
    x, p = torch.tensor([0.3, 1.7, 0.6, 2.4, 0.9], dtype=torch.float64), 3.0
    power = x**p
    m, w = power.mean() ** (1 / p), power / power.sum()
    inside, total = (w * x.log()).sum(), power.sum() ** (1 / p)

    def judge(answer: Callable[[Tensor, float], Tensor]) -> Verdict:
        found = number(answer(x.clone(), p))
        other_p = "p stands in two places, and you followed one. "
        known = [
            (m / p * (m.log() - inside), "The size is right, the sign is not. A larger p moves GeM towards the "
                                         "maximum, so the slope cannot be negative."),
            ((inside - m.log()) / p, "That is the slope of log m. By the chain rule it is m′ / m: multiply by m."),
            (m / p * inside, other_p + "The 1/p outside the logarithm changes, too: it gives the −log m."),
            (-m / p * m.log(), other_p + "Each x^p inside the logarithm changes, too: that gives the w · log x."),
            (m / p * (inside + m.log()), "The second term has the wrong sign: the derivative of 1/p is −1/p²."),
            ((power * x.log()).mean(), "That is the slope of the mean of x^p. The root is still to come."),
            (total / p * (inside - total.log()), "Inside the logarithm stands the mean of x^p, not the sum."),
            (m / p * (inside - total.log()), "Inside the logarithm stands the mean of x^p, not the sum."),
            (m * (inside - m.log()), "Nearly: the factor 1/p in front is missing."),
        ]
        if np.isclose(found, float(slope_in_p(x, p)), rtol=1e-3):
            if not np.isclose(number(answer(x.clone(), 1.5)), float(slope_in_p(x, 1.5)), rtol=1e-3):
                return wrong("Right for p = 3, not for p = 1.5: use the p that is handed in.")
            return right("m/p times (the mean of log x, weighted by what each place contributes, minus log m).")
        for value, message in known:
            if np.isclose(found, float(value), rtol=1e-3):
                return wrong(message)
        step = 1e-5
        around = [float((x**q).mean() ** (1 / q)) for q in (p - step, p + step)]
        return wrong(f"For x = {[round(float(v), 1) for v in x]} and p = 3 it gives {found:.4f}; a small nudge of p "
                     f"gives {(around[1] - around[0]) / (2 * step):.4f}.")

    return Exercise(
        question="Write my_slope(x, p): d GeM / d p of a row of positive numbers, a tensor (n,).",
        judge=judge,
        hints=("Write log m = (1/p) · log(mean of x^p), and take the derivative of both sides.",
               "On the left it is m′ / m. On the right p stands in two places: the product rule.",
               "The derivative of x^p in p is x^p · log x. Divided by the sum of all x^p that is w · log x."),
        solution_value=slope_in_p,
        explanation="From m'/m = (1/p) · (Σ w log x − log m), times m.",
        code="""
def my_slope(x, p):
    power = x**p
    m, w = power.mean() ** (1 / p), power / power.sum()
    return m / p * ((w * x.log()).sum() - m.log())
""",
        likely_mistakes={
            "sign": lambda x, p: -slope_in_p(x, p),
            "slope of the logarithm": lambda x, p: slope_in_p(x, p) / (x**p).mean() ** (1 / p),
            "sum, not mean": lambda x, p: (x**p).sum() ** (1 / p) / p * (
                ((x**p) * x.log()).sum() / (x**p).sum() - (x**p).sum().log() / p),
            "one p of two": lambda x, p: (x**p).mean() ** (1 / p) / p * ((x**p) * x.log()).sum() / (x**p).sum(),
            "the other p of two": lambda x, p: -(x**p).mean() ** (1 / p) / p**2 * (x**p).mean().log(),
            "always 3": lambda x, p: slope_in_p(x, 3.0),
            "root forgotten": lambda x, p: (x**p * x.log()).mean(),
            "factor 1/p": lambda x, p: p * slope_in_p(x, p),
            "something else": lambda x, p: x.mean(),
        },
    )


# --- how many bits ---

@lru_cache
def _first_wrong() -> dict[str, float]:
    """The smallest p (in steps of 0.5, up to LARGEST_P) at which each way gets a pooled value wrong; infinity: none."""
    maps, steps = hands_and_maps()[1], np.arange(1, LARGEST_P + 0.5, 0.5)
    return {way: next((float(p) for p in steps if wrong_values(maps, float(p), way) > 0), np.inf) for way in WAY_NAMES}


def _bits() -> Exercise:
    first = _first_wrong()
    truth = next(way for way in WAY_NAMES if np.isinf(first[way]))
    maps = hands_and_maps()[1].clamp(min=EPS)
    powers = f"{float(maps.min())**LARGEST_P:.0e} to {float(maps.max())**LARGEST_P:.0e}"
    options = {}
    for way in WAY_NAMES:
        if way == truth:
            options[way] = (f"No wrong value up to p = {LARGEST_P:g}, and every cheaper way has some. At that p the "
                            f"powers of these maps run from {powers}. The package's way costs hardly more than float32 "
                            "alone, and works however large p or the map becomes.")
        elif np.isfinite(first[way]):
            kind = torch.finfo(getattr(torch, way))
            options[way] = (f"Already at p = {first[way]:g} it gets pooled values wrong. At p = {LARGEST_P:g} the "
                            f"powers of these maps run from {powers}; {way} holds from {kind.tiny:.0e} to "
                            f"{kind.max:.0e}.")
        else:
            options[way] = (f"It is right for every p, and what the package does. But up to p = {LARGEST_P:g} a "
                            f"cheaper way makes no mistake either: look where the curve of {truth} leaves zero.")
    return Exercise(
        question=f"p starts at 3 and may go up to {LARGEST_P:g}. Which is the cheapest way that is right over the "
                 f"whole range: {listed(options)}?",
        judge=choice(options, truth, {
            **dict.fromkeys(("half", "fp16", "16", "float 16", "half precision"), "float16"),
            **dict.fromkeys(("single", "fp32", "f32", "32", "float 32", "single precision"), "float32")}),
        hints=(f"Find p = {LARGEST_P:g} on the horizontal axis. A dot marks where a line leaves zero.",
               f"Which lines have no dot left of {LARGEST_P:g}? Of those, the one that computes least."),
        solution_value=truth,
        explanation=f"Its curve leaves zero only beyond p = {LARGEST_P:g}.",
        likely_mistakes={**{way: way for way in WAY_NAMES if way != truth}, "not a way": "bfloat16"},
    )


# --- which p ---

@lru_cache
def _places_and_outside() -> tuple[dict[int, float], dict[int, float]]:
    """For each offered p on one hand: the fewest places that hold half of a channel's sum (median over channels), and
    the share of the response on cells without any bone."""
    hands, maps = hands_and_maps()
    row = hands.shown()
    without_bone = cover(hands.centres | hands.shafts, maps.shape[-2:])[row] == 0
    places, outside = {}, {}
    for p in POWERS_OFFERED:
        places[p] = places_for_half(maps[row], p)
        outside[p] = float(mean_share(maps[row], p)[without_bone].sum())
    return places, outside


def draw_powers() -> Picture:
    """How much of a channel's sum its loudest places hold, in one hand, at the four offered p."""
    hands, maps = hands_and_maps()
    response, parts = maps[hands.shown()], []
    named = np.array([1, 3, FEWEST_PLACES, 20, MOST_PLACES])
    figure, ax = new_figure(6.5, 3.6)
    ax.axhline(0.5, color=MUTED, linestyle="--", label="half")
    for p, marker in zip(POWERS_OFFERED, "osD^", strict=True):
        held = held_by(response, p).numpy()[:MOST_PLACES]
        ax.plot(range(1, len(held) + 1), held, marker + "-", markersize=4, label=f"p = {p}")
        parts.append(f"p = {p}: {', '.join(f'{value:.2f}' for value in held[named - 1])}")
    ax.set(xlabel="number of places, the loudest first", ylabel="what they hold of a channel's sum", ylim=(0, 1.1),
           xticks=(1, *range(5, MOST_PLACES + 1, 5)))
    ax.legend(loc="upper left", ncols=5)
    return Picture(figure, f"""The share of a channel's sum against the number of places that hold it, the loudest
        first, in the typical channel of one hand; a dashed line at a half. For
        {', '.join(map(str, named))} places: {'; '.join(parts)}.""")


def _power() -> Exercise:
    places, outside = _places_and_outside()
    enough = [p for p in POWERS_OFFERED if places[p] >= FEWEST_PLACES]
    truth = max(enough, default=POWERS_OFFERED[0])
    options = {}
    for p in POWERS_OFFERED:
        if p == truth:
            options[f"{p}"] = (f"At p = {p} half of a channel's sum is on {places[p]:.0f} places, and no larger "
                               "p on offer meets the condition. It is a place to *start* from: p is learned.")
        elif p < truth:
            options[f"{p}"] = (f"At p = {p} half of a channel's sum lies on {places[p]:.0f} places, more than needed: "
                               f"{outside[p]:.0%} of the response comes from cells without any bone. A larger p still "
                               "meets the condition.")
        else:
            options[f"{p}"] = (f"At p = {p} half of a channel's sum lies on {places[p]:.0f} of 100 places. The "
                               "channel listens to so few that one ring, or one letter of lead, may drown out all "
                               "the rest.")

    return Exercise(
        question=f"Which is the largest p of {', '.join(map(str, POWERS_OFFERED))} at which half of a channel's sum "
                 f"is spread over at least {FEWEST_PLACES} places?",
        judge=choice(options, str(truth)),
        hints=("Where does a curve first reach the dashed line? Below it stands the number of places.",
               f"A curve that is at the line or above it at {FEWEST_PLACES - 1} places needs fewer than "
               f"{FEWEST_PLACES}."),
        solution_value=truth,
        explanation="Places for half of a channel's sum: "
                    + ", ".join(f"p = {p}: {places[p]:.0f}" for p in POWERS_OFFERED) + ".",
        likely_mistakes={**{f"p = {p}": p for p in POWERS_OFFERED if p != truth}, "none of them": 5},
    )
