"""Copies of the core notebooks to learn from in a workshop: no outputs, code filled in, decisions open.

An exercise that asks for code has its solution in place of the stub. Guesses and decisions keep theirs. The sections
that the half day's table in INSTRUCTORS.md leaves for home come last, under a heading that JupyterLab keeps folded.
"""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from bonexage_utils.course.start import PROFILES, SEED, Course, course_folder, find_cohort
from bonexage_utils.errors import BoneXageError
from tools.execution import save
from tools.sources import convert, find_sources

PLAN = "INSTRUCTORS.md"
HEADING = re.compile(r"(##+) (.+)")
OFFERS = re.compile(r"\s*(# ex\.(\w+)\.(hint|solution)\(.*\)\s*)+")
FILLED = "# Filled in for the workshop: read it, run it, change it."
WELCOME = """\
**This is a workshop copy.** Code is filled in, so you only run it. A `...` waits for your guess or your decision.
What is for home stands at the end, folded: click the arrow beside *For home*, or leave it."""
FOR_HOME = """\
# For home

Run the cells above first."""


def for_home(notebooks: Path) -> dict[str, list[str]]:
    """By number, the headings that the half day leaves for home: those in *italics* in the last column of its table."""
    text = (notebooks / PLAN).read_text(encoding="utf-8")
    half_day = text.partition("\n## Half a day\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d\d) \|.*\| ?(.*?) ?\|$", half_day, re.MULTILINE)
    if not rows:
        raise BoneXageError(f"{PLAN}: '## Half a day' has no table with rows such as '| 00 | together | for home |'")
    return {number: re.findall(r"\*(.+?)\*", last) for number, last in rows}


def replace_stub(source: str, answer: str, code: str) -> str:
    """A cell with `code` in place of the stub of `answer`: `answer = ...`, or `def answer(...):` with `...` inside."""
    stub = re.compile(rf"^(def {answer}\(.*\):\n    \.\.\..*|{answer} = \.\.\..*)$", re.MULTILINE)
    return stub.sub(lambda _: code, source)


def fill(cells: list[NotebookNode], exercises: SimpleNamespace) -> list[NotebookNode]:
    """The cells with the solution of every exercise that asks for code; their hints and solutions are left out."""
    asking = {name: exercise for name, exercise in vars(exercises).items() if exercise.code}
    for cell in cells:
        for name, answer in re.findall(r"^ex\.(\w+)\.check\((\w+)\)", cell.source, re.MULTILINE):
            if name in asking:
                code = asking[name].pasted
                code = code if callable(asking[name].solution_value) else f"{answer} = {code}"
                cell.source = replace_stub(cell.source, answer, f"{FILLED}\n{code}")
    return [cell for cell in cells if not (OFFERS.fullmatch(cell.source)
                                           and set(re.findall(r"ex\.(\w+)\.", cell.source)) <= set(asking))]


def cut_at_headings(cells: list[NotebookNode]) -> Iterator[NotebookNode]:
    """The same cells, but each heading (of level 2 or deeper) begins a Markdown cell of its own."""
    for cell in cells:
        if cell.cell_type != "markdown":
            yield cell
            continue
        for place, text in enumerate(filter(str.strip, re.split(r"^(?=##+ )", cell.source, flags=re.MULTILINE))):
            yield new_markdown_cell(text.strip(), id=f"{cell.id}-{place}")


def send_home(cells: list[NotebookNode], headings: list[str]) -> list[NotebookNode]:
    """The sections under `headings` at the end, in their order; of several with one name the first is meant.

    Raises BoneXageError for a heading that is not there.
    """
    wanted, stay, home, level = list(headings), [], [], 0
    for cell in cut_at_headings(cells):
        heading = HEADING.match(cell.source) if cell.cell_type == "markdown" else None
        if heading and (not level or len(heading[1]) <= level):
            level = len(heading[1]) if heading[2] in wanted else 0
            if level:
                wanted.remove(heading[2])
        (home if level else stay).append(cell)
    if wanted:
        raise BoneXageError(f"{PLAN}: no section is called {wanted[0]!r}: correct the half day's table, last column")
    folded = new_markdown_cell(FOR_HOME, id="for-home", metadata={"jp-MarkdownHeadingCollapsed": True})
    return [*stay, folded, *home] if home else stay


def small_course() -> Course:
    """What the exercises are built with: the embedded cohort in profile `fast`, drawn if it is not there."""
    profile, folder = PROFILES["fast"], course_folder()
    return Course(profile, torch.device("cpu"), *find_cohort(profile, folder), SEED, folder)


def make_copies(notebooks: Path, out: Path, course: Course) -> list[Path]:
    """Write a workshop copy of every core notebook into `out`; some seconds, most of them for building exercises."""
    paths = []
    for number, headings in for_home(notebooks).items():
        (source,) = find_sources(notebooks, [number])
        notebook = convert(source)
        exercises = importlib.import_module(f"bonexage_utils.course.nb{number}.exercises").build(course)
        notebook.cells = send_home(fill(notebook.cells, exercises), headings)
        notebook.cells.insert(1, new_markdown_cell(WELCOME, id="workshop-copy"))
        paths.append(out / f"{source.stem}.ipynb")
        save(notebook, paths[-1])
    return paths
