r"""Does a network look at the bones that decide? Its attribution on the phantom's masks, against two controls.

    bonexage phantom build/bones --n 120 --seed 77 --masks
    python -m tools.benchmarks.attribution_on_bones checkpoints/tiny/model.safetensors build/bones

and whether it looks at a planted strip, against a network that was trained without one:

    bonexage phantom build/trap --n 120 --seed 78 --shortcut
    python -m tools.benchmarks.attribution_on_bones checkpoints/tiny/model.safetensors build/trap \
        --trap checkpoints/trap/model.safetensors
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from bonexage_utils.checks.attribution import METHODS, attribute, share_inside
from bonexage_utils.course.bones import score_on_bones, shortcut_region
from bonexage_utils.decoding import read_gray
from bonexage_utils.images import letterbox
from bonexage_utils.phantom.dataset import IMAGE_FOLDER, TRUTH_FILE
from bonexage_utils.prediction import Predictor
from bonexage_utils.statistics import bootstrap_mean

parser = argparse.ArgumentParser()
parser.add_argument("checkpoint", type=Path)
parser.add_argument("cohort", type=Path)
parser.add_argument("--trap", type=Path, help="a network trained on films with the strip")
parser.add_argument("--films", type=int, default=120)
parser.add_argument("--seeds", type=int, default=3, help="untrained networks")
parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
args = parser.parse_args()

predictor = Predictor(args.checkpoint)
truth = pd.read_csv(args.cohort / TRUTH_FILE, dtype={"id": str})[: args.films]


def strip_shares(network: Predictor, method: str) -> np.ndarray:
    """Of each film the share of attribution on the strip."""
    size, shares = network.preprocessing.image_size, []
    for _, row in tqdm(truth.iterrows(), total=len(truth), leave=False):
        film = read_gray(args.cohort / IMAGE_FOLDER / f"{row['id']}.png")
        found = attribute(network, letterbox(film, size), row["sex"], method)
        shares.append(share_inside(found.map, shortcut_region(row, film.shape, size)))
    return np.array(shares)


for method in args.methods:
    if args.trap:
        with_strip, without = strip_shares(Predictor(args.trap), method), strip_shares(predictor, method)
        print(f"{method}: share on the strip, trained with it {bootstrap_mean(with_strip)}, without "
              f"{bootstrap_mean(without)}, difference {bootstrap_mean(with_strip - without)}")
        continue
    table = score_on_bones(predictor, args.cohort, truth["id"].tolist(), method, args.seeds)
    mae = (table["predicted"] - table["bone_age_months"]).abs().mean()
    print(f"{method}: {len(table)} films, MAE {mae:.1f} months, {table['area'].mean():.1%} of the area decides")
    for name in ("own", "other", "untrained", "undecided"):
        beside = "" if name == "own" else f", own − {name} {bootstrap_mean(table['own'] - table[name])}"
        print(f"  {name} {bootstrap_mean(table[name].to_numpy())}{beside}")
