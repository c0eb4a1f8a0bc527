"""The project itself: environments in step, no machine's traces, no fixed devices, no silenced warnings."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

# conda-forge's name for PyPI's, where they differ
CONDA_NAMES = {"opencv-python-headless": "py-opencv", "torch": "pytorch"}


def bounds(requirements: list[str]) -> dict[str, str]:
    return dict(re.fullmatch(r"([A-Za-z0-9_-]+)(>=[\d.]+)", text).groups() for text in requirements)


def test_environment_yml_is_in_step_with_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = bounds(project["dependencies"] + extras["notebooks"] + extras["dev"])
    wanted = {CONDA_NAMES.get(name, name): bound for name, bound in wanted.items()}
    wanted["py-opencv"] = ".".join(wanted["py-opencv"].split(".")[:2])  # 4.11.0.86 on PyPI is 4.11.0 at conda-forge
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge"]
    *named, last = environment["dependencies"]
    assert last == {"pip": ["--no-deps -e ."]}
    found = bounds([text for text in named if text != "pip"])
    assert found.pop("python") == project["requires-python"]
    assert found == wanted


def test_lower_bounds_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in sum(project["optional-dependencies"].values(), project["dependencies"]):
        assert not re.search(r"[<~]|==", requirement), requirement


def test_the_bootstrap_asks_for_what_pyproject_asks() -> None:
    from bonexage_utils.course.bootstrap import NEEDED, UNTOUCHED

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = set(project["dependencies"])
    assert set(NEEDED.values()) <= core | set(project["optional-dependencies"]["notebooks"])
    assert {bounds([text]).popitem()[0] for text in core} == {
        bounds([text]).popitem()[0] for text in NEEDED.values() if text in core} | set(UNTOUCHED)


def imported(source: str) -> set[str]:
    """The top-level names of the modules a source imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.partition(".")[0] for name in names}


SOURCES = sorted((ROOT / "notebooks" / "source").glob("*.py"))


def test_there_are_notebooks() -> None:
    """The next test runs over them."""
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_imports_only_what_the_bootstrap_installs(path: Path) -> None:
    from bonexage_utils.course.bootstrap import NEEDED, UNTOUCHED

    known = sys.stdlib_module_names | NEEDED.keys() | set(UNTOUCHED) | {"bonexage_utils", "IPython"}
    assert imported(path.read_text(encoding="utf-8")) <= known


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    assert ROOT / "pyproject.toml" in paths
    return paths


def package() -> list[Path]:
    """The sources of what is installed."""
    paths = sorted((ROOT / "bonexage_utils").rglob("*.py"))
    assert ROOT / "bonexage_utils" / "training.py" in paths
    return paths


def test_no_trace_of_a_machine_is_committed() -> None:
    traces = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w|" + "pypi" + r"\.org|files\.python" + "hosted")
    for path in tracked():
        if path.suffix in {".png", ".npy", ".npz", ".safetensors"}:
            continue
        text = path.read_text(encoding="utf-8")
        found = traces.search(text)
        assert not found, f"{path.relative_to(ROOT)}: {found.group()}"


def test_no_fixed_device_and_no_silenced_warning() -> None:
    """Fault 18."""
    for path in package():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"cuda:\d|filterwarnings\(.ignore|CUDA_VISIBLE_DEVICES", text), path.name


def test_nothing_is_unpickled() -> None:
    """Fault 16. `weights_only` reads tensors and plain values, and runs nothing; notebook 07 teaches it."""
    unsafe = re.compile(r"torch\.load\((?!.*weights_only=True)|import pickle|allow_pickle=True|\beval\(\"|read_pickle")
    for path in [*package(), *(ROOT / "notebooks" / "source").glob("*.py")]:
        assert not unsafe.search(path.read_text(encoding="utf-8")), path.name
    assert unsafe.search("torch.load(path)")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the packages in `folder`, which is looked in before the installed one."""
    return subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=folder, text=True,
                          env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, check=False)


def test_no_module_imports_what_it_may_not() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(("module", "imported", "contract"), [
    ("bonexage_utils/cohort.py", "bonexage_utils.course.start", "Data flows one way"),
    ("bonexage_utils/images.py", "bonexage_utils.model", "Data flows one way"),
    ("bonexage_utils/checks/audit.py", "bonexage_utils.report", "Data flows one way"),
    ("bonexage_utils/course/nb04/pooling.py", "bonexage_utils.course.nb05.fusion", "A notebook's room is its own"),
    ("bonexage_utils/course/sliders.py", "bonexage_utils.course.nb00.figures", "A notebook's room is its own"),
    ("bonexage_utils/phantom/plate.py", "bonexage_utils.model", "The phantom draws hands"),
    ("bonexage_utils/figures.py", "tools.ledger", "What is installed does without"),
])
def test_a_broken_contract_is_named(tmp_path: Path, module: str, imported: str, contract: str) -> None:
    for name in ("bonexage_utils", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with open(tmp_path / module, "a", encoding="utf-8") as file:
        file.write(f"\nimport {imported}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout
    text = " ".join(done.stdout.split())
    assert re.search(rf"{contract}[^:]*(: [^:]*)? BROKEN", text), done.stdout
    assert imported in text


def test_a_module_without_a_place_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bonexage_utils", tmp_path / "bonexage_utils",
                    ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "bonexage_utils" / "misc.py").write_text('"""Anything."""\n')
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "bonexage_utils.misc" in done.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "project"  # building leaves folders behind
    shutil.copytree(ROOT / "bonexage_utils", copy / "bonexage_utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tools", copy / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    (copy / "tests" / "test_nothing.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--wheel-dir", str(tmp_path), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"bonexage_utils", next(top for top in tops if top.endswith(".dist-info"))}
    assert {"bonexage_utils/weights/resnet10t.safetensors", "bonexage_utils/weights/resnet10t.json",
            "bonexage_utils/report/templates/report.html", "bonexage_utils/report/templates/model_card.md",
            "bonexage_utils/course/nb10/board_report.md", "bonexage_utils/course/nb00/exercises.py"} <= set(names)


def test_the_face_of_the_package_is_lazy() -> None:
    import bonexage_utils
    from bonexage_utils import cohort, model, prediction, settings, training

    homes = {"load_cohort": cohort, "train": training, "TrainConfig": settings, "Predictor": prediction,
             "BoneAgeNet": model, "GeM": model}
    assert set(bonexage_utils.__all__) == set(homes)
    for name, module in homes.items():
        assert getattr(bonexage_utils, name) is getattr(module, name)
    with pytest.raises(AttributeError, match="no_such_name"):
        bonexage_utils.no_such_name  # noqa: B018
    code = "import sys, bonexage_utils; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_are_data_and_need_no_torch() -> None:
    code = "import sys; from bonexage_utils import TrainConfig; TrainConfig(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, bonexage_utils.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
