""" "AMP is faster and leaner": measured live in notebook 07, beside what tools/benchmarks/precision.py has recorded."""

from pathlib import Path

import pandas as pd
import torch

from bonexage_utils.course.nb07.speed import BASE
from bonexage_utils.course.records import DEVICES, NOT_YET, how_made, interval_text, read_runs

CLAIM = "AMP is faster and leaner"
TIME, MEMORY, ERROR = "seconds a step", "MB a step", "MAE, months"
COLUMNS = ["where", "what", "of", "against", "ratio or difference", "95 % interval", "verdict"]
MOST_WANTED = "H100"  # what the course would like to have a row of


def memory_verdict(ratio: float) -> str:
    """The verdict on a ratio of memory. It is the same in every repeat: no interval; below 10 % no difference."""
    return "leaner" if ratio < 0.9 else "more memory" if ratio > 1.1 else "much the same"


def _arm(precision: str, layout: str) -> str:
    return f"{precision}, {layout}"


def _number(value: float, measure: str) -> str:
    return f"{value:+.2f} months" if measure == ERROR else f"× {value:.2f}"


def _measured(measure: str, device: str) -> str:
    """The name of a measure; on a processor the memory is not measured: the bytes that autograd keeps are counted."""
    return f"{measure} (kept, counted)" if measure == MEMORY and device == "cpu" else measure


def precision_table(measured: pd.DataFrame, device: torch.device, folder: Path | None = None) -> pd.DataFrame:
    """A row for each comparison: live ones from `speed.time_table`, then the recorded ones, then what is missing."""
    live, rows = f"here, live ({DEVICES.get(device.type, device.type)})", []
    for arm, row in measured.iterrows():
        if arm != BASE:
            rows.append([live, TIME, _arm(*arm), _arm(*BASE), f"× {row['time']:.2f}",
                         interval_text(row["low"], row["high"]), row["verdict"]])
            if arm[1] == BASE[1]:
                rows.append([live, _measured(MEMORY, device.type), _arm(*arm), _arm(*BASE), f"× {row['memory']:.2f}",
                             "", memory_verdict(row["memory"])])
    known = read_runs("precision", folder)
    for row in known.to_dict("records"):
        rows.append([f"recorded: {row['hardware']}", _measured(row["measure"], row["device"]), row["arm"], row["base"],
                     _number(row["compared"], row["measure"]), interval_text(row["low"], row["high"]), row["verdict"]])
    for name, there in (("a processor", "cpu"), (MOST_WANTED, "cuda")):
        for measure in (TIME, MEMORY, ERROR):
            arms = known.loc[(known["device"] == there) & (known["measure"] == measure), "arm"] if len(known) else []
            absent = [kind for kind in ("bf16", "fp16") if not any(arm.startswith(kind) for arm in arms)]
            if absent:
                rows.append([f"recorded: {name}", _measured(measure, there), ", ".join(absent), "fp32", "", "",
                             NOT_YET])
    return pd.DataFrame(rows, columns=COLUMNS).set_index("where")


def how_measured(folder: Path | None = None) -> str:
    """How the recorded rows were made, one line for each kind of measurement and machine."""
    known = read_runs("precision", folder)
    lines = []
    for (measure, _), part in known.groupby(["measure", "hardware"], sort=False):
        row = part.iloc[-1]
        often = f"{row['repeats']} rounds" if measure == TIME else "one step"
        if measure == ERROR:
            often = f"{row['repeats']} seeds, {row['epochs']:.0f} epochs"
        lines.append(f"{measure}: {row['backbone']}, {row['batch']} films of {row['size_px']} px, {often}, "
                     f"{how_made(row)}")
    missing = "" if (known["device"] == "cuda").any() else f"On a GPU ({MOST_WANTED}): {NOT_YET}."
    return "\n".join(filter(None, [*lines, missing]))
