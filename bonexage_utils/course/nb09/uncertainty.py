"""Prediction intervals (notebook 09): calibrate them on one set of films, and measure their coverage on another.

Tables of films have `id`, `sex`, `months` (label), `predicted` and, with intervals, `low_months` and `high_months`; all
in months. Intervals are those of `bonexage_utils.calibration`.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter
from scipy import stats
from tqdm import tqdm

from bonexage_utils.batches import film_sets
from bonexage_utils.calibration import FOLDS, Calibration, half_width
from bonexage_utils.checks.stress import PERTURBATIONS
from bonexage_utils.course.frozen import BACKBONE, fit_head, frozen_maps, head_errors
from bonexage_utils.course.start import Course
from bonexage_utils.evaluation import groups_of
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, new_figure
from bonexage_utils.images import Preprocessing
from bonexage_utils.statistics import SMALLEST_GROUP, bootstrap_mean, share

HEART_FILMS = 200  # few enough to be memorised in seconds


def with_intervals(films: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """`films` with the interval of each prediction, and whether its width is its group's `own`."""
    band = np.clip(np.searchsorted(calibration.bands, films["predicted"], side="right") - 1, 0, None)
    own = [calibration.groups[sex][place] is not None for sex, place in zip(films["sex"], band, strict=True)]
    return films.assign(**calibration.intervals(films["sex"], films["predicted"]).set_axis(films.index), own=own)


def one_width(calibration: Calibration) -> Calibration:
    """The same, but with the half-width learned from all films for every group."""
    return replace(calibration, groups={sex: [None] * len(widths) for sex, widths in calibration.groups.items()})


def tenfold(films: pd.DataFrame, calibrate: Callable[[pd.DataFrame], Calibration]) -> pd.DataFrame:
    """`films` with intervals, each film's from a calibration on the nine tenths that it is not in.

    The tenths are those of `calibration.cross_validated`.
    """
    films = films.sort_values("id", ignore_index=True)
    fold = np.random.default_rng(0).permutation(len(films)) % FOLDS
    parts = [with_intervals(films[fold == number], calibrate(films[fold != number])) for number in range(FOLDS)]
    return pd.concat(parts, ignore_index=True)


def held(films: pd.DataFrame) -> np.ndarray:
    """Whether each label lies inside its interval, bool (n,)."""
    return films["months"].between(films["low_months"], films["high_months"]).to_numpy()


def who_gains(before: pd.DataFrame, after: pd.DataFrame, wanted: float) -> tuple[pd.DataFrame, str]:
    """By sex and band of the labelled age, of the same films with two kinds of intervals: the share inside `before` and
    `after`, the `change` film by film with its 95 % interval `low` to `high`, and the mean widths (months).

    Also in words: of the groups that were below `wanted`, how many rose, and how many of all became narrower. Groups
    under `SMALLEST_GROUP` are left out. Raises ValueError if the films differ.
    """
    if before["id"].tolist() != after["id"].tolist():
        raise ValueError("not the same films in the same order")
    rows = {}
    for sex, age, films in groups_of(before):
        if "all" in (sex, age) or len(films) < SMALLEST_GROUP:
            continue
        then = after.loc[films.index]
        change = bootstrap_mean(held(then).astype(float) - held(films))
        rows[f"{sex} {age}"] = {
            "n": len(films), "before": held(films).mean(), "after": held(then).mean(), "change": change.value,
            "low": change.low, "high": change.high,
            "width before": (films["high_months"] - films["low_months"]).mean(),
            "width after": (then["high_months"] - then["low_months"]).mean()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    below, narrower = table[table["before"] < wanted], (table["width after"] < table["width before"]).sum()
    return table, (f"of {len(below)} groups below {wanted:.0%}, {(below['change'] > 0).sum()} rose, "
                   f"{(below['low'] > 0).sum()} of them clearly; {narrower} of {len(table)} groups became narrower")


def coverage_verdict(inside: float, luck: tuple[float, float]) -> str:
    """The verdict on a share `inside`, given the range of chance if the promised coverage holds (`new_range`)."""
    if inside < luck[0]:
        return "less than promised"
    return "more than promised" if inside > luck[1] else "as promised, as far as these films can tell"


def compare_coverage(parts: dict[str, tuple[pd.DataFrame, int]], wanted: float) -> pd.DataFrame:
    """By name, from films with intervals and the number of films that calibrated: `n`, share `inside` with its 95 %
    interval `low` to `high`, the range of chance `luck from` to `luck to` if the promise is kept, mean `width`
    (months) and the verdict."""
    rows = {}
    for name, (films, calibrated_on) in parts.items():
        found, luck = share(held(films)), new_range(calibrated_on, wanted, len(films))
        rows[name] = {"n": len(films), "inside": found.value, "low": found.low, "high": found.high,
                      "luck from": luck[0], "luck to": luck[1],
                      "width": (films["high_months"] - films["low_months"]).mean(),
                      "verdict": coverage_verdict(found.value, luck)}
    return pd.DataFrame.from_dict(rows, orient="index")


def draw_coverage(table: pd.DataFrame, wanted: float) -> Picture:
    """`compare_coverage`: the share inside with its interval, a row for each name, on a band of what chance may do."""
    figure, ax = new_figure(7.5, 0.9 + 0.45 * len(table))
    where = np.arange(len(table))[::-1]
    ax.barh(where, table["luck to"] - table["luck from"], left=table["luck from"], height=0.7, color=MUTED, alpha=0.25,
            label="luck, if it is kept")
    ax.errorbar(table["inside"], where, xerr=[table["inside"] - table["low"], table["high"] - table["inside"]], fmt="o",
                color=BOYS, capsize=3)
    ax.axvline(wanted, color=ACCENT, linestyle="--", label=f"promised: {wanted:.0%}")
    ax.set(yticks=where, yticklabels=table.index, ylim=(-0.6, len(table) - 0.4), xlabel="share of labels inside",
           xlim=(min(0.7, table["low"].min() - 0.03), 1))
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend(loc="upper left", bbox_to_anchor=(0, 1.16), borderaxespad=0, ncols=2)
    described = "; ".join(f"{name} {row.inside:.0%} [{row.low:.0%}, {row.high:.0%}], luck {row['luck from']:.0%} to "
                          f"{row['luck to']:.0%}" for name, row in table.iterrows())
    return Picture(figure, f"""Share of labels inside their interval, with 95 % intervals; a dashed line at
        {wanted:.0%}, which was promised, and a grey band where luck alone may put the share if the promise is kept.
        {described}.""")


def chance_range(n: int, coverage: float) -> tuple[float, float]:
    """Between what shares the coverage of one calibration on `n` films lies 19 times out of 20: the middle of
    Beta(k, n + 1 − k), k = ⌈(n + 1)·coverage⌉ (Vovk 2012). Raises ValueError where n films are too few."""
    low, high = stats.beta.ppf([0.025, 0.975], *_ranks(n, coverage))
    return float(low), float(high)


def new_range(n: int, coverage: float, new: int) -> tuple[float, float]:
    """Between what shares of `new` films lie inside 19 times out of 20, for one calibration on `n` films: both kinds of
    chance, the middle of the beta-binomial of `chance_range`'s Beta. Raises ValueError where n films are too few."""
    low, high = stats.betabinom.ppf([0.025, 0.975], new, *_ranks(n, coverage)) / new
    return float(low), float(high)


def _ranks(n: int, coverage: float) -> tuple[int, int]:
    """Both parameters of the Beta."""
    rank = math.ceil(round((n + 1) * coverage, 9))
    if rank > n:
        raise ValueError(f"{n} films are too few for {coverage:.0%}")
    return rank, n + 1 - rank


def draw_rank(errors: np.ndarray, coverage: float) -> Picture:
    """|errors| (n,), months, in order of size, and the one that becomes the half-width."""
    sizes, half = np.sort(np.abs(errors)), half_width(errors, coverage)
    rank = math.ceil(round((len(sizes) + 1) * coverage, 9))
    figure, ax = new_figure(6.8, 3.4)
    place = np.arange(1, len(sizes) + 1)
    ax.bar(place, sizes, 1.0, color=np.where(place <= rank, BOYS, MUTED))
    ax.plot([0, rank], [half, half], color=ACCENT, linestyle="--")
    ax.annotate(f"number {rank} of {len(sizes)}: {half:.1f} months", (rank, half), (-8, 8), ha="right",
                textcoords="offset points", color=ACCENT)
    ax.set(xlabel="calibration films, by the size of their error", ylabel="|error| (months)", xlim=(0, len(sizes) + 1))
    return Picture(figure, f"""The absolute errors of {len(sizes)} calibration films as bars, from the smallest to the
        largest, {sizes[-1]:.1f} months. Number {rank} is {half:.1f} months long; a dashed line marks it. The bars
        beyond it are grey.""")


def by_heart(course: Course, preprocessing: Preprocessing, lengths: tuple[int, ...], wanted: float,
             films: int = HEART_FILMS) -> pd.DataFrame:
    """A head that learns the maps of `films` training films for more and more epochs, calibrated twice each time.

    One row for each of `lengths` (epochs) and for the films that calibrated, "calibration films" or "its own films":
    how many `films` they are, the MAE on them and on the selection films, which are new here, the `half_width`, and the
    share of the selection films' labels `inside` with its 95 % interval `low` to `high`; months.
    """
    parts = {name: course.cohort.split(name) for name in ("train", "selection", "calibration")}
    parts["train"] = parts["train"].sample(min(films, len(parts["train"])), random_state=course.seed)
    few = replace(course.cohort, table=pd.concat(parts.values(), ignore_index=True))
    sets = film_sets(few, tuple(parts), preprocessing.image_size)[0]
    maps = {name: frozen_maps(BACKBONE, "phantom", part, preprocessing, course.device) for name, part in sets.items()}
    rows = []
    for epochs in tqdm(lengths, desc="learning by heart", leave=False):
        head = fit_head(BACKBONE, maps["train"], course.seed, epochs, pooling="avg")
        errors = {name: np.abs(head_errors(head, part)) for name, part in maps.items()}
        for name, learned in (("calibration films", "calibration"), ("its own films", "train")):
            half = half_width(errors[learned], wanted)
            found = share(errors["selection"] <= half)
            rows.append({"epochs": epochs, "calibrated on": name, "films": len(errors[learned]),
                         "MAE, films that calibrated": errors[learned].mean(),
                         "MAE, selection films": errors["selection"].mean(), "half_width": half, "inside": found.value,
                         "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


def draw_by_heart(table: pd.DataFrame, wanted: float) -> Picture:
    """`by_heart`: the share of new labels inside against the epochs, for both calibrations."""
    figure, ax = new_figure(6.8, 3.8)
    described = []
    for (name, part), colour, marker, shift in zip(table.groupby("calibrated on"), (BOYS, ACCENT), "os", (0.98, 1.02),
                                                   strict=True):  # a little apart, or one hides the other
        bars = [part["inside"] - part["low"], part["high"] - part["inside"]]
        ax.errorbar(shift * part["epochs"], part["inside"], bars, fmt=f"{marker}-", color=colour, capsize=3,
                    label=f"calibrated on {name}")
        described.append(f"on {name}: " + ", ".join(f"{row.inside:.0%} after {row.epochs} epochs"
                                                    for row in part.itertuples()))
    ax.axhline(wanted, color=MUTED, linestyle="--", label=f"promised: {wanted:.0%}")
    ax.set(xlabel="epochs of learning the same few films", ylabel="share of new labels inside", xscale="log",
           ylim=(0, 1.02), xticks=sorted(set(table["epochs"])))
    ax.xaxis.set_major_formatter(lambda epochs, _: f"{epochs:g}")
    ax.xaxis.set_minor_formatter("")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower left")
    return Picture(figure, f"""Share of new labels inside their intervals, with 95 % intervals, against how long a head
        has learned the same films; a dashed line at {wanted:.0%}. Calibrated {'; '.join(described)}.""")


def under_stress(stressed: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """By condition of `stress.predict_stressed`: `n`, share `inside` with `low` and `high`, and mean `width`; first the
    films as they are, with `perturbation` "none"."""
    untouched = stressed.drop_duplicates("id").assign(perturbation="none", strength=0.0)
    stressed = pd.concat([untouched.assign(stressed=untouched["predicted"]), stressed], ignore_index=True)
    rows = []
    for (name, strength), part in stressed.groupby(["perturbation", "strength"], sort=False):
        films = with_intervals(part.assign(predicted=part["stressed"]), calibration)
        found = share(held(films))
        rows.append({"perturbation": name, "strength": strength, "n": len(part), "inside": found.value,
                     "low": found.low, "high": found.high,
                     "width": (films["high_months"] - films["low_months"]).mean()})
    return pd.DataFrame(rows)


def draw_under_stress(table: pd.DataFrame, wanted: float) -> Picture:
    """`under_stress`, a panel for each perturbation; above each point the mean width of the intervals, months."""
    asis = table[table["perturbation"] == "none"].iloc[0]
    table = table[table["perturbation"] != "none"]
    names = list(dict.fromkeys(table["perturbation"]))
    figure, axes = new_figure(10.5, 5, 2, -(-len(names) // 2), sharey=True, squeeze=False)
    described = []
    for ax, name in zip(axes.flat, names, strict=False):
        part = table[table["perturbation"] == name]
        where = np.arange(len(part))
        ax.axhline(wanted, color=ACCENT, linestyle="--", linewidth=1)
        ax.axhline(asis["inside"], color=MUTED, linestyle=":", linewidth=1)
        ax.errorbar(where, part["inside"], [part["inside"] - part["low"], part["high"] - part["inside"]], fmt="o",
                    markersize=4, capsize=3, color=BOYS)
        for x, width in zip(where, part["width"], strict=True):
            ax.text(x, 1.04, f"{width:.0f}", ha="center", fontsize=8, color=MUTED)
        labels = [f"{strength:g}".replace("-", "−") for strength in part["strength"]]
        ax.set(title=name, xticks=where, xticklabels=labels, xlim=(-0.6, len(part) - 0.4), ylim=(0, 1.12),
               yticks=np.arange(0, 1.01, 0.2))
        ax.set_xlabel(PERTURBATIONS[name].unit, fontsize=8)
        ax.tick_params(axis="x", labelsize=8)
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        worst = part.loc[part["inside"].idxmin()]
        described.append(f"{name} {worst['inside']:.0%} at {worst['strength']:g}")
    for ax in axes.flat[len(names):]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel("share of labels inside")
    figure.suptitle("Share inside, with 95 % interval; the grey numbers are the mean width in months", fontsize=10,
                    x=0.01, ha="left")
    widths = sorted({round(width) for width in table["width"]})
    wide = f"{widths[0]} months throughout" if len(widths) == 1 else f"{widths[0]} to {widths[-1]} months"
    return Picture(figure, f"""Share of labels inside intervals that promised {wanted:.0%} (dashed), against the
        strength of seven perturbations, {table['n'].max()} films each; of the films as they are {asis['inside']:.0%}
        (dotted). The lowest share of each: {'; '.join(described)}. The mean width is {wide}.""")
