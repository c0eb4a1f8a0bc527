"""Write a cohort of phantoms to disk in the flat RSNA layout, with the truth beside it.

Image k depends on (seed, k) alone: any worker count, any order and any larger n give the same bytes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_folder
from bonexage_utils.phantom import anatomy
from bonexage_utils.phantom.radiograph import render
from bonexage_utils.phantom.skeleton import Child, Sex, grow

VERSION = 1  # raise it when the same seed no longer gives the same cohort
HEIGHT_PX = 400
AGE_RANGE_MONTHS = (12.0, 216.0)  # uniform: RSNA has only 2 % below two years, too few to learn from
RATER_SD_MONTHS = 5.5  # one reader: LA Digital Hand Atlas, Thodberg & Savendahl 2010, 0.63 y / sqrt(2)
FIRST_ID = 1000
IMAGE_FOLDER = "boneage-training-dataset"
LABEL_FILE = "boneage-training-dataset.csv"
TRUTH_FILE = "ground_truth.csv"
COHORT_FILE = "cohort.json"


def read_by_rater(bone_age_months: float, sex: Sex, rng: np.random.Generator) -> int:
    """A rater's label (whole months, at least 1): truth plus noise, snapped to a plate or half-way between two."""
    plates = np.array(anatomy.GP_STANDARDS[sex], dtype=float)
    answers = np.sort(np.r_[plates, (plates[1:] + plates[:-1]) / 2])
    reading = bone_age_months + rng.normal(0.0, RATER_SD_MONTHS)
    nearest = answers[np.argmin(np.abs(answers - reading))]
    return max(1, int(np.floor(nearest + 0.5)))


def child_and_film(
    seed: int, k: int, height_px: int = HEIGHT_PX
) -> tuple[Child, np.ndarray, dict[str, int | float | str | bool]]:
    """Child, image (uint8, (height_px, W)) and ground-truth row of image `k` (0-based) of cohort `seed`, alone.

    The row holds id, sex, chronological_age_months, bone_age_months, label_months, tempo, size_factor, then
    `present_`, `emr_` and `fusion_` of every centre, then every nuisance. Ages are rounded to 0.001 months.
    """
    rng = np.random.default_rng([seed, k])
    sex: Sex = "M" if rng.random() < 0.5 else "F"
    child = grow(sex, float(rng.uniform(*AGE_RANGE_MONTHS)), rng)
    label = read_by_rater(child.bone_age_months, sex, rng)
    image, nuisances = render(child, rng, height_px)
    row: dict[str, int | float | str | bool] = {
        "id": FIRST_ID + k,
        "sex": sex,
        "chronological_age_months": round(child.chronological_age_months, 3),
        "bone_age_months": round(child.bone_age_months, 3),
        "label_months": label,
        "tempo": round(child.tempo, 4),
        "size_factor": round(child.size_factor, 4),
    }
    for centre in child.centres:
        row[f"present_{centre.name}"] = centre.present
        row[f"emr_{centre.name}"] = round(centre.emr, 4)
        row[f"fusion_{centre.name}"] = round(centre.fusion, 4)
    for name, value in nuisances.items():
        row[name] = value if isinstance(value, bool) else round(value, 4)
    return child, image, row


def _write_image(k: int, seed: int, folder: Path) -> dict[str, int | float | str | bool]:
    """Draw image `k` into `folder` and return its ground-truth row; runs in a worker."""
    _, image, row = child_and_film(seed, k)
    # encoded here and written by Python: cv2.imwrite cannot open every path on Windows
    _, png = cv2.imencode(".png", image)
    (folder / f"{row['id']}.png").write_bytes(png.tobytes())
    return row


def _one_thread() -> None:
    """Keep OpenCV to one core in a worker: its own threads would only fight the other workers over them."""
    cv2.setNumThreads(1)


def _rows(seed: int, n: int, folder: Path, workers: int) -> Iterator[dict[str, int | float | str | bool]]:
    """Ground-truth rows of images 0 to n - 1, in order, as their files land in `folder`."""
    draw = partial(_write_image, seed=seed, folder=folder)
    if workers == 1:
        yield from map(draw, range(n))
        return
    # spawn: the same behaviour on every system, and no forked copy of a parent's threads or GPU context
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        try:
            yield from pool.map(draw, range(n), chunksize=max(1, min(16, n // (4 * workers))))
        except BrokenProcessPool as error:
            raise BoneXageError("phantom: a worker process died; try again with one worker") from error


def _check(out: Path, n: int, seed: int, workers: int) -> None:
    for name, value, least in (("n", n, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if value < least:
            raise BoneXageError(f"phantom: {name} is {value}, expected at least {least}")
    if out.exists() and not out.is_dir():
        raise BoneXageError(f"phantom: {out} is a file; name a new folder")
    if out.is_dir() and any(out.iterdir()):
        raise BoneXageError(f"phantom: {out} is not empty; name a new folder or remove it first")


def _write_tables(folder: Path, rows: list[dict[str, int | float | str | bool]], seed: int) -> None:
    """Labels, ground truth and the cohort's facts."""
    truth = pd.DataFrame(rows)
    labels = pd.DataFrame({"id": truth["id"], "boneage": truth["label_months"], "male": truth["sex"] == "M"})
    truth.to_csv(folder / TRUTH_FILE, index=False, lineterminator="\n")
    labels.to_csv(folder / LABEL_FILE, index=False, lineterminator="\n")
    floor = float((truth["bone_age_months"] - truth["label_months"]).abs().mean())
    facts = {"n": len(rows), "seed": seed, "version": VERSION, "noise_floor_months": round(floor, 4)}
    # bytes, so that Windows writes the same line ends
    (folder / COHORT_FILE).write_bytes((json.dumps(facts, indent=1) + "\n").encode())


def write_cohort(out: Path, n: int, seed: int = 0, workers: int | None = None) -> Path:
    """Write `n` phantoms under `out` and return it.

    Writes `boneage-training-dataset/ID.png` (400 px high, IDs from 1000), `boneage-training-dataset.csv` (id,
    boneage in whole months, male), `ground_truth.csv` (see `child_and_film`) and `cohort.json` (n, seed, version,
    noise_floor_months = mean absolute difference of the true bone age and the label: no model can be expected to
    do better on these labels). Everything appears at once: an interrupted run leaves no folder behind.

    Args:
        out: a new or empty folder.
        n: how many children, 1 or more.
        seed: 0 or more; the same seed gives the same bytes.
        workers: processes; None takes one per core, 1 stays in this process.

    Raises:
        BoneXageError: when `out` is a file or holds anything, a number is out of range, or writing fails.
    """
    out = Path(out)
    workers = workers if workers is not None else os.cpu_count() or 1
    _check(out, n, seed, workers)
    try:
        with atomic_folder(out) as folder:
            images = folder / IMAGE_FOLDER
            images.mkdir()
            rows = list(tqdm(_rows(seed, n, images, min(workers, n)), total=n, desc="drawing films",
                        unit="film", leave=False, mininterval=0.5))
            _write_tables(folder, rows, seed)
    except OSError as error:
        raise BoneXageError(
            f"phantom: could not write {out}: {error.strerror or error}; check free space and permissions"
        ) from error
    return out
