"""From phantom to real films: what a network that never saw a child's hand reads on one, and what it saves to learn.

    bonexage phantom PHANTOMS --n 4000 --seed 2000
    python -m tools.benchmarks.transfer zero PHANTOMS REAL --out data/reference_runs
    python -m tools.benchmarks.transfer few REAL --out data/reference_runs
    python -m tools.benchmarks.transfer own data/phantom-2400-v3 --out data/reference_runs
    python -m tools.benchmarks.transfer backbones REAL --films 500 2000 --out data/reference_runs
    python -m tools.benchmarks.transfer figure --out data/reference_runs

`zero` trains on phantoms alone, in the form of REAL's films (`rsna100`: 100 × 100 px, squashed, nearest), and reads the
real films of the selection split (for choosing) and of the calibration split (for reporting). `few` fine-tunes on 200,
500 and 2,000 real films from the shipped backbone and from random weights, several seeds each. `own` asks the same of
phantoms: fine-tuned for some minutes, from scratch, and without the sex. `backbones` compares those that are shipped,
on either kind of films: frozen under a new head, and fine-tuned. Every run is one row of a CSV; runs that stand there
already are not done again.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from scipy import stats
from tqdm import tqdm

from bonexage_utils.batches import film_sets
from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.course.frozen import fit_head, frozen_maps, head_errors
from bonexage_utils.figures import BOYS, GIRLS, Picture, new_figure
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.phantom.dataset import COHORT_FILE
from bonexage_utils.prediction import Predictor
from bonexage_utils.settings import Augmentation, TrainConfig
from bonexage_utils.statistics import Interval, paired_difference
from bonexage_utils.training import train
from bonexage_utils.weights import shipped
from tools.benchmarks.table import commit, hardware

SIDE = 100  # px, of the films of rsna100
SIZE = 160  # px, what the network sees: the side at which the shipped backbone learned; at 96 px it reads far worse
STRONG = Augmentation(rotation=15.0, shift=0.08, scale=0.15, brightness=0.2, contrast=0.4, gamma=0.4, noise=0.05,
                      occlusion=0.2)
BASE = TrainConfig(backbone="resnet10t", image_size=SIZE, batch_size=32, grad_accum=1, lr=1e-3, weights="phantom")
SELECT_BY = 200  # films: the whole split after every short epoch would take longer than the training


def squashed(cohort: Cohort, folder: Path) -> Cohort:
    """The films as `rsna100` has them: a square by nearest sampling, whatever their shape was."""
    for row in tqdm(cohort.table.itertuples(), total=len(cohort), desc="squashing", unit="film", leave=False):
        film = cv2.imread(row.image, cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(folder / f"{row.id}.png"), cv2.resize(film, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST))
    images = [str(folder / f"{film}.png") for film in cohort.table["id"]]
    return replace(cohort, table=cohort.table.assign(image=images))


def subset(cohort: Cohort, films: int, seed: int) -> Cohort:
    """`films` of the training split, drawn by the seed, and the first `SELECT_BY` of the selection split."""
    order = np.random.default_rng([seed, films]).permutation(len(cohort.split("train")))[:films]
    parts = [cohort.split("train").loc[np.sort(order)], cohort.split("selection").head(SELECT_BY),
             *(cohort.split(name) for name in ("calibration", "test"))]
    return replace(cohort, table=pd.concat(parts, ignore_index=True))


def read(model: Path, cohort: Cohort, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and labelled months of a split."""
    films = cohort.split(split)
    predicted = Predictor(model).predict(films, batch_size=64)["bone_age_months"]
    return predicted.to_numpy(float), films["months"].to_numpy()


def measure(predicted: np.ndarray, truth: np.ndarray, line: np.ndarray | None = None) -> dict[str, float]:
    """Correlation, error, and error after a line fitted elsewhere (slope, offset)."""
    row = {"n": len(truth), "correlation": np.corrcoef(predicted, truth)[0, 1], "mae": np.abs(predicted - truth).mean()}
    if line is not None:
        row["mae_recalibrated"] = np.abs(np.polyval(line, predicted) - truth).mean()
    return {name: round(float(value), 4) for name, value in row.items()}


def zero(hands: Cohort, films: Cohort, config: TrainConfig, report: bool = True) -> list[dict]:
    """One network trained on phantoms alone; the line is fitted on the selection split. Without `report` the
    calibration split stays closed: what is chosen by these numbers must not see it."""
    with tempfile.TemporaryDirectory() as folder:
        model = train(hands, Path(folder) / "run", config)
        chosen = read(model, films, "selection")
        line = np.polyfit(*chosen, 1)
        rows = [{"films": "phantom", **measure(*read(model, hands, "calibration"))},
                {"films": "real, selection", **measure(*chosen, line)}]
        if report:
            rows.append({"films": "real, calibration", **measure(*read(model, films, "calibration"), line)})
    return rows


def few(real: Path, films: int, weights: str, seed: int, updates: int) -> dict:
    """One network fine-tuned on a few real films."""
    cohort = subset(load_cohort(real), films, seed)
    config = replace(BASE, epochs=max(1, round(updates * BASE.batch_size / films)), seed=seed, weights=weights)
    with tempfile.TemporaryDirectory() as folder:
        model = train(cohort, Path(folder) / "run", config)
        return {"epochs": config.epochs, **measure(*read(model, cohort, "calibration"))}


def own(phantoms: Path, seed: int, epochs: int) -> list[dict]:
    """The shipped backbone fine-tuned on phantoms, the same from random weights, and the first without the sex."""
    cohort = load_cohort(phantoms)
    floor = json.loads((phantoms / COHORT_FILE).read_text(encoding="utf-8"))["noise_floor_months"]
    arms = {"phantom weights": {}, "random weights": {"weights": "none"}, "phantom weights, no sex": {"sex": False}}
    rows, errors = [], {}
    for arm, change in arms.items():
        config = replace(BASE, epochs=epochs, seed=seed, **change)
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            predicted, truth = read(train(cohort, Path(folder) / "run", config), cohort, "calibration")
        errors[arm] = np.abs(predicted - truth)
        apart = paired_difference(errors[arm], errors["phantom weights"])
        rows.append({"arm": arm, "own_minutes": round((time.perf_counter() - started) / 60, 2), "noise_floor": floor,
                     **measure(predicted, truth), "worse_by": apart.value, "low": apart.low, "high": apart.high})
    return rows


def fine_tuned(cohort: Cohort, backbone: str, seed: int, updates: int) -> dict:
    """A shipped backbone trained on, with everything above it."""
    epochs = max(1, round(updates * BASE.batch_size / len(cohort.split("train"))))
    with tempfile.TemporaryDirectory() as folder:
        model = train(cohort, Path(folder) / "run", replace(BASE, backbone=backbone, epochs=epochs, seed=seed))
        return {"epochs": epochs, **measure(*read(model, cohort, "calibration"))}


def frozen(cohort: Cohort, backbone: str, seed: int) -> dict:
    """A head trained on the maps of a shipped backbone as it is."""
    sets, _, _ = film_sets(cohort, ("train", "calibration"), SIZE)
    preprocessing = Preprocessing(SIZE, *measure_intensity(sets["train"].films, sets["train"].rows))
    maps = {split: frozen_maps(backbone, "phantom", films, preprocessing) for split, films in sets.items()}
    truth = maps["calibration"].months.double().numpy()
    return measure(truth + head_errors(fit_head(backbone, maps["train"], seed), maps["calibration"]), truth)


def over_seeds(values: pd.Series) -> Interval:
    """The mean over networks with its 95 % t-interval: the films are the same, the networks differ."""
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return Interval(float(values.mean()), float(low), float(high))


def gains(table: pd.DataFrame) -> dict[int, Interval]:
    """For each number of real films: months that the phantom's weights save, paired by seed (whole pairs only)."""
    wide = table.pivot_table(index="seed", columns=["films", "weights"], values="mae")
    saved = {films: (wide[films]["none"] - wide[films]["phantom"]).dropna() for films in sorted(set(table["films"]))}
    return {films: over_seeds(pairs) for films, pairs in saved.items()}


def draw(folder: Path) -> Picture:
    """Both studies in one figure."""
    zero_shot, tuned = (pd.read_csv(folder / f"transfer_{mode}.csv") for mode in ("zero", "few"))
    figure, (left, right) = new_figure(9, 3.6, 1, 2)
    described = []
    for place, films in enumerate(("phantom", "real, selection", "real, calibration")):
        found = zero_shot.loc[zero_shot["films"] == films, "correlation"]
        left.plot(np.full(len(found), place), found, "o", color=BOYS, alpha=0.7)
        described.append(f"{films} {found.mean():.2f}")
    left.set(title="Trained on phantoms alone", ylabel="correlation with the label", ylim=(0, 1), xlim=(-0.5, 2.5))
    left.set_xticks(range(3), ["phantoms", "real films\n(selection)", "real films\n(calibration)"])
    names = {"phantom": "from phantom weights", "none": "from random weights"}
    for (weights, name), colour, marker in zip(names.items(), (BOYS, GIRLS), "^o", strict=True):
        group = tuned[tuned["weights"] == weights]
        right.plot(group["films"], group["mae"], marker, color=colour, alpha=0.5)
        mean = group.groupby("films")["mae"].mean()
        right.plot(mean.index, mean, marker + "-", color=colour, label=name)
    right.set(title="Fine-tuned on real films", xscale="log", xlabel="real films", ylabel="MAE (months)")
    right.set_xticks(sorted(set(tuned["films"])), [f"{films:,}" for films in sorted(set(tuned["films"]))])
    right.minorticks_off()
    right.set_ylim(bottom=0)
    right.legend()
    saved = ", ".join(f"{gain} months at {films:,} films" for films, gain in gains(tuned).items())
    return Picture(figure, f"""Two panels. Left, networks trained on phantoms alone: correlation with the label on
{', '.join(described)}, one point per network. Right, mean error on the calibration films against the number of real
films a network was fine-tuned on: starting from the phantom's weights saves {saved}.""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    one = modes.add_parser("zero")
    one.add_argument("phantoms", type=Path)
    two = modes.add_parser("few")
    three = modes.add_parser("own")
    three.add_argument("phantoms", type=Path)
    three.add_argument("--epochs", type=int, default=14)
    for mode in (one, two):
        mode.add_argument("real", type=Path)
    five = modes.add_parser("backbones")
    five.add_argument("cohort", type=Path)
    five.add_argument("--backbones", nargs="+", default=shipped())
    five.add_argument("--films", type=int, nargs="+", help="of the training films; all if left out")
    five.add_argument("--how", nargs="+", default=["frozen", "fine-tuned"], choices=["frozen", "fine-tuned"])
    five.add_argument("--updates", type=int, default=400)
    four = modes.add_parser("figure")
    for mode in (one, two, three, four, five):
        mode.add_argument("--out", type=Path, default=Path("data/reference_runs"))
        mode.add_argument("--seeds", type=int, default=5)
    one.add_argument("--epochs", type=int, default=3)
    one.add_argument("--weights", default="phantom")
    two.add_argument("--films", type=int, nargs="+", default=[200, 500, 2000])
    two.add_argument("--updates", type=int, default=400, help="about as many for every number of films")
    args = parser.parse_args()

    if args.mode == "figure":
        picture = draw(args.out)
        (args.out / "transfer.png").write_bytes(picture.png)
        print(picture.alt)
        return
    path = args.out / f"transfer_{args.mode}.csv"
    args.out.mkdir(parents=True, exist_ok=True)
    done = pd.read_csv(path).to_dict("records") if path.is_file() else []
    facts = {"size_px": SIZE, "backbone": BASE.backbone, "hardware": hardware(), "commit": commit(),
             "torch": torch.__version__.split("+")[0], "date": time.strftime("%Y-%m-%d")}

    def finished(**key) -> bool:
        return any(all(row.get(name) == value for name, value in key.items()) for row in done)

    def note(row: dict, started: float) -> None:
        done.append({**(row | facts | row), "minutes": round((time.perf_counter() - started) / 60, 2)})
        pd.DataFrame(done).to_csv(path, index=False)
        print(row, flush=True)

    for seed in range(args.seeds):
        if args.mode == "own":
            key = {"cohort": args.phantoms.name, "epochs": args.epochs, "seed": seed}
            started = time.perf_counter()
            for row in [] if finished(**key) else own(args.phantoms, seed, args.epochs):
                note({**key, **row}, started)
        elif args.mode == "zero":
            drawn = json.loads((args.phantoms / COHORT_FILE).read_text(encoding="utf-8"))
            key = {"phantoms": drawn["n"], "drawn_with_seed": drawn["seed"], "weights": args.weights,
                   "epochs": args.epochs, "seed": seed}
            started = time.perf_counter()
            if not finished(**key):
                config = replace(BASE, epochs=args.epochs, seed=seed, augmentation=STRONG, weights=args.weights)
                with tempfile.TemporaryDirectory() as folder:
                    hands = squashed(load_cohort(args.phantoms), Path(folder))
                    for row in zero(hands, load_cohort(args.real), config):
                        note({**key, **row}, started)
        elif args.mode == "backbones":
            whole = load_cohort(args.cohort)
            everything = len(whole.split("train"))
            for films, backbone, how in product(args.films or [everything], args.backbones, args.how):
                key = {"cohort": args.cohort.name, "films": films, "how": how, "backbone": backbone, "seed": seed,
                       "updates": args.updates if how == "fine-tuned" else 0}
                if not finished(**key):
                    cohort, started, clock = subset(whole, films, seed), time.perf_counter(), time.process_time()
                    row = frozen(cohort, backbone, seed) if how == "frozen" else fine_tuned(
                        cohort, backbone, seed, args.updates)
                    spent = {"processor_minutes": round((time.process_time() - clock) / 60, 2)}
                    note({**row, **spent, **key}, started)
        else:
            for films, weights in product(args.films, ("phantom", "none")):
                key = {"films": films, "weights": weights, "updates": args.updates, "seed": seed}
                if not finished(**key):
                    started = time.perf_counter()
                    note({**key, **few(args.real, films, weights, seed, args.updates)}, started)


if __name__ == "__main__":
    main()
