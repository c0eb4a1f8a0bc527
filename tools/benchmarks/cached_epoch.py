"""An epoch from the cache against decoding and resizing every film with PIL, side by side in one run.

    python -m tools.benchmarks.cached_epoch FOLDER_OF_PNGS --films 2000 --size 512 --workers 2

The films of the folder are repeated to the number asked for. Both ways feed the same DataLoader with the same number
of workers and give uint8 squares; the cache is built before, and its building is timed apart.
"""

import argparse
import statistics
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from bonexage_utils.batches import FilmDataset
from bonexage_utils.images import cached_images

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--films", type=int, default=2000)
parser.add_argument("--size", type=int, default=512)
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--repeats", type=int, default=1)
args = parser.parse_args()


class Decoded(Dataset):
    """PIL, decoded and resized for every film of every epoch."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        image = Image.open(self.paths[i]).convert("L").resize((args.size, args.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image))[None]


def epoch(dataset: Dataset) -> float:
    started = time.perf_counter()
    for _ in DataLoader(dataset, 16, num_workers=args.workers):
        pass
    return time.perf_counter() - started


paths = [str(p) for p in islice(cycle(sorted(args.folder.glob("*.png"))), args.films)]
with tempfile.TemporaryDirectory() as folder:
    started = time.perf_counter()
    cache = cached_images(paths, args.size, folder)
    built = time.perf_counter() - started
    table = pd.DataFrame({"id": [str(i) for i in range(len(paths))], "months": 0.0, "sex": "M"})
    cached = FilmDataset(cache.array, np.arange(len(paths)), table)
    slow, fast = [], []
    for _ in range(args.repeats):
        slow.append(epoch(Decoded(paths)))
        fast.append(epoch(cached))
print(f"{len(paths):,} films to {args.size} px, {args.workers} workers: building the cache {built:.1f} s once")
print(f"decoding with PIL {statistics.median(slow):.1f} s an epoch, from the cache {statistics.median(fast):.2f} s, "
      f"ratio {statistics.median(slow) / statistics.median(fast):.1f}")
