"""What the full recipe costs on one GPU: step times, memory, films a second, hours for RSNA's films.

    python -m tools.benchmarks.gpu --out data/reference_runs

One row a measurement in gpu.csv, with the device's name. A part that stands there already for this device is not done
again, so a run that was cut off is started anew with the same command. On a processor it runs with small values only:
`--backbone test_convnext --size 64 --batch 4 --films 60 --rounds 3`.

Parts: `step` (time and peak memory of a training step by number format, layout and compilation), `memory` (computed as
in notebook 10 beside measured), `films` (films a second of whole training, read by the loader and resident on the
device), `judged` (the same weights judged in each format), `hours` (computed from `films` for RSNA's training set).
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bonexage_utils.augment import augment
from bonexage_utils.cohort import RSNA_IDS, RSNA_TEST_IDS, RSNA_VALIDATION_FILMS, SPLIT_SHARE, load_cohort
from bonexage_utils.course.memory import memory_law
from bonexage_utils.course.nb07.scaling import Batch, batch_loss
from bonexage_utils.course.nb07.speed import LR, Contender, wait_for
from bonexage_utils.devices import autocast, to_network
from bonexage_utils.model import BoneAgeNet
from bonexage_utils.phantom import write_cohort
from bonexage_utils.settings import TrainConfig
from bonexage_utils.training import Trainer, update_weights
from tools.benchmarks.table import Table, commit, hardware

PARTS = ("step", "memory", "films", "judged", "hours")
# Number format (tf32: fp32 multiplied at 10 bits), layout, whether compiled.
ARMS = (("fp32", "plain", False), ("fp32", "channels-last", False), ("tf32", "channels-last", False),
        ("bf16", "plain", False), ("bf16", "channels-last", False), ("bf16", "channels-last", True),
        ("fp16", "channels-last", False), ("fp16", "channels-last", True))
FORMATS = ("fp32", "tf32", "bf16", "fp16")
EPOCHS = TrainConfig.epochs


def begin(name: str) -> str:
    """Set what fp32 means on a GPU for the format `name`; the format that autocast takes."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    return "fp32" if name == "tf32" else name


def noise(films: int, size: int, device: torch.device) -> Batch:
    """Films of noise: how long a step takes does not depend on what they show."""
    rng = torch.Generator().manual_seed(0)
    return Batch(torch.randn(films, 1, size, size, generator=rng).to(device),
                 torch.randint(0, 2, (films,), generator=rng).to(device), torch.full((films,), 120.0, device=device))


def step_rows(args: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    """Of each arm the median step, ms, of `--rounds` after two that are not counted, and its peak memory, MB."""
    for name, layout, compiled in ARMS:
        if compiled and device.type != "cuda":
            continue
        contender = Contender(args.backbone, "none", noise(args.batch, args.size, device), begin(name), layout)
        if compiled:
            contender.net.compile()
        for _ in range(2):
            contender.step()
        arm = ", ".join([name, layout, *(["compiled"] if compiled else [])])
        yield {"arm": arm, "measure": "step", "unit": "ms",
               "value": 1000 * np.median([contender.step() for _ in range(args.rounds)])}
        yield {"arm": arm, "measure": "memory of a step", "unit": "MB", "value": contender.megabytes()}


def memory_rows(args: argparse.Namespace, device: torch.device) -> Iterator[dict]:
    """MB of a step without the network's weights, computed (see `course.memory`) and measured."""
    for name in ("fp32", "bf16"):
        law = memory_law(BoneAgeNet(args.backbone), name)
        for films in sorted({1, args.batch // 2, args.batch}):
            contender = Contender(args.backbone, "none", noise(films, args.size, device), begin(name), "channels-last")
            contender.step()
            kept = law.step(films, args.size) - law.copies
            yield {"arm": name, "batch": films, "measure": "computed", "unit": "MB", "value": kept / 1e6}
            yield {"arm": name, "batch": films, "measure": "measured", "unit": "MB", "value": contender.megabytes()}


def trainer_of(args: argparse.Namespace, work: Path, epochs: int = 2) -> Trainer:
    """The recipe, from random weights, on `--films` phantoms."""
    folder = work / f"phantoms-{args.films}"
    if not folder.exists():
        write_cohort(folder, args.films, 0)
    config = TrainConfig(args.backbone, args.size, epochs, args.batch, grad_accum=1, weights="none")
    return Trainer(load_cohort(folder), work / "run", config, cache_dir=work / "cache")


def film_rows(args: argparse.Namespace, device: torch.device, work: Path) -> Iterator[dict]:
    """Films a second over one epoch, after one that is not counted."""
    trainer = trainer_of(args, work)
    for _ in range(2):
        wait_for(device)
        started = time.perf_counter()
        trainer._one_epoch()
        wait_for(device)
        seconds, trainer.batch = time.perf_counter() - started, 0
    trained = len(trainer.loader) * args.batch
    yield {"arm": trainer.precision, "measure": "with the loader", "unit": "films/s", "value": trained / seconds}

    data, net = trainer.loader.dataset, trainer.network.train()
    films = torch.from_numpy(np.ascontiguousarray(data.films[data.rows])).to(device)[:, None]
    keys, sex, months = (torch.tensor(values, device=device) for values in (data.keys, data.sex, data.months))
    for _ in range(2):
        order = torch.randperm(len(films), device=device)[:trained].view(-1, args.batch)
        wait_for(device)
        started = time.perf_counter()
        for part in order:
            change = partial(augment, keys=keys[part], epoch=0, seed=0, how=trainer.config.augmentation)
            images = to_network(films[part], trainer.preprocessing, change=change)
            loss = batch_loss(net, Batch(images, sex[part], months[part]), trainer.precision)
            trainer.scaler.scale(loss).backward()
            update_weights(net, trainer.optimizer.optimizer, LR, trainer.scaler)
        wait_for(device)
        seconds = time.perf_counter() - started
    yield {"arm": trainer.precision, "measure": "resident on the device", "unit": "films/s", "value": trained / seconds}


def judged_rows(args: argparse.Namespace, device: torch.device, work: Path) -> Iterator[dict]:
    """How far the ages of the same weights are from those in fp32, months, over the training films."""
    trainer = trainer_of(args, work)
    trainer._one_epoch()
    net, months = trainer.network.eval(), {}
    for name in FORMATS:
        with torch.inference_mode(), autocast(device, begin(name)):
            months[name] = torch.cat([net(to_network(batch["image"], trainer.preprocessing, device),
                                          batch["sex"].to(device)).cpu() for batch in trainer.selection])
    for name in FORMATS[1:]:
        apart = (months[name] - months["fp32"]).abs()
        yield {"arm": name, "measure": "mean difference from fp32", "unit": "months", "value": float(apart.mean())}
        yield {"arm": name, "measure": "largest difference from fp32", "unit": "months", "value": float(apart.max())}


def hour_rows(rates: list[dict]) -> Iterator[dict]:
    """Hours for all epochs of the recipe over the films of RSNA that train when the official validation set selects."""
    films = (len(RSNA_IDS) - len(RSNA_TEST_IDS) - RSNA_VALIDATION_FILMS) * (1 - SPLIT_SHARE)
    for row in rates:
        yield {"arm": row["arm"], "measure": f"{EPOCHS} epochs of RSNA, {row['measure']}", "unit": "h",
               "value": EPOCHS * films / row["value"] / 3600}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/reference_runs"))
    parser.add_argument("--work", type=Path, help="where films and runs go; default: a temporary folder")
    parser.add_argument("--backbone", default=TrainConfig.backbone)
    parser.add_argument("--size", type=int, default=TrainConfig.image_size, help="px")
    parser.add_argument("--batch", type=int, default=TrainConfig.batch_size, help="films a step")
    parser.add_argument("--films", type=int, default=1200, help="phantoms to draw")
    parser.add_argument("--rounds", type=int, default=20, help="steps that are timed")
    args = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    args.out.mkdir(parents=True, exist_ok=True)
    table = Table(args.out / "gpu.csv", {"hardware": hardware(), "backbone": args.backbone, "size_px": args.size})
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        parts: dict[str, Callable[[], Iterator[dict]]] = {
            "step": lambda: step_rows(args, device), "memory": lambda: memory_rows(args, device),
            "films": lambda: film_rows(args, device, work), "judged": lambda: judged_rows(args, device, work),
            "hours": lambda: hour_rows(table.rows(part="films")),
        }
        for part in tqdm(PARTS):
            if table.rows(part=part):
                continue
            started = time.perf_counter()
            rows = list(parts[part]())  # whole: a part that was cut off is done again
            seconds = time.perf_counter() - started
            for row in rows:
                table.add({"part": part, "batch": args.batch, **row, "seconds": round(seconds, 1), "commit": commit(),
                           "torch": torch.__version__.split("+")[0], "date": time.strftime("%Y-%m-%d")})
            print(f"{part}, {seconds:.0f} s\n{pd.DataFrame(rows).round(3).to_string(index=False)}", flush=True)


if __name__ == "__main__":
    main()
