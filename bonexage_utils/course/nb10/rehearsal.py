"""Notebook 10's own run: the learner's films (another hospital's phantoms where there are none), a recipe, a run that
is stopped and resumed, and the commands as one would type them."""

import contextlib
import io
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.course.frozen import frozen_backbone
from bonexage_utils.course.start import Course
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import read_predictions, read_truth
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, new_figure
from bonexage_utils.phantom import write_cohort
from bonexage_utils.phantom.dataset import VERSION
from bonexage_utils.phantom.nuisances import SITES
from bonexage_utils.settings import TrainConfig
from bonexage_utils.statistics import RESAMPLES, SMALLEST_GROUP, Interval, bootstrap_mean, share
from bonexage_utils.training import train

OWN_SEED, OWN_SITE = 10, "B"  # children who are in no cohort of the course, on another scanner, read by another reader
OWN_FILMS = {"fast": 240, "cpu": 1200, "gpu": 2400}
EPOCHS = {"fast": 3, "cpu": 10, "gpu": 20}
STOP_AFTER = {"fast": 1, "cpu": 4, "gpu": 2}  # epochs: then the run is stopped, to see it go on


def own_cohort(course: Course) -> tuple[Path, Cohort]:
    """The folder and the cohort to train on, the folder relative to the course's own: the films that the learner has
    given, else phantoms of site B, drawn once."""
    if not course.embedded:
        return _from_course(course, course.cohort.root), course.cohort
    folder = course.folder / "data" / f"phantom-b-{OWN_FILMS[course.profile.name]}-v{VERSION}"
    if not folder.is_dir():
        try:
            write_cohort(folder, OWN_FILMS[course.profile.name], OWN_SEED, site=OWN_SITE)
        except (BoneXageError, OSError):
            if not folder.is_dir():  # else another notebook was quicker, and its cohort is the same
                raise
    return _from_course(course, folder), load_cohort(folder)


def _from_course(course: Course, path: Path) -> Path:
    path = Path(os.path.abspath(path))  # a link stays a link
    return path.relative_to(course.folder) if path.is_relative_to(course.folder) else path


def course_films(course: Course) -> Path:
    """The folder of the course's own films, relative to the course's folder."""
    return _from_course(course, course.cohort.root)


def recipe(course: Course) -> TrainConfig:
    """The full recipe on real films with a GPU that reaches ImageNet weights; else what this machine can do."""
    backbone, weights, size = frozen_backbone(course.profile)
    if weights == "imagenet" and not course.embedded:
        return TrainConfig()
    name = course.profile.name
    return TrainConfig(backbone=backbone, image_size=size, epochs=EPOCHS[name], batch_size=course.profile.batch_size,
                       grad_accum=1, lr=1e-3 if weights == "phantom" else 2e-4, weights=weights, seed=course.seed)


def run_folder(course: Course) -> Path:
    """The run's folder, relative to the course's. A run on phantoms starts anew every time; one on real films is kept
    and resumed."""
    run = Path("checkpoints") / f"nb10-{'site-b' if course.embedded else 'own'}-{course.profile.name}"
    if course.embedded:
        shutil.rmtree(course.folder / run, ignore_errors=True)
    return run


def train_until(course: Course, cohort: Cohort, run: Path, config: TrainConfig, stop_after: int | None = None) -> str:
    """Train into `run`, going on with what is there; Ctrl-C after epoch `stop_after`. Prints a line an epoch, and
    returns the run's last message."""

    def print_epoch(row: dict) -> None:
        sys.stderr.flush()  # as in `_SplitOutput`
        print(f"epoch {row['epoch']:2}: training {row['train_mae_months']:5.1f}, selection "
              f"{row['selection_mae_months']:5.1f} months")
        if row["epoch"] == stop_after:
            signal.raise_signal(signal.SIGINT)  # what Ctrl-C sends

    try:
        best = train(cohort, course.folder / run, config, resume=True, on_epoch=print_epoch)
    except BoneXageError as error:
        return str(error).replace(f"{course.folder}/", "")
    return f"{best.name} is written"


class _SplitOutput(io.TextIOBase):
    """The output of a command: progress bars go to one stream, all other text to the other, in the right order."""

    def __init__(self, words: Any, bars: Any) -> None:
        self.words, self.bars = words, bars

    def write(self, text: str) -> int:
        if "\r" in text:
            return self.bars.write(text)
        self.bars.flush()  # a notebook sends both streams on its own time: a bar must be gone before a word comes
        return self.words.write(text)


def bonexage(course: Course, *words: object, without: str = "") -> None:
    """Type `bonexage …` in the course's folder: prints the line, what the command prints and, unless it is 0, its exit
    status. `without` names a library that the command shall not find."""
    from bonexage_utils.__main__ import app

    line = [str(word) for word in words]
    print("$ bonexage", *line)
    with contextlib.ExitStack() as held:
        held.enter_context(contextlib.chdir(course.folder))
        output = _SplitOutput(sys.stdout, sys.stderr)
        held.enter_context(contextlib.redirect_stdout(output))
        held.enter_context(contextlib.redirect_stderr(output))
        if without:
            held.enter_context(_hidden(without))
        try:
            status = app(line, standalone_mode=False)
        except BoneXageError as error:
            print(f"bonexage: {error}")
            status = 1
    if status:
        print(f"(exit status {status})")


@contextlib.contextmanager
def _hidden(library: str):
    before = sys.modules.get(library, ...)
    sys.modules[library] = None
    try:
        yield
    finally:
        if before is ...:
            sys.modules.pop(library, None)
        else:
            sys.modules[library] = before


def errors_on(course: Course, table: Path, data: Path) -> pd.DataFrame:
    """Films of a predictions.csv that have a label in the cohort `data`: `months`, `error` (months) and `inside`,
    whether the label is within the interval (NaN where there is none)."""
    predicted = read_predictions(course.folder / table).dropna(subset=["bone_age_months"])
    films = predicted.merge(read_truth(course.folder / data).table[["id", "months"]], on="id").dropna(subset=["months"])
    inside = films["months"].between(films["low_months"], films["high_months"]).astype(float)
    return films.assign(error=films["bone_age_months"] - films["months"],
                        inside=inside.where(films["low_months"].notna()))


def at_home_and_away(places: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """MAE, bias and the share inside the interval, each with its 95 % interval, by place; from `errors_on`."""
    rows = {}
    for name, films in places.items():
        mae, bias = bootstrap_mean(films["error"].abs()), bootstrap_mean(films["error"])
        known = films["inside"].dropna()
        held = share(known.to_numpy() == 1) if len(known) else Interval(*[float("nan")] * 3)
        rows[name] = {"n": len(films), "mae": mae.value, "low": mae.low, "high": mae.high, "bias": bias.value,
                      "bias_low": bias.low, "bias_high": bias.high, "inside": held.value, "inside_low": held.low,
                      "inside_high": held.high}
    return pd.DataFrame.from_dict(rows, orient="index")


def mae_difference(away: pd.DataFrame, home: pd.DataFrame) -> Interval:
    """MAE of one place minus that of another, months, with a 95 % bootstrap interval. The films are not the same, so
    each place is resampled alone."""
    return _difference(away["error"].abs(), home["error"].abs())


def bias_difference(away: pd.DataFrame, home: pd.DataFrame) -> tuple[Interval, str]:
    """The same of the bias; and in words whether it is what readers with the phantom's habits would make of it, who
    read `reader_bias` months too old: the network has learned the habit of the reader at home, site B."""
    seen, expected = _difference(away["error"], home["error"]), SITES["B"].reader_bias - SITES["A"].reader_bias
    holds = {value: seen.low <= value <= seen.high for value in (0, expected)}
    said = {(True, True): "undecided: these films exclude neither that nor no difference",
            (True, False): "none that these films can show", (False, True): "as the readers' habits would have it",
            (False, False): "neither none nor what the readers' habits would make it"}[tuple(holds.values())]
    return seen, f"expected of the two readers alone {expected:+.0f}: {said}"


def _difference(away: pd.Series, home: pd.Series) -> Interval:
    rng, means = np.random.default_rng(0), []
    for values in (away, home):
        errors = values.to_numpy()
        means.append((errors.mean(), errors[rng.integers(0, len(errors), (RESAMPLES, len(errors)))].mean(1)))
    (there, drawn_there), (here, drawn_here) = means
    low, high = np.percentile(drawn_there - drawn_here, [2.5, 97.5])
    return Interval(float(there - here), float(low), float(high))


def draw_home_and_away(table: pd.DataFrame) -> Picture:
    """`at_home_and_away`: left the MAE, right the bias, each with its 95 % interval."""
    figure, axes = new_figure(8.5, 0.9 + 0.6 * len(table), 1, 2, sharey=True)
    where = range(len(table))
    for ax, (value, low, high), title in zip(axes, (("mae", "low", "high"), ("bias", "bias_low", "bias_high")),
                                             ("MAE", "bias: above 0, read too old"), strict=True):
        bars = [table[value] - table[low], table[high] - table[value]]
        ax.errorbar(table[value], where, xerr=bars, fmt="o", color=BOYS, ecolor=BOYS, capsize=4)
        ax.set(title=title, xlabel="months", ylim=(len(table) - 0.5, -0.5))
    axes[0].set_xlim(left=0)
    axes[1].axvline(0, color=MUTED, linestyle=":")
    axes[0].set_yticks(where, [f"{name}\nn = {row.n:.0f}" for name, row in table.iterrows()])
    described = "; ".join(f"{name}: MAE {row.mae:.1f} [{row.low:.1f}, {row.high:.1f}], bias {row.bias:+.1f} "
                          f"[{row.bias_low:+.1f}, {row.bias_high:+.1f}] months on {row.n:.0f} films"
                          for name, row in table.iterrows())
    return Picture(figure, f"Mean absolute error and bias with 95 % intervals. {described}.")


def worst_group(groups: pd.DataFrame) -> str:
    """How many sex × age groups of a groups.csv have enough films for a number, and which of those is worst."""
    cells = groups[(groups["sex"] != "all") & (groups["age"] != "all")]
    large = cells[cells["n"] >= SMALLEST_GROUP]
    text = f"{len(large)} of {len(cells)} groups of sex and age have {SMALLEST_GROUP} films or more"
    if large.empty:
        return text
    worst = large.loc[large["mae"].idxmax()]
    if len(large) == 1:
        return f"{text}: {worst.sex}, {worst.age}, {worst.mae:.1f} months, and nobody to compare it with"
    return f"{text}; the worst of them: {worst.sex}, {worst.age}, {worst.mae:.1f} months"


def draw_margins(groups: pd.DataFrame) -> Picture:
    """MAE with its 95 % interval of everybody, of either sex and of each age band, from a groups.csv."""
    shown = groups[(groups["sex"] == "all") | (groups["age"] == "all")].iloc[::-1].reset_index(drop=True)
    figure, ax = new_figure(6.4, 3.6)
    parts, names = [], []
    for place, row in enumerate(shown.itertuples()):
        names.append(row.sex if row.age == "all" else row.age.replace(" y", " years"))
        if pd.isna(row.mae):
            ax.text(0.3, place, "too few films to speak", va="center", fontsize=9, color=MUTED)
            parts.append(f"{names[-1]}: {row.n} films, too few to speak")
            continue
        ax.errorbar(row.mae, place, xerr=[[row.mae - row.low], [row.high - row.mae]], fmt="o", color=BOYS, capsize=4)
        parts.append(f"{names[-1]}: {row.mae:.1f} [{row.low:.1f}, {row.high:.1f}] on {row.n} films")
    ax.set_yticks(range(len(shown)), [f"{name}, n = {n}" for name, n in zip(names, shown["n"], strict=True)])
    ax.set(xlabel="MAE (months)", ylim=(-0.6, len(shown) - 0.4), title="Who is behind the mean")
    ax.set_xlim(left=0)
    return Picture(figure, f"""Mean absolute error in months with 95 % intervals, a row for each group.
        {'; '.join(parts)}.""")


def hidden_moves(stressed: pd.DataFrame) -> str:
    """Of the conditions of a stress.csv whose MAE has not clearly changed, the one that moves most predictions by
    more than a year, in words."""
    still = stressed[(stressed["low"] <= 0) & (stressed["high"] >= 0)]
    if still.empty:
        return "no condition leaves the MAE as it was"
    most = still.loc[still["share_significant"].idxmax()]
    return (f"{most.perturbation} {most.strength:g} ({most.unit}): MAE {most.mae_change:+.2f} [{most.low:.2f}, "
            f"{most.high:.2f}] months, and {most.share_significant:.0%} of the answers moved by more than a year")


def stopped_and_resumed(log: pd.DataFrame, stopped: int | None) -> Picture:
    """A run's learning curve, with a line where it was stopped."""
    figure, ax = new_figure(6.4, 3.8)
    ax.plot(log["epoch"], log["train_mae_months"], "o-", markersize=3, color=MUTED, label="training films")
    ax.plot(log["epoch"], log["selection_mae_months"], "s-", markersize=3, color=BOYS, label="selection films")
    described = ""
    if stopped:
        ax.axvline(stopped + 0.5, color=ACCENT, linestyle="--", label="stopped here, then resumed")
        described = f" A dashed line after epoch {stopped} marks where the run was stopped and went on."
    best = log.loc[log["selection_mae_months"].idxmin()]
    ax.set(xlabel="epoch", ylabel="MAE (months)", ylim=(0, None), title="One curve, two sittings")
    ax.legend()
    return Picture(figure, f"""Mean absolute error in months against epoch. On the selection films it goes from
        {log['selection_mae_months'].iloc[0]:.1f} to {log['selection_mae_months'].iloc[-1]:.1f} months; the best is
        {best.selection_mae_months:.1f}, in epoch {best.epoch:.0f}.{described}""")
