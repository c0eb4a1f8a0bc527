"""Workshop copies: code filled in, decisions open, no outputs, what is for home at the end; and they run."""

import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from conftest import ROOT
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell

from bonexage_utils.cohort import Cohort
from bonexage_utils.course.bootstrap import BOOTSTRAP_CELL
from bonexage_utils.course.exercise import Exercise, right
from bonexage_utils.course.start import PROFILES, Course
from bonexage_utils.errors import BoneXageError
from tools.execution import kernel_environment, own_kernel
from tools.pages import CORE
from tools.workshop import FILLED, fill, for_home, make_copies, send_home

WITH_CODE = {"00": set(), "01": {"comb", "baseline"}, "03": {"shapes"}, "04": {"gem", "slope"},
             "05": {"encode", "gain"}, "08": {"limits", "enrich"}}

TABLE = """
## Half a day

| notebook | do together | leave for home |
|---|---|---|
| 00 | *this*, that | *One*, and *Two: a part* |
| 01 | all | |

## Two days

| 02 | x | *Three* |
"""


def exercise(solution: object, code: str = "") -> Exercise:
    return Exercise("What?", lambda answer: right(""), ("look",), solution, "", code=code)


def texts(cells: list) -> list[str]:
    return [cell.source for cell in cells]


# --- the parts, on made-up cells ---

def test_what_is_for_home_is_read_off_the_plan(tmp_path: Path) -> None:
    (tmp_path / "INSTRUCTORS.md").write_text(TABLE, encoding="utf-8")
    assert for_home(tmp_path) == {"00": ["One", "Two: a part"], "01": []}
    (tmp_path / "INSTRUCTORS.md").write_text("## Half a day\n", encoding="utf-8")
    with pytest.raises(BoneXageError, match="has no table"):
        for_home(tmp_path)


def test_code_is_filled_in_and_decisions_stay() -> None:
    ex = SimpleNamespace(add=exercise(max, "def my_add(a, b):\n    return a + b\n"), mean=exercise(3, "(2 +\n 4) / 2"),
                         side=exercise("A"))
    cells = [new_code_cell(text) for text in (
        "def my_add(a, b):\n    ...\n\n\nex.add.check(my_add)", "# ex.add.hint()\n# ex.add.solution()",
        "my_mean = ...  # months\nex.mean.check(my_mean)", "my_side = ...\nex.side.check(my_side)",
        "# ex.side.hint()\n# ex.side.solution()")]
    assert texts(fill(cells, ex)) == [
        f"{FILLED}\ndef my_add(a, b):\n    return a + b\n\n\nex.add.check(my_add)",
        f"{FILLED}\nmy_mean = (2 +\n 4) / 2\nex.mean.check(my_mean)", "my_side = ...\nex.side.check(my_side)",
        "# ex.side.hint()\n# ex.side.solution()"]


def test_sections_go_home_with_what_is_below_them() -> None:
    cells = [new_markdown_cell("# Title"), new_markdown_cell("Read.\n\n## One\n\nfirst"), new_code_cell("1"),
             new_markdown_cell("### Below"), new_code_cell("2"), new_markdown_cell("## Two\n\n### One\n\nsecond"),
             new_code_cell("# ## no heading")]
    stay = ["# Title", "Read.", "## Two", "### One\n\nsecond", "# ## no heading"]
    home = ["## One\n\nfirst", "1", "### Below", "2"]
    moved = send_home(cells, ["One"])
    assert texts(moved)[:5] == stay
    assert texts(moved)[6:] == home
    assert moved[5].source.startswith("# For home")
    assert moved[5].metadata == {"jp-MarkdownHeadingCollapsed": True}
    assert len({cell.id for cell in moved}) == len(moved)
    assert texts(send_home(cells, ["One", "One"]))[:4] == ["# Title", "Read.", "## Two", moved[5].source]
    assert texts(send_home(cells, [])) == [*stay[:2], *home, *stay[2:]]
    with pytest.raises(BoneXageError, match="no section is called 'Three'"):
        send_home(cells, ["Three"])


def test_the_plan_names_every_core_notebook() -> None:
    assert tuple(for_home(ROOT / "notebooks")) == CORE


# --- the copies themselves ---

@pytest.fixture(scope="module")
def copies(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> dict[str, nbformat.NotebookNode]:
    folder = tmp_path_factory.mktemp("workshop")
    course = Course(PROFILES["fast"], torch.device("cpu"), cohort, True, 0, folder)
    return {path.name[:2]: nbformat.read(path, as_version=4)
            for path in make_copies(ROOT / "notebooks", folder, course)}


@pytest.mark.slow
@pytest.mark.parametrize("number", CORE)
def test_a_copy_gives_no_answer_away(copies: dict, number: str) -> None:
    code = [cell for cell in copies[number].cells if cell.cell_type == "code"]
    assert code[0].source == BOOTSTRAP_CELL
    assert not any(cell.outputs or cell.execution_count for cell in code)
    for cell in code:
        asks = "# ex." not in cell.source and ".check(" in cell.source
        assert not (asks and FILLED in cell.source and re.search(r"= \.\.\.|^    \.\.\.", cell.source, re.MULTILINE))
    assert any(re.search(r"^my_\w+ = \.\.\.", cell.source, re.MULTILINE) for cell in code)
    links = [link for cell in copies[number].cells if cell.cell_type == "markdown"
             for link in re.findall(r"\]\(([^)]+)\)", cell.source)]
    assert all(link.startswith(("https:", "#")) for link in links), "a copy may lie anywhere"


@pytest.mark.slow
@pytest.mark.parametrize("number", CORE)
def test_a_copy_runs_to_its_end(copies: dict, number: str, tmp_path: Path) -> None:
    notebook = copies[number]
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    with own_kernel():
        client.execute(env={**kernel_environment("fast"), "PYTHONPATH": str(ROOT)})
    filled, told = [], None  # told: done when `answered` runs; what is for home comes later
    for cell in notebook.cells:
        said = "".join(output.get("text", "") for output in cell.outputs) if cell.cell_type == "code" else ""
        for name in re.findall(r"^ex\.(\w+)\.check\(", cell.source, re.MULTILINE):
            assert ("✔ Right." if FILLED in cell.source else "Not attempted yet") in said, name
            filled += [name] if FILLED in cell.source else []
        if cell.source.endswith("answered(ex)"):
            told = re.findall(r"✔ done    ex\.(\w+)", said)
            assert "○ open" in said
            assert sorted(told) == sorted(filled)
    assert told is not None
    assert set(filled) == WITH_CODE[number]
