"""The first cell of every notebook works wherever the notebook is opened."""

import ast
import json
import os
import re
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
if HIDE:
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != ROOT]
    sys.meta_path[:] = [f for f in sys.meta_path if not getattr(f, "__module__", "").startswith("__editable__")]
calls = []
def run(command, shell):
    calls.append(command.split())
    if FAILS:
        return subprocess.CompletedProcess(command, 128)
    shutil.copytree(os.path.join(ROOT, "bonexage_utils"), "bonexage/bonexage_utils")
    os.mkdir("bonexage/notebooks")
    return subprocess.CompletedProcess(command, 0)
subprocess.run = run
"""
REPORT = """
import bonexage_utils
print(json.dumps([calls, os.getcwd(), os.path.abspath(bonexage_utils.__file__)]))
"""
ALL_THERE = "installed: nothing, all there"


def prelude(hide: bool = True, fails: bool = False) -> str:
    return f"ROOT, HIDE, FAILS = {str(ROOT)!r}, {hide}, {fails}\n" + PRELUDE


def run_cell(folder: Path, times: int = 1, hide: bool = True) -> tuple[list[str], list[str], Path, Path]:
    """What the cell fetched and printed, where it ended, and which package it found."""
    script = folder / "cell.py"
    script.write_text(prelude(hide) + (bootstrap.BOOTSTRAP_CELL + "\n") * times + REPORT, encoding="utf-8")
    done = subprocess.run([sys.executable, "-P", script.name], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    calls, where, package = json.loads(last)
    return calls, printed, Path(where), Path(package)


def installed_otherwise() -> bool:
    """Whether the package lies in site-packages, where the prelude cannot hide it."""
    return Path(bootstrap.__file__).resolve().parents[2] != ROOT


@pytest.mark.skipif(installed_otherwise(), reason="the package is not an editable installation")
def test_on_colab_the_course_is_fetched_once(tmp_path: Path) -> None:
    calls, printed, where, package = run_cell(tmp_path, times=2)
    assert [(words[0], *words[-3:]) for words in calls] == [
        ("git", f"--branch={bootstrap.TAG}", bootstrap.ADDRESS, "bonexage")]
    assert "about half a minute" in printed[0]
    assert printed[1:] == [ALL_THERE]
    assert where == tmp_path / "bonexage" / "notebooks"
    assert package == tmp_path / "bonexage" / "bonexage_utils" / "__init__.py"
    # A kernel that was started again finds what the first one fetched.
    assert run_cell(tmp_path, times=2)[:3] == ([], [ALL_THERE], where)


@pytest.mark.skipif(installed_otherwise(), reason="the package is not an editable installation")
def test_in_a_checkout_nothing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "bonexage_utils" / "course").mkdir(parents=True)
    (tmp_path / "bonexage_utils" / "__init__.py").touch()
    (tmp_path / "bonexage_utils" / "course" / "bootstrap.py").write_text(Path(bootstrap.__file__).read_text())
    calls, printed, where, package = run_cell(tmp_path / "notebooks", times=2)
    assert (calls, printed, where) == ([], [ALL_THERE], tmp_path / "notebooks")
    assert package == tmp_path / "bonexage_utils" / "__init__.py"


def test_where_the_package_is_installed_nothing_happens(tmp_path: Path) -> None:
    assert run_cell(tmp_path, times=2, hide=False)[:3] == ([], [], tmp_path)


@pytest.mark.skipif(installed_otherwise(), reason="the package is not an editable installation")
def test_a_fetch_that_fails_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-P", "-c", prelude(fails=True) + bootstrap.BOOTSTRAP_CELL], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"unzip {bootstrap.ADDRESS}/archive/{bootstrap.TAG}.zip" in line


def test_what_pip_cannot_get_is_one_line_with_the_way_out() -> None:
    out_of_reach = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    code = Path(bootstrap.__file__).read_text(encoding="utf-8").replace(
        'NEEDED = {', 'NEEDED = {"no_such_module": "no-such-distribution>=2",')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=out_of_reach)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.fullmatch(r"Not installed: no-such-distribution>=2; turn .*", done.stderr.splitlines()[-1])


def test_the_cell_is_short_and_leaves_torch_and_numpy_alone() -> None:
    assert len(bootstrap.BOOTSTRAP_CELL.splitlines()) <= 15
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
