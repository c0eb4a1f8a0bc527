"""A training run in its own process that is killed half-way and then resumed: notebook 07's drill."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import bonexage_utils
from bonexage_utils.errors import BoneXageError
from bonexage_utils.figures import ACCENT, BOYS, GIRLS, MUTED, Picture, new_figure

STATE = "state.pt"  # what train.py writes to go on from
POLL = 0.02  # seconds


@dataclass(frozen=True)
class Killed:
    """`after`: epochs that were finished; `within`: about how much of the next one was done, 0–1."""

    after: int
    within: float
    log: pd.DataFrame


def show_command(words: Sequence[str]) -> str:
    """The line that a reader types for `words`, those of a script and of what follows it."""
    return shlex.join(["python", *words])


def _start(*words: str, out: Path, **variables: str) -> subprocess.Popen:
    """`python` with `words` in a process of its own; what it prints goes to a text file beside the folder `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    root = str(Path(bonexage_utils.__file__).resolve().parent.parent)
    environment = {**os.environ, **variables, "TQDM_DISABLE": "1",
                   "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    with open(_printed(out), "w", encoding="utf-8") as printed:
        process = subprocess.Popen([sys.executable, *words], env=environment, stdout=printed, stderr=subprocess.STDOUT)
    process.out = out
    return process


def start_script(script: Path | str, data: str, out: str, *options: str) -> subprocess.Popen:
    """Start `python SCRIPT DATA OUT OPTIONS` and return at once."""
    return _start(str(script), data, out, *options, out=Path(out))


def start_two(data: str, out: str, *options: str) -> subprocess.Popen:
    """Start the package's own training on `data` in two processes on this processor, and return at once."""
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "bonexage_utils", "train")
    return _start(*words, data, "--out", out, *options, out=Path(out), ACCELERATE_USE_CPU="true")


def _printed(out: Path) -> Path:
    return out.with_suffix(".txt")


def read_log(out: Path) -> pd.DataFrame:
    """The epochs in the run's state; before the first is saved, an empty table."""
    path = out / STATE
    log = torch.load(path, "cpu", weights_only=True)["log"] if path.is_file() else []
    return pd.DataFrame(log, columns=list(log[0]) if log else ["epoch", "seconds"])


def _epochs_told(out: Path) -> int:
    """How many epochs the run has printed; each is saved before."""
    return sum(line.startswith("epoch ") for line in _printed(out).read_text("utf-8", "replace").splitlines())


def _last_line(out: Path) -> str:
    lines = _printed(out).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def wait(process: subprocess.Popen) -> str:
    """Wait for its end and return what it printed. Raises BoneXageError with its last line if it failed."""
    if process.wait():
        raise BoneXageError(f"the training ended with {process.returncode}: {_last_line(process.out)}")
    return _printed(process.out).read_text(encoding="utf-8", errors="replace").strip()


def kill_within(process: subprocess.Popen, out: Path, after: int, within: float = 0.5) -> Killed:
    """Wait until `after` epochs are done, then for the part `within` of another, then kill without a warning.

    On Linux and macOS that is SIGKILL, which no program can catch; on Windows the process is terminated.
    Raises BoneXageError if it ended before that.
    """
    while _epochs_told(out) < after and process.poll() is None:
        time.sleep(POLL)
    if len(log := read_log(out)):
        time.sleep(within * log["seconds"].iloc[-1])
    if process.poll() is not None:
        raise BoneXageError(f"the training ended before it could be killed: {_last_line(out)}")
    process.kill()
    process.wait()
    log = read_log(out)
    return Killed(len(log), within, log)


def numbers_in(state: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor and number in nested dicts and lists, by its place; texts are left out."""
    if isinstance(state, dict | list | tuple):
        for name, part in state.items() if isinstance(state, dict) else enumerate(state):
            yield from numbers_in(part, f"{place}/{name}")
    elif isinstance(state, Tensor | int | float):
        yield place, torch.as_tensor(state).double()


def largest_difference(one: Path, other: Path) -> dict[str, float]:
    """Between the states of two runs of train.py, the largest difference of any number in each part of the file; the
    log is left out, since its seconds differ."""
    first, second = (torch.load(run / STATE, "cpu", weights_only=True) for run in (one, other))
    if first.keys() != second.keys():
        raise BoneXageError(f"{one.name} and {other.name}: not the same kind of state")
    found = {}
    for part in sorted(first.keys() - {"log"}):
        mine, theirs = dict(numbers_in(first[part])), dict(numbers_in(second[part]))
        if mine.keys() != theirs.keys():
            raise BoneXageError(f"{one.name} and {other.name}: not the same kind of network")
        found[part] = max((float((mine[key] - theirs[key]).abs().max()) for key in mine), default=0.0)
    return found


def draw_drill(whole: pd.DataFrame, killed: Killed, resumed: pd.DataFrame) -> Picture:
    """Selection MAE against the epoch: the uninterrupted run, and the killed one before and after it was resumed."""
    figure, ax = new_figure(7, 4)
    mae = "selection_mae_months"
    ax.plot(whole["epoch"], whole[mae], color=GIRLS, linewidth=9, alpha=0.45, label="never interrupted")
    before, after = killed.log, resumed[resumed["epoch"] > killed.after]
    ax.plot(before["epoch"], before[mae], "o-", color=MUTED, markersize=8, label="before the kill")
    ax.plot([*before["epoch"].tail(1), *after["epoch"]], [*before[mae].tail(1), *after[mae]], "-", color=BOYS)
    ax.plot(after["epoch"], after[mae], "s", color=BOYS, markersize=7, label="after it went on")
    moment = killed.after + killed.within
    ax.axvspan(killed.after, moment, color=ACCENT, alpha=0.15, linewidth=0, label="work lost")
    ax.axvline(moment, color=ACCENT, linestyle="--")
    top = 1.15 * max(table[mae].max() for table in (whole, resumed))
    ax.annotate("killed", (moment, top), (4, -4), textcoords="offset points", color=ACCENT, va="top")
    ax.set(xlabel="epoch", ylabel="MAE on the selection films (months)", ylim=(0, top), xticks=whole["epoch"],
           title="One training, killed and resumed")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)

    def listed(table: pd.DataFrame) -> str:
        return ", ".join(f"epoch {row.epoch:.0f} {getattr(row, mae):.2f}" for row in table.itertuples())

    return Picture(figure, f"""Mean absolute error on the selection films in months against the epoch. Never
        interrupted: {listed(whole)}. The other run, before the kill: {listed(before)}; killed about
        {killed.within:.0%} into epoch {killed.after + 1}; after it went on: {listed(after)}.""")
