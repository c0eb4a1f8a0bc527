"""Old and new packages, Colab, conda, workflows: what can be held without a network and without another machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import bonexage_utils
from bonexage_utils.errors import BoneXageError
from tools import badges, environments

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# conda-forge's names. The rarer ones were looked up among its feedstocks on 2026-12-01 (py-opencv is a part of opencv,
# pytorch of pytorch-cpu); the others are called there as on PyPI.
CONDA_FORGE = {
    "accelerate", "captum", "filelock", "jinja2", "matplotlib", "numpy", "openpyxl", "py-opencv", "pandas", "pillow",
    "platformdirs", "pydicom", "safetensors", "scipy", "seaborn", "timm", "pytorch", "torchvision", "tqdm", "typer",
    "ipykernel", "ipywidgets", "jupyterlab", "scikit-learn", "hypothesis", "import-linter", "jupytext",
    "latex2mathml", "markdown-it-py", "myst-nb", "nbclient", "nbformat", "nbval", "onnx", "onnxruntime", "onnxscript",
    "psutil", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pytest", "pytest-xdist", "pyyaml", "ruff",
    "setuptools", "sphinx-book-theme", "websocket-client",
}


# --- bounds ---

def test_every_bound_is_one_release_that_pip_can_be_held_to() -> None:
    requirements = sum(PROJECT["optional-dependencies"].values(), PROJECT["dependencies"])
    lowest = environments.lowest()
    assert len(requirements) > 40
    for text in requirements:  # also where two extras name the same package
        name, bound = text.split(">=")
        assert re.fullmatch(r"\d+(\.\d+)+", bound)
        assert lowest[name] == bound, text
    assert set(environments.BOOTSTRAP["NEEDED"].values()) <= set(requirements)


def test_conda_forge_knows_each_name() -> None:
    named = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"][:-1]
    assert {text.split(">=")[0] for text in named} - {"python", "pip"} == CONDA_FORGE


def test_the_checked_colab_has_what_the_bounds_ask() -> None:
    """Nothing on Colab is older than a bound, but for what runs a notebook there and is not ours to choose."""
    _, there = environments.published(environments.read_list(str(environments.COLAB)))
    lowest = {environments.canonical(name): bound for name, bound in environments.lowest().items()}
    used = set(environments.colab_packages(there)) - set(environments.COLAB_KERNEL)
    number = lambda text: [int(part) for part in text.split(".")]  # noqa: E731
    assert not [name for name in used if number(there[name]) < number(lowest[name])]
    assert "captum" not in there
    assert "pydicom" not in there


def test_a_list_of_packages_is_read() -> None:
    text = ("# Python 3.12.12\nJinja2==3.1.6\ntorch==2.9.0+cpu\ngoogle-colab @ file:///a/google_colab-1.0.0.tar.gz\n"
            "torchvision @ https://a.b/cu126/torchvision-0.24.0%2Bcu126-cp312-cp312-linux_x86_64.whl\n-e ./mine\n"
            "kernel @ git+https://a.b/c@d00f\n")
    assert environments.published(text) == ("3.12", {
        "jinja2": "3.1.6", "torch": "2.9.0", "google-colab": "1.0.0", "torchvision": "0.24.0"})
    assert environments.published("numpy==2.0.2") == ("", {"numpy": "2.0.2"})


def test_a_list_from_an_address_brings_its_python(tmp_path: Path) -> None:
    (tmp_path / "os-info.txt").write_text("Ubuntu 22.04.5 LTS\nPython 3.13.1\n", encoding="utf-8")
    (tmp_path / "pip-freeze.txt").write_text("numpy==2.1.0\n", encoding="utf-8")
    text = environments.read_list((tmp_path / "pip-freeze.txt").as_uri())
    assert environments.published(text) == ("3.13", {"numpy": "2.1.0"})


@pytest.mark.parametrize("where", ["no/such/list.txt", "file:///no/such/pip-freeze.txt"])
def test_a_list_out_of_reach_is_one_line(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert environments.main(["colab-python", "--list", where]) == 2
    assert re.fullmatch(r"error: .*(give|try) .*\n", capsys.readouterr().err)


def test_a_notebook_that_is_none_makes_no_environment() -> None:
    with pytest.raises(BoneXageError, match="77"):
        environments.colab(environments.parser().parse_args(["colab", "77"]))


@pytest.mark.parametrize("absent", ["torch", "ipykernel"])
def test_a_list_without_what_the_first_cell_never_installs_is_refused(tmp_path: Path, absent: str) -> None:
    text = environments.COLAB.read_text(encoding="utf-8")
    (tmp_path / "list.txt").write_text(re.sub(rf"^{absent}==.*\n", "", text, flags=re.MULTILINE), encoding="utf-8")
    options = environments.parser().parse_args(["colab", "--list", str(tmp_path / "list.txt"), "00"])
    with pytest.raises(BoneXageError, match=f"no {absent}, which Colab has"):
        environments.colab(options)


def test_it_needs_nothing_installed() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import tools.badges, tools.environments"
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- what came out ---

@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of environments."""
    folder = tmp_path / "build" / "environments"
    folder.mkdir(parents=True)
    monkeypatch.setattr(environments, "HOMES", folder)
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    return folder


def test_the_last_line_names_what_failed(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert environments.finish("newest", 0.0, {"the fast tests": True, "the notebooks": False}, {}) == 1
    assert re.fullmatch(r"newest: 1 of 2 passed in .*; failed: the notebooks\n", capsys.readouterr().out)
    assert environments.finish("newest", 0.0, {"the fast tests": True, "the notebooks": True}, {}) == 0
    assert "failed" not in capsys.readouterr().out


def test_a_set_up_that_fails_is_one_line_and_no_older_result_hides_it(
        homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environments.finish("newest", 0.0, {"the fast tests": True}, {})
    (homes / "newest").touch()  # a file where the environment's folder should be
    assert environments.main(["newest"]) == 2
    assert re.fullmatch(r"error: .*PYTHON=.*\n", capsys.readouterr().err)
    kept = json.loads((homes / "newest.json").read_text(encoding="utf-8"))
    assert (kept["good"], kept["of"], kept["failed"]) == (0, 1, ["the set-up"])


def test_a_first_cell_that_moves_a_package_of_colab_fails(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, versions = environments.published(environments.read_list(str(environments.COLAB)))
    told = iter([versions, {**versions, "numpy": "99.0"}])

    class Moving:
        folder, work = homes, homes

        def __init__(self, name: str) -> None: ...

        def install(self, *arguments: str) -> None: ...

        def run(self, *arguments: str, **more: object) -> tuple[bool, str]:
            return True, ""

        def packages(self) -> dict[str, str]:
            return next(told)

    monkeypatch.setattr(environments, "Environment", Moving)
    monkeypatch.setattr(environments, "ROOT", ROOT)
    assert environments.main(["colab", "00"]) == 1
    kept = json.loads((homes / "colab.json").read_text(encoding="utf-8"))
    assert (kept["good"], kept["of"], kept["failed"]) == (1, 2, ["Colab's packages"])


# --- what make does ---

def make(folder: Path, target: str, python: str, set_up: bool = True) -> subprocess.CompletedProcess[str]:
    """`make target` in `folder`, which gets the Makefile and some wheels; the shell script `python` is every Python."""
    if os.name == "nt" or not shutil.which("make"):
        pytest.skip("needs make and a shell")
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("wheels", "notebooks", ".venv/bin"):
        (folder / name).mkdir(parents=True)
    for name in ("wheels/a-1-py3-none-any.whl", "pyproject.toml", *[".venv/.installed"] * set_up):
        (folder / name).touch()
    script = folder / ".venv" / "bin" / "python"
    script.write_text(f"#!/bin/sh\n{python}\n", encoding="utf-8")
    script.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "PYTHON"))}
    return subprocess.run(["make", target, f"PYTHON={script}"], cwd=folder, env=clean, capture_output=True, text=True,
                          check=True)


@pytest.mark.parametrize(("target", "no_index"), [
    ("lab", "1"), ("wheels", "unset"), ("wheel", "unset"), ("newest", "unset"), ("oldest", "unset"),
    ("colab", "unset")])
def test_wheels_stand_in_for_the_network_but_where_releases_are_asked_for(
        tmp_path: Path, target: str, no_index: str) -> None:
    """A second `make wheels` fetches what has been released or asked for since the first."""
    assert make(tmp_path, target, "echo ${PIP_NO_INDEX:-unset}").stdout.splitlines()[0] == no_index


@pytest.mark.parametrize(("warning", "shown"), [("Editable installation.", False), ("Another.", True)])
def test_the_set_up_is_silent_about_editable_installations_alone(tmp_path: Path, warning: str, shown: bool) -> None:
    warn = f"""case "$*" in *" -e "*) '{sys.executable}' -c 'import warnings; warnings.warn("{warning}")'; esac"""
    assert (warning in make(tmp_path, "lab", warn, set_up=False).stderr) == shown


# --- badges ---

def result(folder: Path, name: str, good: int) -> None:
    (folder / f"{name}.json").write_text(
        f'{{"name": "{name}", "date": "2026-12-01", "good": {good}, "of": 11, "python": "3.12.1"}}', encoding="utf-8")


def test_badges_land_on_their_branch_and_older_ones_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def git(*arguments: str, where: Path = tmp_path) -> str:
        return subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True).stdout

    git("init", "--quiet", "--bare", "home.git")
    git("init", "--quiet", "--initial-branch", "main", "checkout")
    checkout, results = tmp_path / "checkout", tmp_path / "results"
    results.mkdir()
    git("remote", "add", "origin", (tmp_path / "home.git").as_uri(), where=checkout)
    (checkout / "a").touch()
    git("add", "a", where=checkout)
    git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "a", where=checkout)
    assert badges.push(results, checkout) == 2
    assert "make colab" in capsys.readouterr().err

    result(results, "colab", 11)
    assert badges.push(results, checkout) == 0
    (results / "colab.json").unlink()
    result(results, "oldest", 10)
    assert badges.push(results, checkout) == 0
    names = git("ls-tree", "--name-only", badges.BRANCH, where=tmp_path / "home.git").split()
    assert names == ["colab.svg", "oldest.svg"]
    colab = git("show", f"{badges.BRANCH}:colab.svg", where=tmp_path / "home.git")
    assert "<title>Colab: 2026-12-01, Python 3.12.1: 11 of 11 passed</title>" in colab
    assert badges.GOOD in colab
    assert badges.BAD in git("show", f"{badges.BRANCH}:oldest.svg", where=tmp_path / "home.git")
    assert git("status", "--porcelain", where=checkout) == ""
    assert git("branch", "--show-current", where=checkout).strip() == "main"


def test_readme_shows_the_badges_and_nothing_else_from_elsewhere() -> None:
    shown = re.findall(r"!\[[^\]]+\]\((https://[^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [Path(address).stem for address in shown] == list(badges.LABELS)
    assert all(f"/{badges.BRANCH}/" in address for address in shown)


# --- workflows ---

def steps() -> list[tuple[str, dict[str, str]]]:
    """Each step of each workflow, with its name."""
    return [(f"{path.name}: {name}", step) for path in WORKFLOWS
            for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items() for step in job["steps"]]


def printed_without_make() -> set[str]:
    """The commands that README prints for a machine without make, as Windows writes them."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("Without `make`:")[1].split("\n| ")[0]
    lines = [line.split("   #")[0].strip() for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)]
    return {re.sub(r"^python3 ", "py ", part.strip().replace(".venv/bin/", ".venv\\Scripts\\"))
            for line in lines for part in line.split("&&")}


def test_each_step_is_a_make_target_or_a_printed_command() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands = [(where, step["run"]) for where, step in steps() if "run" in step]
    assert len(commands) > 10
    for where, command in commands:
        words = command.partition(">>")[0].split()
        if words[0] == "make":
            called = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            assert len(called) == 1, f"{where}: {command}"
            assert called[0] in targets, f"{where}: {command}"
        else:
            assert "windows" in where, f"{where}: {command}"
            assert command in printed_without_make(), f"{where}: README does not print {command}"


def test_three_systems_and_both_ends_of_the_pythons_are_tried() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))["jobs"]
    systems = {*jobs["check"]["strategy"]["matrix"]["os"], jobs["windows"]["runs-on"]}
    assert {name.split("-")[0] for name in systems} == {"ubuntu", "macos", "windows"}
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    assert jobs["test"]["strategy"]["matrix"]["python"] == [named[0], named[-1]]
    assert PROJECT["requires-python"] == f">={named[0]}"


# --- one version ---

def test_version_citation_changelog_and_metadata_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {citation["version"], newest[1], PROJECT["version"]} == {bonexage_utils.__version__}
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert [each["name"] for each in citation["authors"]] == [each["name"] for each in PROJECT["authors"]]
    homes = {citation["repository-code"], PROJECT["urls"]["Repository"]}
    assert homes == {environments.BOOTSTRAP["ADDRESS"]}
