"""Notebook 10's critique clinic: six sentences of invented model cards, and the numbers that lie behind each.

The models are the smallest there are: a straight line (ridge regression) on what the course's frozen backbone says of a
film, or the label of the film that is most alike. All of it is computed from phantoms, and the same every time.
"""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bonexage_utils.augment import augment
from bonexage_utils.batches import FilmDataset, film_sets
from bonexage_utils.cohort import SPLITS, load_cohort
from bonexage_utils.course.frozen import BACKBONE, Maps, frozen_maps
from bonexage_utils.course.sliders import Slider, slider
from bonexage_utils.course.start import Course, sample_cohort
from bonexage_utils.figures import ACCENT, MUTED, Picture, new_figure
from bonexage_utils.images import Preprocessing, measure_intensity
from bonexage_utils.phantom import write_cohort
from bonexage_utils.phantom.dataset import TRUTH_FILE
from bonexage_utils.phantom.labels import read_by_rater
from bonexage_utils.settings import Augmentation
from bonexage_utils.statistics import agreement, half_width

FILMS, SIDE = 1000, 128  # at most so many films; px
LOOSE, FIRM = 1.0, 100.0  # penalties: one that lets a line learn films by heart, and a sensible one
VARIANTS, COLUMNS, CHOOSING = 200, 40, 30  # tried out, numbers of a film that each sees, films that choose
SEEDS, SEEN = 10, 200
AGAIN = Augmentation(rotation=3, shift=0.02, scale=0.03, brightness=0.03, contrast=0.05, gamma=0.05, occlusion=0)
COVERAGE = 0.9
TRIED = (1, 20, VARIANTS)
STEPS_TRIED = (*range(1, 11), 15, 20, *range(30, 101, 10), 125, 150, 175, VARIANTS)  # of the slider


@dataclass(frozen=True)
class Claim:
    """`card`: what the card says. `data`: what lies behind it, months. `beside`: what only the simulator knows."""

    card: str
    data: pd.DataFrame
    beside: str = ""


@dataclass(frozen=True)
class Evidence:
    """n films: `numbers` (n, p) of each, standardised, of which the last tells the sex; `months` (label), `truth` (true
    bone age), `boy`, and whether a model may have `learned` from it, all (n,). `again` (m, p): the first m films, laid
    down a second time."""

    numbers: np.ndarray
    months: np.ndarray
    truth: np.ndarray
    boy: np.ndarray
    learned: np.ndarray
    again: np.ndarray


def claims(course: Course) -> dict[str, Claim]:
    """The six claims by letter, of the embedded cohort; where the films are real, of phantoms drawn for it."""
    folder = course.cohort.root if course.embedded else _drawn(course.seed)
    return _claims(folder, FILMS)


@cache
def _drawn(seed: int) -> Path:
    folder = tempfile.TemporaryDirectory()
    _kept.append(folder)  # goes when the program ends
    return write_cohort(Path(folder.name) / "phantom", FILMS // 2, seed)


_kept: list[tempfile.TemporaryDirectory] = []


@cache
def _claims(folder: Path, films: int) -> dict[str, Claim]:
    found = gather(folder, films)
    makers = (trained_on, chosen_by, one_seed, twins, calibrated_on, second_reader)
    return {letter: maker(found) for letter, maker in zip("ABCDEF", makers, strict=True)}


def gather(folder: Path, films: int) -> Evidence:
    """Look at the films of a phantom cohort, at most so many, with the frozen backbone."""
    cohort = load_cohort(folder)
    cohort = sample_cohort(cohort, films) if len(cohort) > films else cohort
    sets, parts, _ = film_sets(cohort, SPLITS, SIDE)
    table = pd.concat(parts.values())  # the training films first
    pixels, rows = sets["train"].films, table.index.to_numpy()
    scale = Preprocessing(SIDE, *measure_intensity(pixels, sets["train"].rows))

    def look(dataset: FilmDataset) -> np.ndarray:
        return _pooled(frozen_maps(BACKBONE, "phantom", dataset, scale))

    numbers = look(FilmDataset(pixels, rows, table))
    train = table[table["split"] == "train"]
    some = train.iloc[: len(train) // 2]
    once_more = FilmDataset(_laid_again(pixels[some.index], some["id"]), np.arange(len(some)), some)
    count = len(train)
    mean, spread = numbers[:count].mean(0), np.maximum(numbers[:count].std(0), 1e-6)
    truth = pd.read_csv(folder / TRUTH_FILE, dtype={"id": str}).set_index("id")["bone_age_months"]
    return Evidence((numbers - mean) / spread, table["months"].to_numpy(), truth[table["id"]].to_numpy(),
                    (table["sex"] == "M").to_numpy(), np.arange(len(table)) < count,
                    (look(once_more) - mean) / spread)


def _pooled(maps: Maps) -> np.ndarray:
    """Mean and spread of every channel of the last map, and the sex: (n, 2 C + 1)."""
    places = maps.maps.float().flatten(2)
    return torch.cat([places.mean(2), places.std(2), maps.sex[:, None].float()], 1).double().numpy()


def _laid_again(pixels: np.ndarray, ids: pd.Series) -> np.ndarray:
    """The same hands, turned, moved and exposed a little differently: uint8 (n, S, S)."""
    films = torch.from_numpy(np.array(pixels))[:, None].float() / 255
    changed = augment(films, torch.arange(len(ids)), 0, 0, AGAIN)
    return (changed[:, 0] * 255).round().clamp(0, 255).byte().numpy()


def fit_line(numbers: np.ndarray, months: np.ndarray, penalty: float, new: np.ndarray) -> np.ndarray:
    """What a ridge regression, fitted to `numbers` (n, p) and `months` (n,), says of `new` (m, p): months (m,)."""
    middle = months.mean()
    square = numbers.T @ numbers + penalty * np.eye(numbers.shape[1])
    return middle + new @ np.linalg.solve(square, numbers.T @ (months - middle))


def _fitted(found: Evidence, penalty: float) -> np.ndarray:
    return fit_line(found.numbers[found.learned], found.months[found.learned], penalty, found.numbers)


def _partly_fitted(found: Evidence, rng: np.random.Generator, columns: int) -> np.ndarray:
    """Absolute errors, months, on the films not learned from, of a line that saw half of the films, and of each some of
    its numbers and the sex."""
    train = np.flatnonzero(found.learned)
    rows = rng.permutation(train)[: len(train) // 2]
    sex = found.numbers.shape[1] - 1
    seen = [*rng.permutation(sex)[:columns], sex]
    said = fit_line(found.numbers[np.ix_(rows, seen)], found.months[rows], FIRM,
                    found.numbers[np.ix_(~found.learned, seen)])
    return np.abs(said - found.months[~found.learned])


# --- the six ---

def trained_on(found: Evidence) -> Claim:
    """A: the error of the films that it learned from, sold as accuracy. Columns: learned, label, predicted."""
    data = pd.DataFrame({"learned": found.learned, "label": found.months, "predicted": _fitted(found, LOOSE)})
    data["predicted"] = data["predicted"].round(2)
    error = (data["predicted"] - data["label"]).abs()[data["learned"]].mean()
    return Claim(f"Accuracy: off by {error:.1f} months on average ({found.learned.sum():,} films).", data)


def chosen_by(found: Evidence) -> Claim:
    """B: the best of many variants by the test films. A row for each variant: its MAE on the test films and on new
    ones."""
    rng = np.random.default_rng(0)
    errors = np.stack([_partly_fitted(found, rng, COLUMNS) for _ in range(VARIANTS)])
    few = min(CHOOSING, errors.shape[1] // 2)
    data = pd.DataFrame({"test": errors[:, :few].mean(1), "new": errors[:, few:].mean(1)}).round(3)
    data = data.rename_axis("variant")
    return Claim(f"MAE on the independent test set: {data['test'].min():.1f} months. (The best of {VARIANTS} variants, "
                 f"{few} test films.)", data)


def choose_tried(data: pd.DataFrame) -> Slider:
    """A slider over how many of claim B's variants were tried, and the picture of `draw_winner`."""
    return slider(lambda tried: draw_winner(data, (tried,)), STEPS_TRIED, TRIED[1], "variants tried")


def draw_winner(data: pd.DataFrame, tried: tuple[int, ...] = TRIED) -> Picture:
    """The variants of claim B (`test`, `new`) that were tried, and the one with the lowest error on the test films; a
    panel for each number of them."""
    figure, axes = new_figure(1.4 + 2.6 * len(tried), 3.4, 1, len(tried), sharey=True, squeeze=False)
    parts = []
    for ax, count in zip(axes[0], tried, strict=True):
        some = data.iloc[:count]
        winner = some.loc[some["test"].idxmin()]
        ax.plot(some["test"], some["new"], "o", color=MUTED, markersize=4, alpha=0.5, label="tried")
        ax.plot(winner["test"], winner["new"], "D", color=ACCENT, markersize=8, label="on the card")
        ax.axhline(data["new"].mean(), color="black", linestyle=":", linewidth=1, label="mean of all variants")
        ax.axvline(data["test"].mean(), color="black", linestyle=":", linewidth=1)
        ax.set(title=f"{count} tried", xlabel="MAE on the test films (months)", xlim=_around(data["test"]),
               ylim=_around(data["new"]))
        parts.append(f"of {count} the winner has {winner['test']:.1f} on the test films and {winner['new']:.1f} on the "
                     "new ones")
    axes[0, 0].set_ylabel("MAE on new films (months)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return Picture(figure, f"""Points, one for each variant tried: its mean absolute error in months on the test films,
        horizontally, and on new films, vertically, and dotted lines at the means of all, {data['test'].mean():.1f} and
        {data['new'].mean():.1f}. {'; '.join(parts).capitalize()}.""")


def _around(values: pd.Series) -> tuple[float, float]:
    margin = 0.1 * np.ptp(values)
    return values.min() - margin, values.max() + margin


def one_seed(found: Evidence) -> Claim:
    """C: a gain that one seed shows. A row for each seed: the MAE of both on the same films. They are one recipe."""
    arms = {name: [_partly_fitted(found, np.random.default_rng([seed, arm]), SEEN).mean() for seed in range(SEEDS)]
            for arm, name in enumerate(("ours", "theirs"))}
    data = pd.DataFrame(arms).rename_axis("seed")
    shown = (data["ours"] - data["theirs"]).idxmin()
    ours, theirs = data.loc[shown]
    return Claim(f"Our new head is {theirs - ours:.1f} months better than theirs ({ours:.1f} against {theirs:.1f}, the "
                 f"same films, seed {shown}).", data, "the two are one and the same recipe under two names")


def twins(found: Evidence) -> Claim:
    """D: films of one child on both sides of a split. Columns: child, learned, label, predicted (of films not learned)
    by the learned film that is most alike."""
    m = len(found.again)
    rng = np.random.default_rng(0)
    child = np.r_[np.flatnonzero(found.learned), np.arange(m)]
    numbers = np.concatenate([found.numbers[found.learned], found.again])
    numbers = numbers / np.linalg.norm(numbers, axis=1, keepdims=True)
    learned = rng.random(len(child)) < 0.75  # film by film
    nearest = (numbers[~learned] @ numbers[learned].T).argmax(1)
    data = pd.DataFrame({"child": child, "learned": learned, "label": found.months[child], "predicted": np.nan})
    data.loc[~learned, "predicted"] = data.loc[learned, "label"].to_numpy()[nearest]
    error = (data["predicted"] - data["label"]).abs().mean()
    return Claim(f"MAE {error:.1f} months on {(~learned).sum():,} films that it was not trained on, drawn at random.",
                 data)


def calibrated_on(found: Evidence) -> Claim:
    """E: intervals learned from films that the model was trained on. Columns: learned, label, low, high."""
    said = _fitted(found, LOOSE)
    half = half_width((said - found.months)[found.learned], COVERAGE)
    data = pd.DataFrame({"learned": found.learned, "label": found.months, "low": (said - half).round(2),
                         "high": (said + half).round(2)})
    return Claim(f"With each age comes its interval, ± {half:.1f} months: it holds {COVERAGE:.0%} of labels.", data)


def second_reader(found: Evidence) -> Claim:
    """F: a mean held against the limits of two readers. Columns: label, second reader and network, of films that it did
    not learn from."""
    new = np.flatnonzero(~found.learned)
    second = np.array([read_by_rater(found.truth[row], "M" if found.boy[row] else "F", np.random.default_rng([1, row]))
                       for row in new], float)
    label, network = found.months[new], _fitted(found, FIRM)[new].round(1)
    data = pd.DataFrame({"label": label, "second_reader": second, "network": network})
    readers = agreement(second, label)
    reach = (readers.upper.value - readers.lower.value) / 2
    inside = (np.abs(network - label) <= reach).mean()
    off = {name: np.abs(said - found.truth[new]).mean() for name, said in (("network", network), ("reader", second))}
    return Claim(f"Two radiologists agree within ± {reach:.0f} months. {inside:.0%} of our network's answers are that "
                 "near to the label: as good as a radiologist.", data,
                 f"from the true bone age the network is off by {off['network']:.1f} months, the second reader by "
                 f"{off['reader']:.1f}")
