"""The bake-off: a ConvNeXt, a ResNet and an EfficientNet, whole and from random weights, for the same time each.

    python -m tools.benchmarks.bakeoff data/phantom-2400-v3 --name phantom --out data/reference_runs
    python -m tools.benchmarks.bakeoff REAL --name rsna100 --out data/reference_runs

and on a GPU, at full size, from ImageNet weights of one kind (1,000 classes, nothing more):

    python -m tools.benchmarks.bakeoff REAL --name rsna --size 512 --seconds 600 --weights imagenet \
        --backbones convnext_tiny.fb_in1k resnet50.a1_in1k tf_efficientnetv2_s.in1k

or all three pretrained on phantoms first, alike, for as many minutes each (`pretrain --out SCHOOLED`):

    python -m tools.benchmarks.bakeoff REAL --name rsna100 --schooled SCHOOLED --train-on 500 --seconds 90 \
        --backbones convnext_atto_ols resnet10t efficientnet_b0

With `--frozen` the schooled backbones stay as they are, and a head alone learns, to its end: who has learned more of
hands?

Time is that of the processor (one thread) or of the GPU's clock, measured update by update before the first run, all
backbones in turn: whoever is quicker makes more updates within it. Each backbone has the best of three peak learning
rates, chosen on the selection films with a seed of its own, a third of the time each. Beside them runs one ResNet
with phantom weights, to set a backbone's worth beside that of pretraining. Then the same again, update for update.
Errors are those of the calibration films. From random weights a minute tells who *starts sooner*; from pretrained
ones, who *ends lower*, unless a run ended within its first epoch. One row a run in bakeoff.csv, one a comparison in
claims.csv; what stands there is not run again, so a stopped run goes on where it was.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from tqdm import tqdm

from bonexage_utils.augment import augment
from bonexage_utils.batches import eval_loader, film_sets, train_loader
from bonexage_utils.checkpoints import count_parameters
from bonexage_utils.cohort import load_cohort
from bonexage_utils.course.frozen import BATCH as HEAD_BATCH
from bonexage_utils.course.frozen import LR as HEAD_LR
from bonexage_utils.course.frozen import fit_head, head_errors, maps_of
from bonexage_utils.course.nb10.bakeoff import question
from bonexage_utils.course.start import sample_cohort
from bonexage_utils.devices import autocast, choose_precision, to_network
from bonexage_utils.evaluation import median_by_sex
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.model import BoneAgeNet, age_loss, parameter_groups
from bonexage_utils.settings import Augmentation
from bonexage_utils.statistics import paired_over_seeds, verdict
from bonexage_utils.training import lr_factor, update_weights
from bonexage_utils.weights import load_weights
from tools.benchmarks.table import Table, alone, commit, hardware
from tools.benchmarks.transfer import subset

FAMILIES = ("ConvNeXt", "ResNet", "EfficientNet")  # in the order of --backbones
RESNET = "resnet10t"  # shipped with phantom weights
SMALL = ("convnext_atto", RESNET, "efficientnet_b0")  # 3.5 to 5.2 million numbers each
PRETRAINED = "ResNet, phantom weights"
RATES = (3e-4, 1e-3, 3e-3)
TUNING_SEED, TUNING_SHARE = 1000, 1 / 3  # of the time
BATCH, WEIGHT_DECAY, WARM_UP = 32, 0.05, 0.05
POINTS = 10  # of a training curve
WARM, TIMED = 2, 6  # updates
HEAD_EPOCHS = 20


class Oven:
    """The films, and how one backbone is trained on them for so many updates."""

    def __init__(self, cohort: Path, films: int | None, size: int, train_on: int | None = None,
                 schooled: Path | None = None) -> None:
        """`films` of a larger cohort, or `train_on` of its training films beside all calibration films; `schooled` is a
        folder of backbones that `pretrain` wrote."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":
            torch.set_num_threads(1)  # then the process's own time is that of the work, whatever else runs
        natively = self.device.type == "cuda" and choose_precision("auto", self.device) == "bf16"
        self.precision = "bf16" if natively else "fp32"
        self.schooled, whole = schooled, load_cohort(cohort)
        if train_on:
            whole = subset(whole, train_on, 0)
        elif films and len(whole) > films:
            whole = sample_cohort(whole, films)
        self.sets, parts, _ = film_sets(whole, ("train", "selection", "calibration"), size)
        guess = median_by_sex(parts["train"])
        self.baseline = {split: float((films["months"] - films["sex"].map(guess)).abs().mean())
                         for split, films in parts.items()}
        self.preprocessing = Preprocessing(size, *measure_intensity(self.sets["train"].films, self.sets["train"].rows))
        self.clock: Callable[[], float] = time.process_time if self.device.type == "cpu" else self._gpu_clock

    def _gpu_clock(self) -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    def network(self, backbone: str, weights: str, seed: int) -> BoneAgeNet:
        torch.manual_seed(seed)
        months = self.sets["train"].months
        net = BoneAgeNet(backbone, months_mean=float(months.mean()), months_std=float(months.std()),
                         weights="none" if self.schooled else weights)
        if self.schooled:
            net.features.body.load_state_dict(load_weights(backbone, self.schooled))
        return net.to(self.device, memory_format=torch.channels_last)

    def predict(self, net: BoneAgeNet, batch: dict, change: Callable | None = None) -> torch.Tensor:
        images = to_network(batch["image"], self.preprocessing, self.device, change)
        with autocast(self.device, self.precision):
            return net(images, batch["sex"].to(self.device))

    def train(self, net: BoneAgeNet, seed: int, lr: float, updates: int, ticks: list[float] | None = None
              ) -> list[float]:
        """So many updates; the error (months) of each one's films before it. `ticks` gets the time after each."""
        optimizer = torch.optim.AdamW(parameter_groups(net, WEIGHT_DECAY), lr=lr, fused=True)
        loader = train_loader(self.sets["train"], BATCH, seed)
        update, epoch, errors = 0, 0, []
        net.train()
        while update < updates:
            loader.sampler.epoch = epoch
            for batch in loader:
                change = partial(augment, keys=batch["key"].to(self.device), epoch=epoch, seed=seed, how=Augmentation())
                months = self.predict(net, batch, change)
                truth = batch["months"].to(self.device)
                age_loss(months, truth, "smoothl1").backward()
                update_weights(net, optimizer, lr * lr_factor(update, updates, WARM_UP))
                errors.append((months.detach() - truth).abs().mean())
                if ticks is not None:
                    ticks.append(self.clock())
                update += 1
                if update == updates:
                    break
            epoch += 1
        return [float(error) for error in errors]

    @torch.inference_mode()
    def errors(self, net: BoneAgeNet, split: str) -> np.ndarray:
        """Absolute errors of a split, months (n,)."""
        net.eval()
        predicted = [self.predict(net, batch).cpu() for batch in eval_loader(self.sets[split], 4 * BATCH)]
        return np.abs(torch.cat(predicted).double().numpy() - self.sets[split].months)

    def report(self, split: str, errors: np.ndarray) -> dict:
        """What every row says of its errors, and of where it was made."""
        return {"measured_on": len(errors), "split": split, "mae": errors.mean(),
                "baseline": self.baseline[split],  # the MAE of the median by sex
                "errors": " ".join(f"{error:.1f}" for error in errors), "hardware": hardware(), "commit": commit(),
                "torch": torch.__version__.split("+")[0], "timm": timm.__version__, "date": time.strftime("%Y-%m-%d")}

    def seconds_per_update(self, arms: dict[str, tuple[str, str]]) -> dict[str, float]:
        """The median over two rounds in which all take turns, so that a busy minute hits them alike."""
        found: dict[str, list[float]] = {arm: [] for arm in arms}
        for _ in range(2):
            for arm, (backbone, weights) in arms.items():
                ticks: list[float] = []
                self.train(self.network(backbone, weights, 0), 0, 1e-4, WARM + TIMED, ticks)
                found[arm] += np.diff(ticks[WARM - 1:]).tolist()
        return {arm: float(np.median(times)) for arm, times in found.items()}


def bake(args: argparse.Namespace, oven: Oven, table: Table) -> None:
    """Every run that is not in the table yet, the most telling first."""
    arms = {family: (name, args.weights) for family, name in zip(FAMILIES, args.backbones, strict=True)}
    arms |= {PRETRAINED: (RESNET, "phantom")} if args.weights == "none" else {}
    known = {row["arm"]: row["seconds_per_update"] for row in table.rows()}
    cost = known if known.keys() == arms.keys() else oven.seconds_per_update(arms)
    most = {arm: max(1, round(args.seconds / cost[arm])) for arm in arms}
    fewest = min(most[family] for family in FAMILIES)

    def run(arm: str, matched: str, seed: int, lr: float, updates: int, split: str) -> None:
        backbone, weights = arms[arm]
        net = oven.network(backbone, weights, seed)
        started, wall = oven.clock(), time.perf_counter()
        curve = oven.train(net, seed, lr, updates)
        used, errors = oven.clock() - started, oven.errors(net, split)
        table.add({
            "arm": arm, "matched": matched, "seed": seed, "backbone": backbone, "weights": weights, "lr": lr,
            "updates": updates, "epochs": updates * BATCH / len(oven.sets["train"]), "seconds_per_update": cost[arm],
            "used_seconds": used, "minutes": (time.perf_counter() - wall) / 60, "parameters": count_parameters(net),
            "curve": " ".join(f"{part.mean():.2f}" for part in np.array_split(curve, min(POINTS, len(curve)))),
            **oven.report(split, errors)})
        print(f"{args.name}, {arm}, {matched}, seed {seed}, lr {lr:g}, {updates} updates: {errors.mean():.2f} months, "
              f"{used:.0f} s", flush=True)

    rates = {}
    for arm in tqdm(arms, desc="learning rates", leave=False):
        for lr in RATES:
            if not table.rows(arm=arm, matched="tuning", lr=lr):
                run(arm, "tuning", TUNING_SEED, lr, max(1, round(TUNING_SHARE * most[arm])), "selection")
        rates[arm] = min(table.rows(arm=arm, matched="tuning"), key=lambda row: row["mae"])["lr"]
    for seed in tqdm(range(args.seeds), desc="same time", leave=False):
        for arm in arms:
            if not table.rows(arm=arm, matched="time", seed=seed):
                run(arm, "time", seed, rates[arm], most[arm], "calibration")
    for seed in tqdm(range(args.seeds), desc="update for update", leave=False):
        for arm in FAMILIES:
            same = [row for row in table.rows(arm=arm, matched="time", seed=seed) if row["updates"] == fewest]
            if table.rows(arm=arm, matched="updates", seed=seed):
                continue
            if same:  # the slowest has made just so many already
                table.add({**same[0], "matched": "updates"})
            else:
                run(arm, "updates", seed, rates[arm], fewest, "calibration")


def bake_frozen(args: argparse.Namespace, oven: Oven, table: Table) -> None:
    """Heads on the maps of each backbone as it is, a row for each seed that is not in the table yet."""
    for family, backbone in zip(FAMILIES, args.backbones, strict=True):
        left = [seed for seed in range(args.seeds) if not table.rows(arm=family, matched="frozen", seed=seed)]
        if not left:
            continue
        features = oven.network(backbone, "phantom", 0).features.eval()
        maps = {split: maps_of(features, oven.sets[split], oven.preprocessing, oven.device)
                for split in ("train", "calibration")}
        for seed in left:
            started, wall = oven.clock(), time.perf_counter()
            head = fit_head(backbone, maps["train"], seed, HEAD_EPOCHS)
            errors = np.abs(head_errors(head, maps["calibration"]))
            table.add({
                "arm": family, "matched": "frozen", "seed": seed, "backbone": backbone, "weights": "phantom",
                "lr": HEAD_LR, "updates": HEAD_EPOCHS * (len(maps["train"]) // HEAD_BATCH), "epochs": HEAD_EPOCHS,
                "used_seconds": oven.clock() - started, "minutes": (time.perf_counter() - wall) / 60,
                "parameters": count_parameters(head), **oven.report("calibration", errors)})
            print(f"{args.name}, {family}, frozen, seed {seed}: {errors.mean():.2f} months", flush=True)


def compare(table: Table, claims: Path, train_on: int | None = None) -> None:
    """The comparisons that whole pairs of runs allow, as rows of claims.csv; an older row of the same is replaced."""
    for matched, suffix in (("time", ""), ("updates", ", update for update"), ("frozen", ", frozen")):
        for rival in FAMILIES[1:]:
            runs = {arm: {row["seed"]: row for row in table.rows(arm=arm, matched=matched)}
                    for arm in ("ConvNeXt", rival)}
            seeds = sorted(runs["ConvNeXt"].keys() & runs[rival].keys())
            if len(seeds) < 2:
                continue
            errors = {arm: np.stack([np.fromstring(of[seed]["errors"], sep=" ") for seed in seeds])
                      for arm, of in runs.items()}
            apart = paired_over_seeds(*errors.values())
            a, b = (of[seeds[0]] for of in runs.values())
            start = {"none": "random weights", "phantom": "phantom weights, schooled alike"}.get(
                a["weights"], f"{a['weights']} weights")
            alike = ", all pretrained alike" if a["weights"] == "phantom" else ""
            few = f", {train_on:,} films" if train_on else ""
            what = question(a["weights"], (of[seed]["epochs"] for of in runs.values() for seed in seeds))
            row = {
                "claim": f"ConvNeXt converges better than {rival}{alike}{few}{suffix}",
                "films": a["films"], "a": "ConvNeXt",
                "b": rival, "mae_a": errors["ConvNeXt"].mean(), "mae_b": errors[rival].mean(),
                "baseline": a["baseline"], "difference": apart.value, "low": apart.low,
                "high": apart.high, "verdict": verdict(apart, "ConvNeXt", rival, what),
                "trained_on": a["trained_on"], "measured_on": a["measured_on"], "seeds": len(seeds),
                "backbone": f"{a['backbone']} and {b['backbone']}, {'frozen' if matched == 'frozen' else 'whole'}, "
                            f"{start}, " + {"time": f"{a['seconds']:g} s of computing each",
                                            "updates": "as many updates", "frozen": "a head alone"}[matched],
                "size_px": a["size_px"], "epochs": f"{a['epochs']:.1f} and {b['epochs']:.1f}",
                "minutes": sum(row["minutes"] for of in runs.values() for row in of.values()),
                **{name: a[name] for name in ("hardware", "commit", "torch", "date")},
            }
            with alone(claims):
                old = pd.read_csv(claims) if claims.is_file() else pd.DataFrame(columns=list(row))
                others = old[(old["claim"] != row["claim"]) | (old["films"] != row["films"])]
                pd.DataFrame([*others.to_dict("records"), row]).to_csv(claims, index=False, float_format="%.6g")
            print(f"{row['claim']}, {row['films']}: {apart} months, {row['verdict']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--name", required=True, help="of the films, for the tables")
    parser.add_argument("--out", type=Path, default=Path("data/reference_runs"))
    parser.add_argument("--backbones", nargs=3, default=SMALL, help=f"of timm: a {', a '.join(FAMILIES)}")
    parser.add_argument("--weights", default="none", choices=("none", "imagenet"))
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--schooled", type=Path, help="a folder that `pretrain` wrote: all three begin there")
    parser.add_argument("--frozen", action="store_true", help="heads on the schooled backbones as they are")
    parser.add_argument("--films", type=int, help="of a larger cohort, so many are used; 2,400 unless schooled")
    parser.add_argument("--train-on", type=int, help="so many training films, beside all calibration films")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60, help="of computing for each run")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    if args.frozen and not args.schooled:
        parser.error("--frozen needs --schooled")
    if args.schooled:
        args.weights = "phantom"
    films = args.films or (None if args.schooled else 2400)
    oven = Oven(args.cohort, films, args.size, args.train_on, args.schooled)
    key = {"films": args.name, "size_px": args.size, "seconds": 0 if args.frozen else args.seconds,
           "start": args.weights, "trained_on": len(oven.sets["train"])}
    table = Table(args.out / "bakeoff.csv", key)
    try:
        (bake_frozen if args.frozen else bake)(args, oven, table)
    finally:  # also of what there is when it is stopped
        compare(table, args.out / "claims.csv", args.train_on)


if __name__ == "__main__":
    main()
