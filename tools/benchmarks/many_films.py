"""Peak memory and speed of predicting many films, 3 % of them broken: it must not grow with their number.

    python -m tools.benchmarks.many_films DATA CHECKPOINT --films 1000 10000

Each number of films in a process of its own; the films are those of the cohort in DATA, named again and again.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("data")
parser.add_argument("checkpoint")
parser.add_argument("--films", type=int, nargs="+", default=[1000, 10000])
parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
args = parser.parse_args()


def predict(count: int) -> None:
    import pandas as pd

    from bonexage_utils.cohort import load_cohort
    from bonexage_utils.prediction import Predictor, predict_to_file

    table = load_cohort(args.data).table
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder) / "broken.png"
        broken.write_bytes(Path(table["image"][0]).read_bytes()[:-100])
        images = [str(broken) if k % 33 == 0 else table["image"][k % len(table)] for k in range(count)]
        sexes = [table["sex"][k % len(table)] for k in range(count)]
        # An id each: the same image twice under one sex is predicted once more all the same.
        films = pd.DataFrame({"id": range(count), "image": images, "sex": sexes, "error": ""})
        started = time.perf_counter()
        done = predict_to_file(Predictor(args.checkpoint), films, Path(folder) / "predictions.csv")
        seconds = time.perf_counter() - started
    assert len(done) == count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    broken = int((done["error"] != "").sum())
    print(f"{count:>7,} films  {broken:>4} broken  {seconds:7.1f} s  peak {peak:7.0f} MiB", flush=True)


if args.one:
    predict(args.one)
else:
    for count in args.films:
        subprocess.run([sys.executable, *sys.argv[:3], "--one", str(count)], check=True)
