"""How predictions change when the same films are perturbed: seven stress tests, paired film by film.

The seven are those that Santomartino et al. (Radiology: Artificial Intelligence 2024;6(3):e230240) put to the winner of
the RSNA challenge; the strengths are ours, from what training films are augmented with to what nobody would accept.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from bonexage_utils.batches import check_headers, film_key
from bonexage_utils.cohort import Cohort
from bonexage_utils.devices import memory_advice
from bonexage_utils.errors import BoneXageError
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, new_figure, style
from bonexage_utils.files import atomic_file, only_writer
from bonexage_utils.images import letterbox, read_films
from bonexage_utils.prediction import Predictor, batched
from bonexage_utils.statistics import bootstrap_mean, paired_difference

# A prediction that moves by more than this may change what a doctor does. Published rates count the errors that change
# the diagnosis (Beheshtian et al., Radiology 2023;306:e220505), which takes the chronological age, and RSNA has none.
# A year is about one standard deviation of bone age among healthy children from nine years on (Brush Foundation series:
# Greulich & Pyle 1959), half the way from the middle to where a bone age is called delayed or advanced.
SIGNIFICANT_MONTHS = 12.0
FILMS_AT_A_TIME = 8  # read and changed while the network waits: all versions of a film are in memory at once
FONT = cv2.FONT_HERSHEY_SIMPLEX


def _rotate(square: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    middle = (square.shape[0] - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), degrees * rng.choice([-1, 1]), 1.0)
    return cv2.warpAffine(square, turn, square.shape)


def _flip(film: np.ndarray, way: float, rng: np.random.Generator) -> np.ndarray:
    return cv2.flip(film, 2 - int(way)) if way else film  # OpenCV: 1 left–right, 0 top–bottom


def _map_greys(film: np.ndarray, greys: np.ndarray) -> np.ndarray:
    """Each grey level replaced by that of `greys` (256,), rounded and cut off at black and white."""
    return cv2.LUT(film, np.clip(np.rint(greys), 0, 255).astype(np.uint8))


def _brighten(film: np.ndarray, levels: float, rng: np.random.Generator) -> np.ndarray:
    return _map_greys(film, np.arange(256) + levels)


def _change_contrast(film: np.ndarray, doublings: float, rng: np.random.Generator) -> np.ndarray:
    mean = film.mean()
    return _map_greys(film, mean + 2.0**doublings * (np.arange(256) - mean))


def _invert(film: np.ndarray, whole: float, rng: np.random.Generator) -> np.ndarray:
    return 255 - film if whole else film


def _mark(film: np.ndarray, percent: float, rng: np.random.Generator) -> np.ndarray:
    """A white L or R in one of the corners, so many percent of the film's height high."""
    tall = round(film.shape[0] * percent / 100)
    letter, right, low = str(rng.choice(["L", "R"])), rng.random() < 0.5, rng.random() < 0.5
    if not tall:
        return film
    thick, margin = max(1, tall // 6), max(1, tall // 3)
    scale = cv2.getFontScaleFromHeight(FONT, tall, thick)
    (wide, _), _ = cv2.getTextSize(letter, FONT, scale, thick)
    left = film.shape[1] - margin - wide if right else margin
    base = film.shape[0] - margin if low else margin + tall
    return cv2.putText(film.copy(), letter, (left, base), FONT, scale, 255, thick, cv2.LINE_AA)


def _coarsen(square: np.ndarray, halvings: float, rng: np.random.Generator) -> np.ndarray:
    side = square.shape[0]
    few = max(1, round(side / 2.0**halvings))
    return cv2.resize(cv2.resize(square, (few, few), interpolation=cv2.INTER_AREA), (side, side))


@dataclass(frozen=True)
class Perturbation:
    """A change of a uint8 film (height, width), 0 of which changes nothing, and the strengths it is tried at.

    `change` also takes a stream of its own for each film, the same at every strength: which way it turns, where the
    marker lies. It gets the film as read, or if `squared` the letterboxed one, where turning loses least and where
    resolution is that of the network's input.
    """

    change: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    strengths: tuple[float, ...]
    unit: str
    squared: bool = False


PERTURBATIONS = {
    "rotation": Perturbation(_rotate, (5, 10, 20, 45, 90, 180), "degrees, either way", squared=True),
    "flip": Perturbation(_flip, (1, 2), "1: left–right, 2: top–bottom"),
    "brightness": Perturbation(_brighten, (-100, -50, -25, 25, 50, 100), "grey levels added, of 255"),
    "contrast": Perturbation(_change_contrast, (-2, -1, -0.5, 0.5, 1), "doublings"),
    "inversion": Perturbation(_invert, (1,), "1: black and white swapped"),
    "marker": Perturbation(_mark, (5, 10, 20), "% of the film's height"),
    "resolution": Perturbation(_coarsen, (1, 2, 3), "halvings of what the network sees", squared=True),
}
CONDITIONS = [(name, float(strength)) for name, how in PERTURBATIONS.items() for strength in how.strengths]


def perturb(film: np.ndarray, name: str, strength: float, size: int, key: int = 0) -> np.ndarray:
    """A uint8 film (height, width) under one of `PERTURBATIONS`, letterboxed to (size, size).

    `key` (`batches.film_key`) decides what is left to chance, so that no other film and no order matters.
    """
    how, rng = PERTURBATIONS[name], np.random.default_rng([key, list(PERTURBATIONS).index(name)])
    if how.squared:
        return how.change(letterbox(film, size), strength, rng)
    return letterbox(how.change(film, strength, rng), size)


def predict_stressed(predictor: Predictor, films: pd.DataFrame, batch_size: int = 16,
                     workers: int | None = None) -> tuple[pd.DataFrame, dict[str, str]]:
    """The predictions for each film as it is and under every perturbation; each film is read once.

    `films` are rows of a cohort's table. Returns one row per film and condition: `id`, `sex`, `months` (label),
    `perturbation`, `strength`, `predicted` (the film as it is) and `stressed` (changed), months; and of each film that
    cannot be read, which is left out, the reason by its id. Raises BoneXageError when memory runs out.
    """
    size, keys = predictor.preprocessing.image_size, films["id"].map(film_key).tolist()

    def versions(film: np.ndarray, place: int) -> np.ndarray:
        changed = [perturb(film, *condition, size, keys[place]) for condition in CONDITIONS]
        return np.stack([letterbox(film, size), *changed])

    read = read_films(films["image"].tolist(), versions, workers, ahead=FILMS_AT_A_TIME)
    rows, failures = [], {}
    with tqdm(total=len(films), desc="stressing", unit="film", leave=False, mininterval=0.5) as bar:
        for part in batched(zip(films.itertuples(), read, strict=True), FILMS_AT_A_TIME):
            failures |= {film.id: kept for film, kept in part if isinstance(kept, str)}
            good = [(film, kept) for film, kept in part if not isinstance(kept, str)]
            images = [image for _, kept in good for image in kept]
            sexes = [film.sex for film, kept in good for _ in kept]
            predicted = np.concatenate([np.empty(0), *_months(predictor, images, sexes, batch_size)])
            for (film, _), months in zip(good, predicted.reshape(-1, 1 + len(CONDITIONS)), strict=True):
                rows += [(film.id, film.sex, film.months, *condition, months[0], stressed)
                         for condition, stressed in zip(CONDITIONS, months[1:], strict=True)]
            bar.update(len(part))
    return pd.DataFrame(rows, columns=["id", "sex", "months", "perturbation", "strength", "predicted", "stressed"]), \
        failures


def _months(predictor: Predictor, images: list[np.ndarray], sexes: list[str], batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(images), batch_size):
        stop = start + batch_size
        with memory_advice(predictor.path, batch_size, f"try --batch-size {max(1, batch_size // 2)}"):
            months = predictor.months(np.stack(images[start:stop]), sexes[start:stop])
        yield months


def summarise(stressed: pd.DataFrame) -> pd.DataFrame:
    """One row per condition of what `predict_stressed` returned; months, but for shares.

    `n` films; `mae` under stress; `mae_change` against the same films as they are, with its 95 % paired bootstrap
    interval `low` to `high`; `bias_change`; `mean_abs_change` of the prediction; and `share_significant`, the share of
    films whose prediction moves by more than `SIGNIFICANT_MONTHS`.
    """
    rows = []
    for (name, strength), part in stressed.groupby(["perturbation", "strength"], sort=False):
        moved, errors = part["stressed"] - part["predicted"], part["stressed"] - part["months"]
        difference = paired_difference(errors, part["predicted"] - part["months"])
        rows.append({
            "perturbation": name, "strength": strength, "unit": PERTURBATIONS[name].unit, "n": len(part),
            "mae": errors.abs().mean(), "mae_change": difference.value, "low": difference.low, "high": difference.high,
            "bias_change": moved.mean(), "mean_abs_change": moved.abs().mean(),
            "share_significant": (moved.abs() > SIGNIFICANT_MONTHS).mean(),
        })
    return pd.DataFrame(rows)


def labelled_split(cohort: Cohort, split: str | None = None) -> tuple[str, pd.DataFrame]:
    """The name and the labelled films of `split`; of the test if None, or where it has none of the calibration split.

    Raises BoneXageError if there are none.
    """
    for name in [split] if split else ["test", "calibration"]:
        films = cohort.split(name)
        films = films[films["months"].notna()].reset_index(drop=True)
        if len(films):
            return name, films
    raise BoneXageError(f"{cohort.root}: no labelled films in split {split or 'test or calibration'}; "
                        "name another with --split")


def outputs(folder: Path | str) -> list[Path]:
    """The files that `stress` writes: table, figure, description."""
    return [Path(folder) / f"stress.{ending}" for ending in ("csv", "png", "json")]


def stress(predictor: Predictor, cohort: Cohort, out: Path | str, split: str | None = None,
           batch_size: int = 16, workers: int | None = None) -> tuple[pd.DataFrame, str]:
    """Run all tests on a split (see `labelled_split`); write `stress.csv`, `stress.png` and `stress.json` into `out`.

    Returns the table of `summarise`, and a line about the films. Raises BoneXageError if none can be read, or for films
    whose header contradicts their label.
    """
    split, films = labelled_split(cohort, split)
    check_headers(films, cohort.root)
    csv, png, facts = outputs(out)
    with only_writer(csv, png, facts):
        stressed, failures = predict_stressed(predictor, films, batch_size, workers)
        reason = next(iter(failures.values()), "")
        if stressed.empty:
            raise BoneXageError(f"no film of split {split} can be read, e.g. {reason}")
        table, used = summarise(stressed), stressed.drop_duplicates("id")
        with atomic_file(csv) as path:
            table.to_csv(path, index=False, lineterminator="\n")
        with atomic_file(png) as path:
            path.write_bytes(error_under_stress(table, SIGNIFICANT_MONTHS).png)
        with atomic_file(facts) as path:
            path.write_text(json.dumps({
                "checkpoint": predictor.path.name, "network_sha256": predictor.description["network_sha256"],
                "tta": predictor.tta, "split": split, "films": len(used),
                "unreadable": len(failures), "significant_months": SIGNIFICANT_MONTHS}, indent=2), encoding="utf-8")
    mae = bootstrap_mean((used["predicted"] - used["months"]).abs())
    unread = f"; {len(failures):,} cannot be read, e.g. {reason}" if failures else ""
    summary = f"{len(used):,} films of split {split}, MAE {mae} months as they are{unread}"
    return table, summary


@style()
def error_under_stress(table: pd.DataFrame, significant: float) -> Picture:
    """Small multiples of `stress.summarise`: change of the MAE with interval against strength, by perturbation.

    Over each point the share of films whose prediction moves by more than `significant` months.
    """
    names = list(dict.fromkeys(table["perturbation"]))
    figure, axes = new_figure(10.5, 5.2, 2, -(-len(names) // 2), sharey=True, squeeze=False)
    largest = []
    for ax, name in zip(axes.flat, names, strict=False):
        part = table[table["perturbation"] == name]
        where = np.arange(len(part))
        ax.axhline(0, color=MUTED, linewidth=0.8, zorder=0)
        bars = [part["mae_change"] - part["low"], part["high"] - part["mae_change"]]
        ax.errorbar(where, part["mae_change"], yerr=bars, capsize=3, fmt="o", markersize=4, color=BOYS)
        for x, row in zip(where, part.itertuples(), strict=True):
            ax.annotate(f"{row.share_significant:.0%}", (x, row.high), (0, 4), textcoords="offset points", ha="center",
                        fontsize=8, color=ACCENT)
        ax.set(title=name, xlabel=part["unit"].iloc[0], xticks=where, xlim=(-0.6, len(part) - 0.4),
               xticklabels=[f"{strength:g}".replace("-", "−") for strength in part["strength"]])
        worst = part.loc[part["mae_change"].idxmax()]
        largest.append(f"{name} {worst['mae_change']:+.1f} at {worst['strength']:g}")
    for ax in axes.flat[len(names):]:
        ax.axis("off")
    for ax in axes[:, 0]:
        ax.set_ylabel("change of MAE (months)")
    axes.flat[0].margins(y=0.12)
    figure.suptitle(f"Change of the MAE with 95 % interval; above it the share of films whose prediction moves by more "
                    f"than {significant:g} months", fontsize=10, x=0.01, ha="left")
    return Picture(figure, f"""Change of the mean absolute error in months against the strength of each perturbation,
        with 95 % intervals, for {table['n'].max()} films. The largest change of each: {'; '.join(largest)}.""")
