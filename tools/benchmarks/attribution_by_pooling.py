"""Does GeM look more at ossification centres than average pooling? Attribution scored on the phantom's own masks.

    python -m tools.benchmarks.attribution_by_pooling data/phantom-2400-v3 --out data/reference_runs
    python -m tools.benchmarks.attribution_by_pooling data/phantom-2400-v3 --out data/reference_runs --whole 6 --seeds 3

For every seed one network with either pooling: a head on the frozen backbone, or, with --whole, everything fine-tuned
for so many epochs. Each is asked by integrated gradients about hands drawn with masks; what counts is the share of
attribution on all centres, present or still to come. One row a network in looks.csv, which a stopped run goes on from,
and the comparison, in points of a hundred, in claims.csv: it has no MAE there. Real films have no masks, hence no row.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bonexage_utils.batches import film_sets
from bonexage_utils.checkpoints import save_model
from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.course.bones import HANDS, hands_with_masks
from bonexage_utils.course.frozen import BACKBONE, fit_head, frozen_maps
from bonexage_utils.course.nb08.attribution import CLAIM, LOOKS_FILE, attribution_on_centres, attribution_verdict
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.model import Features
from bonexage_utils.prediction import Predictor
from bonexage_utils.settings import TrainConfig
from bonexage_utils.statistics import paired_over_seeds
from bonexage_utils.training import train
from tools.benchmarks.table import commit, hardware

POOLINGS = {"GeM": "gem", "average": "avg"}


def head_on_frozen(cohort: Cohort, size: int, epochs: int):
    """A function (folder, pooling, seed) to the checkpoint of a frozen backbone with a head; the maps are made once."""
    films = film_sets(cohort, ("train", "selection"), size)[0]["train"]
    preprocessing = Preprocessing(size, *measure_intensity(films.films, films.rows))
    maps = frozen_maps(BACKBONE, "phantom", films, preprocessing)

    def make(folder: Path, pooling: str, seed: int) -> Path:
        net = fit_head(BACKBONE, maps, seed, epochs, pooling=pooling)
        net.features = Features(BACKBONE, "phantom")
        save_model(folder / "model.safetensors", net, net.state_dict(), preprocessing, {"films": len(films)})
        return folder / "model.safetensors"

    return make


def whole(cohort: Cohort, size: int, epochs: int):
    """The same, with everything trained."""
    def make(folder: Path, pooling: str, seed: int) -> Path:
        config = TrainConfig(BACKBONE, size, epochs, 32, 1, lr=1e-3, seed=seed, weights="phantom", pooling=pooling,
                             ema_decay=0.99)
        return train(cohort, folder / "run", config)

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--out", type=Path, default=LOOKS_FILE.parent)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hands", type=int, default=HANDS)
    parser.add_argument("--epochs", type=int, default=20, help="of a head")
    parser.add_argument("--whole", type=int, metavar="EPOCHS", help="train everything for so long, instead of heads")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    path, claims_path = args.out / LOOKS_FILE.name, args.out / "claims.csv"
    kind = "trained whole" if args.whole else "frozen backbone"
    done = pd.read_csv(path).to_dict("records") if path.is_file() else []
    cohort, (folder, truth) = load_cohort(args.cohort), hands_with_masks(args.hands)
    make = (whole if args.whole else head_on_frozen)(cohort, args.size, args.whole or args.epochs)
    shares: dict[str, list[np.ndarray]] = {name: [] for name in POOLINGS}
    for seed in range(args.seeds):
        for name, pooling in POOLINGS.items():
            rows = [row for row in done if (row["network"], row["pooling"], row["seed"]) == (kind, name, seed)]
            if not rows:
                started = time.perf_counter()
                with tempfile.TemporaryDirectory() as scratch:
                    table = attribution_on_centres(Predictor(make(Path(scratch), pooling, seed)), folder, truth)
                means = table.drop(columns="id").mean().round(5).to_dict()
                rows = [{"network": kind, "pooling": name, "seed": seed, "hands": len(table), **means,
                         "shares": " ".join(f"{share:.4f}" for share in table["centres"]),
                         "minutes": round((time.perf_counter() - started) / 60, 2)}]
                done += rows
                pd.DataFrame(done).to_csv(path, index=False)
                print(f"{kind}, {name}, seed {seed}: {means}", flush=True)
            shares[name].append(np.array(rows[0]["shares"].split(), float))
    errors = {name: 100 * np.stack(rows) for name, rows in shares.items()}
    apart = paired_over_seeds(errors["GeM"], errors["average"])
    films = "phantom, trained whole" if args.whole else "phantom"
    row = {
        "claim": CLAIM, "films": films, "a": "GeM, share on centres (%)", "b": "average, share on centres (%)",
        "mae_a": np.nan, "mae_b": np.nan, "difference": apart.value, "low": apart.low, "high": apart.high,
        "verdict": attribution_verdict(apart), "trained_on": len(cohort.split("train")), "measured_on": len(truth),
        "seeds": args.seeds, "backbone": f"{BACKBONE}, {'fine-tuned' if args.whole else 'frozen'}, phantom weights",
        "size_px": args.size, "epochs": args.whole or args.epochs,
        "minutes": sum(r["minutes"] for r in done if r["network"] == kind), "hardware": hardware(),
        "commit": commit(), "torch": torch.__version__.split("+")[0], "date": time.strftime("%Y-%m-%d"),
    }
    before = pd.read_csv(claims_path).to_dict("records") if claims_path.is_file() else []
    kept = [one for one in before if (one["claim"], one["films"]) != (CLAIM, films)]
    pd.DataFrame([*kept, row]).to_csv(claims_path, index=False, float_format="%.4g")
    print(f"{CLAIM}: {apart} points of a hundred, {row['verdict']}")


if __name__ == "__main__":
    main()
