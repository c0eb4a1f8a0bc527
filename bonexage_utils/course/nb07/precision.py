""" "AMP is faster and leaner": what tools/benchmarks/precision.py has recorded, as a small table for notebook 07."""

from pathlib import Path

import pandas as pd

from bonexage_utils.course.nb07.speed import BASE
from bonexage_utils.course.records import DEVICES, NOT_YET, how_made, interval_text, read_runs

CLAIM = "AMP is faster and leaner"
TIME, MEMORY, ERROR = "seconds a step", "MB a step", "MAE, months"
SHOWN = {TIME: "time of a step", MEMORY: "memory of a step", ERROR: "MAE, months"}


def memory_verdict(ratio: float) -> str:
    """The verdict on a ratio of memory. It is the same in every repeat: no interval; below 10 % no difference."""
    return "leaner" if ratio < 0.9 else "more memory" if ratio > 1.1 else "much the same"


def _told(row: pd.Series) -> str:
    value = f"{row['compared']:+.2f}" if row["measure"] == ERROR else f"× {row['compared']:.2f}"
    return f"{value} {interval_text(row['low'], row['high'])}".strip()


def precision_table(folder: Path | None = None) -> pd.DataFrame:
    """For a processor and a GPU, and for each 16-bit format, what was recorded against float32, all channels-last: the
    ratio of the time and of the memory, the difference of the MAE, each with its 95 % interval if it has one."""
    known, rows = read_runs("precision", folder), {}
    for device, name in DEVICES.items():
        for kind in ("bf16", "fp16"):
            arm = known[(known["device"] == device) & (known["arm"] == f"{kind}, {BASE[1]}")]
            newest = {row["measure"]: _told(row) for _, row in arm.iterrows()}
            rows[name, kind] = {shown: newest.get(measure, NOT_YET) for measure, shown in SHOWN.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def how_measured(folder: Path | None = None) -> str:
    """How the recorded rows were made, one line for each kind of measurement and machine."""
    known = read_runs("precision", folder)
    lines = []
    for (measure, _), part in known.groupby(["measure", "hardware"], sort=False):
        row = part.iloc[-1]
        often = f"{row['repeats']} rounds" if measure == TIME else "one step"
        if measure == ERROR:
            often = f"{row['repeats']} seeds, {row['epochs']:.0f} epochs"
        what = "MB a step (kept, counted)" if measure == MEMORY and row["device"] == "cpu" else measure
        lines.append(f"{what}: {row['backbone']}, {row['batch']} films of {row['size_px']} px, {often}, "
                     f"{how_made(row)}")
    return "\n".join(lines) or f"{CLAIM}: {NOT_YET}."
