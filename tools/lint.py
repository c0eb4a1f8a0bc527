"""Rules that every saved notebook keeps; each is one short function, and all findings are shown together.

nbval in its lax mode compares only the marked cells, and a marked cell without a stored output passes. So
these rules count the marked cells and look at what is stored; nbval then runs them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from bonexage_utils.errors import BoneXageError
from tools.execution import name_cell
from tools.portable import machine_traces, output_texts
from tools.quotes import drifted
from tools.readability import hard_to_read
from tools.sources import NOTEBOOK_METADATA, convert

CHECKED = "nbval-check-output"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CHECKED_CELLS, MOST_BYTES, LONG_CELL, TOO_LONG_CELL = 5, 1_500_000, 12, 15
WIDEST_LINE = 88
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
HTML_ALT = re.compile(r"\balt\s*=\s*(['\"])\s*\S", re.IGNORECASE)
MARKDOWN_IMAGE_WITHOUT_ALT = re.compile(r"!\[\s*\]\(")
EXECUTE = "run `make notebooks`"


@dataclass(frozen=True)
class Finding:
    """One broken rule: where, what is wrong, and what to do. Advice is shown and does not fail."""

    notebook: str
    rule: str
    problem: str
    fix: str
    advice: bool = False

    def __str__(self) -> str:
        rule = f"advice, {self.rule}" if self.advice else self.rule
        return f"{self.notebook}: {self.problem} → {self.fix} [{rule}]"


@dataclass(frozen=True)
class Case:
    """What a rule may look at."""

    name: str
    source: NotebookNode
    saved: NotebookNode
    size: int

    def code(self) -> Iterator[tuple[str, NotebookNode]]:
        """The saved code cells with the names a reader finds them by."""
        for number, cell in enumerate(self.saved.cells, 1):
            if cell.cell_type == "code":
                yield name_cell(cell, number), cell


Rule = Callable[[Case], Iterator[tuple[str, str]]]


def agrees(case: Case) -> Iterator[tuple[str, str]]:
    """Source and notebook say the same, cell by cell."""
    for number, (cell, wanted) in enumerate(zip(case.saved.cells, case.source.cells, strict=False), 1):
        same = (cell.cell_type, cell.source) == (wanted.cell_type, wanted.source)
        if not same or cell.metadata.get("tags", []) != wanted.metadata.get("tags", []):
            yield f"{name_cell(cell, number)} differs from the source", f"edit the source, then {EXECUTE}"
            return
    if len(case.saved.cells) != len(case.source.cells):
        counts = f"{len(case.saved.cells)} cells against {len(case.source.cells)} in the source"
        yield f"has {counts}", f"edit the source, then {EXECUTE}"


def titled(case: Case) -> Iterator[tuple[str, str]]:
    """The site lists a notebook by its title."""
    cells = case.saved.cells
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.lstrip().startswith("# "):
        yield "does not begin with a title", "make the first cell Markdown that begins with `# `"


def bootstrapped(case: Case) -> Iterator[tuple[str, str]]:
    """Every notebook can be the first one that a learner opens."""
    first = next((cell.source for _, cell in case.code()), "")
    if not re.search(r"^\s*(from|import)\s+bonexage_utils\b", first, re.MULTILINE):
        yield "the first code cell is not the bootstrap", "put the cell that imports bonexage_utils first"


def in_order(case: Case) -> Iterator[tuple[str, str]]:
    """Run once, from top to bottom, from a fresh kernel."""
    counts = [cell.execution_count for _, cell in case.code()]
    missing = [name for name, cell in case.code() if cell.execution_count is None]
    if missing:
        yield f"{missing[0]} was not executed", EXECUTE
    elif counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts[:8]}… and not 1, 2, 3, …", EXECUTE


def without_errors(case: Case) -> Iterator[tuple[str, str]]:
    """No saved cell ends in an error."""
    for name, cell in case.code():
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{name} ended in {output.ename}: {output.evalue}", f"mend the cell, then {EXECUTE}"


def without_stderr(case: Case) -> Iterator[tuple[str, str]]:
    """Warnings and bars name paths of the machine and change with versions."""
    for name, cell in case.code():
        text = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr")
        if text:
            yield f"{name} keeps stderr {text.strip()[:60]!r}", "avoid the warning; bars with leave=False"


def checked(case: Case) -> Iterator[tuple[str, str]]:
    """Enough marked cells, each with an output that nbval can compare in every profile."""
    marked = [(name, cell) for name, cell in case.code() if CHECKED in cell.metadata.get("tags", [])]
    if len(marked) < CHECKED_CELLS:
        fix = f'tag results that are the same in every profile: # %% tags=["{CHECKED}"]'
        yield f"{len(marked)} checked cells, expected at least {CHECKED_CELLS}", fix
    for name, cell in marked:
        kinds = [set(output.get("data", {})) for output in cell.outputs]
        if all(any(mime.startswith("image/") for mime in kind) for kind in kinds):
            yield f"{name} is checked and has no stored text output", "print a value, or remove the tag"


def described(case: Case) -> Iterator[tuple[str, str]]:
    """Whoever cannot see a figure can read it."""
    fix = "end the cell with Picture(figure, alt), from bonexage_utils.figures"
    for name, cell in case.code():
        for output in cell.outputs:
            for mime, value in output.get("data", {}).items():
                kept = output.metadata.get(mime, {})
                if mime.startswith("image/") and not str(kept.get("alt") or "").strip():
                    yield f"{name} has a figure without alt text", fix
                if mime == "text/html" and any(not HTML_ALT.search(tag) for tag in HTML_IMAGE.findall(value)):
                    yield f"{name} has an HTML image without alt text", "write <img alt=…>"
    for number, cell in enumerate(case.saved.cells, 1):
        bare = [tag for tag in HTML_IMAGE.findall(cell.source) if not HTML_ALT.search(tag)]
        if cell.cell_type == "markdown" and (bare or MARKDOWN_IMAGE_WITHOUT_ALT.search(cell.source)):
            yield f"{name_cell(cell, number)} has an image without alt text", "write ![what it shows](…)"


def without_state(case: Case) -> Iterator[tuple[str, str]]:
    """Only what is the same everywhere, and lives without a kernel: widgets break GitHub, pairing rewrites sources."""
    for name, cell in case.code():
        if any(WIDGET_VIEW in output.get("data", {}) for output in cell.outputs):
            yield f"{name} shows a widget that needs its kernel", "use slider, from bonexage_utils.course.sliders"
    for key in sorted(set(case.saved.metadata) - set(NOTEBOOK_METADATA)):
        yield f"carries metadata.{key}", f"do not save it from JupyterLab: {EXECUTE}"
    if "version" in case.saved.metadata.get("language_info", {}):
        yield "carries the Python version of one machine", f"do not save it from JupyterLab: {EXECUTE}"


def portable(case: Case) -> Iterator[tuple[str, str]]:
    """No absolute path in cells or outputs."""
    for number, cell in enumerate(case.saved.cells, 1):
        texts = [cell.source, *(text for o in cell.get("outputs", []) for text in output_texts(o))]
        found = [trace for text in texts for trace in machine_traces(text)]
        if found:
            yield f"{name_cell(cell, number)} names {found[0]!r}", "use a relative path"


def small(case: Case) -> Iterator[tuple[str, str]]:
    """GitHub stops rendering large notebooks, and every version stays in git for ever."""
    if case.size >= MOST_BYTES:
        yield f"is {case.size / 1e6:.2f} MB, the limit is {MOST_BYTES / 1e6}", "fewer or smaller figures"


def short_cells(case: Case) -> Iterator[tuple[str, str]]:
    """A cell is read in one look."""
    for name, cell in case.code():
        lines = len(cell.source.splitlines())
        if lines > TOO_LONG_CELL:
            yield f"{name} has {lines} lines, at most {TOO_LONG_CELL}", "split it, or use the package"


def narrow_cells(case: Case) -> Iterator[tuple[str, str]]:
    """A code line fits its cell on a laptop. The first cell is the same everywhere, and nobody reads it."""
    for name, cell in list(case.code())[1:]:
        widest = max((len(line) for line in cell.source.splitlines()), default=0)
        if widest > WIDEST_LINE:
            yield f"{name} has a line of {widest} columns, at most {WIDEST_LINE}", "break it, or move text to a helper"


def longish_cells(case: Case) -> Iterator[tuple[str, str]]:
    """Advice only, and not for the first cell."""
    for name, cell in list(case.code())[1:]:
        lines = len(cell.source.splitlines())
        if LONG_CELL < lines <= TOO_LONG_CELL:
            yield f"{name} has {lines} lines, long above {LONG_CELL}", "consider splitting it"


def quoted(case: Case) -> Iterator[tuple[str, str]]:
    """A number in prose that quotes a result is the one printed above it."""
    for place, problem in drifted(case.saved.cells):
        fix = "correct it, let the cell print the sentence, or mark it: <!-- from elsewhere: 6.8 (its source) -->"
        yield f"{name_cell(case.saved.cells[place - 1], place)} {problem}", fix


def readable(case: Case) -> Iterator[tuple[str, str]]:
    """Advice only."""
    yield from hard_to_read(case.saved.cells)


RULES: tuple[Rule, ...] = (
    agrees, titled, bootstrapped, in_order, without_errors, without_stderr, checked, described, without_state,
    portable, small, short_cells, narrow_cells, longish_cells, quoted,
    readable,
)  # fmt: skip
ADVICE = frozenset({longish_cells, readable})


def lint(source: Path, saved: Path) -> list[Finding]:
    """Every finding about one source and its saved notebook."""
    name = source.stem
    if not saved.is_file():
        return [Finding(name, "saved", f"{saved.name} is missing", EXECUTE)]
    text = saved.read_text(encoding="utf-8")
    try:
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises many types; all mean the same to the reader
        return [Finding(name, "saved", f"is no valid notebook ({str(error).splitlines()[0][:80]})", EXECUTE)]
    case = Case(name, convert(source), notebook, len(text.encode()))
    return [Finding(name, rule.__name__, *found, rule in ADVICE) for rule in RULES for found in rule(case)]


def lint_folder(folder: Path) -> list[Finding]:
    """Every finding about the sources and notebooks in `folder`; a notebook without a source is one, too."""
    sources = {path.stem: path for path in sorted((folder / "source").glob("[0-9][0-9]_*.py"))}
    saved = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if not sources and not saved:
        raise BoneXageError(f"no notebooks in {folder}: expected source/NN_name.py and NN_name.ipynb")
    fix = "add its source, or delete it"
    orphans = [Finding(name, "saved", "has no source", fix) for name in saved if name not in sources]
    return [f for name, path in sources.items() for f in lint(path, folder / f"{name}.ipynb")] + orphans
