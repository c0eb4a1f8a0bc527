"""The course's own notebooks: they keep the rules, they run, and a stored output that is wrong is noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbval")

from conftest import ROOT
from filelock import FileLock

from tools.execution import kernel_environment, own_kernel
from tools.lint import CHECKED, lint_folder

NOTEBOOKS = ROOT / "notebooks"
SAVED = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
SOURCES = sorted((NOTEBOOKS / "source").glob("[0-9][0-9]_*.py"))
# Inside the repository, so that paths relative to it hold, and in a folder that git ignores.
SCRATCH = ROOT / "build" / "nbval"


def own_environment() -> dict[str, str]:
    """Of a kernel on the embedded cohort, which finds the package also where it is not installed."""
    environment = kernel_environment("fast")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    return environment


def nbval(notebook: Path, settings: Path) -> subprocess.CompletedProcess[str]:
    """Run one notebook as nbval does it in its lax mode, without this project's own pytest settings."""
    environment = own_environment()
    for name in [name for name in environment if name.startswith(("PYTEST_", "COV_"))]:
        del environment[name]
    settings.write_text("[pytest]\n")
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "-x", "-q"]
    plain = ["-p", "no:cacheprovider", "-c", str(settings), "--rootdir", str(notebook.parent)]
    command = [sys.executable, "-m", "pytest", *options, *plain, str(notebook)]
    # nbval starts the kernel in the notebook's own folder, as JupyterLab does.
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def git_status() -> str:
    """What git sees as changed in notebooks/; the same before and after where there is no git."""
    command = ["git", "status", "--porcelain", "--ignored=no", "--", "notebooks"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""


@pytest.fixture(scope="session")
def _cohort_drawn(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The embedded cohort, drawn once for all notebooks: two of them at once would both draw it, and one in vain."""
    code = "from bonexage_utils.course.start import PROFILES, course_folder, find_cohort\n" \
           "find_cohort(PROFILES['fast'], course_folder())"
    # The folder above is shared by all workers of a run.
    with FileLock(tmp_path_factory.getbasetemp().parent / "cohort.lock"):
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own_environment(), check=True)


def test_notebooks_keep_the_rules():
    assert len(SOURCES) == len(SAVED) == 11
    broken = [str(finding) for finding in lint_folder(NOTEBOOKS) if not finding.advice]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.slow
@pytest.mark.usefixtures("_cohort_drawn")
@pytest.mark.parametrize("notebook", SAVED[::-1], ids=lambda path: path.stem)
def test_notebook_runs_and_its_checked_outputs_agree(notebook, tmp_path):
    before = git_status()
    with own_kernel(strict=True):
        result = nbval(notebook, tmp_path / "pytest.ini")
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert git_status() == before, "running the notebook leaves files that git sees"


@pytest.mark.slow
@pytest.mark.usefixtures("_cohort_drawn")
def test_a_corrupted_output_is_noticed(tmp_path):
    """nbval passes what it does not compare, so prove that it compares: one notebook up to its first checked cell."""
    notebook = nbformat.read(SAVED[0], as_version=4)
    index = next(i for i, c in enumerate(notebook.cells) if CHECKED in c.metadata.get("tags", []))
    notebook.cells = notebook.cells[: index + 1]
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    copy = SCRATCH / SAVED[0].name
    try:
        nbformat.write(notebook, copy)
        result = nbval(copy, tmp_path / "pytest.ini")
        assert result.returncode == 0, "the copy itself has to pass: " + result.stdout[-4000:]
        for output in notebook.cells[index].outputs:
            if output.output_type == "stream":
                output.text += "corrupted\n"
            else:
                output.data["text/plain"] = output.data.get("text/plain", "") + "corrupted"
        nbformat.write(notebook, copy)
        assert nbval(copy, tmp_path / "pytest.ini").returncode == 1
    finally:
        shutil.rmtree(SCRATCH, ignore_errors=True)
