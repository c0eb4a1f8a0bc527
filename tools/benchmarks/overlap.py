"""Predicting many films against its two parts measured alone: reading all, and judging films that lie ready.

    python -m tools.benchmarks.overlap DATA CHECKPOINT --films 300 --repeats 5

The films of the cohort in DATA are named again and again. In every repeat the parts and the wholes take turns, so that
a busy machine slows all of them; printed are medians, and the medians of the ratios within a repeat. Where reading and
network share the cores, the whole can at best take the sum of both; a second network, which sleeps as long as reading
takes and computes nothing, stands for a GPU: there it can take as long as the slower part. Processor time says the
same on a machine that others use, too.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice

import numpy as np
import pandas as pd
import torch

from bonexage_utils.cohort import load_cohort
from bonexage_utils.images import cores, films_ahead, letterbox, read_films
from bonexage_utils.notes import orientation_notes
from bonexage_utils.orientation import thumbnail
from bonexage_utils.prediction import Film, Predictor, batched

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data")
parser.add_argument("checkpoint")
parser.add_argument("--films", type=int, default=300)
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--workers", type=int)
parser.add_argument("--device")
args = parser.parse_args()

predictor = Predictor(args.checkpoint, args.device)
size = predictor.preprocessing.image_size
table = load_cohort(args.data).table
films = pd.DataFrame(islice(cycle(table[["image", "sex"]].to_dict("records")), args.films))
films = films.assign(id=[str(number) for number in range(len(films))], error="")


class Sleeper(Predictor):
    """A network that computes elsewhere: `seconds` a film go by, and no core is used."""

    def __init__(self, seconds: float) -> None:
        self.__dict__ |= predictor.__dict__
        self.seconds = seconds

    def months_and_unfamiliar(self, films: np.ndarray, sexes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(self.seconds * len(films))
        return np.full(len(films), 120.0), np.zeros(len(films), bool)


def seconds(work: Callable[[], object]) -> np.ndarray:
    """On the wall's clock, and of the processors."""
    started = time.perf_counter(), time.process_time()
    work()
    return np.subtract((time.perf_counter(), time.process_time()), started)


def read() -> list[Film]:
    return list(read_films(films["image"].tolist(), lambda film, _: Film(letterbox(film, size), thumbnail(film)),
                           args.workers, films_ahead(size)))


def judge(who: Predictor) -> None:
    """The network and the notes, over films that lie ready."""
    for batch in batched(zip(ready, films["sex"], strict=True), args.batch_size):
        who.months_and_unfamiliar(np.stack([film.square for film, _ in batch]), [sex for _, sex in batch])
        orientation_notes(np.stack([film.thumbnail for film, _ in batch]))


def whole(who: Predictor) -> None:
    for _ in who.stream(films, args.batch_size, args.workers):
        pass


ready = read()
rows = []
for _ in range(args.repeats):
    reading, computing, together, after = (
        seconds(read), seconds(partial(judge, predictor)), seconds(partial(whole, predictor)), seconds(read))
    elsewhere = Sleeper(reading[0] / len(films))
    waiting, asleep = seconds(partial(judge, elsewhere)), seconds(partial(whole, elsewhere))
    ratio = together / ((reading + after) / 2 + computing)
    rows.append({"reading, s": reading[0], "network, s": computing[0], "both, s": together[0], "both / sum": ratio[0],
                 "processor time: both / sum": ratio[1], "network asleep, both, s": asleep[0],
                 "network asleep, both / slower": asleep[0] / max(reading[0], after[0], waiting[0])})
print(f"{len(films):,} films to {size} px, {cores()} cores, {torch.get_num_threads()} threads of torch")
for name in rows[0]:
    values = [row[name] for row in rows]
    print(f"{name:>30} {statistics.median(values):7.3f}   {min(values):.3f} to {max(values):.3f}")
