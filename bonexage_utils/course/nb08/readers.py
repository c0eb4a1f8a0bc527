"""Made-up readers and models for two figures of notebook 08 that exercises ask about."""

from typing import Any

import numpy as np

from bonexage_utils.course.nb08.residuals import signed
from bonexage_utils.course.start import Course
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, new_figure
from bonexage_utils.statistics import Interval, agreement, bootstrap_mean, paired_difference

READERS = "ABCD"
FILMS = 160


def four_readers(course: Course) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Labels (n,) of films outside the test, and the errors (n,) of four made-up readers of them, months."""
    films = course.cohort.table[course.cohort.table["split"] != "test"].dropna(subset=["months"])
    labels, rng = films["months"].head(FILMS).to_numpy(), np.random.default_rng(5)
    noise = {name: rng.normal(0.0, 1.0, len(labels)) for name in READERS}
    slips = rng.permutation(len(labels))[: max(2, len(labels) // 20)]
    wild = 5 * noise["D"]
    wild[slips] += np.where(np.arange(len(slips)) % 2, 55.0, -55.0)
    return labels, {"A": 11 + 5 * noise["A"], "B": 15 * noise["B"],
                    "C": -0.25 * (labels - labels.mean()) + 5 * noise["C"], "D": wild}


def draw_readers(course: Course) -> Picture:
    """Bland–Altman plots of the four readers, with bias and limits of agreement."""
    labels, errors = four_readers(course)
    figure, axes = new_figure(7.4, 4.6, 2, 2, sharex=True, sharey=True)
    parts = []
    for ax, (name, error) in zip(axes.flat, errors.items(), strict=True):
        found = agreement(labels + error, labels)
        ax.plot(labels + error / 2, error, "o", color=BOYS, markersize=3, alpha=0.6)
        for line, dashes in ((found.bias, "-"), (found.lower, "--"), (found.upper, "--")):
            ax.axhline(line.value, color=ACCENT, linestyle=dashes)
        ax.axhline(0, color=MUTED, linewidth=0.8)
        ax.set_title(f"reader {name}: bias {signed(found.bias.value)}, limits {signed(found.lower.value)} to "
                     f"{signed(found.upper.value)}", fontsize=9)
        by_mean, third = error[np.argsort(labels + error / 2)], len(error) // 3
        parts.append(f"{name}: bias {signed(found.bias.value)} months, limits {signed(found.lower.value)} to "
                     f"{signed(found.upper.value)}; the third of lowest mean is off by "
                     f"{signed(by_mean[:third].mean())} on average, that of highest by "
                     f"{signed(by_mean[-third:].mean())}; the largest error is "
                     f"{np.abs(error).max():.0f}")
    for ax in axes[-1]:
        ax.set_xlabel("mean of reading and label (months)")
    for ax in axes[:, 0]:
        ax.set_ylabel("reading − label (months)")
    return Picture(figure, f"Bland–Altman plots of four readers on {len(labels)} films. {'; '.join(parts)}.")


def comparisons() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Made-up absolute errors (FILMS,) of a model X and a model Y on the same films, three times, months."""
    rng = np.random.default_rng(2)
    size = -7.0 * np.log(1 - (np.arange(FILMS) + 0.5) / FILMS)  # an exponential distribution, evenly, mean seven

    def mixed(values: np.ndarray) -> np.ndarray:
        return rng.permutation(values)

    shared, nearly = mixed(size), 1 + 0.15 * np.tile([-1, 1], FILMS // 2)
    one = (shared, np.abs(shared - 1.2 + mixed(np.tile([-2.0, 2.0], FILMS // 2))))
    two = (mixed(1.09 * size), mixed(0.91 * size))
    three = tuple(mixed(np.stack([size, size * nearly], axis=1)).T)
    return {"1": one, "2": two, "3": three}


def draw_three_comparisons() -> Picture:
    """Both MAEs with intervals, and the paired difference with its, for each of `comparisons`."""
    figure, axes = new_figure(9, 3.2, 2, 3, sharex="row", height_ratios=[2, 1])
    parts = []
    for (top, bottom), (name, (x, y)) in zip(axes.T, comparisons().items(), strict=True):
        for place, (model, errors) in enumerate((("X", x), ("Y", y))):
            mean = bootstrap_mean(errors)
            _dot(top, mean, place, BOYS)
            parts.append(f"comparison {name}, {model} {mean.value:.1f} [{mean.low:.1f}, {mean.high:.1f}]")
        apart = paired_difference(y, x)
        _dot(bottom, apart, 0, ACCENT)
        bottom.axvline(0, color="black", linewidth=0.8)
        top.set(title=f"comparison {name}", yticks=(0, 1), ylim=(1.5, -0.5), xlabel="MAE (months)")
        top.set_yticklabels(["X", "Y"])
        bottom.set(yticks=[0], ylim=(0.5, -0.5), xlabel="Y − X, film by film (months)")
        bottom.set_yticklabels(["Y − X"])
        parts.append(f"Y minus X {apart.value:+.1f} [{apart.low:+.1f}, {apart.high:+.1f}]")
    return Picture(figure, f"Three comparisons of two models, MAE in months with 95 % interval: {'; '.join(parts)}.")


def _dot(ax: Any, mean: Interval, place: float, colour: str) -> None:
    ax.errorbar(mean.value, place, xerr=[[mean.value - mean.low], [mean.high - mean.value]], fmt="o", color=colour,
                capsize=4)
