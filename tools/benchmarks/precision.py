""" "AMP is faster and leaner": time, memory and final error of each number format, side by side on the device at hand.

    python -m tools.benchmarks.precision data/phantom-2400-v3 --out data/reference_runs

On a GPU, with room for it: `--size 256 --batch 64 --epochs 20 --seeds 5`. One row a comparison in precision.csv; what
stands there already for this hardware is not done again, and trainings that were stopped go on.

Time: in every round each format and layout takes one whole training step, in an order drawn anew; ratios are taken
within rounds. Memory: on a GPU the allocator's peak of a step, on a processor what the forward pass keeps. Final error:
trained with several seeds, measured on the calibration films in float32, paired over films and seeds. On a processor
float16 is not trained to the end: its steps take far too long.
"""

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bonexage_utils.batches import FilmDataset, eval_loader, film_sets
from bonexage_utils.checkpoints import load_model
from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.course.frozen import BACKBONE
from bonexage_utils.course.nb07.precision import CLAIM, ERROR, MEMORY, TIME, memory_verdict
from bonexage_utils.course.nb07.scaling import first_batch
from bonexage_utils.course.nb07.speed import BASE, LAYOUTS, PRECISIONS, Contender, race, speed_verdict, time_ratio
from bonexage_utils.devices import to_network
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.settings import TrainConfig
from bonexage_utils.statistics import paired_over_seeds, verdict
from bonexage_utils.training import train
from tools.benchmarks.table import commit, hardware


def processor() -> str:
    """The name of the processor, where the system tells it."""
    path = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip()
             for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("model name")
             ] if path.is_file() else []
    return names[0] if names else "processor"


@torch.inference_mode()
def errors_of(path: Path, films: FilmDataset, device: torch.device) -> np.ndarray:
    """Absolute errors (months) of a trained network in float32."""
    net, preprocessing, _ = load_model(path)
    net.to(device)
    predicted = [net(to_network(batch["image"], preprocessing, device), batch["sex"].to(device)).cpu()
            for batch in eval_loader(films, 64)]
    return np.abs(torch.cat(predicted).double().numpy() - films.months)


def final_errors(cohort: Cohort, films: FilmDataset, args: argparse.Namespace, precision: str,
                 device: torch.device) -> np.ndarray:
    """(seeds, films): trained as the package does, one run for each seed."""
    rows = []
    for seed in range(args.seeds):
        out = args.work / f"{device.type}-{args.backbone}-{args.train_size}-{args.epochs}-{precision}-{seed}"
        config = TrainConfig(backbone=args.backbone, weights=args.weights, image_size=args.train_size,
                             epochs=args.epochs, batch_size=32, grad_accum=1, lr=1e-3, precision=precision, seed=seed)
        rows.append(errors_of(train(cohort, out, config, resume=True), films, device))
        print(f"{precision}, seed {seed}: MAE {rows[-1].mean():.2f} months", flush=True)
    return np.stack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--name", default="phantom", help="of the films, for the table")
    parser.add_argument("--out", type=Path, default=Path("data/reference_runs"))
    parser.add_argument("--work", type=Path, default=Path("checkpoints/precision"), help="where the runs go")
    parser.add_argument("--backbone", default=BACKBONE)
    parser.add_argument("--weights", default="phantom")
    parser.add_argument("--size", type=int, default=96, help="px, of the race")
    parser.add_argument("--batch", type=int, default=8, help="films a step, of the race")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--memory-size", type=int, default=160)
    parser.add_argument("--memory-batch", type=int, default=32)
    parser.add_argument("--train-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = hardware() if device.type == "cuda" else f"{processor()}, {hardware()}"
    path = args.out / "precision.csv"
    done = pd.read_csv(path).to_dict("records") if path.is_file() else []
    cohort = load_cohort(args.cohort)
    base = ", ".join(BASE)

    def missing(measure: str) -> bool:
        return not any(row["measure"] == measure and row["hardware"] == machine for row in done)

    def batch_of(size: int, films: int):
        part = film_sets(cohort, ("calibration",), size)[0]["calibration"]
        return first_batch(part, films, Preprocessing(size, *measure_intensity(part.films, part.rows)), device)

    def add(rows: list[dict], measure: str, size: int, films: int, repeats: int, started: float) -> None:
        done.extend({"claim": CLAIM, "films": args.name, "measure": measure, **row, "repeats": repeats,
                     "backbone": f"{args.backbone}, {args.weights} weights", "size_px": size, "batch": films,
                     "device": device.type, "hardware": machine, "minutes": (time.perf_counter() - started) / 60,
                     "command": " ".join(["python -m tools.benchmarks.precision", *sys.argv[2:]]), "commit": commit(),
                     "torch": torch.__version__.split("+")[0], "date": time.strftime("%Y-%m-%d")} for row in rows)
        args.out.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(done).to_csv(path, index=False, float_format="%.4g")
        print(pd.DataFrame(rows).round(3).to_string(index=False), flush=True)

    if missing(TIME):
        started = time.perf_counter()
        times = race(args.backbone, args.weights, batch_of(args.size, args.batch), args.rounds)
        medians = times.groupby(["precision", "layout"])["seconds"].median()
        rows = []
        for arm in itertools.product(PRECISIONS, LAYOUTS):
            if arm != BASE:
                ratio = time_ratio(times, arm)
                rows.append({"arm": ", ".join(arm), "base": base, "value": medians[arm], "base_value": medians[BASE],
                             "compared": ratio.value, "low": ratio.low, "high": ratio.high,
                             "verdict": speed_verdict(ratio)})
        add(rows, TIME, args.size, args.batch, args.rounds, started)

    if missing(MEMORY):
        started = time.perf_counter()
        batch = batch_of(args.memory_size, args.memory_batch)
        needs = {precision: Contender(args.backbone, args.weights, batch, precision, BASE[1]).megabytes()
                 for precision in PRECISIONS}
        rows = [{"arm": f"{precision}, {BASE[1]}", "base": base, "value": needs[precision], "base_value": needs["fp32"],
                 "compared": needs[precision] / needs["fp32"], "low": None, "high": None,
                 "verdict": memory_verdict(needs[precision] / needs["fp32"])} for precision in PRECISIONS[1:]]
        add(rows, MEMORY, args.memory_size, args.memory_batch, 1, started)

    if missing(ERROR):
        started = time.perf_counter()
        films = film_sets(cohort, ("calibration",), args.train_size)[0]["calibration"]
        trained = PRECISIONS if device.type == "cuda" else PRECISIONS[:2]
        errors = {precision: final_errors(cohort, films, args, precision, device) for precision in trained}
        rows = []
        for precision in trained[1:]:
            apart = paired_over_seeds(errors[precision], errors["fp32"])
            rows.append({"arm": f"{precision}, {BASE[1]}", "base": base, "value": errors[precision].mean(),
                         "base_value": errors["fp32"].mean(), "compared": apart.value, "low": apart.low,
                         "high": apart.high, "verdict": verdict(apart, precision, "fp32"), "epochs": args.epochs})
        add(rows, ERROR, args.train_size, 32, args.seeds, started)


if __name__ == "__main__":
    main()
