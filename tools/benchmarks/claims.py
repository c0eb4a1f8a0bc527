"""The claims about parts of the network, measured on a frozen backbone: many heads, paired over films and seeds.

    python -m tools.benchmarks.claims data/phantom-2400-v3 --name phantom --out data/reference_runs
    python -m tools.benchmarks.claims REAL --name rsna100 --out data/reference_runs

One row a comparison in claims.csv; comparisons that stand there already are not done again. Heads learn on films of the
training split and are compared on the calibration split. All of it is said for a frozen backbone with phantom weights.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch

from bonexage_utils.batches import film_sets
from bonexage_utils.cohort import load_cohort
from bonexage_utils.course.frozen import BACKBONE, LR, compare_heads, frozen_maps
from bonexage_utils.course.nb06.bounds import HOT  # times the usual learning rate
from bonexage_utils.course.start import sample_cohort
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.statistics import paired_over_seeds, verdict
from tools.benchmarks.table import commit, hardware

COMPARISONS = {
    "GeM beats average pooling": ("GeM", {}, "average", {"pooling": "avg"}),
    "GeM beats max pooling": ("GeM", {}, "maximum", {"pooling": "max"}),
    "sex improves accuracy": ("with sex", {}, "without sex", {"use_sex": False}),
    "the bound improves accuracy": ("bounded", {}, "linear", {"output": "linear"}),
    "the bound stabilises training": (
        "bounded, hot", {"lr": HOT * LR}, "linear, hot", {"output": "linear", "lr": HOT * LR}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--name", required=True, help="of the films, for the table")
    parser.add_argument("--out", type=Path, default=Path("data/reference_runs"))
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--films", type=int, default=2400, help="of a larger cohort, so many are used")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    path = args.out / "claims.csv"
    args.out.mkdir(parents=True, exist_ok=True)
    done = pd.read_csv(path).to_dict("records") if path.is_file() else []
    cohort = load_cohort(args.cohort)
    if len(cohort) > args.films:
        cohort = sample_cohort(cohort, args.films)
    sets = film_sets(cohort, ("train", "calibration"), args.size)[0]
    preprocessing = Preprocessing(args.size, *measure_intensity(sets["train"].films, sets["train"].rows))
    maps = {name: frozen_maps(BACKBONE, "phantom", films, preprocessing) for name, films in sets.items()}
    for claim, (name_a, a, name_b, b) in COMPARISONS.items():
        if any(row["claim"] == claim and row["films"] == args.name for row in done):
            continue
        started = time.perf_counter()
        errors = compare_heads(BACKBONE, maps["train"], maps["calibration"], {name_a: a, name_b: b}, args.seeds,
                               args.epochs)
        apart = paired_over_seeds(errors[name_a], errors[name_b])
        done.append({
            "claim": claim, "films": args.name, "a": name_a, "b": name_b,
            "mae_a": errors[name_a].mean(), "mae_b": errors[name_b].mean(), "difference": apart.value,
            "low": apart.low, "high": apart.high, "verdict": verdict(apart, name_a, name_b),
            "trained_on": len(maps["train"]), "measured_on": len(maps["calibration"]), "seeds": args.seeds,
            "backbone": f"{BACKBONE}, frozen, phantom weights", "size_px": args.size, "epochs": args.epochs,
            "minutes": (time.perf_counter() - started) / 60, "hardware": hardware(), "commit": commit(),
            "torch": torch.__version__.split("+")[0], "date": time.strftime("%Y-%m-%d"),
        })
        pd.DataFrame(done).to_csv(path, index=False, float_format="%.4g")
        print(f"{claim}: {apart} months, {done[-1]['verdict']}", flush=True)


if __name__ == "__main__":
    main()
