"""What each notebook cost on this machine: one row per notebook, as a table, CSV and JSON."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bonexage_utils.report.tables import markdown_lines


@dataclass
class Row:
    """One notebook's run.

    `peak_mb`: resident memory of the kernel and its workers, sampled; pages they share count twice.
    """

    notebook: str
    profile: str
    result: str
    seconds: float
    peak_mb: int
    size_kb: int
    cell: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether every cell ran."""
        return self.result == "ok"


HEADS = ["notebook", "result", "seconds", "peak memory (MB)", "size (kB)"]


def _cells(rows: list[Row]) -> list[list[str]]:
    return [[r.notebook, r.result, f"{r.seconds:.1f}", str(r.peak_mb), str(r.size_kb)] for r in rows]


def _total(rows: list[Row]) -> str:
    return f"{sum(r.ok for r in rows)} of {len(rows)} ok, {sum(r.seconds for r in rows):.0f} s in all"


def table(rows: list[Row]) -> str:
    """The rows for a terminal."""
    lines = [HEADS, *_cells(rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    lines.insert(1, ["-" * width for width in widths])
    text = ["  ".join(cell.ljust(width) if column < 2 else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in lines]
    return "\n".join([*text, "", _total(rows)])


def markdown(rows: list[Row]) -> str:
    """The rows as a Markdown table, for the site."""
    return f"{markdown_lines(HEADS, _cells(rows), ['---'] * 2 + ['--:'] * 3)}\n\n{_total(rows)}"


def write(rows: list[Row], folder: Path) -> None:
    """Write `ledger.csv` and `ledger.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "ledger.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [f.name for f in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    text = json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False)
    (folder / "ledger.json").write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> list[Row]:
    """The rows written last into `folder`; none when there was no run."""
    path = folder / "ledger.json"
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.is_file() else []
