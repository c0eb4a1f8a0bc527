"""Teach the orientation that comes with the package by a cohort's training films, and write it into weights/.

    python -m tools.benchmarks.orientation data/phantom-2400-v3
"""

import argparse
from pathlib import Path

import numpy as np

from bonexage_utils.cohort import load_cohort
from bonexage_utils.files import atomic_file
from bonexage_utils.images import read_films
from bonexage_utils.orientation import SHIPPED, Orientation, thumbnail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    films = load_cohort(parser.parse_args().data).split("train")
    taught = Orientation.learn(np.stack(list(read_films(films["image"].tolist(), lambda film, _: thumbnail(film)))),
                               askew=True)
    kept = {name: value.astype(np.float16 if name in ("weights", "offsets") else np.float32)
            for name, value in vars(taught).items()}
    with atomic_file(SHIPPED) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **kept)
    print(f"{SHIPPED.name}: {SHIPPED.stat().st_size:,} bytes, taught by {len(films):,} films")


if __name__ == "__main__":
    main()
