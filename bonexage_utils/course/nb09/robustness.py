"""The robustness of a network (notebook 09): the same children at another hospital, moved views, one film perturbed.

Tables of films have `id`, `image`, `sex`, `months` (label) and, after prediction, `predicted`; ages are months.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from tqdm import tqdm

from bonexage_utils.batches import film_key
from bonexage_utils.calibration import Calibration
from bonexage_utils.checks.stress import PERTURBATIONS, perturb
from bonexage_utils.cohort import load_cohort
from bonexage_utils.course.sliders import ONE, Slider, menu_and_slider
from bonexage_utils.course.start import Course
from bonexage_utils.decoding import read_gray
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, montage, new_figure
from bonexage_utils.images import letterbox
from bonexage_utils.phantom import write_cohort
from bonexage_utils.prediction import VIEWS, Predictor, moved
from bonexage_utils.statistics import bootstrap_mean, paired_difference

NEW_SEED = 9  # children drawn for this notebook alone: in no cohort of the course, nor in the pretraining
KINDS = ("calibration", "new", "B")
GRIDS = {
    "rotation": tuple(range(0, 181, 5)), "flip": (0, 1, 2), "brightness": tuple(range(-100, 101, 5)),
    "contrast": tuple(np.arange(-2, 1.1, 0.25).tolist()), "inversion": (0, 1), "marker": tuple(range(0, 31, 5)),
    "resolution": tuple(np.arange(0, 4.1, 0.5).tolist()),
}
WATCHED = {  # some of them, for the slider: each is a picture to draw and to store
    "rotation": (0, 45, 90), "brightness": (-100, 0, 100), "resolution": (0, 4),
}
TWIN = (("rotation", 45), ("brightness", 100), ("marker", 20), ("resolution", 3))


# --- films ---

def draw_films(course: Course, folder: Path | str, n: int) -> dict[str, pd.DataFrame]:
    """Films that the network was not trained on, by kind: `calibration`, the cohort's split of that name; `new`, n
    simulated children at the cohort's own hospital; `B`, the same n children filmed and read at hospital B.

    With films of one's own nothing can be drawn for `new`: it is every second film of the calibration split then, and
    `calibration` the others. `B` is simulated all the same.
    """
    folder, kept = Path(folder), course.cohort.split("calibration")
    sites = ("A", "B") if course.embedded else ("B",)
    drawn = {site: load_cohort(write_cohort(folder / site, n, NEW_SEED, site=site)).table for site in sites}
    drawn = {site: table.assign(id="new-" + table["id"], split=f"new, {site}") for site, table in drawn.items()}
    if course.embedded:
        return dict(zip(KINDS, (kept, drawn["A"], drawn["B"]), strict=True))
    held = kept.index % 2 == 1
    halves = kept[~held].reset_index(drop=True), kept[held].assign(split="new").reset_index(drop=True)
    return dict(zip(KINDS, (*halves, drawn["B"]), strict=True))


def draw_pairs(home: pd.DataFrame, away: pd.DataFrame, size: int = 240, columns: int = 5) -> Picture:
    """Films of both hospitals from young to old, (size, size) px: `home` above, `away` below, the same children where
    they are known."""
    order = np.linspace(0.08, 0.92, columns)
    above = home.sort_values(["months", "id"]).iloc[(order * len(home)).astype(int)]
    below = away.set_index("id", drop=False).reindex(above["id"]).dropna(subset="image")
    if len(below) < columns:
        below = away.sort_values(["months", "id"]).iloc[(order * len(away)).astype(int)]
    films, titles, labels = [], [], []
    for name, table in (("here", above), ("B", below)):
        films += [letterbox(read_gray(image), size) for image in table["image"]]
        titles += [f"{name}: {ONE[row.sex]}, label {row.months:.0f}" for row in table.itertuples()]
        labels.append(", ".join(f"{months:.0f}" for months in table["months"]))
    return montage(films, titles, f"""Two rows of {columns} letterboxed hand films from young to old. Above, filmed and
        read here: labels {labels[0]} months. Below, hospital B: labels {labels[1]} months.""", columns=columns)


def by_hospital(home: pd.DataFrame, away: pd.DataFrame) -> pd.DataFrame:
    """MAE and bias (prediction minus label), months, with 95 % intervals, by where the film and its label are from.

    The crossed rows, B's film with this hospital's reading and the reverse, only where both hold the same children.
    """
    films = {"here": home.set_index("id")["predicted"], "B": away.set_index("id")["predicted"]}
    readers = {"here": home.set_index("id")["months"], "B": away.set_index("id")["months"]}
    rows = []
    for film, predicted in films.items():
        for reader, months in readers.items():
            error = (predicted - months).dropna()
            if len(error):
                mae, bias = bootstrap_mean(error.abs()), bootstrap_mean(error)
                rows.append({"film": film, "reader": reader, "n": len(error), "mae": mae.value, "low": mae.low,
                             "high": mae.high, "bias": bias.value, "bias_low": bias.low, "bias_high": bias.high})
    return pd.DataFrame(rows)


def draw_hospitals(table: pd.DataFrame) -> Picture:
    """`by_hospital`: left the MAE, right the bias, each with its interval."""
    figure, (left, right) = new_figure(8.5, 3.4, 1, 2)
    parts, names = [], ["here", "B"]
    for reader, colour, marker, shift in (("here", BOYS, "o", -0.08), ("B", ACCENT, "s", 0.08)):
        group = table[table["reader"] == reader]
        where = np.array([names.index(film) for film in group["film"]]) + shift
        for ax, value, low, high in ((left, "mae", "low", "high"), (right, "bias", "bias_low", "bias_high")):
            ax.errorbar(where, group[value], [group[value] - group[low], group[high] - group[value]], fmt=marker,
                        color=colour, capsize=3, label=f"read {'at B' if reader == 'B' else 'here'}")
        parts += [f"film {row.film}, reader {row.reader}: MAE {row.mae:.1f} [{row.low:.1f}, {row.high:.1f}], bias "
                  f"{row.bias:+.1f} [{row.bias_low:+.1f}, {row.bias_high:+.1f}]" for row in group.itertuples()]
    for ax in (left, right):
        ax.set(xticks=(0, 1), xticklabels=["filmed here", "filmed at B"], xlim=(-0.5, 1.5))
    left.set(ylabel="MAE (months)", ylim=(0, None))
    right.axhline(0, color=MUTED, linewidth=0.8, zorder=0)
    right.set(ylabel="bias (months)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return Picture(figure, f"""Mean absolute error (left) and bias (right) in months with 95 % intervals, by where the
        film was taken and who read its label. {'; '.join(parts)}.""")


# --- the same changes, put to a network that was trained with one of them ---

def before_and_after(before: pd.DataFrame, after: pd.DataFrame, changes: tuple[str, ...]) -> pd.DataFrame:
    """Two networks under the same stress (`stress.predict_stressed`), the films as they are first, then every strength
    of `changes`: the MAE of both, and the `change` on the same films with its 95 % interval `low` to `high`, months.

    Raises ValueError if the films or conditions differ.
    """
    key = ["id", "perturbation", "strength"]
    if not before[key].equals(after[key]):
        raise ValueError("not the same films in the same conditions")
    rows = {}
    for (name, strength), part in before.groupby(["perturbation", "strength"], sort=False):
        pair = part, after.loc[part.index]
        errors = {("as it is", 0.0): [films["predicted"] - films["months"] for films in pair]} if not rows else {}
        if name in changes:
            errors[name, strength] = [films["stressed"] - films["months"] for films in pair]
        for condition, (then, now) in errors.items():
            change = paired_difference(now, then)
            rows[condition] = {"MAE before": then.abs().mean(), "MAE after": now.abs().mean(),
                               "change": change.value, "low": change.low, "high": change.high}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["change of the film", "strength"])


# --- nine views of one film ---

def nine_answers(predictor: Predictor, films: pd.DataFrame, batch: int = 32) -> np.ndarray:
    """The predictions for each film moved to each of `VIEWS`, months (n, 9); the first is the film as it is."""
    size, rows = predictor.preprocessing.image_size, []
    for start in tqdm(range(0, len(films), batch), desc="nine views", leave=False, mininterval=0.5):
        part = films.iloc[start:start + batch]
        squares = torch.from_numpy(np.stack([letterbox(read_gray(image), size) for image in part["image"]]))[:, None]
        rows.append([predictor.months(moved(squares, *view)[:, 0].numpy(), part["sex"].tolist()) for view in VIEWS])
    return np.concatenate([np.transpose(answers) for answers in rows])


def spread_and_error(spread: np.ndarray, error: np.ndarray) -> str:
    """Spearman's rank correlation of the spread of nine answers with |error|, both (n,), with its 95 % interval by
    Fisher's z, whose standard error for ranks is √((1 + ρ²/2) / (n − 3)) (Bonett & Wright 2000), and in words."""
    rho = float(stats.spearmanr(spread, np.abs(error)).statistic)
    reach = 1.96 * np.sqrt((1 + rho**2 / 2) / (len(error) - 3))
    low, high = np.tanh(np.arctanh(rho) + np.array([-reach, reach]))
    hint = "a hint" if low > 0 else "no hint that these films can show" if high >= 0 else "the wrong way round"
    return f"{rho:+.2f} [{low:+.2f}, {high:+.2f}]: {hint}"


def draw_spread(spread: np.ndarray, error: np.ndarray) -> Picture:
    """|error| (months) against the spread of the nine answers (SD, months), and the MAE of each third with interval."""
    figure, ax = new_figure(6.5, 3.6)
    absolute, parts = np.abs(error), []
    ax.plot(spread, absolute, ".", color=BOYS, alpha=0.35, markersize=5)
    edges = np.quantile(spread, [0, 1 / 3, 2 / 3, 1])
    third = np.clip(np.searchsorted(edges, spread, side="right") - 1, 0, 2)
    for number in range(3):
        in_third = third == number
        mae, middle = bootstrap_mean(absolute[in_third]), float(np.median(spread[in_third]))
        ax.errorbar(middle, mae.value, [[mae.value - mae.low], [mae.high - mae.value]], fmt="s", color="black",
                    markersize=3, elinewidth=2, capsize=5, zorder=5,
                    label=None if number else "MAE of a third of the films")
        parts.append(f"spread about {middle:.1f}: MAE {mae.value:.1f} [{mae.low:.1f}, {mae.high:.1f}]")
    top = 1.5 * float(np.quantile(absolute, 0.99))  # one very large error would flatten all the others
    beyond = absolute > top
    for x, y in zip(spread[beyond], absolute[beyond], strict=True):
        ax.annotate(f"{y:.0f}", (x, top), (0, -16), textcoords="offset points", ha="center", fontsize=8, color=ACCENT,
                    arrowprops={"arrowstyle": "->", "color": ACCENT})
    ax.set(xlabel="spread of the nine answers (SD, months)", ylabel="|error| (months)", ylim=(0, top), xlim=(0, None))
    ax.legend()
    above = ", ".join(f"{y:.0f}" for y in np.sort(absolute[beyond]))
    outside = f" Above the axis: {above} months." if above else ""
    return Picture(figure, f"""Scatter of the absolute error against the spread of nine answers about the same film,
        both in months, {len(absolute)} films. Thirds by spread: {'; '.join(parts)}.{outside}""")


# --- perturb and watch ---

class Watch:
    """One film, a row of a cohort's table, and the predictions for it at every strength of `GRIDS`."""

    def __init__(self, predictor: Predictor, film: Any, calibration: Calibration) -> None:
        self.predictor, self.calibration = predictor, calibration
        self.image, self.sex, self.months = read_gray(film.image), str(film.sex), float(film.months)
        self.key, self.size = film_key(film.id), predictor.preprocessing.image_size
        self.predictions = cache(self._predictions)

    def version(self, name: str, strength: float) -> np.ndarray:
        """The film so perturbed, as the network gets it: uint8 (size, size)."""
        return perturb(self.image, name, strength, self.size, self.key)

    def _predictions(self, name: str) -> pd.DataFrame:
        """Prediction and interval at each strength: `strength`, `predicted`, `low_months`, `high_months`."""
        grid = GRIDS[name]
        films = np.stack([self.version(name, strength) for strength in grid])
        months = pd.Series(self.predictor.months(films, [self.sex] * len(grid)))
        ends = self.calibration.intervals(pd.Series([self.sex] * len(grid)), months)
        return pd.DataFrame({"strength": grid, "predicted": months}).join(ends)


def draw_watched(watch: Watch, points: tuple[tuple[str, float], ...] = TWIN) -> Picture:
    """For each perturbation and strength: the film above, below the answer and its interval at every strength."""
    figure, axes = new_figure(0.8 + 2.6 * max(len(points), 2), 5.4, 2, len(points), squeeze=False, sharey="row")
    parts = []
    for (film, curve), (name, strength) in zip(axes.T, points, strict=True):
        table = watch.predictions(name)
        now = table.iloc[(table["strength"] - strength).abs().argmin()]
        film.imshow(watch.version(name, now["strength"]), cmap="gray", vmin=0, vmax=255)
        film.set_title(f"{name} {now['strength']:g}".replace("-", "−"), loc="center")
        film.axis("off")
        curve.fill_between(table["strength"], table["low_months"], table["high_months"], color=BOYS, alpha=0.2,
                           label="its interval", linewidth=0)
        curve.plot(table["strength"], table["predicted"], color=BOYS, marker=".", label="the answer")
        curve.errorbar(now["strength"], now["predicted"], [[now["predicted"] - now["low_months"]],
                       [now["high_months"] - now["predicted"]]], fmt="o", color="black", capsize=5, label="now")
        curve.axhline(watch.months, color=ACCENT, linestyle="--", label="the label")
        curve.set(xlabel=PERTURBATIONS[name].unit, ylim=(0, 240), yticks=range(0, 241, 60))
        curve.xaxis.label.set_size(8)
        place = "inside" if now["low_months"] <= watch.months <= now["high_months"] else "outside"
        parts.append(f"{name} {now['strength']:g}: answer {now['predicted']:.0f}, interval {now['low_months']:.0f} to "
                     f"{now['high_months']:.0f}, the label is {place}")
    axes[1, 0].set_ylabel("age (months)")
    figure.legend(*axes[1, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    return Picture(figure, f"""A {ONE[watch.sex]}'s film with the label {watch.months:.0f} months, changed, above the
        answer and its interval at every strength of the change. {'; '.join(parts)}.""")


def perturb_and_watch(watch: Watch) -> Slider:
    """A menu of some perturbations, a slider over some strengths of each, and `draw_watched`.

    Choosing another perturbation begins at 0, the film as it is.
    """
    return menu_and_slider(lambda name, strength: draw_watched(watch, ((name, strength),)), WATCHED, 0, "change",
                           "strength")
