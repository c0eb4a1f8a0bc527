"""The workshop kit: the tables of README.md, notebooks/README.md and notebooks/INSTRUCTORS.md, from what was recorded.

A table stands between two marks, `<!-- NAME: ... -->` and `<!-- end of NAME -->`; what is outside them is written by
hand. Times come from data/reference_runs/notebooks.csv, claims from claims.csv and precision.csv beside it, questions
and minutes from the notebooks' own first cells.
"""

import json
import math
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bonexage_utils.course.bootstrap import ADDRESS, TAG
from bonexage_utils.course.records import DEVICES, NOT_YET, RUNS, how_made, interval_text, read_runs
from bonexage_utils.course.start import course_folder
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_file
from bonexage_utils.report.tables import markdown_lines
from tools.ledger import Row

PAGES = ("README.md", "notebooks/README.md", "notebooks/INSTRUCTORS.md")
TIMES = RUNS / "notebooks.csv"
CORE = ("00", "01", "03", "04", "05", "08")
NO_MASKS = "cannot be measured: nobody has outlined real centres"

# What one hears, the notebook that asks, and the rows of claims.csv that answer.
CLAIMS = {
    "GeM beats average pooling": ("04", ["GeM beats average pooling"]),
    "GeM looks more at ossification centres than average pooling": (
        "08", ["GeM looks more at ossification centres than average pooling"]),
    "sex improves accuracy": ("05", ["sex improves accuracy"]),
    "the bound stabilises training": ("06", ["the bound stabilises training"]),
    "AMP is faster and leaner": ("07", []),  # precision.csv has it: time and memory do not depend on the films
    "ConvNeXt converges better than ResNet or EfficientNet": (
        "10", ["ConvNeXt converges better than ResNet", "ConvNeXt converges better than EfficientNet",
               "ConvNeXt converges better than ResNet, both pretrained and frozen",
               "ConvNeXt converges better than ResNet, all pretrained alike, frozen",
               "ConvNeXt converges better than EfficientNet, all pretrained alike, frozen"]),
}
DEVICE_DECIDES = "depends on the device, not on the films"
MASKS_NEEDED = "GeM looks more at ossification centres than average pooling"

# What, and how many minutes; of a notebook None means those of its own first cell.
# A number followed by READ: its stored outputs are read, and nothing is computed.
READ = ", read and not run"
NINETY_MINUTES = (("The game, then: would you let it read a child's hand?", 10), ("00", 25), ("01", 20),
                  (f"08{READ}", 25), ("Would you let it read a child's hand?", 10))
HALF_DAY = (("Welcome; does it run on every machine?", 10), ("00", 25), ("01", 35), ("03", 35), ("Break", 15),
            ("04", 40), ("05", 30), ("08", 40), ("Would you let it read a child's hand?", 10))
DAY_ONE = (("Welcome; does it run on every machine?", 15), ("00", None), ("Break", 15), ("01", None), ("Lunch", 60),
           ("03", None), ("Break", 15), ("04", 40), ("05", 30), ("What we would claim by now", 15))
DAY_TWO = (("Questions from yesterday", 15), ("08", None), ("Lunch", 60), ("10", None), ("Break", 15),
           ("Each group presents: would you let it read a child's hand?", 45))
STARTS_AT, UNWRITTEN = 9 * 60, 60  # o'clock in minutes; minutes planned for a notebook that is not there


@dataclass(frozen=True)
class Head:
    """The facts in a notebook's first cell. `minutes`, alone and with the exercises, are an estimate ("65",
    "110 to 130", "about 125"); `only_run` are the sections to run unread when there is less time."""

    number: str
    file: str
    title: str
    question: str
    minutes: str = ""
    only_run: str = ""

    @property
    def asked(self) -> str:
        """The question with a capital letter."""
        return self.question[0].upper() + self.question[1:]

    @property
    def planned(self) -> int:
        """Minutes in a plan: the middle of the estimate, in steps of five."""
        found = [int(number) for number in re.findall(r"\d+", self.minutes)]
        return 5 * math.ceil(sum(found) / len(found) / 5) if found else UNWRITTEN


# --- what is known ---

def heads(notebooks: Path) -> dict[str, Head]:
    """By number, the notebooks in a folder."""
    found = {}
    for path in sorted(notebooks.glob("[0-9][0-9]_*.ipynb")):
        source = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
        text = " ".join((source if isinstance(source, str) else "".join(source)).split())
        title = re.match(r"# \d\d · (.*?) \*\*The question:\*\* (.*?[?.])(?: |$)", text)
        minutes = re.search(r"\*\*Time:\*\* ((?:about )?\d+(?: to \d+)?) minutes with the exercises", text)
        only_run = re.search(r"To save time, run (.+?\*) without reading\.", text)
        if title is None:
            raise BoneXageError(f"{path.name}: begin its first cell with '# NN · title' and '**The question:** ...?'")
        found[path.name[:2]] = Head(path.name[:2], path.name, *title.groups(),
                                    *(said[1] if said else "" for said in (minutes, only_run)))
    return found


def recorded_times(folder: Path) -> pd.DataFrame:
    """TIMES by notebook's number: `seconds`, `peak_mb`, `hardware`, `commit`, `date`; empty where there are none."""
    table = read_runs("notebooks", folder)
    return table.set_index(table["notebook"].astype(str).str[:2])


def record_times(rows: list[Row], folder: Path) -> None:
    """Take the rows of a ledger over into TIMES, those of whole runs in profile cpu; newer ones replace older."""
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True,
                           check=False)
    how = {"hardware": f"{os.cpu_count()} cores, {platform.machine()}", "commit": asked.stdout.strip() or "unknown",
           "date": time.strftime("%Y-%m-%d")}
    new = [{"notebook": row.notebook, "seconds": row.seconds, "peak_mb": row.peak_mb, "size_kb": row.size_kb, **how}
           for row in rows if row.ok and row.profile == "cpu"]
    names = {row["notebook"] for row in new}
    kept = [row for row in recorded_times(folder).to_dict("records") if row["notebook"] not in names]
    if new:
        (folder / TIMES).parent.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame([*kept, *new]).sort_values("notebook")
        with atomic_file(folder / TIMES) as path:
            table.to_csv(path, index=False, lineterminator="\n")


# --- the tables ---

def signed(value: float) -> str:
    """With a sign, two decimals, and a minus that is one."""
    return f"{value:+.2f}".replace("-", "−")


def computing(times: pd.DataFrame, number: str) -> str:
    """The measured computing time of a notebook."""
    if number not in times.index:
        return NOT_YET
    seconds = float(times.loc[number, "seconds"])
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def memory(times: pd.DataFrame, number: str) -> str:
    """The measured peak memory of a notebook."""
    return f"{times.loc[number, 'peak_mb'] / 1024:.1f} GB" if number in times.index else NOT_YET


def notebooks_table(folder: Path) -> str:
    """Every notebook in short: its question, computing and memory."""
    times = recorded_times(folder)
    rows = [[f"[{number} {head.title}](notebooks/{head.file})", head.asked, computing(times, number),
             memory(times, number)] for number, head in heads(folder / "notebooks").items()]
    return markdown_lines(["notebook", "question", "computing", "memory"], rows)


def times_table(folder: Path) -> str:
    """Every notebook: its question, minutes, computing, memory, what to skip, and where Colab finds it."""
    times, rows = recorded_times(folder), []
    for number, head in heads(folder / "notebooks").items():
        minutes = f"{head.minutes} min" if head.minutes else "not estimated"
        colab = f"{ADDRESS.replace('github.com', 'colab.research.google.com/github')}/blob/{TAG}/notebooks/{head.file}"
        rows.append([f"[{number} {head.title}]({head.file}) ([{number} on Colab]({colab}))", head.asked,
                     "core" if number in CORE else "", minutes, computing(times, number), memory(times, number),
                     head.only_run])
    columns = ["notebook", "question", "path", "with exercises", "computing", "memory", "run without reading"]
    table = markdown_lines(columns, rows)
    if times.empty:
        return f"{table}\n\nComputing and memory: {NOT_YET}."
    how = dict.fromkeys(how_made(row) for row in times.to_dict("records"))
    return f"{table}\n\nComputing and memory were measured, profile `cpu`: {'; '.join(how)}."


def claims_table(folder: Path) -> str:
    """The six claims with both rows and their verdict, what else was compared, and how it was measured."""
    table = read_runs("claims", folder)
    last = {(row["claim"], row["films"]): row for row in table.to_dict("records")}
    rows = []
    for claim, (number, answers) in CLAIMS.items():
        if not answers:
            rows += [[f"{claim} ({where})", number, *cells] for where, cells in _precision(folder).items()]
        for answer in answers:
            found = {films: last.pop((answer, films), None) for films in ("phantom", "rsna100")}
            real = NO_MASKS if answer == MASKS_NEEDED else _measured(found["rsna100"])
            rows.append([claim if len(answers) == 1 else answer, number, _measured(found["phantom"]), real,
                         _verdict(found)])
    text = markdown_lines(["claim", "notebook", "phantom", "real films (`rsna100`)", "verdict"], rows)
    others = [f"- {claim} ({films}): {_measured(row)}; {row['verdict']}." for (claim, films), row in last.items()]
    if others:
        text += _folded("Compared beside them", others)
    made = []
    for _, alike in table.groupby(["backbone", "size_px", "epochs", "seeds", "hardware", "date"], sort=False):
        row = {**alike.iloc[0], "commit": ", ".join(alike["commit"].unique())}
        made.append(f"- {row['backbone']}; {row['size_px']} px, {row['epochs']} epochs, {row['seeds']} seeds; "
                    f"{how_made(row)}.")
    return text + (_folded("How they were measured", made) if made else "")


def _folded(summary: str, lines: list[str]) -> str:
    """A list that few readers open."""
    return f"\n\n<details><summary>{summary}</summary>\n\n" + "\n".join(lines) + "\n\n</details>"


def _measured(row: dict | None) -> str:
    """One row of claims.csv: both errors, their difference and its interval; without errors, the names."""
    if row is None:
        return NOT_YET
    both = (f"{row['a']} minus {row['b']}" if pd.isna(row["mae_a"]) else
            f"{row['a']} {row['mae_a']:.1f} against {row['b']} {row['mae_b']:.1f}")
    guess = f" (median by sex {row['baseline']:.1f})" if pd.notna(row.get("baseline")) else ""
    return f"{both}{guess}: {signed(row['difference'])} {interval_text(row['low'], row['high'], signed)}"


def _verdict(found: dict[str, dict | None]) -> str:
    """The verdict of both rows."""
    verdicts = {films: row["verdict"] for films, row in found.items() if row is not None}
    if len(set(verdicts.values())) == 1 and len(verdicts) == len(found):
        return next(iter(verdicts.values()))
    names = {"phantom": "phantom", "rsna100": "real films"}
    return "; ".join(f"{names[films]}: {verdict}" for films, verdict in verdicts.items()) or NOT_YET


def _precision(folder: Path) -> dict[str, list[str]]:
    """By kind of device, the rows of precision.csv on 16 bits: measured on the phantom, real films, verdict."""
    known, found = read_runs("precision", folder), {}
    known = known[known["arm"].str.endswith(", channels-last")]
    for device, name in DEVICES.items():
        group = known[known["device"] == device]
        if group.empty:
            found[name] = [NOT_YET, DEVICE_DECIDES, NOT_YET]
        for (hardware, arm), part in group.groupby(["hardware", "arm"], sort=False):
            described, verdicts = [], []
            for row in part.to_dict("records"):
                shown = signed if row["measure"].startswith("MAE") else "× {:.2f}".format  # a difference, or a ratio
                interval = interval_text(row["low"], row["high"], shown)
                described.append(f"{row['measure']} {shown(row['compared'])} {interval}".rstrip())
                verdicts.append(f"{row['measure']}: {row['verdict']}")
            found[f"{arm.split(',')[0]}, {hardware}"] = ["; ".join(described), DEVICE_DECIDES, "; ".join(verdicts)]
    return found


def schedule(plan: tuple[tuple[str, int | None], ...], folder: Path) -> str:
    """The clock of a day: what, how many minutes, and how many of them the machine computes."""
    known, times, clock, rows = heads(folder / "notebooks"), recorded_times(folder), STARTS_AT, []
    for what, minutes in plan:
        what, read = what.removesuffix(READ), READ if what.endswith(READ) else ""
        head = known.get(what)
        name = f"**{what} {head.title}**{read}" if head else f"**{what}** (not there)" if what.isdigit() else what
        if minutes is None:
            minutes = head.planned if head else UNWRITTEN
        computed = "none" if read else computing(times, what) if head else ""
        rows.append([f"{clock // 60}:{clock % 60:02}", name, str(minutes), computed])
        clock += minutes
    table = markdown_lines(["from", "what", "minutes (estimate)", "of them computing (measured)"], rows)
    return f"{table}\n\nEnds at {clock // 60}:{clock % 60:02}."


TABLES: dict[str, Callable[[Path], str]] = {
    "notebooks": notebooks_table, "times": times_table, "claims": claims_table,
    "ninety minutes": lambda folder: schedule(NINETY_MINUTES, folder),
    "half day": lambda folder: schedule(HALF_DAY, folder),
    "day one": lambda folder: schedule(DAY_ONE, folder), "day two": lambda folder: schedule(DAY_TWO, folder),
}


# --- the pages ---

def filled(text: str, folder: Path) -> str:
    """A page with every table between its marks written anew. Raises BoneXageError at a mark that is not closed."""
    for name, table in TABLES.items():
        start, end = rf"<!-- {name}:[^>]*-->\n", f"<!-- end of {name} -->"
        if not re.search(start, text):
            continue
        if end not in text:
            raise BoneXageError(f"'<!-- {name}: ... -->' has no '{end}' after it: put one where the table ends")
        text = re.sub(f"({start}).*?{end}", lambda found, table=table, end=end: f"{found[1]}\n{table(folder)}\n\n{end}",
                      text, flags=re.DOTALL)
    return text


def write_pages(folder: Path | None = None) -> list[Path]:
    """Rewrite the tables of PAGES; the pages that changed."""
    folder, changed = folder or course_folder(), []
    for path in filter(Path.is_file, (folder / name for name in PAGES)):
        before = path.read_text(encoding="utf-8")
        after = filled(before, folder)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path)
    return changed
