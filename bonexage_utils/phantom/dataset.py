"""Write a cohort of phantoms to disk in the flat RSNA layout, with the truth beside it.

Image k depends on (seed, k) alone: any worker count, any order and any larger n give the same bytes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_folder, only_writer
from bonexage_utils.phantom.labels import RATER_SD_MONTHS, read_by_rater
from bonexage_utils.phantom.maturity import Sex
from bonexage_utils.phantom.nuisances import SITES, Nuisances
from bonexage_utils.phantom.radiograph import film_masks, render
from bonexage_utils.phantom.skeleton import Child, grow

VERSION = 3  # raise it when the same seed no longer gives the same cohort
AGE_RANGE_MONTHS = (12.0, 216.0)
# Half of the children are spread evenly, half as in RSNA (mean 127, SD 41): there only 2 % are under two years, too
# few to learn from.
EVEN_SHARE, CLINIC_AGES = 0.5, (127.0, 41.0)
FIRST_ID, MOST_FILMS = 1000, 10_000_000
IMAGE_FOLDER = "boneage-training-dataset"
LABEL_FILE = "boneage-training-dataset.csv"
TRUTH_FILE = "ground_truth.csv"
COHORT_FILE = "cohort.json"
MASK_FOLDER = "masks"

Row = dict[str, int | float | str | bool]
__all__ = ["AGE_RANGE_MONTHS", "RATER_SD_MONTHS", "child_and_film", "draw_age", "read_masks", "write_cohort"]


def draw_age(rng: np.random.Generator) -> float:
    """Chronological age (months) of one child."""
    age = rng.uniform(*AGE_RANGE_MONTHS) if rng.random() < EVEN_SHARE else rng.normal(*CLINIC_AGES)
    return float(np.clip(age, *AGE_RANGE_MONTHS))


def child_and_film(
    seed: int, k: int, height_px: int | None = None, site: str = "A", shortcut: bool = False
) -> tuple[Child, np.ndarray, Row]:
    """Child, image (uint8, (H, W)) and ground-truth row of image `k` (0-based) of cohort `seed`, alone.

    The row holds id, sex, chronological_age_months, bone_age_months, label_months, tempo, size_factor,
    hand_length_mm, hand_length_px (straight, from the distal radius), then of every centre `present_`, `emr_`, `cap_`,
    `gap_` (mm), `fusion_`, `scar_` and `detail_` (see `Centre`), then every nuisance (see `Nuisances`). `height_px`
    None leaves the height to the film's pixel spacing. The child is the same at either `site`, "A" or "B".
    """
    child, image, row, _ = _draw(seed, k, height_px, site, shortcut)
    return child, image, row


def _draw(seed: int, k: int, height_px: int | None, site: str, shortcut: bool
          ) -> tuple[Child, np.ndarray, Row, Nuisances]:  # fmt: skip
    rng = np.random.default_rng([seed, k])
    sex: Sex = "M" if rng.random() < 0.5 else "F"
    child = grow(sex, draw_age(rng), rng)
    label = read_by_rater(child.bone_age_months, sex, rng, site)
    nuisances = Nuisances.draw(rng, child.chronological_age_months, site)
    image, film = render(child, rng, height_px, nuisances, float(label) if shortcut else None)
    row: Row = {
        "id": FIRST_ID + k,
        "sex": sex,
        "chronological_age_months": round(child.chronological_age_months, 3),
        "bone_age_months": round(child.bone_age_months, 3),
        "label_months": label,
        "tempo": round(child.tempo, 4),
        "size_factor": round(child.size_factor, 4),
        "hand_length_mm": round(child.hand_length_mm, 2),
        "hand_length_px": round(child.hand_length_mm / film["mm_per_px"], 2),
    }
    for centre in child.centres:
        row[f"present_{centre.name}"] = centre.present
        for part in ("emr", "cap", "gap_mm", "fusion", "scar", "detail"):
            row[f"{part.removesuffix('_mm')}_{centre.name}"] = round(getattr(centre, part), 4)
    for name, value in film.items():
        row[name] = round(value, 4) if isinstance(value, float) else value
    return child, image, row, nuisances


def _save_masks(path: Path, masks: dict[str, np.ndarray]) -> None:
    """Eight pixels to a byte, in one compressed array, beside the names."""
    packed = np.packbits(np.stack(list(masks.values())), axis=2)
    width = next(iter(masks.values())).shape[1]
    with path.open("wb") as file:
        np.savez_compressed(file, names=np.array(list(masks)), packed=packed, width=np.array(width))


def read_masks(path: Path) -> dict[str, np.ndarray]:
    """The masks of one film, `masks/ID.npz` of a cohort written with `masks=True`; see `radiograph.film_masks`."""
    with np.load(path) as file:
        masks = np.unpackbits(file["packed"], axis=2, count=int(file["width"])).astype(bool)
        return dict(zip(file["names"].tolist(), masks, strict=True))


def _write_image(k: int, seed: int, folder: Path, site: str, shortcut: bool, masks: bool) -> Row:
    """Draw image `k` into `folder` and return its ground-truth row; runs in a worker."""
    child, image, row, nuisances = _draw(seed, k, None, site, shortcut)
    if masks:
        _save_masks(folder.parent / MASK_FOLDER / f"{row['id']}.npz", film_masks(child, nuisances))
    # encoded here and written by Python: cv2.imwrite cannot open every path on Windows
    _, png = cv2.imencode(".png", image)
    (folder / f"{row['id']}.png").write_bytes(png.tobytes())
    return row


def _start_worker() -> None:
    """Keep OpenCV to one core, because its own threads would only fight the other workers over them; and end with the
    parent, however that ends: a worker of a killed one would go on drawing."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _rows(n: int, workers: int, draw: Callable[[int], Row]) -> Iterator[Row]:
    """Ground-truth rows of images 0 to n - 1, in order, as `draw` writes their files."""
    if workers == 1:
        yield from map(draw, range(n))
        return
    # spawn: the same behaviour on every system, and no forked copy of a parent's threads or GPU context
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        try:
            yield from pool.map(draw, range(n), chunksize=max(1, min(16, n // (4 * workers))))
        except BrokenProcessPool as error:
            raise BoneXageError("phantom: a worker process died; try again with one worker") from error


def _check(out: Path, n: int, seed: int, workers: int, site: str) -> None:
    if site not in SITES:
        raise BoneXageError(f"phantom: site is {site!r}, expected one of {', '.join(SITES)}")
    for name, value, least in (("n", n, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if value < least:
            raise BoneXageError(f"phantom: {name} is {value}, expected at least {least}")
    if n > MOST_FILMS:
        raise BoneXageError(f"phantom: n is {n}, expected at most {MOST_FILMS:,}")
    if out.exists() and not out.is_dir():
        raise BoneXageError(f"phantom: {out} is a file; name a new folder")
    if out.is_dir() and any(out.iterdir()):
        raise BoneXageError(f"phantom: {out} is not empty; name a new folder or remove it first")


def _write_tables(folder: Path, rows: list[Row], facts: dict[str, int | str | bool]) -> None:
    """Labels, ground truth and the cohort's facts."""
    truth = pd.DataFrame(rows)
    labels = pd.DataFrame({"id": truth["id"], "boneage": truth["label_months"], "male": truth["sex"] == "M"})
    truth.to_csv(folder / TRUTH_FILE, index=False, lineterminator="\n")
    labels.to_csv(folder / LABEL_FILE, index=False, lineterminator="\n")
    floor = float((truth["bone_age_months"] - truth["label_months"]).abs().mean())
    facts = facts | {"version": VERSION, "noise_floor_months": round(floor, 4)}
    # bytes, so that Windows writes the same line ends
    (folder / COHORT_FILE).write_bytes((json.dumps(facts, indent=1) + "\n").encode())


def write_cohort(
    out: Path,
    n: int,
    seed: int = 0,
    workers: int | None = None,
    site: str = "A",
    shortcut: bool = False,
    masks: bool = False,
    finish: Callable[[Path], object] | None = None,
) -> Path:
    """Write `n` phantoms under `out` and return it.

    Writes `boneage-training-dataset/ID.png` (240 to 820 px high, IDs from 1000), `boneage-training-dataset.csv` (id,
    boneage in whole months, male), `ground_truth.csv` (see `child_and_film`) and `cohort.json` (n, seed, site,
    shortcut, version, noise_floor_months = mean absolute difference of the true bone age and the label: no model can
    be expected to do better on these labels). Everything appears at once: an interrupted run leaves no folder behind.

    Args:
        out: a new or empty folder.
        n: how many children, 1 or more.
        seed: 0 or more; the same seed gives the same bytes.
        workers: processes; None takes one per core, 1 stays in this process.
        site: "A", a department like those of the RSNA films, or "B", another scanner and another reader.
        shortcut: plant a strip on every film whose length tells the label.
        masks: also write `masks/ID.npz`, where every bone and centre lies (`read_masks`).
        finish: what else to do to the folder before it appears.

    Raises:
        BoneXageError: when `out` is a file or holds anything, another process writes it, a number is out of range, or
            writing fails.
    """
    out = Path(out)
    workers = workers if workers is not None else os.cpu_count() or 1
    _check(out, n, seed, workers, site)
    try:
        with only_writer(out), atomic_folder(out) as folder:
            images = folder / IMAGE_FOLDER
            images.mkdir()
            if masks:
                (folder / MASK_FOLDER).mkdir()
            draw = partial(_write_image, seed=seed, folder=images, site=site, shortcut=shortcut, masks=masks)
            rows = list(tqdm(_rows(n, min(workers, n), draw), total=n, desc="drawing films", unit="film",
                        leave=False, mininterval=0.5))
            _write_tables(folder, rows, {"n": n, "seed": seed, "site": site, "shortcut": shortcut})
            if finish:
                finish(folder)
    except OSError as error:
        raise BoneXageError(
            f"phantom: could not write {out}: {error.strerror or error}; check free space and permissions"
        ) from error
    return out


def read_noise_floor(path: Path | str) -> float | None:
    """The MAE, 0–240 months, of a phantom cohort's true bone ages against its labels; None for any other cohort or
    table, and for what is no such number."""
    try:
        floor = json.loads((Path(path) / COHORT_FILE).read_text(encoding="utf-8"))["noise_floor_months"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return float(floor) if type(floor) in (int, float) and 0 <= floor <= 240 else None  # not bool, an int to Python
