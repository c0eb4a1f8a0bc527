"""Which of timm's backbones the package takes: one small member of each family, tried, into backbones.csv.

    python -m tools.benchmarks.backbones
    python -m tools.benchmarks.backbones --families resnet swin_transformer --out build

A family is a module of timm; of its members the one with the fewest parameters is tried, at the first of `--sizes` that
it takes: the map of two films, its axes held against timm's own average pooling, and the gradient of every weight
through GeM. One of more than `--millions` parameters is named and not tried. Random weights: nothing is fetched. About
fifteen minutes of one core; a stopped run goes on where it was.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import pandas as pd
import timm
import torch

from bonexage_utils.errors import BoneXageError
from bonexage_utils.model import Features, GeM
from bonexage_utils.report.tables import markdown
from tools.benchmarks.table import Table, commit, hardware

SHOWN = ["family", "backbone", "millions", "size_px", "result", "map", "layout", "axes", "one_film"]


def smallest(family: str) -> tuple[str, float]:
    """The family's member with the fewest parameters, and their number in millions; none is given memory."""
    sizes = {}
    for name in timm.list_models(module=family):
        with torch.device("meta"):
            weights = timm.create_model(name, num_classes=0).parameters()
        sizes[name] = sum(weight.numel() for weight in weights) / 1e6
    return min(sizes.items(), key=lambda item: (item[1], item[0]))


@torch.no_grad()
def axes(features: Features, name: str, films: torch.Tensor) -> str:
    """What says that places are pooled, not channels: timm's own average of the same map; where timm norms the average
    instead of every place, the two differ, and it is the map's width, which is timm's."""
    known = timm.get_pretrained_cfg(name)
    fixed = {"img_size": films.shape[-1]} if known and known.fixed_input_size else {}
    own = timm.create_model(name, in_chans=1, num_classes=0, **fixed).eval()
    own.load_state_dict(features.body.state_dict())
    expected, maps = own(films), features.body(films)
    pooled = maps.mean((1, 2) if features.layout == "NHWC" else (2, 3))
    close = pooled.shape == expected.shape and (pooled - expected).abs().max() <= 1e-3 * expected.abs().max()
    return "timm's average" if close else "timm's width"


def step(features: Features, films: torch.Tensor) -> str:
    """A training step: "works", or what is wrong with it."""
    features.train().zero_grad(set_to_none=True)
    try:
        maps = features(films)
        GeM()(maps).sum().backward()
    except (RuntimeError, ValueError) as error:
        return str(error).splitlines()[0]
    if (maps < 0).any():
        return "a negative map"
    weights = dict(features.named_parameters())
    without = [name for name, weight in weights.items() if weight.grad is None or not weight.grad.isfinite().all()]
    return f"{len(without)} weights without a gradient, e.g. {without[0]}" if without else "works"


def tried(name: str, sizes: list[int]) -> dict:
    """One row of the table, less who and where."""
    for size in sizes:
        torch.manual_seed(0)
        try:
            features = Features(name, image_size=size).eval()
        except BoneXageError as error:
            row = {"size_px": size, "result": str(error)}
            continue
        films = torch.randn(2, 1, size, size)
        with torch.no_grad():
            shape = "×".join(map(str, features(films).shape[1:]))
        return {"size_px": size, "result": step(features, films), "map": shape, "layout": features.layout,
                "axes": axes(features.eval(), name, films), "one_film": step(features, films[:1])}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="*", default=timm.list_modules(), metavar="MODULE")
    parser.add_argument("--sizes", nargs="*", type=int, default=[96, 224, 256], metavar="PX")
    parser.add_argument("--millions", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("data/reference_runs"))
    args = parser.parse_args()

    warnings.filterwarnings("ignore", module="timm")
    args.out.mkdir(parents=True, exist_ok=True)
    table = Table(args.out / "backbones.csv", {"timm": timm.__version__, "torch": torch.__version__.split("+")[0]})
    for family in args.families:
        if not timm.list_models(module=family) or table.rows(family=family):
            continue
        name, millions = smallest(family)
        row = {"result": "not tried: too large"} if millions > args.millions else tried(name, args.sizes)
        table.add({"family": family, "backbone": name, "millions": millions, **row,
                   "command": " ".join(["python -m tools.benchmarks.backbones", *sys.argv[1:]]),
                   "hardware": hardware(), "commit": commit(), "date": time.strftime("%Y-%m-%d")})
        print(f"{family}: {name} {row['result']}", flush=True)
    print(markdown(pd.DataFrame(table.rows()).reindex(columns=SHOWN), index=False))


if __name__ == "__main__":
    main()
