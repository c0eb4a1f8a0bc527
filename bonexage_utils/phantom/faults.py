"""Bad films for the audit lesson: planted into a cohort on disk, and listed beside it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.phantom.dataset import IMAGE_FOLDER, LABEL_FILE, TRUTH_FILE

PLANTED_FILE = "planted_faults.csv"
# What is done to the k-th film, over and over, and what `bonexage_utils.audit` should call it. Ages and sexes are left
# alone: `load_cohort` refuses a table with an impossible one and names the line, so there is nothing left to audit.
KINDS = {
    "file cut short": "truncated", "turned upside down": "rotated", "another film's file": "duplicate file",
    "no hand on the film": "blank", "file deleted": "missing", "black and white swapped": "inverted",
    "row of the table deleted": "no label", "turned on its side": "rotated", "file of zero bytes": "unreadable",
    "another film, exported again": "near-duplicate", "left and right swapped": "mirrored",
    "text under the name of an image": "unreadable",
}


def plant_faults(folder: Path | str, n: int, seed: int = 0) -> pd.DataFrame:
    """Spoil `n` films of a flat cohort folder in place, and list them in its `planted_faults.csv`.

    Returns and writes one row for each: `id`, `image` (relative to the folder), `fault` (what was done), `finding`
    (what the audit should call it) and `source` (the id whose film was copied, else empty). Fault k depends on
    (seed, k) and the cohort alone. `unusual_films` are left as they are: mirroring a right hand would mend it.

    Raises BoneXageError where there is no such cohort, it has planted faults already, or n is more than half its films.
    """
    folder = Path(folder)
    if not (folder / LABEL_FILE).is_file() or (folder / PLANTED_FILE).exists():
        state = "has planted faults already" if (folder / PLANTED_FILE).exists() else f"no {LABEL_FILE} in it"
        raise BoneXageError(f"{folder}: {state}; plant faults in a fresh cohort of bonexage phantom")
    labels = pd.read_csv(folder / LABEL_FILE, dtype=str)
    unusual = unusual_films(folder)
    order = [film for film in np.random.default_rng(seed).permutation(labels["id"]) if film not in unusual]
    if not 0 <= n <= len(order) // 2:
        raise BoneXageError(f"{folder}: cannot plant {n} faults in {len(order)} usual films; at most in every second")
    rows = []
    for k, film in enumerate(order[:n]):
        fault = list(KINDS)[k % len(KINDS)]
        source = order[-1 - k] if "duplicate" in KINDS[fault] else ""
        rows.append({"id": film, "image": f"{IMAGE_FOLDER}/{film}.png", "fault": fault, "finding": KINDS[fault],
                     "source": source})
    planted = pd.DataFrame(rows, columns=["id", "image", "fault", "finding", "source"])
    # The list comes first: an interruption leaves no spoiled film that is not on it.
    planted.to_csv(folder / PLANTED_FILE, index=False, lineterminator="\n")
    for k, row in enumerate(rows):
        _spoil(folder, row, np.random.default_rng([seed, k]))
    unlabelled = planted.loc[planted["finding"] == "no label", "id"]
    labels[~labels["id"].isin(unlabelled)].to_csv(folder / LABEL_FILE, index=False, lineterminator="\n")
    return planted


def unusual_films(folder: Path | str) -> set[str]:
    """The ids of films that by nature lie otherwise than most: right hands, flipped, turned or inverted ones.

    From the cohort's `ground_truth.csv`; none where there is no such file.
    """
    truth = Path(folder) / TRUTH_FILE
    if not truth.is_file():
        return set()
    table = pd.read_csv(truth, dtype={"id": str}).set_index("id")
    odd = table.reindex(columns=["right_hand", "flipped", "quarter_turns", "inverted"], fill_value=0).astype(bool)
    return set(table.index[odd.any(axis=1)])


def _spoil(folder: Path, row: dict[str, str], rng: np.random.Generator) -> None:
    path = folder / row["image"]
    fault = row["fault"]
    data = path.read_bytes()
    if fault == "file deleted":
        path.unlink()
    elif fault == "file cut short":
        path.write_bytes(data[: int(len(data) * rng.uniform(0.3, 0.8))])
    elif fault == "file of zero bytes":
        path.write_bytes(b"")
    elif fault == "text under the name of an image":
        path.write_text("This film has moved to the new archive.\n", encoding="utf-8")
    elif fault == "another film's file":
        path.write_bytes((folder / IMAGE_FOLDER / f"{row['source']}.png").read_bytes())
    elif fault == "another film, exported again":
        _write(path, _export_again(read_gray(folder / IMAGE_FOLDER / f"{row['source']}.png"), rng))
    elif fault != "row of the table deleted":
        film = read_gray(path)
        _write(path, {
            "no hand on the film": lambda: np.clip(rng.normal(30, 3, film.shape), 0, 255).astype(np.uint8),
            "black and white swapped": lambda: 255 - film,
            "turned upside down": lambda: np.rot90(film, 2),
            "turned on its side": lambda: np.rot90(film, rng.choice([1, 3])),
            "left and right swapped": lambda: film[:, ::-1],
        }[fault]())


def _export_again(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The film at another size, contrast and brightness, a few pixels cut away, with a little noise."""
    height, width = film.shape
    top, left = (int(side * rng.uniform(0.0, 0.005)) for side in (height, width))
    scale = rng.uniform(0.75, 0.95)
    smaller = cv2.resize(film[top:, left:], (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    grey = 20 + rng.uniform(0.75, 0.9) * smaller + rng.normal(0, 2, smaller.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _write(path: Path, film: np.ndarray) -> None:
    # encoded here and written by Python: cv2.imwrite cannot open every path on Windows
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(film))[1].tobytes())
