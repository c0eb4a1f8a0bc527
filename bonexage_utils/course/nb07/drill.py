"""A training run in its own process that is killed half-way and then resumed: notebook 07's drill."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from safetensors.torch import load_file

import bonexage_utils
from bonexage_utils.errors import BoneXageError
from bonexage_utils.figures import ACCENT, BOYS, GIRLS, MUTED, Picture, new_figure

STATE = Path("last") / "state.safetensors"
POLL = 0.02  # seconds


@dataclass(frozen=True)
class Killed:
    """`after`: epochs that were finished; `within`: about how much of the next one was done, 0–1."""

    after: int
    within: float
    log: pd.DataFrame


def train_command(data: Path, out: Path, settings: dict[str, object]) -> list[str]:
    """The command line of a training: `settings` as in `bonexage train --help`, without the dashes before a name."""
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return [sys.executable, "-m", "bonexage_utils", "train", str(data), "--out", str(out), *options]


def start_training(data: Path, out: Path, settings: dict[str, object], resume: bool = False) -> subprocess.Popen:
    """Start it and return at once. Its output goes to a text file beside its folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    root = str(Path(bonexage_utils.__file__).resolve().parent.parent)
    environment = {**os.environ, "TQDM_DISABLE": "1",
                   "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    with open(out.with_suffix(".txt"), "a", encoding="utf-8") as printed:
        return subprocess.Popen(train_command(data, out, settings) + ["--resume"] * resume, env=environment,
                                stdout=printed, stderr=subprocess.STDOUT)


def read_log(out: Path) -> pd.DataFrame:
    """The run's log.csv; before its first epoch is over, an empty table."""
    path = out / "log.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame({"epoch": [], "seconds": []})


def _last_line(out: Path) -> str:
    lines = out.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def wait(process: subprocess.Popen, out: Path) -> pd.DataFrame:
    """Wait for its end and return its log. Raises BoneXageError with its last line of output if it failed."""
    if process.wait():
        raise BoneXageError(f"the training ended with {process.returncode}: {_last_line(out)}")
    return read_log(out)


def kill_within(process: subprocess.Popen, out: Path, after: int, within: float = 0.5) -> Killed:
    """Wait until `after` epochs are done, then for the part `within` of another, then kill without a warning.

    On Linux and macOS that is SIGKILL, which no program can catch; on Windows the process is terminated.
    Raises BoneXageError if it ended before that.
    """
    while len(log := read_log(out)) < after and process.poll() is None:
        time.sleep(POLL)
    if len(log):
        time.sleep(within * log["seconds"].iloc[-1])
    if process.poll() is not None:
        raise BoneXageError(f"the training ended before it could be killed: {_last_line(out)}")
    process.kill()
    process.wait()
    log = read_log(out)
    return Killed(len(log), within, log)


def largest_difference(one: Path, other: Path) -> dict[str, float]:
    """Between two runs, the largest difference of any number: in the model, and in the state to resume from."""
    found = {}
    for name, path in (("model", Path("model.safetensors")), ("state", STATE)):
        first, second = load_file(one / path), load_file(other / path)
        if first.keys() != second.keys():
            raise BoneXageError(f"{one.name} and {other.name}: not the same kind of network")
        found[name] = max(float((first[key].double() - second[key].double()).abs().max()) for key in first)
    return found


def state_parts(out: Path) -> pd.DataFrame:
    """The contents of the file to resume from: by part, the tensors, the numbers and the MB."""
    rows: dict[str, list] = {}
    for key, tensor in load_file(out / STATE).items():
        rows.setdefault(key.partition("/")[0], []).append(tensor)
    return pd.DataFrame({part: {"tensors": len(tensors), "numbers": sum(t.numel() for t in tensors),
                                "MB": sum(t.nbytes for t in tensors) / 1e6}
                         for part, tensors in rows.items()}).T.astype({"tensors": int, "numbers": int})


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
