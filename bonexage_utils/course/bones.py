"""Which ossification centres decide at a bone age, where they lie on a film, how much of a network's attribution they
get, and hands with masks.

The deciding centres are derived, not chosen: those whose state changes fastest at that bone age in the tables. A centre
that is not present yet decides as well, by its absence: the place where it will appear counts like a centre.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from scipy.stats import norm
from tqdm import tqdm

from bonexage_utils.checks.attribution import attribute, enrichment, untrained
from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.images import letterbox
from bonexage_utils.phantom import maturity, write_cohort
from bonexage_utils.phantom.dataset import IMAGE_FOLDER, MASK_FOLDER, TRUTH_FILE, read_masks
from bonexage_utils.phantom.maturity import CENTRES, Sex
from bonexage_utils.prediction import Predictor

PARTS = ("present", "emr", "cap", "fusion", "scar", "detail")  # of a centre's state, each from 0 to about 1
CHILDREN = 21  # whose shifts are distributed as in the population
HALF_YEAR = 6  # months
DECIDING_SHARE = 0.5  # of all change at an age
MARGIN_MM = 2.0  # around a centre: its growth plate and the edge of the shaft that its width is read against
UNTRAINED_FILMS = 32  # to measure an untrained network's BatchNorm statistics on
HANDS, HANDS_SEED = 40, 8  # notebook 08's: children in no cohort of the course, nor in the pretraining


@lru_cache(maxsize=512)
def _mean_state(month: int, sex: Sex) -> dict[str, np.ndarray]:
    """Of each centre the mean over children of one bone age of `PARTS`, shape (6,)."""
    # Quantiles of the normal distribution; the late shifts are the early ones in another order, nearly uncorrelated.
    early = np.clip(norm.ppf((np.arange(CHILDREN) + 0.5) / CHILDREN), -maturity.SHIFT_LIMIT, maturity.SHIFT_LIMIT)
    late = early[np.arange(CHILDREN) * 8 % CHILDREN]
    means = {}
    for name in CENTRES:
        clocks = [maturity.clock(name, sex, *shifts) for shifts in zip(early, late, strict=True)]
        states = [maturity.state(name, sex, month, events) for events in clocks]
        means[name] = np.mean([[getattr(state, part) for part in PARTS] for state in states], axis=0)
    return means


def change_per_month(bone_age_months: float, sex: Sex) -> dict[str, float]:
    """How fast each of the 30 centres changes at a bone age: the change of the mean child over the year around it, of
    presence, width, cap, fusion, scar and shape (each 0 to 1) together, per month."""
    month = round(bone_age_months)
    before, after = (_mean_state(max(1, month + step), sex) for step in (-HALF_YEAR, HALF_YEAR))
    return {name: float(np.abs(after[name] - before[name]).sum()) / (2 * HALF_YEAR) for name in CENTRES}


def deciding_centres(bone_age_months: float, sex: Sex, share: float = DECIDING_SHARE) -> tuple[str, ...]:
    """The fewest centres that together make `share` (0–1) of all change at a bone age, the fastest first.

    Empty where nothing changes any more.
    """
    change = change_per_month(bone_age_months, sex)
    order = sorted((name for name in CENTRES if change[name] > 0), key=lambda name: -change[name])
    cumulative = np.cumsum([change[name] for name in order])
    return tuple(order[: int(np.searchsorted(cumulative, share * cumulative[-1])) + 1]) if order else ()


def letterbox_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask, bool (H, W), letterboxed like its film: bool (size, size), true where at least half is covered."""
    return letterbox(mask.astype(np.uint8) * 255, size) > 127


def centre_region(
    masks: dict[str, np.ndarray], names: Iterable[str], mm_per_px: float, size: int, margin_mm: float = MARGIN_MM
) -> np.ndarray:
    """The region of the centres `names`, or of the places where they will appear, on the letterboxed film, with
    `margin_mm` around: bool (size, size). `masks` (`read_masks`) and `mm_per_px` (ground_truth.csv) are the film's."""
    wanted = {f"{kind}_{name}" for name in names for kind in ("centre", "place")}
    # A zero mask comes first, so that without any centre the region is empty.
    region = np.any([np.zeros_like(next(iter(masks.values()))), *(masks[name] for name in wanted & set(masks))], axis=0)
    reach = 2 * round(margin_mm / mm_per_px) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    return letterbox_mask(cv2.dilate(region.astype(np.uint8), disc) > 0, size)


def shortcut_region(row: pd.Series, shape: tuple[int, int], size: int) -> np.ndarray:
    """The planted strip of a film of `shape` (height, width) on the letterboxed film, bool (size, size).

    `row` is the film's in ground_truth.csv of a cohort made with `shortcut=True`.
    """
    strip = np.zeros(shape, bool)
    x0, y0, x1, y1 = (int(row[f"shortcut_{side}"]) for side in ("x0", "y0", "x1", "y1"))
    strip[y0:y1, x0:x1] = True
    return letterbox_mask(strip, size)


@lru_cache
def _draw_hands(count: int, seed: int) -> tuple[tempfile.TemporaryDirectory, Path]:
    temporary = tempfile.TemporaryDirectory(prefix="bonexage-hands-")  # as long as this process lives
    return temporary, write_cohort(Path(temporary.name) / "hands", count, seed, workers=1, masks=True)


def hands_with_masks(count: int = HANDS, seed: int = HANDS_SEED) -> tuple[Path, pd.DataFrame]:
    """The folder of a cohort of hands with masks, and its truth: `id`, `sex`, `bone_age_months`, `mm_per_px` and more.
    The first `count` children of that seed, drawn once; the folder is deleted when Python ends."""
    folder = _draw_hands(count, seed)[1]
    return folder, pd.read_csv(folder / TRUTH_FILE, dtype={"id": str})


def film_and_region(folder: Path, row: pd.Series, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A film of `hands_with_masks`, letterboxed, uint8 (size, size), and the region of the deciding centres at its age,
    bool of the same shape. `row` is the child's row in the truth."""
    names = deciding_centres(row["bone_age_months"], row["sex"])
    masks = read_masks(folder / MASK_FOLDER / f"{row['id']}.npz")
    film = letterbox(read_gray(folder / IMAGE_FOLDER / f"{row['id']}.png"), size)
    return film, centre_region(masks, names, row["mm_per_px"], size)


def score_on_bones(
    predictor: Predictor, folder: Path | str, films: list[str], method: str = "integrated_gradients", seeds: int = 3
) -> pd.DataFrame:
    """How much attribution falls on the deciding centres of `films` (ids) of a cohort with masks.

    One row a film: `id`, `sex`, `bone_age_months`, `predicted` (months), `area` (the deciding centres' share of the
    film), and enrichments (`attribution.enrichment`): `own`, of the network's map on the deciding centres; `other`, of
    the same map on the same centres of another child (of these films the nearest in bone age), without registration;
    `untrained`, of the maps of `seeds` untrained networks, their mean; `undecided`, of the network's map on the child's
    other centres. Compare columns film by film, with `statistics.bootstrap_mean` of their difference.

    Raises BoneXageError for a cohort without masks or fewer than two films.
    """
    folder, size = Path(folder), predictor.preprocessing.image_size
    if len(films) < 2 or not (folder / MASK_FOLDER).is_dir():
        raise BoneXageError(f"{folder}: needs two films and masks; make it with bonexage phantom --masks")
    truth = pd.read_csv(folder / TRUTH_FILE, dtype={"id": str}).set_index("id").loc[films]
    pictures = {film: letterbox(read_gray(folder / IMAGE_FOLDER / f"{film}.png"), size) for film in films}
    sample = np.stack(list(pictures.values())[:UNTRAINED_FILMS])
    controls = [untrained(predictor, sample, seed) for seed in range(seeds)]

    def region(film: str, names: Iterable[str]) -> np.ndarray:
        masks = read_masks(folder / MASK_FOLDER / f"{film}.npz")
        return centre_region(masks, names, truth.loc[film, "mm_per_px"], size)

    ages = truth["bone_age_months"]
    rows = []
    for film, row in tqdm(truth.iterrows(), total=len(truth), desc="attributing", unit="film", leave=False,
                          mininterval=0.5):
        result = attribute(predictor, pictures[film], row["sex"], method)
        other = str((ages.drop(film) - ages[film]).abs().idxmin())
        names = deciding_centres(ages[film], row["sex"])
        own, others = region(film, names), region(other, names)
        undecided = region(film, set(CENTRES) - set(names)) & ~own
        untrained_maps = [attribute(control, pictures[film], row["sex"], method).map for control in controls]
        rows.append({
            "id": film, "sex": row["sex"], "bone_age_months": ages[film], "predicted": result.prediction,
            "area": own.mean(), "own": enrichment(result.map, own), "other": enrichment(result.map, others),
            "untrained": np.mean([enrichment(map, own) for map in untrained_maps]),
            "undecided": enrichment(result.map, undecided),
        })
    return pd.DataFrame(rows)
