"""What each notebook cost on this machine: one row per notebook, as a table, CSV and JSON."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path


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


def table(rows: list[Row], markdown: bool = False) -> str:
    """The rows for a terminal, or as a Markdown table for the site."""
    heads = ["notebook", "result", "seconds", "peak memory (MB)", "size (kB)"]
    body = [[r.notebook, r.result, f"{r.seconds:.1f}", str(r.peak_mb), str(r.size_kb)] for r in rows]
    widths = [max(len(line[i]) for line in [heads, *body]) for i in range(len(heads))]

    def line(values: list[str]) -> str:
        pairs = enumerate(zip(values, widths, strict=True))
        cells = [value.ljust(width) if i < 2 else value.rjust(width) for i, (value, width) in pairs]
        return f"| {' | '.join(cells)} |" if markdown else "  ".join(cells).rstrip()

    rule = [("-" * w) if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    total = f"{sum(r.ok for r in rows)} of {len(rows)} ok, {sum(r.seconds for r in rows):.0f} s in all"
    lines = [line(heads), line(rule if markdown else ["-" * w for w in widths]), *(line(b) for b in body)]
    return "\n".join([*lines, "", total])


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
