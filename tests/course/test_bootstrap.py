"""The first cell of every notebook works wherever the notebook is opened."""

import ast
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT

from bonexage_utils.course import bootstrap

# Stands in for a fresh Python: hides the installed package, and `git clone` copies the package of this checkout.
PRELUDE = """
import importlib.util, json, os, shutil, subprocess, sys
sys.path.insert(0, "")  # as in a notebook
sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != ROOT]
if HIDE:
    sys.meta_path[:] = [f for f in sys.meta_path if not getattr(f, "__module__", "").startswith("__editable__")]
calls, really = [], subprocess.run
def run(command, **kwargs):
    calls.append(command[0] if command[0] == "git" else "bootstrap.py")
    if command[0] != "git":
        return really(command, **kwargs)
    assert command[1] == "clone" and kwargs["check"]
    shutil.copytree(os.path.join(ROOT, "bonexage_utils"), os.path.join(command[-1], "bonexage_utils"))
    os.mkdir(os.path.join(command[-1], "notebooks"))
subprocess.run = run
"""
REPORT = """
import bonexage_utils
print(json.dumps([calls, os.getcwd(), os.path.abspath(bonexage_utils.__file__)]))
"""


def run_cell(folder: Path, times: int = 1, hide: bool = True) -> tuple[list[str], Path, Path]:
    """What the cell started, where it ended, and which package it found."""
    script = folder / "cell.py"
    prelude = f"ROOT, HIDE = {str(ROOT)!r}, {hide}\n" + PRELUDE
    script.write_text(prelude + (bootstrap.BOOTSTRAP_CELL + "\n") * times + REPORT, encoding="utf-8")
    done = subprocess.run([sys.executable, "-P", script.name], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    calls, where, package = json.loads(done.stdout.splitlines()[-1])
    return calls, Path(where), Path(package)


def installed_otherwise() -> bool:
    """Whether the package lies in site-packages, where the prelude cannot hide it."""
    return Path(bootstrap.__file__).resolve().parents[2] != ROOT


@pytest.mark.skipif(installed_otherwise(), reason="the package is not an editable installation")
def test_on_colab_the_course_is_fetched_once(tmp_path: Path) -> None:
    calls, where, package = run_cell(tmp_path, times=2)
    assert calls == ["git", "bootstrap.py"]
    assert where == tmp_path / "bonexage" / "notebooks"
    assert package == tmp_path / "bonexage" / "bonexage_utils" / "__init__.py"
    # A kernel that was started again finds what the first one fetched.
    calls, again, _ = run_cell(tmp_path, times=2)
    assert calls == ["bootstrap.py"]
    assert again == where


@pytest.mark.skipif(installed_otherwise(), reason="the package is not an editable installation")
def test_in_a_checkout_nothing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "bonexage_utils" / "course").mkdir(parents=True)
    (tmp_path / "bonexage_utils" / "__init__.py").touch()
    (tmp_path / "bonexage_utils" / "course" / "bootstrap.py").write_text(Path(bootstrap.__file__).read_text())
    calls, where, package = run_cell(tmp_path / "notebooks", times=2)
    assert calls == ["bootstrap.py"]
    assert where == tmp_path / "notebooks"
    assert package == tmp_path / "bonexage_utils" / "__init__.py"


def test_where_the_package_is_installed_nothing_happens(tmp_path: Path) -> None:
    assert run_cell(tmp_path, times=2, hide=False)[:2] == ([], tmp_path)


def test_a_fetch_that_fails_stops_the_cell(tmp_path: Path) -> None:
    script = f"ROOT, HIDE = {str(ROOT)!r}, True\n" + PRELUDE + (
        "def run(command, **kwargs):\n    raise subprocess.CalledProcessError(128, command)\nsubprocess.run = run\n")
    done = subprocess.run([sys.executable, "-P", "-c", script + bootstrap.BOOTSTRAP_CELL], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "git" in done.stderr.splitlines()[-1]


def test_the_cell_is_short_and_leaves_torch_and_numpy_alone() -> None:
    assert len(bootstrap.BOOTSTRAP_CELL.splitlines()) <= 12
    assert bootstrap.ADDRESS in bootstrap.BOOTSTRAP_CELL
    assert not set(bootstrap.NEEDED) & set(bootstrap.UNTOUCHED)


def test_every_notebook_begins_with_the_cell() -> None:
    sources = sorted((ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py"))
    assert sources
    for source in sources:
        first = source.read_text(encoding="utf-8").split("\n# %%\n", 1)[1]
        assert first.startswith(bootstrap.BOOTSTRAP_CELL + "\n"), source.name


def test_the_script_needs_nothing_installed() -> None:
    tree = ast.parse(Path(bootstrap.__file__).read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in modules} <= sys.stdlib_module_names


def test_missing_asks_by_import_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "NEEDED", {"json": "json>=1", "no_such_module": "no-such>=2"})
    assert bootstrap.missing() == ["no-such>=2"]


def test_constraints_hold_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "UNTOUCHED", ("numpy", "no-such-distribution"))
    assert bootstrap.constraints() == f"numpy=={metadata.version('numpy')}"


def test_install_asks_pip_once_and_holds_the_big_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    held: list[str] = []

    def pip(command: list[str], check: bool) -> None:
        asked.append(command)
        held.append(Path(command[command.index("--constraint") + 1]).read_text(encoding="utf-8"))
        monkeypatch.setattr(bootstrap, "NEEDED", {"json": "json>=1"})  # now it is there

    monkeypatch.setattr(bootstrap, "NEEDED", {"no_such_module": "no-such>=2"})
    monkeypatch.setattr(bootstrap.subprocess, "run", pip)
    assert bootstrap.install_missing() == ["no-such>=2"]
    assert bootstrap.install_missing() == []
    assert [command[-1] for command in asked] == ["no-such>=2"]
    assert "numpy==" in held[0]
