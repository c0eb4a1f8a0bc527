"""Does the network know when not to answer? Scores that may tell, on films that are no hand or lie otherwise.

    python -m tools.benchmarks.notes phantom RUN/model.safetensors COHORT --learn calibration --usual test \
        --elsewhere "phantoms, site A"=A "native films"=NATIVE

What is usual is learned from the split `--learn` (at most 500 films, as `bonexage evaluate --calibrate` does), and odd
films (`odd_films`) are made of the split `--usual`; the network may have been trained on neither. Each row of notes.csv
is one set of films: the share that each score puts above the 99th percentile of the usual films, and the share with
each note that `bonexage predict` gives, its threshold being the one that was learned. A set that stands there is not
done again.
"""

import argparse
from collections.abc import Callable
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import torch

from bonexage_utils.batches import film_key
from bonexage_utils.cohort import folders, load_cohort
from bonexage_utils.course.nb09.odd_films import HEIGHT, ODD
from bonexage_utils.decoding import read_gray
from bonexage_utils.devices import to_network
from bonexage_utils.familiarity import AXES, FEWEST, Familiarity, map_statistics
from bonexage_utils.images import letterbox
from bonexage_utils.notes import NOTES, UNLIKE, orientation_notes
from bonexage_utils.orientation import is_blank, thumbnail
from bonexage_utils.prediction import Predictor, batched
from bonexage_utils.statistics import bootstrap_mean
from tools.benchmarks.table import Table, commit, hardware

MOST, OF_EACH = 500, 60  # films learned from, films of each odd kind
Seen = dict[str, np.ndarray]
Score = Callable[[Seen], np.ndarray]


@torch.inference_mode()
def look(predictor: Predictor, films: list[np.ndarray]) -> Seen:
    """What the scores go by, of each film: the network's pooled features (GeM's), statistics of its maps, the months
    that it gives to a girl and to a boy, and how far ten passes with dropout lie apart; thumbnails for the notes."""
    parts = []
    model, size = predictor.model, predictor.preprocessing.image_size
    for batch in batched(films, 32):
        squares = torch.from_numpy(np.stack([letterbox(film, size) for film in batch]))
        maps = model.features(to_network(squares, predictor.preprocessing, predictor.device))
        girls = torch.zeros(len(batch), dtype=torch.long)
        torch.manual_seed(0)
        model.head.train()
        spread = torch.stack([model.from_map(maps, girls) for _ in range(10)]).std(0)
        model.head.eval()
        sexes = [model.from_map(maps, girls + sex) for sex in (0, 1)]
        parts.append({"pooled": model.pool(maps), "maps": map_statistics(maps), "dropout": spread,
                      "sexes": torch.stack(sexes, 1)})
    seen = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    return seen | {"thumbnails": np.stack([thumbnail(film) for film in films])}


def nearest(known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    spread = known.std(0) + 1e-6
    return lambda new: np.array([np.sort((((one - known) / spread) ** 2).sum(1))[4] for one in new])


def principal(known: np.ndarray, along: bool, beyond: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Squared distance along the first AXES principal directions, or beyond them, or both."""
    fitted = Familiarity.fit(torch.from_numpy(known))
    def score(new: np.ndarray) -> np.ndarray:
        values = (torch.from_numpy(new).float() - fitted.mean) / fitted.spread
        inside = values @ fitted.axes
        rest = (values**2).sum(1) - (inside**2).sum(1)
        return (along * (inside**2 / fitted.variances).sum(1) + beyond * rest / fitted.rest).numpy()
    return score


def scores(usual: Seen) -> dict[str, Score]:
    """Every candidate, fitted on `usual`, the higher the stranger."""
    pooled, mean = usual["pooled"], usual["pooled"].mean(0)
    level = lambda seen: seen["pooled"] / seen["pooled"].mean(1, keepdims=True)  # noqa: E731
    plain, relative = principal(pooled, True, True), principal(level(usual), True, True)
    mahalanobis, residual = principal(pooled, True, False), principal(pooled, False, True)
    neighbour, maps = nearest(pooled), principal(usual["maps"], True, True)
    age, spread = usual["sexes"].mean(), usual["sexes"].mean(1).std()
    return {
        "pooled: each feature": lambda seen: (((seen["pooled"] - mean) / (pooled.std(0) + 1e-6)) ** 2).sum(1),
        "pooled: cosine": lambda seen: 1 - seen["pooled"] @ mean / np.linalg.norm(seen["pooled"], axis=1),
        "pooled: 5th neighbour": lambda seen: neighbour(seen["pooled"]),
        f"pooled: {AXES} axes": lambda seen: mahalanobis(seen["pooled"]),
        f"pooled: beyond {AXES} axes": lambda seen: residual(seen["pooled"]),
        "pooled: both": lambda seen: plain(seen["pooled"]),
        "pooled, relative: both": lambda seen: relative(level(seen)),
        "maps, mean and spread, relative: both": lambda seen: maps(seen["maps"]),
        "extreme age": lambda seen: np.abs(seen["sexes"].mean(1) - age) / spread,
        "girl against boy": lambda seen: np.abs(seen["sexes"][:, 0] - seen["sexes"][:, 1]),
        "dropout": lambda seen: seen["dropout"],
    }


def raised(film: np.ndarray) -> np.ndarray:
    """At least as high as what is drawn from nothing."""
    scale = max(1.0, HEIGHT / len(film))
    return cv2.resize(film, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--learn", default="calibration")
    parser.add_argument("--usual", default="test")
    parser.add_argument("--elsewhere", nargs="*", default=[], metavar="WORDS=FOLDER")
    parser.add_argument("--out", type=Path, default=Path("data/reference_runs"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    predictor, cohort = Predictor(given.checkpoint, "cpu"), load_cohort(given.cohort)
    table = Table(given.out / "notes.csv", {"network": given.name})
    learn = cohort.split(given.learn)["image"].to_numpy()
    learn = learn[np.random.default_rng(0).permutation(len(learn))[:MOST]]
    known = look(predictor, [read_gray(path) for path in learn])
    familiarity = Familiarity.learn(torch.from_numpy(known["maps"]))
    assert familiarity, f"it takes {FEWEST} films to learn what is usual"
    rank = scores(known)
    usual_paths, usual_ids = (cohort.split(given.usual)[name].tolist() for name in ("image", "id"))
    usual = look(predictor, [read_gray(path) for path in usual_paths])
    limits = {name: np.quantile(score(usual), 0.99) for name, score in rank.items()}

    def add(films: str, seen: Seen) -> None:
        notes = orientation_notes(seen["thumbnails"])
        unlike = familiarity.unfamiliar(torch.from_numpy(seen["maps"]))
        blank = np.array([is_blank(picture) for picture in seen["thumbnails"]])
        noticed = np.array([note != "" for note in notes]) | unlike | blank
        row = {"films": films, "n": len(blank)}
        for name, found in (("noticed", noticed), (UNLIKE, unlike)):
            share = bootstrap_mean(found.astype(float))
            row |= {name: share.value, f"{name}, low": share.low, f"{name}, high": share.high}
        row |= {"blank": blank.mean()} | {note: np.mean([note in text for text in notes]) for note in NOTES[:-1]}
        for name, score in rank.items():
            share = bootstrap_mean((score(seen) > limits[name]).astype(float))
            row |= {name: share.value, f"{name}, low": share.low, f"{name}, high": share.high}
        table.add(row | {"learned from": len(learn), "hardware": hardware(), "commit": commit(),
                         "date": date.today().isoformat()})
        print(f"{films}: noticed {row['noticed']:.0%}", flush=True)

    if not table.rows(films=f"usual, {given.usual}"):
        add(f"usual, {given.usual}", usual)
    # RSNA's ids are in the order of its sources, so the first films are of one kind.
    chosen = sorted(zip(usual_ids, usual_paths, strict=True), key=lambda film: film_key(film[0]))[:OF_EACH]
    some = [(film_key(film), raised(read_gray(path))) for film, path in chosen]
    for number, (name, odd) in enumerate(ODD.items()):
        if not table.rows(films=name):
            add(name, look(predictor, [odd(film, np.random.default_rng([number, key])) for key, film in some]))
    for words in given.elsewhere:
        name, _, folder = words.rpartition("=")
        if not table.rows(films=name):
            paths = [film.path for _, films, _ in folders(Path(folder)) for film in films]
            add(name, look(predictor, [read_gray(path) for path in paths]))


if __name__ == "__main__":
    main()
