"""What README says of real films: the error of a run on the calibration films, plain, by nine views, and graded.

    bonexage train REAL --out RUN --backbone convnext_atto_ols --weights phantom --image-size 128 \
        --epochs 8 --batch-size 32 --grad-accum 1 --lr 1e-3
    python -m tools.benchmarks.headline REAL RUN --name rsna100 --out data/reference_runs

A *grade* is the same film as another display or another clinic might hand it out: brighter, paler, by another curve,
with a black border. Nothing was chosen by the calibration films. One row of headline.csv for each way; ways of a run
that stand there already are not done again. Its log goes into headline_log.csv, a row for each epoch.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bonexage_utils.cohort import load_cohort
from bonexage_utils.evaluation import median_by_sex
from bonexage_utils.images import letterbox, read_gray
from bonexage_utils.prediction import Predictor, batched
from bonexage_utils.statistics import bootstrap_mean, paired_difference
from tools.benchmarks.table import Table, commit, hardware

LOGGED = ["epoch", "train_loss_years", "train_mae_months", "selection_mae_months", "seconds"]
BORDER = 0.15  # of the longer side, at each edge


def curve(film: np.ndarray, greys: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Each grey level by a curve from 0–1 to 0–1; what leaves that range is cut off."""
    table = greys(np.arange(256) / 255)
    return (255 * np.clip(table, 0, 1)).round().astype(np.uint8)[film]


def bordered(film: np.ndarray) -> np.ndarray:
    return np.pad(film, round(BORDER * max(film.shape)))


GRADES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gain × 1.5": lambda film: curve(film, lambda x: 1.5 * x),
    "gain × 0.6": lambda film: curve(film, lambda x: 0.6 * x),
    "offset + 0.15": lambda film: curve(film, lambda x: x + 0.15),
    "gamma 0.6": lambda film: curve(film, lambda x: x**0.6),
    "gamma 1.6": lambda film: curve(film, lambda x: x**1.6),
    "display curve": lambda film: curve(film, lambda x: (1 / (1 + np.exp(-8 * (x - 0.4))) - 0.039) / 0.953),
    "black border": bordered,
}


def read(predictor: Predictor, films: pd.DataFrame, grade: Callable[[np.ndarray], np.ndarray] | None,
         name: str) -> np.ndarray:
    """Months (n,) of films, each graded first."""
    said = []
    rows = list(films[["image", "sex"]].itertuples(index=False))
    for batch in tqdm(list(batched(rows, 64)), desc=name, leave=False):
        greys = [read_gray(film.image) for film in batch]
        squares = [letterbox(grade(film) if grade else film, predictor.preprocessing.image_size) for film in greys]
        said.append(predictor.months(np.stack(squares), [film.sex for film in batch]))
    return np.concatenate(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", required=True, help="of the films, for the table")
    parser.add_argument("--out", type=Path, default=Path("data/reference_runs"))
    args = parser.parse_args()

    cohort = load_cohort(args.data)
    films, train = cohort.split("calibration"), cohort.split("train")
    truth = films["months"].to_numpy()
    log = pd.read_csv(args.run / "log.csv")
    predictor, views = (Predictor(args.run / "model.safetensors", tta=tta) for tta in (False, True))
    settings = predictor.description["training"]["config"]
    key = {"films": args.name, "backbone": settings["backbone"], "weights": settings["weights"],
           "size_px": settings["image_size"], "epochs": int(log["epoch"].max()), "batch_size": settings["batch_size"],
           "lr": settings["lr"], "seed": settings["seed"]}
    table, epochs = (Table(args.out / f"{name}.csv", key) for name in ("headline", "headline_log"))
    for row in [] if epochs.rows() else log[LOGGED].to_dict("records"):
        epochs.add(row)
    guess = np.abs(films["sex"].map(median_by_sex(train)) - films["months"]).mean()
    plain = read(predictor, films, None, "plain") - truth
    ways = {"plain": lambda: plain, "nine views": lambda: read(views, films, None, "nine views") - truth}
    ways |= {f"graded: {name}": lambda name=name, grade=grade: read(predictor, films, grade, name) - truth
             for name, grade in GRADES.items()}
    for way, errors in ways.items():
        if table.rows(way=way):
            continue
        off = errors()
        mae, more = bootstrap_mean(np.abs(off)), paired_difference(off, plain)
        table.add({"way": way, "mae": mae.value, "low": mae.low, "high": mae.high, "more_than_plain": more.value,
                   "more_low": more.low, "more_high": more.high, "bias": off.mean(),
                   "mae_median_by_sex": guess, "trained_on": len(train),
                   "measured_on": len(truth), "minutes": log["seconds"].sum() / 60, "hardware": hardware(),
                   "commit": commit(), "torch": torch.__version__.split("+")[0], "date": time.strftime("%Y-%m-%d")})
        print(f"{way}: {mae} months; than plain {more}", flush=True)
    graded = [row["mae"] for row in table.rows() if row["way"].startswith("graded")]
    print(f"graded, mean: {np.mean(graded) / np.abs(plain).mean():.3f} times plain")


if __name__ == "__main__":
    main()
