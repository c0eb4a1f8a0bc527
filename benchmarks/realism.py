"""Which realism of the phantom carries over to real films? One thing at a time is taken away from it.

    python benchmarks/realism.py REAL --out data/reference_runs

For every variant the same children are drawn, in the form of REAL's films (100 × 100 px, squashed, nearest). A small
network is trained on each from random weights and reads the real films of the selection split. A variant that reads
them worse than the phantom as shipped shows what the thing taken away was good for.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm
from transfer import BASE, SIDE, STRONG, zero

from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.phantom import Nuisances, grow, render, tissue
from bonexage_utils.phantom.dataset import draw_age

NEUTRAL = Nuisances()


def keep(n: Nuisances) -> Nuisances:
    return n


def one_display(n: Nuisances) -> Nuisances:
    return replace(n, background=NEUTRAL.background, contrast=NEUTRAL.contrast, gamma=NEUTRAL.gamma,
                   local=NEUTRAL.local, scatter=NEUTRAL.scatter, heel=NEUTRAL.heel, inverted=False)


def one_framing(n: Nuisances) -> Nuisances:
    return replace(n, aspect=NEUTRAL.aspect, hand_scale=NEUTRAL.hand_scale, mm_per_px=NEUTRAL.mm_per_px,
                   centre_x=NEUTRAL.centre_x, centre_y=NEUTRAL.centre_y, turn_deg=NEUTRAL.turn_deg,
                   right_hand=False, flipped=False, quarter_turns=0)


VARIANTS: dict[str, Callable[[Nuisances], Nuisances]] = {
    "as shipped": keep,
    "no noise": lambda n: replace(n, photons=5e6),
    "no blur": lambda n: replace(n, psf_mm=0.02),
    "smooth bone": keep,  # and no trabecular texture, see `_draw`
    "one layer of fat": lambda n: replace(n, fat=NEUTRAL.fat),
    "one framing": one_framing,
    "one posture": lambda n: replace(n, pose={}),
    "one display": one_display,
    "nothing beside the hand": lambda n: replace(n, marker=False, collimated=0, edges=0, cast=False, ring=False),
    "none of these": lambda n: replace(NEUTRAL, photons=5e6, psf_mm=0.02),
}


def _draw(k: int, variant: str, seed: int, folder: Path) -> tuple[int, float, bool]:
    """Film `k` of a variant into `folder`; its id, true bone age (months), and whether it is a boy's."""
    rng = np.random.default_rng([seed, k])
    sex = "M" if rng.random() < 0.5 else "F"
    child = grow(sex, draw_age(rng), rng)
    nuisances = VARIANTS[variant](Nuisances.draw(rng, child.chronological_age_months))
    contrast = tissue.TRABECULAR_CONTRAST
    try:
        tissue.TRABECULAR_CONTRAST = 0.0 if variant in ("smooth bone", "none of these") else contrast
        film, _ = render(child, rng, None, nuisances)
    finally:
        tissue.TRABECULAR_CONTRAST = contrast
    cv2.imwrite(str(folder / f"{k + 1}.png"), cv2.resize(film, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST))
    return k + 1, child.bone_age_months, sex == "M"


def draw_variant(variant: str, n: int, seed: int, folder: Path) -> Cohort:
    """`n` phantoms of a variant as a cohort in `folder`."""
    images = folder / "boneage-training-dataset"
    images.mkdir(parents=True)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        work = pool.map(partial(_draw, variant=variant, seed=seed, folder=images), range(n), chunksize=16)
        rows = list(tqdm(work, total=n, desc=variant, unit="film", leave=False))
    table = pd.DataFrame(rows, columns=["id", "boneage", "male"])
    table["boneage"] = table["boneage"].clip(1, 239)
    table.to_csv(folder / "boneage-training-dataset.csv", index=False)
    return load_cohort(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=Path)
    parser.add_argument("--out", type=Path, default=Path("data/reference_runs"))
    parser.add_argument("--n", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=3000, help="of the children; networks take 0, 1, …")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--backbone", default="resnet10t")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    args = parser.parse_args()

    path = args.out / "realism.csv"
    args.out.mkdir(parents=True, exist_ok=True)
    done = pd.read_csv(path).to_dict("records") if path.is_file() else []
    real = load_cohort(args.real)
    for variant in args.variants:
        with tempfile.TemporaryDirectory() as folder:
            hands = draw_variant(variant, args.n, args.seed, Path(folder) / "hands")
            for seed in range(args.seeds):
                if any(row["variant"] == variant and row["network_seed"] == seed for row in done):
                    continue
                started = time.perf_counter()
                config = replace(BASE, backbone=args.backbone, weights="none", epochs=args.epochs, seed=seed,
                                 augmentation=STRONG)
                for row in zero(hands, real, config, report=False):
                    done.append({"variant": variant, "network_seed": seed, **row, "backbone": args.backbone,
                                 "phantoms": args.n, "epochs": args.epochs,
                                 "minutes": round((time.perf_counter() - started) / 60, 2)})
                    print(done[-1], flush=True)
                pd.DataFrame(done).to_csv(path, index=False)


if __name__ == "__main__":
    main()
