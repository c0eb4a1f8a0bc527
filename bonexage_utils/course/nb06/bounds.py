"""The experiments of notebook 06: how far one step of the score moves a bounded age, the first steps of both heads at a
very high learning rate, and films from both ends of the scale. A score is a head's output before the bound; ages are
months."""

from copy import copy
from itertools import count
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bonexage_utils.batches import FilmDataset
from bonexage_utils.course.frozen import BATCH, LR, WARM_UP, WEIGHT_DECAY, Maps, head_only
from bonexage_utils.course.sliders import SEXES, Slider, slider
from bonexage_utils.devices import PIXEL_MAX
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, new_figure
from bonexage_utils.images import letterbox
from bonexage_utils.model import age_loss, parameter_groups
from bonexage_utils.phantom import Nuisances, grow, render
from bonexage_utils.phantom.labels import read_by_rater
from bonexage_utils.statistics import SMALLEST_GROUP, paired_over_seeds, verdict
from bonexage_utils.training import lr_factor, update_weights

MAX_AGE = 240.0
NEAR_WALL = 1.0  # months: a prediction this near to 0 or MAX_AGE, or beyond, is "at the wall"
HOT = 30.0  # times the usual learning rate; tools/benchmarks/claims.py uses the same
STEPS, EPOCHS = 50, 20  # the first steps of a training of so many epochs
STARTS = {"bare": "nothing to protect it", "protected": "with warm-up and clipping"}
LOOK = {"bounded": (BOYS, "-", "o"), "linear": (ACCENT, "--", "s")}
TWIN_AGES = (3, 12, 120, 228)
YOUNGEST, OLDEST, STEP = 3, 237, 9  # months, of the slider
SCORES = np.linspace(-6, 6, 241)
PARTS = {"under 2 years": (0, 24), "2 to 17 years": (24, 204), "17 years and over": (204, 241)}  # of the label
TAIL_AGES = {"under 2 years": (12.0, 36.0), "17 years and over": (180.0, 216.0)}  # on the calendar, to draw from
TAILS_SEED = 6  # children drawn for this notebook alone: in no cohort of the course, nor in the pretraining


# --- the curve and its slope ---

def bounded(score: np.ndarray | float) -> np.ndarray:
    """MAX_AGE · sigmoid(score), months."""
    return MAX_AGE / (1 + np.exp(-np.asarray(score, float)))


def score_of(age: float) -> float:
    """The score for which `bounded` gives `age`, 0 < age < MAX_AGE: its logit."""
    return float(np.log(age / (MAX_AGE - age)))


def months_per_step(age: np.ndarray | float) -> np.ndarray:
    """The slope of `bounded` where it gives `age`: a (MAX_AGE − a) / MAX_AGE, months per unit of the score."""
    age = np.asarray(age, float)
    return age * (MAX_AGE - age) / MAX_AGE


def draw_tangents(ages: tuple[float, ...] = TWIN_AGES) -> Picture:
    """The curve of `bounded` with its tangent at each age: what one step of the score is worth there."""
    several = len(ages) > 1
    figure, axes = new_figure(0.6 + 2.3 * len(ages) if several else 5.2, 3.2 if several else 3.8, 1, len(ages),
                              sharey=True, squeeze=False)
    parts = []
    for ax, age in zip(axes[0], ages, strict=True):
        score, slope, reach = score_of(age), float(months_per_step(age)), np.array([-1.6, 1.6])
        ax.plot(SCORES, bounded(SCORES), color=BOYS, linewidth=2)
        ax.plot(score + reach, age + slope * reach, color=ACCENT, linestyle="--")
        ax.plot([score, score + 1, score + 1], [age, age, age + slope], color="black", linewidth=1.2)
        ax.plot(score, age, "o", color=ACCENT)
        ax.set(xlabel="score", xlim=(-6, 6), ylim=(-12, 252), xticks=range(-4, 5, 2), yticks=range(0, 241, 60))
        ax.set_title(f"at {age:g} months\na step is {slope:.1f} months", fontsize=10, loc="center")
        parts.append(f"at {age:g} months, score {score:.2f}, a step of one is worth {slope:.1f} months")
    axes[0, 0].set_ylabel("age said (months)")
    return Picture(figure, f"""The bounded age against the score: an S from 0 to {MAX_AGE:g} months, steepest in the
        middle, with its tangent and a step of one: {'; '.join(parts)}.""")


def choose_age() -> Slider:
    """A slider over the age and the tangent of `draw_tangents`."""
    return slider(lambda age: draw_tangents((age,)), range(YOUNGEST, OLDEST + 1, STEP), 57, "age, months")


def is_guess(guess: object) -> bool:
    """Whether `guess` is a number of months from 0 to MAX_AGE."""
    return isinstance(guess, Real) and not isinstance(guess, bool) and 0 <= guess <= MAX_AGE


def draw_slopes(std: float, guess: object = ...) -> Picture:
    """Months per step against the predicted age: the bounded head, the linear one (`std`, months, everywhere), and the
    learner's guess for 12 months."""
    ages = np.arange(0, MAX_AGE + 1)
    figure, ax = new_figure(6.5, 3.8)
    for (head, (colour, line, _)), slopes in zip(LOOK.items(), (months_per_step(ages), np.full(len(ages), std)),
                                                 strict=True):
        ax.plot(ages, slopes, color=colour, linestyle=line, linewidth=2, label=head)
    for age in TWIN_AGES:
        ax.plot(age, months_per_step(age), "o", color=BOYS)
        side = int(np.sign(MAX_AGE / 2 - age))
        ax.annotate(f"{months_per_step(age):.1f} at {age}", (age, float(months_per_step(age))),
                    (7 * side, -3 if side else 6), textcoords="offset points", fontsize=8,
                    ha={1: "left", 0: "center", -1: "right"}[side])
    described, top = "", 0.0
    if is_guess(guess):
        top = 1.1 * float(guess)
        ax.plot(12, float(guess), "X", color="black", markersize=9, label="your guess for 12 months")
        described = f" A cross marks the guess for 12 months, {guess:g}."
    ax.set(xlabel="age said (months)", ylabel="one step of the score (months)", xlim=(0, MAX_AGE),
           xticks=range(0, 241, 24), ylim=(0, max(70, top)), title="What one step of the score is worth")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    some = ", ".join(f"{months_per_step(age):.1f} at {age}" for age in TWIN_AGES)
    return Picture(figure, f"""Months that one step of the score moves the answer, against the age said. The bounded
        head: an arch from 0 to {MAX_AGE / 4:g} and back to 0; {some} months. The linear head: {std:.1f} at every
        age.{described}""")


def draw_outputs(std: float, score: float = -2.5) -> Picture:
    """Three ways from a score to an age: a line, the same line clamped, and the bound; at one score, an arrow as long
    as a step of one moves the answer. `std`: months per step of the line."""
    outputs = {"linear": lambda at: MAX_AGE / 2 + std * np.asarray(at)}
    outputs |= {"clamped": lambda at: np.clip(outputs["linear"](at), 0, MAX_AGE), "bounded": bounded}
    figure, axes = new_figure(8.5, 3.2, 1, 3, sharey=True)
    parts = []
    for ax, (name, output) in zip(axes, outputs.items(), strict=True):
        predicted = float(output(score))
        slope = float(output(score + 1e-4) - predicted) / 1e-4
        ax.plot(SCORES, output(SCORES), color=BOYS, linewidth=2)
        ax.plot(score, predicted, "o", color=ACCENT, zorder=3)
        if slope:
            ax.annotate("", (score, predicted + slope), (score, predicted), arrowprops={
                "arrowstyle": "->", "shrinkA": 0, "shrinkB": 0, "linewidth": 2, "color": "black"})
        ax.axhline(MAX_AGE / 2, color=MUTED, linestyle=":", linewidth=1)
        ax.set(title=name, xlabel="score", xlim=(-5, 5), ylim=(-50, 290), yticks=range(0, 241, 60))
        parts.append(f"{name}: says {predicted:.0f} months, and a step is worth {slope:.1f}")
    axes[0].set_ylabel("age said (months)")
    return Picture(figure, f"""Three outputs against the score, a line, the same line cut off at 0 and {MAX_AGE:g}
        months, and an S between them. A point on each at a score of {score:g}, with an arrow as long as one step is
        worth; a dotted line at {MAX_AGE / 2:g} months, the label. {'; '.join(parts)}.""")


# --- the first steps ---

def at_the_wall(predicted: np.ndarray) -> np.ndarray:
    """Whether each prediction (months) is within NEAR_WALL of 0 or MAX_AGE, or beyond."""
    return (predicted < NEAR_WALL) | (predicted > MAX_AGE - NEAR_WALL)


def first_steps(backbone: str, train: Maps, seed: int, lr: float, protected: bool, **settings: Any) -> pd.DataFrame:
    """The first STEPS steps of one head: `step`, `mae` (months) of the batch before it, `wall` (`at_the_wall`, share).

    `protected`: as `fit_head` does it, with warm-up and clipped gradients; else `lr` from the first step on.
    """
    torch.manual_seed(seed)
    net = head_only(backbone, train.months, **settings).train()
    optimizer = torch.optim.AdamW(parameter_groups(net, WEIGHT_DECAY), lr=lr)
    rng, each = np.random.default_rng(seed), max(len(train) // BATCH, 1)
    batches = (batch for _ in count() for batch in torch.from_numpy(rng.permutation(len(train))).split(BATCH)[:each])
    rows = []
    for step, batch in zip(range(STEPS), batches, strict=False):
        predicted = net(train.maps[batch].float(), train.sex[batch])
        error = (predicted.detach() - train.months[batch]).abs().mean().item()
        rows.append({"step": step + 1, "mae": error, "wall": at_the_wall(predicted.detach().numpy()).mean()})
        age_loss(predicted, train.months[batch], "smoothl1").backward()
        if protected:
            update_weights(net, optimizer, lr * lr_factor(step, EPOCHS * each, WARM_UP))
        else:
            update_weights(net, optimizer, lr, clip=None)
    return pd.DataFrame(rows)


def hot_starts(backbone: str, train: Maps, seeds: int, **settings: Any) -> pd.DataFrame:
    """`first_steps` of both heads at HOT times the usual rate, by `start` (one of STARTS), `head` and `seed`."""
    runs = [(start, head, seed) for start in STARTS for head in LOOK for seed in range(seeds)]
    return pd.concat([first_steps(backbone, train, seed, HOT * LR, start == "protected", output=head,
                                  **settings)
                      .assign(start=start, head=head, seed=seed)
                      for start, head, seed in tqdm(runs, desc="hot starts", leave=False)], ignore_index=True)


def draw_hot_starts(runs: pd.DataFrame, guess: float) -> Picture:
    """`hot_starts`, a panel for each start: a thin line for each seed, a thick one for their median. `guess` is the MAE
    (months) of always predicting the mean."""
    figure, axes = new_figure(9, 3.8, 1, len(STARTS), sharey=True)
    parts = []
    for ax, (start, title) in zip(axes, STARTS.items(), strict=True):
        for head, (colour, line, _) in LOOK.items():
            table = runs[(runs["start"] == start) & (runs["head"] == head)].pivot_table("mae", "step", "seed")
            ax.semilogy(table, color=colour, linewidth=0.6, alpha=0.5)
            middle = table.median(axis=1)
            ax.semilogy(middle, color=colour, linestyle=line, linewidth=2.5, label=f"{head}, median of the seeds")
            parts.append(f"{title}, {head}: " + ", ".join(f"step {step} {middle[step]:.0f}" for step in (1, 10, STEPS))
                         + f", the worst of all {np.nanmax(table):.0f}")
        ax.axhline(guess, color=MUTED, linestyle=":", label="always the mean")
        ax.set(title=title, xlabel="step", xlim=(1, STEPS))
        ax.yaxis.set_major_formatter(lambda months, _: f"{months:,.0f}")
        ax.yaxis.set_minor_formatter("")
    axes[0].set_ylabel("MAE of the batch (months)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return Picture(figure, f"""Mean absolute error of the batch in months, on a logarithmic axis, over the first {STEPS}
        steps at {HOT:g} times the usual learning rate, a thin line for each seed. Medians: {'; '.join(parts)}. A dotted
        line at {guess:.0f} months: always the mean.""")


# --- both ends of the scale ---

def draw_tails(size: int, each: int) -> FilmDataset:
    """`each` simulated films from either end of the scale, (size, size) px: labels under 2 years, and 17 and over."""
    films, rows = [], []
    wanted = [(number, part, k) for number, part in enumerate(TAIL_AGES) for k in range(each)]
    for number, part, k in tqdm(wanted, desc="drawing the tails", leave=False):
        film, sex, months = _of_the_tail(part, np.random.default_rng([TAILS_SEED, number, k]))
        films.append(letterbox(film, size))
        rows.append({"id": f"tail-{number}-{k}", "sex": sex, "months": months})
    return FilmDataset(np.stack(films), np.arange(len(films)), pd.DataFrame(rows))


def _of_the_tail(part: str, rng: np.random.Generator) -> tuple[np.ndarray, str, int]:
    """A film, its sex and its label, drawn as a cohort's are; children are drawn until a label is in that part."""
    low, high = PARTS[part]
    while True:
        sex = SEXES[int(rng.integers(2))]
        child = grow(sex, rng.uniform(*TAIL_AGES[part]), rng)
        label = read_by_rater(child.bone_age_months, sex, rng)
        if low <= label < high:
            nuisances = Nuisances.draw(rng, child.chronological_age_months)
            return render(child, rng, None, nuisances)[0], sex, label


def inverted(films: FilmDataset) -> FilmDataset:
    """The same films with black and white exchanged, as an export that ignores a DICOM's photometric interpretation."""
    turned = copy(films)
    turned.films, turned.rows = int(PIXEL_MAX) - np.asarray(films.films[films.rows]), np.arange(len(films))
    return turned


def by_part(errors: dict[str, np.ndarray], months: np.ndarray) -> pd.DataFrame:
    """By part of the scale (PARTS, of the label): `n`, MAE and lean (mean signed error) of both arms, the difference in
    MAE (first minus second) with its 95 % interval over films and seeds, and the verdict. `errors`: (seeds, films).
    Parts with fewer than SMALLEST_GROUP films are left out; the table may be empty."""
    (a, errors_a), (b, errors_b) = errors.items()
    rows = {}
    for part, (low, high) in PARTS.items():
        inside = np.flatnonzero((months >= low) & (months < high))
        if len(inside) < SMALLEST_GROUP:
            continue
        apart = paired_over_seeds(np.abs(errors_a[:, inside]), np.abs(errors_b[:, inside]))
        rows[part] = {"n": len(inside), f"MAE of {a}": np.abs(errors_a[:, inside]).mean(),
                      f"MAE of {b}": np.abs(errors_b[:, inside]).mean(), f"lean of {a}": errors_a[:, inside].mean(),
                      f"lean of {b}": errors_b[:, inside].mean(), "difference": apart.value, "low": apart.low,
                      "high": apart.high, "verdict": verdict(apart, a, b)}
    columns = ["n", *(f"{what} of {arm}" for what in ("MAE", "lean") for arm in errors), "difference", "low", "high",
               "verdict"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=None if rows else columns)


def draw_by_part(errors: dict[str, np.ndarray], months: np.ndarray) -> Picture:
    """`by_part`: left the MAE of both arms with its interval over films and seeds, right their difference."""
    table = by_part(errors, months)
    where, described = np.arange(len(table)), []
    figure, (left, right) = new_figure(9, 3.6, 1, 2)
    if table.empty:
        none = f"No part of the scale has {SMALLEST_GROUP} films: too few to speak."
        figure.suptitle(none)
        return Picture(figure, none)
    for (arm, arm_errors), (colour, _, marker), shift in zip(errors.items(), LOOK.values(), (-0.1, 0.1), strict=True):
        found = [paired_over_seeds(np.abs(arm_errors[:, (months >= low) & (months < high)]), np.zeros(1))
                 for low, high in (PARTS[part] for part in table.index)]
        ends = np.array([[mae.value - mae.low, mae.high - mae.value] for mae in found]).T
        left.errorbar(where + shift, [mae.value for mae in found], ends, fmt=marker, color=colour, capsize=4, label=arm)
        described += [f"{arm} {part} {mae.value:.1f}" for part, mae in zip(table.index, found, strict=True)]
    right.errorbar(where, table["difference"], [table["difference"] - table["low"], table["high"]
                                                - table["difference"]], fmt="D", color="black", capsize=4)
    right.axhline(0, color=MUTED, linewidth=0.8)
    names = [f"{part.replace(' years', '')}\nn={row.n}" for part, row in zip(table.index, table.itertuples(),
                                                                            strict=True)]
    for ax in (left, right):
        ax.set(xticks=where, xticklabels=names, xlim=(-0.5, len(table) - 0.5), xlabel="label (years)")
    left.set(ylabel="MAE (months)", ylim=(0, None), title="Both heads")
    left.legend()
    a, b = errors
    right.set(ylabel=f"{a} minus {b} (months)", title="Film by film; below zero the bound is better")
    apart = "; ".join(f"{part} {row.difference:+.2f} [{row.low:.2f}, {row.high:.2f}], n {row.n}"
                      for part, row in zip(table.index, table.itertuples(), strict=True))
    return Picture(figure, f"""Left, mean absolute error in months by part of the scale, with 95 % interval:
        {'; '.join(described)}. Right, the paired difference, {a} minus {b}: {apart}.""")
