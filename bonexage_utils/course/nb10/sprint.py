"""Notebook 10's sprint: the commands as one would type them, where their files lie, and the figures of a run."""

import contextlib
import io
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from bonexage_utils.course.frozen import frozen_backbone
from bonexage_utils.course.start import Course
from bonexage_utils.errors import BoneXageError
from bonexage_utils.figures import ACCENT, BOYS, GIRLS, MUTED, Picture, new_figure
from bonexage_utils.statistics import SMALLEST_GROUP

FIRST = "first"  # the notebook's own run; a learner's have other names
MADE = (FIRST, "films", "findings", "calibration", "report", "published")  # what the notebook makes anew each time
SIDES, EPOCHS = {"fast": 64, "cpu": 128}, {"fast": 2, "cpu": 6, "gpu": 20}
RATES = {"phantom": 1e-3, "imagenet": 2e-4}
# Of the conditions of a stress test, one of each kind that is easily made.
USUAL = {"rotation": 10.0, "brightness": -25.0, "contrast": -0.5, "marker": 10.0, "resolution": 1.0}


class Terminal:
    """`bonexage(*words)` types that command in the course's folder and prints what it prints."""

    def __init__(self, course: Course) -> None:
        self.folder = course.folder

    def __call__(self, *words: object) -> None:
        from bonexage_utils.__main__ import app

        line = [str(word) for word in words]
        print("$ bonexage", *line)
        with contextlib.chdir(self.folder), contextlib.redirect_stderr(sys.stdout):
            try:
                status = app(line, standalone_mode=False)
            except BoneXageError as error:
                print(f"bonexage: {error}")
                status = 1
        if status:
            print(f"(exit status {status})")

    def said(self, *words: object) -> str:
        """The same, as text, without bars: for an output that waits for a guess."""
        with contextlib.redirect_stdout(io.StringIO()) as heard:
            self(*words)
        return re.sub(r"[^\n]*\r(?!\n)", "", heard.getvalue()).strip()


def workplace(course: Course) -> Path:
    """The folder of the sprint's files, relative to the course's. What the notebook makes begins anew each time; runs
    under names of the learner's own stay."""
    place = Path("checkpoints") / f"nb10-{course.profile.name}"
    for name in MADE:
        shutil.rmtree(course.folder / place / name, ignore_errors=True)
    (course.folder / place).mkdir(parents=True, exist_ok=True)
    return place


def recipe(course: Course) -> dict[str, str | int | float]:
    """Options of `bonexage train` for what such a machine can do in about two minutes, if nothing else runs."""
    backbone, weights, side = frozen_backbone(course.profile)
    name = course.profile.name
    return {"backbone": backbone, "weights": weights, "image-size": SIDES.get(name, side), "epochs": EPOCHS[name],
            "batch-size": course.profile.batch_size, "grad-accum": 1, "lr": RATES[weights]}


def tries(place: Path) -> dict[str, pd.DataFrame]:
    """The log.csv of every run in the folder `place`, by the run's name."""
    return {path.parent.name: pd.read_csv(path) for path in sorted(place.glob("*/log.csv"))}


def draw_tries(logs: dict[str, pd.DataFrame]) -> Picture:
    """The error on the selection films against the epoch, a line for each run."""
    figure, ax = new_figure(6.4, 3.6)
    parts, looks = [], [(BOYS, "o"), (ACCENT, "s"), (GIRLS, "^"), (MUTED, "D")]
    for place, (name, log) in enumerate(logs.items()):
        colour, marker = looks[place % len(looks)]
        maes = log["selection_mae_months"]
        ax.plot(log["epoch"], maes, marker=marker, markersize=4, color=colour, label=name)
        parts.append(f"{name} goes from {maes.iloc[0]:.1f} to {maes.iloc[-1]:.1f}, its best is {maes.min():.1f}")
    ax.set(xlabel="epoch", ylabel="MAE on the selection films (months)", ylim=(0, None), title="Every try so far")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()
    return Picture(figure, f"""Mean absolute error on the selection films in months against the epoch, a line for each
        run: {'; '.join(parts)}.""")


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


def speaking_groups(groups: pd.DataFrame) -> str:
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


def usual_changes(stressed: pd.DataFrame) -> pd.DataFrame:
    """The rows of a stress.csv under the conditions of USUAL: by change, what it costs in months and whom it moves."""
    rows = stressed[np.isclose(stressed["strength"], stressed["perturbation"].map(USUAL))]
    return pd.DataFrame({
        "strength": rows["strength"].to_numpy(), "MAE grows by, months": rows["mae_change"].round(2).to_numpy(),
        "95 % interval": [f"[{row.low:.2f}, {row.high:.2f}]" for row in rows.itertuples()],
        "moved by more than a year": rows["share_significant"].map("{:.0%}".format).to_numpy(),
    }, index=rows["perturbation"].to_list())


def hidden_moves(stressed: pd.DataFrame) -> str:
    """Of the conditions of a stress.csv whose MAE has not clearly changed, the one that moves most predictions by
    more than a year, in words."""
    still = stressed[(stressed["low"] <= 0) & (stressed["high"] >= 0)]
    if still.empty:
        return "no condition leaves the MAE as it was"
    most = still.loc[still["share_significant"].idxmax()]
    return (f"{most.perturbation} {most.strength:g} ({most.unit}): MAE {most.mae_change:+.2f} [{most.low:.2f}, "
            f"{most.high:.2f}] months, and {most.share_significant:.0%} of the answers moved by more than a year")
