"""Which realism of the phantom carries over to real films? One thing at a time is taken away from it.

    python -m tools.benchmarks.realism REAL --out data/reference_runs

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
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.phantom import Nuisances, anatomy, grow, render, skeleton
from bonexage_utils.phantom.dataset import draw_age
from tools.benchmarks.table import commit, hardware
from tools.benchmarks.transfer import BASE, SIDE, STRONG, zero

NEUTRAL = Nuisances()


def keep(n: Nuisances) -> Nuisances:
    return n


def one_display(n: Nuisances) -> Nuisances:
    return replace(n, background=NEUTRAL.background, contrast=NEUTRAL.contrast, gamma=NEUTRAL.gamma,
                   local=NEUTRAL.local, sharpening=NEUTRAL.sharpening, scatter=NEUTRAL.scatter, heel=NEUTRAL.heel,
                   inverted=False)


def one_framing(n: Nuisances) -> Nuisances:
    return replace(n, aspect=NEUTRAL.aspect, hand_scale=NEUTRAL.hand_scale, mm_per_px=NEUTRAL.mm_per_px,
                   centre_x=NEUTRAL.centre_x, centre_y=NEUTRAL.centre_y, turn_deg=NEUTRAL.turn_deg,
                   right_hand=False, flipped=False, quarter_turns=0)


@dataclass(frozen=True)
class Variant:
    """What is taken away: from a film's nuisances, and from the phantom's anatomy by another value of a constant."""

    films: Callable[[Nuisances], Nuisances] = keep
    anatomy: dict[str, object] = field(default_factory=dict)  # module.NAME in bonexage_utils.phantom


VARIANTS = {
    "as shipped": Variant(),
    "plump young fingers": Variant(anatomy={
        "anatomy.SOFT_THICKNESS_MM": anatomy.SOFT_THICKNESS_MM | {"margin": (4.3, 4.3, 4.7)}}),
    "growth plates as wide as ultrasound's": Variant(anatomy={
        "anatomy.PHYSIS_GAP_MM": {row: tuple(2 * mm for mm in gaps) for row, gaps in anatomy.PHYSIS_GAP_MM.items()}}),
    "smaller carpals": Variant(anatomy={"skeleton.CARPAL_FIT": 0.85 * skeleton.CARPAL_FIT}),
    "one build, one mineral": Variant(lambda n: replace(n, mineral=NEUTRAL.mineral), {"skeleton.BUILD_SD": 0.0}),
    "one layer of fat": Variant(lambda n: replace(n, fat=NEUTRAL.fat)),
    "smooth bone": Variant(anatomy={"tissue.TRABECULAR_CONTRAST": 0.0}),
    "no noise, no blur": Variant(lambda n: replace(n, photons=5e6, psf_mm=0.02)),
    "one framing": Variant(one_framing),
    "one posture": Variant(lambda n: replace(n, pose={})),
    "one display": Variant(one_display),
    "nothing beside the hand": Variant(
        lambda n: replace(n, marker=False, collimated=0, edges=0, cast=False, ring=False)),
    "nothing that differs between films": Variant(lambda n: NEUTRAL, {
        "skeleton.BUILD_SD": 0.0, "tissue.TRABECULAR_CONTRAST": 0.0}),
}


def _draw(k: int, variant: str, seed: int, folder: Path) -> tuple[int, float, bool]:
    """Film `k` of a variant into `folder`; its id, true bone age (months), and whether it is a boy's."""
    left_out = VARIANTS[variant]
    with ExitStack() as constants:
        for name, value in left_out.anatomy.items():
            constants.enter_context(patch(f"bonexage_utils.phantom.{name}", value))
        rng = np.random.default_rng([seed, k])
        sex = "M" if rng.random() < 0.5 else "F"
        child = grow(sex, draw_age(rng), rng)
        film, _ = render(child, rng, None, left_out.films(Nuisances.draw(rng, child.chronological_age_months)))
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
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--size", type=int, default=96, help="px, what the network sees")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS))
    args = parser.parse_args()

    path = args.out / "realism.csv"
    args.out.mkdir(parents=True, exist_ok=True)
    done = pd.read_csv(path).to_dict("records") if path.is_file() else []
    real = load_cohort(args.real)
    for variant in args.variants:
        known = {row["network_seed"] for row in done if row["variant"] == variant}
        missing = [seed for seed in range(args.seeds) if seed not in known]
        if not missing:
            continue
        with tempfile.TemporaryDirectory() as folder:
            hands = draw_variant(variant, args.n, args.seed, Path(folder) / "hands")
            for seed in missing:
                started = time.perf_counter()
                config = replace(BASE, weights="none", image_size=args.size, epochs=args.epochs, seed=seed,
                                 augmentation=STRONG)
                for row in zero(hands, real, config, report=False):
                    done.append({"variant": variant, "network_seed": seed, **row, "backbone": BASE.backbone,
                                 "size_px": args.size, "phantoms": args.n, "epochs": args.epochs,
                                 "hardware": hardware(), "commit": commit(),
                                 "torch": torch.__version__.split("+")[0], "date": time.strftime("%Y-%m-%d"),
                                 "minutes": round((time.perf_counter() - started) / 60, 2)})
                    print(done[-1], flush=True)
                pd.DataFrame(done).to_csv(path, index=False)


if __name__ == "__main__":
    main()
