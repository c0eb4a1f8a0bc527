"""The bake-off of tools/benchmarks/bakeoff.py as recorded: the errors, their intervals, and how they were measured.
What is not in the file yet says "not yet measured"."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from bonexage_utils.course.records import NOT_YET, how_made, read_runs, recorded_claim
from bonexage_utils.figures import ACCENT, BOYS, GIRLS, MUTED, Picture, new_figure
from bonexage_utils.statistics import Interval, paired_over_seeds, verdict

CLAIMS = ("ConvNeXt converges better than ResNet", "ConvNeXt converges better than EfficientNet")
PRETRAINED = "ResNet, phantom weights"
LOOK = {"ConvNeXt": (BOYS, "o", "-"), "ResNet": (ACCENT, "s", "--"), "EfficientNet": (GIRLS, "^", ":"),
        PRETRAINED: (MUTED, "D", "-.")}
FILMS = {"phantom": "the phantom", "rsna100": "real films, 100 px"}


def recorded_runs(folder: Path | None = None, start: str = "none") -> pd.DataFrame:
    """The reported runs of data/reference_runs/bakeoff.csv from weights of the kind `start`, without those that only
    chose a learning rate; empty where there are none."""
    runs = read_runs("bakeoff", folder)
    return runs[(runs["matched"] != "tuning") & (runs["start"] == start)]


def claim_sentences(folder: Path | None = None) -> str:
    """What was measured of each claim on each kind of films, a line each; "not yet measured" where it was not."""
    lines = []
    for claim in CLAIMS:
        for films, name in FILMS.items():
            row = recorded_claim(claim, films, folder)
            lines.append(f"{claim}, {name}: {NOT_YET}" if row is None else
                         f"{name}: {row['a']} minus {row['b']} {row['difference']:+.1f} [{row['low']:+.1f}, "
                         f"{row['high']:+.1f}] months; {row['verdict']}")
    return "\n".join(lines)


def how_baked(folder: Path | None = None) -> str:
    """How the recorded runs were made, a line for each kind of films."""
    runs, lines = recorded_runs(folder), []
    for films, name in FILMS.items():
        group = runs[(runs["films"] == films) & (runs["matched"] == "time")]
        if group.empty:
            lines.append(f"{name}: {NOT_YET}.")
            continue
        row = group.iloc[0]
        lines.append(f"{name}: {row.seconds:g} s of computing a run, {group['seed'].nunique()} seeds, "
                     f"{row.trained_on} films at {row.size_px} px; {how_made(row)}; "
                     "python -m tools.benchmarks.bakeoff.")
    return "\n".join(lines)


def pretraining_gain(films: str, folder: Path | None = None) -> Interval | None:
    """MAE of the ResNet with phantom weights minus that of the same from random ones, for the same time, months; None
    where it is not measured."""
    runs = recorded_runs(folder)
    errors = _errors(runs[(runs["films"] == films) & (runs["matched"] == "time")])
    pretrained, random = (errors.get(arm, {}) for arm in (PRETRAINED, "ResNet"))
    seeds = sorted(pretrained.keys() & random.keys())
    if len(seeds) < 2:
        return None
    return paired_over_seeds(*(np.stack([of[seed] for seed in seeds]) for of in (pretrained, random)))


def gain_sentences(folder: Path | None = None) -> str:
    """`pretraining_gain` in words, a line for each kind of films."""
    lines = []
    for films, name in FILMS.items():
        gain = pretraining_gain(films, folder)
        lines.append(f"{name}: {NOT_YET}" if gain is None else
                     f"{name}: {gain} months, {verdict(gain, 'pretrained', 'random')}")
    return "\n".join(lines)


def draw_bakeoff(folder: Path | None = None) -> Picture:
    """Training error over the same time, a panel for each kind of films: the mean of the seeds, and at the right end
    each seed's error on the calibration films."""
    runs = recorded_runs(folder)
    runs = runs[runs["matched"] == "time"]
    figure, axes = new_figure(9.5, 4, 1, len(FILMS))
    parts = []
    for ax, (films, name) in zip(axes, FILMS.items(), strict=True):
        group = runs[runs["films"] == films]
        ax.set(title=name, xlabel="seconds of computing", ylim=(0, 60))
        if group.empty:
            ax.text(0.5, 0.5, NOT_YET, ha="center", transform=ax.transAxes, color=MUTED)
            parts.append(f"{name}: {NOT_YET}")
            continue
        budget, by_arm = float(group["seconds"].iloc[0]), []
        for place, (arm, (colour, marker, line)) in enumerate(LOOK.items()):
            part = group[group["arm"] == arm]
            if part.empty:
                continue
            curve = np.mean([np.fromstring(text, sep=" ") for text in part["curve"]], axis=0)
            ax.plot((np.arange(len(curve)) + 0.5) * budget / len(curve), curve, color=colour, linestyle=line, label=arm)
            ax.plot(np.full(len(part), budget * (1.04 + 0.035 * place)), part["mae"], marker, color=colour,
                    markersize=5, markerfacecolor="none")
            by_arm.append(f"{arm} {part['mae'].mean():.1f} (seeds {part['mae'].min():.1f} to {part['mae'].max():.1f})")
        # right of the line there is no time: a point's place there only keeps the arms apart
        ticks = np.linspace(0, budget, 4)
        ax.set(xlim=(0, budget * 1.2), xticks=[*ticks, budget * 1.09])
        ax.set_xticklabels([*(f"{tick:.0f}" for tick in ticks), "new\nfilms"])
        ax.axvline(budget, color=MUTED, linewidth=0.8)
        guess = group["baseline"].iloc[0]
        ax.axhline(guess, color="black", linestyle=(0, (1, 3)), linewidth=1.2, label="median by sex")
        parts.append(f"{name}: {', '.join(by_arm)}; the median by sex {guess:.1f}, a dotted line")
    axes[0].set_ylabel("MAE (months)")
    handles = [ax.get_legend_handles_labels() for ax in axes]
    figure.legend(*max(handles, key=lambda pair: len(pair[0])), loc="outside lower center", ncols=5, fontsize=9)
    return Picture(figure, f"""Error of the films in training, in months, against seconds of computing, a line for each
        backbone (mean of the seeds), and right of the end each seed's error on the calibration films. After the same
        time: {'; '.join(parts)}.""")


# --- all three pretrained alike ---

MATCHED = {"frozen": "a head on the frozen backbone", "time": "trained whole for equal time",
           "updates": "trained whole for equal updates"}


def question(weights: str, epochs: Iterable[float]) -> str:
    """What a comparison of runs from `weights` asks: pretrained ones reach an end, but not within their first epoch."""
    return "ends lower" if weights != "none" and min(epochs) >= 1 else "starts sooner"


def pretrained_runs(folder: Path | None = None) -> dict[str, pd.DataFrame]:
    """The runs of backbones that were all pretrained alike, by what they learned from, such as "the phantom, 1,789"."""
    runs = recorded_runs(folder, "phantom").sort_values(["films", "trained_on"])
    return {f"{FILMS.get(films, films)}, {trained_on:,}": group
            for (films, trained_on), group in runs.groupby(["films", "trained_on"])}


def pretrained_sentences(folder: Path | None = None) -> str:
    """ConvNeXt minus each rival, paired over films and seeds, a line for each kind and number of training films."""
    lines = []
    for name, group in pretrained_runs(folder).items():
        for matched, words in MATCHED.items():
            part = group[group["matched"] == matched]
            errors = _errors(part) if "ConvNeXt" in set(part["arm"]) else {}
            if matched == "time" and errors:
                words += f", {part['seconds'].iloc[0]:g} s of one core each"
            for rival in [arm for arm in errors if arm != "ConvNeXt"]:
                seeds = sorted(errors["ConvNeXt"].keys() & errors[rival].keys())
                apart = paired_over_seeds(*(np.stack([errors[arm][seed] for seed in seeds])
                                            for arm in ("ConvNeXt", rival)))
                what = question("phantom", part.loc[part["arm"].isin(["ConvNeXt", rival]), "epochs"])
                lines.append(f"{name}, {words}: ConvNeXt minus {rival} {apart} months; "
                             f"{verdict(apart, 'ConvNeXt', rival, what)}")
    return "\n".join(lines) or f"All pretrained alike: {NOT_YET}."


def _errors(runs: pd.DataFrame) -> dict[str, dict[int, np.ndarray]]:
    return {arm: {row.seed: np.fromstring(row.errors, sep=" ") for row in group.itertuples()}
            for arm, group in runs.groupby("arm", sort=False)}


def draw_pretrained(folder: Path | None = None) -> Picture:
    """The MAE of films that had no part against the films learned from, a panel for each way to learn that is recorded:
    a small mark for each seed, a large one for their mean."""
    by_films, parts = pretrained_runs(folder), []
    ways = [matched for matched in MATCHED if any((group["matched"] == matched).any() for group in by_films.values())]
    figure, axes = new_figure(4 + 3 * max(1, len(ways)), 4, 1, max(1, len(ways)), sharey=True, squeeze=False)
    for ax, matched in zip(axes.flat, ways, strict=False):  # one stays empty where nothing is recorded
        ax.set(title=MATCHED[matched], xlabel="films learned from")
        for place, (name, group) in enumerate(by_films.items()):
            part, said = group[group["matched"] == matched], []
            if part.empty:
                ax.text(place, 1, NOT_YET, rotation=90, ha="center", va="bottom", color=MUTED)
                parts.append(f"{name}, {MATCHED[matched]}: {NOT_YET}")
                continue
            first = not ax.get_legend_handles_labels()[1]
            for shift, (arm, (colour, marker, _)) in zip((-0.2, 0, 0.2), list(LOOK.items())[:3], strict=True):
                mae = part.loc[part["arm"] == arm, "mae"]
                ax.plot(np.full(len(mae), place + shift), mae, marker, color=colour, markersize=4, alpha=0.5)
                ax.plot(place + shift, mae.mean(), marker, color=colour, markersize=9, label=arm if first else None)
                said.append(f"{arm} {mae.mean():.1f}")
            guess = group["baseline"].iloc[0]
            ax.hlines(guess, place - 0.4, place + 0.4, color="black", linestyle=(0, (1, 3)),
                      label="median by sex" if first else None)
            parts.append(f"{name}, {MATCHED[matched]}: {', '.join(said)}, the median by sex {guess:.1f}")
        ax.set_xticks(range(len(by_films)), [name.replace(", 100 px", "").replace(", ", "\n") for name in by_films])
        ax.set(xlim=(-0.5, len(by_films) - 0.5))
        ax.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("MAE (months)")
    if ways:
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    else:
        axes[0, 0].text(0.5, 0.5, NOT_YET, ha="center", transform=axes[0, 0].transAxes, color=MUTED)
    return Picture(figure, f"""Mean absolute error in months on films that had no part, by the films learned from, for
        three backbones that were all pretrained alike. {'; '.join(parts) or NOT_YET}.""")
