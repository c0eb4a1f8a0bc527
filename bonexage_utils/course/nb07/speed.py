"""How long a step takes, by number format and by layout, measured side by side; and where its time goes (notebook 07).

Nothing here asserts a time. Ratios are of steps taken in turn in one run, so that what slows the machine slows all.
"""

import itertools
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch.autograd.profiler import record_function
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from bonexage_utils.augment import augment
from bonexage_utils.batches import FilmDataset, train_loader
from bonexage_utils.course.memory import kept_bytes
from bonexage_utils.course.nb07.scaling import Batch, batch_loss
from bonexage_utils.devices import choose_precision, to_network
from bonexage_utils.figures import ACCENT, BOYS, GIRLS, MUTED, Picture, new_figure
from bonexage_utils.images import Preprocessing
from bonexage_utils.model import BoneAgeNet, parameter_groups
from bonexage_utils.settings import Augmentation
from bonexage_utils.statistics import Interval
from bonexage_utils.training import update_weights

PRECISIONS, LAYOUTS = ("fp32", "bf16", "fp16"), ("plain", "channels-last")
BASE = ("fp32", "channels-last")  # what the package does without mixed precision; the others are compared with it
PRECISION_LOOK = {"fp32": (MUTED, "o"), "bf16": (BOYS, "s"), "fp16": (ACCENT, "^")}
PARTS = {"films": "#009E73", "augment": GIRLS, "forward": BOYS, "backward": ACCENT, "update": "#CC79A7"}
MOST_TICKS = 8  # beside each other in the figure of the race; of more, the powers of ten
TICKS = tuple(digit * 10**power for power in range(-1, 6) for digit in (1, 2, 5))  # ms
PREFIX = "part: "
LR = 1e-4  # of the steps that are timed


def wait_for(device: torch.device) -> None:
    """Wait until the device is done: a GPU runs asynchronously, so a time taken without waiting is too short."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence stderr also for C++ libraries: the profiler prints a start message, and a warning without a GPU."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class Contender:
    """One network with its optimizer and scaler, in one number format and one layout, that takes steps on a batch."""

    def __init__(self, backbone: str, weights: str, batch: Batch, precision: str, layout: str) -> None:
        device = batch.images.device
        form = torch.channels_last if layout == "channels-last" else torch.contiguous_format
        torch.manual_seed(0)
        self.net = BoneAgeNet(backbone, weights=weights).train().to(device, memory_format=form)
        self.batch = Batch(batch.images.contiguous(memory_format=form), batch.sex, batch.months)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.net, 0.05), lr=LR,
                                           fused=device.type in ("cpu", "cuda"))
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.precision, self.device = precision, device

    def step(self) -> float:
        """One step as in the package; its seconds."""
        wait_for(self.device)
        started = time.perf_counter()
        self.scaler.scale(batch_loss(self.net, self.batch, self.precision)).backward()
        update_weights(self.net, self.optimizer, LR, self.scaler)
        wait_for(self.device)
        return time.perf_counter() - started

    def megabytes(self) -> float:
        """MB of a step without the network: on a GPU the allocator's peak, on a processor what autograd keeps."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            before = torch.cuda.memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.step()
            return (torch.cuda.max_memory_allocated(self.device) - before) / 1e6
        return kept_bytes(self.net, self.batch.images, self.batch.sex, precision=self.precision) / 1e6


def race(backbone: str, weights: str, batch: Batch, rounds: int = 5,
         pairs: tuple[tuple[str, str], ...] = tuple(itertools.product(PRECISIONS, LAYOUTS))) -> pd.DataFrame:
    """In every round each contender, a pair of precision and layout, takes one step, in another order each time:
    `round`, `precision`, `layout`, `seconds`, and `megabytes` (see Contender.megabytes). One step each, not counted,
    goes before."""
    arms = {pair: Contender(backbone, weights, batch, *pair) for pair in pairs}
    for contender in arms.values():
        contender.step()
    memory = {arm: contender.megabytes() for arm, contender in arms.items()}
    rng, rows = np.random.default_rng(0), []
    for number in tqdm(range(rounds), desc="side by side", leave=False):
        for place in rng.permutation(len(arms)):
            arm = list(arms)[place]
            rows.append({"round": number, "precision": arm[0], "layout": arm[1], "seconds": arms[arm].step(),
                         "megabytes": memory[arm]})
    return pd.DataFrame(rows)


def time_ratio(table: pd.DataFrame, arm: tuple[str, str], base: tuple[str, str] = BASE) -> Interval:
    """Seconds of `arm` over those of `base`, round by round: the geometric mean, with its 95 % t-interval over rounds
    (a bootstrap of so few would be too narrow)."""
    seconds = table.pivot_table(index="round", columns=["precision", "layout"], values="seconds")
    logs = np.log(seconds[arm].to_numpy() / seconds[base].to_numpy())
    reach = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    return Interval(*(float(np.exp(logs.mean() + away)) for away in (0.0, -reach, reach)))


def speed_verdict(ratio: Interval) -> str:
    """The verdict that the interval of a ratio of seconds supports."""
    if ratio.high < 1:
        return "faster"
    return "slower" if ratio.low > 1 else "no difference that these steps can show"


def time_table(table: pd.DataFrame, base: tuple[str, str] = BASE) -> pd.DataFrame:
    """By precision and layout: the median step (ms), its ratio to `base` with interval and verdict, the memory (MB) and
    its ratio."""
    rows = {}
    memory = table.groupby(["precision", "layout"])["megabytes"].first()
    for arm, part in table.groupby(["precision", "layout"], sort=False):
        row = {"step, ms": 1000 * part["seconds"].median(), "MB": memory[arm], "memory": memory[arm] / memory[base]}
        if arm == base:
            row |= {"time": 1.0, "low": np.nan, "high": np.nan, "verdict": "compared with this"}
        else:
            ratio = time_ratio(table, arm, base)
            row |= {"time": ratio.value, "low": ratio.low, "high": ratio.high, "verdict": speed_verdict(ratio)}
        rows[arm] = row
    order = [arm for arm in itertools.product(PRECISIONS, LAYOUTS) if arm in rows]
    found = pd.DataFrame.from_dict(rows, orient="index").loc[order]
    return found[["step, ms", "time", "low", "high", "verdict", "MB", "memory"]]


def quickest(table: pd.DataFrame) -> str:
    """From `time_table`, the precision that is significantly fastest, or "no difference"."""
    half = table[table.index.get_level_values(0) != BASE[0]]
    faster = half[half["verdict"] == "faster"]
    if len(faster):
        return faster["step, ms"].idxmin()[0]
    return BASE[0] if (half["verdict"] == "slower").all() else "no difference"


def draw_race(times: pd.DataFrame) -> Picture:
    """Every step as a point and the median as a bar's end, on a logarithmic axis; beside it the memory."""
    found = time_table(times)
    figure, (left, right) = new_figure(9, 0.9 + 0.42 * len(found), 1, 2, sharey=True, width_ratios=(3, 2))
    described = []
    for row, arm in enumerate(found.index):
        colour, marker = PRECISION_LOOK[arm[0]]
        part = times[(times["precision"] == arm[0]) & (times["layout"] == arm[1])]
        milliseconds, megabytes = found.loc[arm, "step, ms"], found.loc[arm, "MB"]
        left.plot(1000 * part["seconds"], np.full(len(part), -row), marker, color=colour, alpha=0.5, markersize=5)
        left.plot([milliseconds] * 2, [-row - 0.3, -row + 0.3], color=colour, linewidth=3)
        right.barh(-row, megabytes, color=colour, height=0.6)
        right.text(megabytes, -row, f" {megabytes:.1f}", va="center", fontsize=9)
        described.append(f"{arm[0]} {arm[1]} {milliseconds:.0f} ms, {megabytes:.1f} MB")
    left.set(xscale="log", xlabel="one step (ms)", yticks=range(0, -len(found), -1), title="Time")
    low, high = (1000 * edge for edge in (times["seconds"].min(), times["seconds"].max()))
    ticks = [tick for tick in TICKS if low / 2 < tick < 2 * high]
    left.set_xticks(ticks if len(ticks) <= MOST_TICKS else [tick for tick in ticks if math.log10(tick).is_integer()])
    left.xaxis.set_major_formatter(lambda ms, _: f"{ms:,g}")
    left.minorticks_off()
    left.set_yticklabels([f"{precision}, {layout}" for precision, layout in found.index])
    right.set(xlabel="MB beside the network", title="Memory", xlim=(0, 1.2 * found["MB"].max()))
    return Picture(figure, f"""Left, the time of each training step in milliseconds, on a logarithmic axis, a point for
        each and a bar at the median; right, the memory. {'; '.join(described)}.""")


# --- where the time goes ---

@contextmanager
def part(name: str, device: torch.device) -> Iterator[None]:
    """Marks a part of a step for the profiler; waits for a GPU at its end, or the next part would count its work."""
    with record_function(PREFIX + name):
        yield
        wait_for(device)


def profile_steps(films: FilmDataset, preprocessing: Preprocessing, backbone: str, weights: str, batch_size: int,
                  device: torch.device, steps: int = 3, precision: str = "auto") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training steps under torch's profiler, after one warm-up step without it.

    The parts (`part`, `start`, `end`, ms since the first), and the operators (`operator`, `ms` of its own, `calls`).
    """
    precision = choose_precision(precision, device)
    loader, how = iter(train_loader(films, batch_size, 0)), Augmentation()
    contender = None

    def one() -> None:
        nonlocal contender
        with part("films", device):
            batch = {name: value.to(device) for name, value in next(loader).items()}
        with part("augment", device):
            change = partial(augment, keys=batch["key"], epoch=0, seed=0, how=how)
            ready = Batch(to_network(batch["image"], preprocessing, change=change), batch["sex"], batch["months"])
        contender = contender or Contender(backbone, weights, ready, precision, "channels-last")
        with part("forward", device):
            loss = contender.scaler.scale(batch_loss(contender.net, ready, precision))
        with part("backward", device):
            loss.backward()
        with part("update", device):
            update_weights(contender.net, contender.optimizer, LR, contender.scaler)

    one()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with quiet(), profile(activities=activities) as seen:
        for _ in range(steps):
            one()
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    spans = [(event.name.removeprefix(PREFIX), event.time_range.start / 1e3, event.time_range.end / 1e3)
             for event in seen.events() if event.name.startswith(PREFIX) and "CPU" in str(event.device_type)]
    parts = pd.DataFrame(spans, columns=["part", "start", "end"]).sort_values("start", ignore_index=True)
    parts[["start", "end"]] -= parts["start"].min()
    operators = pd.DataFrame([{"operator": event.key, "ms": getattr(event, own, 0.0) / 1e3, "calls": event.count}
                              for event in seen.key_averages() if not event.key.startswith(PREFIX)])
    return parts, operators.sort_values("ms", ascending=False, ignore_index=True)


def part_shares(parts: pd.DataFrame) -> pd.Series:
    """The share of the time of each part."""
    spent = (parts["end"] - parts["start"]).groupby(parts["part"]).sum().reindex(list(PARTS)).fillna(0.0)
    return spent / spent.sum()


def draw_timeline(ax, parts: pd.DataFrame) -> None:
    """The parts of a profile as bars along the time, each on a line of its own."""
    for row, (name, colour) in enumerate(PARTS.items()):
        spans = parts[parts["part"] == name]
        ax.barh(np.full(len(spans), -row), spans["end"] - spans["start"], left=spans["start"], height=0.7, color=colour)
    ax.set(yticks=range(0, -len(PARTS), -1), xlim=(0, None), ylim=(0.6 - len(PARTS), 0.6))
    ax.set_yticklabels(PARTS)


def draw_profile(parts: pd.DataFrame, operators: pd.DataFrame, most: int = 6) -> Picture:
    """Left, the parts along the time; right, the operators with the most time of their own."""
    figure, (left, right) = new_figure(9.5, 3.2, 1, 2)
    draw_timeline(left, parts)
    left.set(xlabel="time (ms)", title="What happened when")
    top = operators.head(most)
    right.barh(range(0, -len(top), -1), top["ms"], color=MUTED, height=0.7)
    right.set(yticks=range(0, -len(top), -1), xlabel="time of its own (ms)", title="The operators that took most")
    right.set_yticklabels([name.removeprefix("aten::")[:34] for name in top["operator"]], fontsize=9)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in part_shares(parts).items())
    described = ", ".join(f"{row.operator} {row.ms:.0f} ms" for row in top.itertuples())
    return Picture(figure, f"""Left, the parts of several training steps along the time: {shares} of it. Right, the
        operators that took most time of their own: {described}.""")
