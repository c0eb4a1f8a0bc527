"""The claims about parts of the network, measured on a frozen backbone: many heads, paired over films and seeds.

    python -m tools.benchmarks.claims data/phantom-2400-v3 --name phantom --out data/reference_runs
    python -m tools.benchmarks.claims REAL --name rsna100 --out data/reference_runs

One row a comparison in claims.csv; comparisons that stand there already are not done again. Heads learn on films of the
training split and are compared on the calibration split. All of it is said for a frozen backbone with phantom weights.
The last comparison is of the backbones that are shipped, both frozen: which maps the same head reads best in the end.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch

from bonexage_utils.batches import film_sets
from bonexage_utils.cohort import load_cohort
from bonexage_utils.course.frozen import BACKBONE, LR, Maps, compare_heads, frozen_maps
from bonexage_utils.course.nb06.bounds import HOT  # times the usual learning rate
from bonexage_utils.course.start import sample_cohort
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.statistics import paired_over_seeds, verdict
from tools.benchmarks.table import commit, hardware

RIVAL = "resnet10t"
# Claim: name and settings of either arm; an arm without a `backbone` has the course's.
COMPARISONS = {
    "GeM beats average pooling": ("GeM", {}, "average", {"pooling": "avg"}),
    "GeM beats max pooling": ("GeM", {}, "maximum", {"pooling": "max"}),
    "sex improves accuracy": ("with sex", {}, "without sex", {"use_sex": False}),
    "the bound improves accuracy": ("bounded", {}, "linear", {"output": "linear"}),
    "the bound stabilises training": (
        "bounded, hot", {"lr": HOT * LR}, "linear, hot", {"output": "linear", "lr": HOT * LR}),
    "ConvNeXt converges better than ResNet, both pretrained and frozen": (
        "ConvNeXt", {}, "ResNet", {"backbone": RIVAL}),
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
    maps: dict[str, dict[str, Maps]] = {}
    for claim, (name_a, a, name_b, b) in COMPARISONS.items():
        if any(row["claim"] == claim and row["films"] == args.name for row in done):
            continue
        started = time.perf_counter()
        errors, used = {}, []
        for name, settings in {name_a: a, name_b: b}.items():
            settings = dict(settings)
            used.append(backbone := settings.pop("backbone", BACKBONE))
            if backbone not in maps:
                maps[backbone] = {part: frozen_maps(backbone, "phantom", films, preprocessing)
                                  for part, films in sets.items()}
            errors |= compare_heads(backbone, *maps[backbone].values(), {name: settings}, args.seeds, args.epochs)
        apart = paired_over_seeds(errors[name_a], errors[name_b])
        better = {} if len(set(used)) == 1 else {"what": "ends lower"}
        done.append({
            "claim": claim, "films": args.name, "a": name_a, "b": name_b,
            "mae_a": errors[name_a].mean(), "mae_b": errors[name_b].mean(), "difference": apart.value,
            "low": apart.low, "high": apart.high, "verdict": verdict(apart, name_a, name_b, **better),
            "trained_on": len(sets["train"]), "measured_on": len(sets["calibration"]), "seeds": args.seeds,
            "backbone": f"{' and '.join(dict.fromkeys(used))}, frozen, phantom weights", "size_px": args.size,
            "epochs": args.epochs, "minutes": (time.perf_counter() - started) / 60, "hardware": hardware(),
            "commit": commit(), "torch": torch.__version__.split("+")[0], "date": time.strftime("%Y-%m-%d"),
        })
        pd.DataFrame(done).to_csv(path, index=False, float_format="%.4g")
        print(f"{claim}: {apart} months, {done[-1]['verdict']}", flush=True)


if __name__ == "__main__":
    main()
