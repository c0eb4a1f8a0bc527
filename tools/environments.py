"""Throw-away environments: the oldest packages the course allows, the newest, those of Colab, and the wheel alone.

    python -m tools.environments oldest --tests tests/system
    python -m tools.environments newest --profile fast 00 03
    python -m tools.environments colab --list tools/colab.txt --profile fast 00 03
    python -m tools.environments wheel
    python -m tools.environments colab-python --list tools/colab.txt

Each is made anew under build/environments, with the Python that runs this. What came out is kept beside it as
NAME.json, from which `tools.badges` draws. Standard library only: what makes environments may not need one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from bonexage_utils.errors import BoneXageError
from tools.command import run_command

ROOT = Path(__file__).resolve().parent.parent
# Read as a script, because importing `bonexage_utils.course` would ask for pandas and torch.
BOOTSTRAP = runpy.run_path(str(ROOT / "bonexage_utils" / "course" / "bootstrap.py"))
HOMES = ROOT / "build" / "environments"
COLAB = ROOT / "tools" / "colab.txt"
# What runs a notebook on Colab, beside what the notebooks import.
COLAB_KERNEL = ("ipykernel", "ipython", "jupyter-client", "nbclient", "pip")


# --- versions ---

def canonical(name: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def lowest() -> dict[str, str]:
    """The lower bound of each requirement in pyproject.toml, core and all extras, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = sum(project["optional-dependencies"].values(), project["dependencies"])
    return dict(text.split(">=") for text in requirements)


def published(text: str) -> tuple[str, dict[str, str]]:
    """Colab's Python (as 3.12; "" if the text does not say) and its packages' versions by `canonical` name.

    `text` is what `pip freeze` prints there. A line `# Python 3.12.12` may stand before it. Versions lose their local
    part (+cpu); of a package installed from an address, the version is taken from the file's name.
    """
    python = re.search(r"^(?:# )?Python (\d+\.\d+)", text, re.MULTILINE)
    versions = {}
    for name, exact, address in re.findall(r"^([\w.-]+)(?:==(\S+)| @ (\S+))", text, re.MULTILINE):
        in_address = re.search(r"/[\w.]+-(\d+(?:\.\d+)+)", address)
        version = exact.partition("+")[0] or (in_address[1] if in_address else "")
        if version:
            versions[canonical(name)] = version
    return (python[1] if python else ""), versions


def read_list(where: str) -> str:
    """The text of a file or an address; beside an address os-info.txt is read, too, for the Python.

    Raises BoneXageError where there is none.
    """
    if "://" not in where:
        try:
            return Path(where).read_text(encoding="utf-8")
        except OSError as error:
            raise BoneXageError(f"{where}: {error.strerror}; give a file or an address that holds Colab's pip freeze") \
                from None
    texts = []
    for address in (where.rpartition("/")[0] + "/os-info.txt", where):
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                texts.append(answer.read().decode())
        except (urllib.error.URLError, OSError) as error:
            raise BoneXageError(f"{address}: not to be had ({error}); try again, or use {COLAB.relative_to(ROOT)}") \
                from None
    return "\n".join(texts)


def colab_packages(versions: dict[str, str]) -> list[str]:
    """What of Colab's packages a notebook of ours meets; what Colab lacks is left for the first cell to install."""
    asked = {canonical(requirement.split(">=")[0]) for requirement in BOOTSTRAP["NEEDED"].values()}
    return sorted(name for name in asked | set(BOOTSTRAP["UNTOUCHED"]) | set(COLAB_KERNEL) if name in versions)


# --- one environment ---

class Environment:
    """A virtual environment in `folder`, made anew, that knows nothing of the one that runs now."""

    def __init__(self, name: str) -> None:
        self.folder = HOMES / name
        self.work = self.folder / "work"
        shutil.rmtree(self.folder, ignore_errors=True)
        # What fails or is stopped before its end counts as failed: no badge of an older run hides it.
        keep(name, {"the set-up": False}, {})
        say(f"{name}: Python {sys.version.split()[0]} in {self.folder.relative_to(ROOT)}")
        if subprocess.run([sys.executable, "-m", "venv", str(self.folder / "venv")], check=False).returncode:
            raise BoneXageError("no environment could be made, see above; try another Python: make PYTHON=...")
        self.scripts = self.folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.scripts / ("python.exe" if os.name == "nt" else "python")
        self.work.mkdir()

    def variables(self, **more: str) -> dict[str, str]:
        """This process's variables without those that would lead a Python elsewhere or change what a notebook does."""
        foreign = {"PYTHONPATH", "PYTHONHOME", "MPLBACKEND", "MAKEFLAGS"}
        kept = {name: value for name, value in os.environ.items()
                if name not in foreign and not name.startswith("BONEXAGE_")}
        return {**kept, "PATH": f"{self.scripts}{os.pathsep}{kept['PATH']}", "VIRTUAL_ENV": str(self.folder / "venv"),
                "JUPYTER_PREFER_ENV_PATH": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}

    def run(self, *arguments: str | Path, folder: Path = ROOT, quiet: bool = False, **more: str) -> tuple[bool, str]:
        """Run this environment's Python; whether it ended well, and what it printed if `quiet`."""
        done = subprocess.run([str(self.python), *map(str, arguments)], cwd=folder, env=self.variables(**more),
                              stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None,
                              encoding="utf-8", errors="replace", check=False)
        return done.returncode == 0, done.stdout or ""

    def install(self, *arguments: str | Path) -> None:
        """pip install. Raises BoneXageError."""
        began = time.monotonic()
        if not self.run("-m", "pip", "install", "--quiet", "--no-compile", *arguments)[0]:
            raise BoneXageError("the installation failed, see above; mend it or the network, then run this again")
        say(f"installed in {minutes(time.monotonic() - began)}")

    def packages(self) -> dict[str, str]:
        """What is installed: versions by name."""
        _, text = self.run("-m", "pip", "list", "--format=json", quiet=True)
        found = next(line for line in text.splitlines() if line.startswith("["))
        return {canonical(each["name"]): each["version"] for each in json.loads(found)}


def asked_of(packages: dict[str, str]) -> dict[str, str]:
    """The versions of what pyproject.toml asks for."""
    return {name: packages[canonical(name)] for name in lowest()}


def say(text: str) -> None:
    print(text, flush=True)


def minutes(seconds: float) -> str:
    """As `48 s` or `3.2 min`."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def keep(name: str, passed: dict[str, bool], packages: dict[str, str]) -> list[str]:
    """Keep what came out, for the badges; the names of what failed."""
    failed = [what for what, ran in passed.items() if not ran]
    result = {"name": name, "date": time.strftime("%Y-%m-%d"), "good": len(passed) - len(failed), "of": len(passed),
              "failed": failed, "python": sys.version.split()[0], "packages": packages}
    HOMES.mkdir(parents=True, exist_ok=True)
    (HOMES / f"{name}.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    return failed


def finish(name: str, began: float, passed: dict[str, bool], packages: dict[str, str]) -> int:
    """Tell and keep what passed and what failed; the exit status."""
    failed = keep(name, passed, packages)
    say(f"{name}: {len(passed) - len(failed)} of {len(passed)} passed in {minutes(time.monotonic() - began)}"
        + (f"; failed: {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


# --- what is tried ---

def oldest(options: argparse.Namespace) -> int:
    """The fast tests with every lower bound of pyproject.toml in force."""
    began, environment = time.monotonic(), Environment("oldest")
    constraints = environment.folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in lowest().items()), encoding="utf-8")
    environment.install("--constraint", constraints, "--editable", f"{ROOT}[notebooks,dicom,dev]")
    there = environment.packages()
    ran, _ = environment.run("-m", "pytest", "-q", "-m", "not slow", *options.tests)
    return finish("oldest", began, {"the fast tests": ran}, asked_of(there))


def newest(options: argparse.Namespace) -> int:
    """The fast tests and the notebooks with the newest releases."""
    began, environment = time.monotonic(), Environment("newest")
    environment.install("--upgrade", "--upgrade-strategy", "eager", "--editable", f"{ROOT}[notebooks,dicom,dev]")
    there = environment.packages()
    tested, _ = environment.run("-m", "pytest", "-q", "-m", "not slow", *options.tests)
    ran, _ = environment.run("-m", "tools.build", "execute", "--strict", "--profile", options.profile, "--out",
                             environment.work, "--ledger", environment.work, *options.notebooks)
    return finish("newest", began, {"the fast tests": tested, "the notebooks": ran}, asked_of(there))


def colab(options: argparse.Namespace) -> int:
    """The saved notebooks, alone in an empty folder, with Colab's packages; the course's address is this checkout."""
    began = time.monotonic()
    python, versions = published(read_list(options.list))
    if python and python != f"{sys.version_info[0]}.{sys.version_info[1]}":
        say(f"colab: Colab has Python {python}, this is {sys.version.split()[0]}")
    saved = sorted(path for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")
                   if not options.notebooks or path.name[:2] in options.notebooks)
    if not saved:
        raise BoneXageError(f"no notebook is numbered {', '.join(options.notebooks)}; choose from 00 to 10")
    lacking = [name for name in (*BOOTSTRAP["UNTOUCHED"], *COLAB_KERNEL) if name not in versions]
    if lacking:
        raise BoneXageError(f"{options.list}: no {', '.join(lacking)}, which Colab has and the first cell never "
                            "installs; give the whole pip freeze")
    environment = Environment("colab")
    constraints = environment.folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
    environment.install("--constraint", constraints, *colab_packages(versions))
    before = environment.packages()
    # git takes a copy of this checkout for the course's home; what is not committed yet is not fetched.
    home = environment.folder / "home.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(home)], check=True)
    subprocess.run(["git", "-C", str(home), "tag", "--force", BOOTSTRAP["TAG"]], check=True, stdout=subprocess.DEVNULL)
    variables = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{home.as_uri()}.insteadOf",
                 "GIT_CONFIG_VALUE_0": BOOTSTRAP["ADDRESS"], "BONEXAGE_PROFILE": options.profile}
    first_cell(environment, saved[0], variables)
    passed = {}
    for path in saved:
        shutil.copy(path, environment.work)
        at = time.monotonic()
        ran, text = environment.run("-m", "jupyter", "execute", "--timeout=-1", "--kernel_name=python3", path.name,
                                    folder=environment.work, quiet=True, **variables)
        say(f"{path.stem}: {'ok' if ran else 'failed'}, {minutes(time.monotonic() - at)}")
        passed[path.stem] = ran
        if not ran:
            say("    " + "\n    ".join(text.strip().splitlines()[-12:]))
    after = environment.packages()
    moved = [f"{name} {version} → {after.get(name, 'gone')}" for name, version in before.items()
             if after.get(name) != version]
    say("installed by the first cell: " + ", ".join(f"{n} {v}" for n, v in after.items() if n not in before))
    say("moved by the first cell: " + (", ".join(moved) or "nothing"))
    kept = {name: before[name] for name in colab_packages(versions)}
    return finish("colab", began, {**passed, "Colab's packages": not moved}, kept)


def first_cell(environment: Environment, notebook: Path, variables: dict[str, str]) -> None:
    """Run the first code cell twice, as two kernels would, and tell the seconds. Raises BoneXageError."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    seconds = []
    for _ in range(2):
        at = time.monotonic()
        # -c puts the working folder on the path, as a kernel does.
        ran, text = environment.run("-c", code, folder=environment.work, quiet=True, **variables)
        if not ran:
            raise BoneXageError(f"the first cell failed: {text.strip().splitlines()[-1]}")
        seconds.append(time.monotonic() - at)
    say(f"the first cell took {seconds[0]:.1f} s; in a kernel started again {seconds[1]:.1f} s")


def wheel(options: argparse.Namespace) -> int:
    """The wheel with the core alone, in an empty folder: phantom, check, train, predict, evaluate."""
    began, environment = time.monotonic(), Environment("wheel")
    environment.run("-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", environment.folder, ROOT)
    found = list(environment.folder.glob("*.whl"))
    if len(found) != 1:
        raise BoneXageError("no wheel was built, see above")
    names = zipfile.ZipFile(found[0]).namelist()
    say(f"{found[0].name}: {len(names)} files, {found[0].stat().st_size / 1e6:.1f} MB")
    environment.install(found[0])
    sites = next((environment.folder / "venv").rglob("site-packages"))
    parts = {path.name: size_of(path) for path in sites.iterdir()}
    big = sorted(parts, key=parts.get, reverse=True)[:4]
    say(f"with all it needs: {sum(parts.values()) / 1e6:,.0f} MB, of which "
        + ", ".join(f"{name} {parts[name] / 1e6:,.0f}" for name in big))
    steps = (
        "phantom cohort --n 40", "check cohort",
        "train cohort --out run --backbone convnext_atto_ols --image-size 64 --epochs 1 --batch-size 8 --grad-accum 1 "
        "--weights phantom",
        "predict run/model.safetensors cohort --split test --out predictions.csv",
        "evaluate predictions.csv cohort --out report",
    )
    passed = {}
    for step in steps:
        ran, text = environment.run("-m", "bonexage_utils", *step.split(), folder=environment.work, quiet=True)
        command = f"bonexage {step.split()[0]}"
        passed[command] = ran
        say(f"{command}: " + ("ok" if ran else f"failed\n{text[-2000:]}"))
    return finish("wheel", began, passed, environment.packages())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(each.stat().st_size for each in [path, *path.rglob("*")] if each.is_file())


def colab_python(options: argparse.Namespace) -> int:
    """Print `version=3.12`, the Python of Colab's image, as a workflow takes it over."""
    python, _ = published(read_list(options.list))
    if not python:
        raise BoneXageError(f"{options.list}: no line '# Python 3.12' says which Python; put one before the packages")
    print(f"version={python}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m tools.environments", description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(run.__name__.replace("_", "-"), help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        return command

    old, new, image, _, which = add(oldest), add(newest), add(colab), add(wheel), add(colab_python)
    for each in (old, new):
        each.add_argument("--tests", nargs="*", default=[], metavar="PATH", help="these tests; all fast ones without")
    for each in (new, image):
        each.add_argument("notebooks", nargs="*", metavar="NN", help="numbers; all without")
        each.add_argument("--profile", choices=("fast", "cpu", "gpu"), default="fast")
    for each in (image, which):
        each.add_argument("--list", default=str(COLAB), help="a file or an address with Colab's pip freeze")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what the user can mend is one line, not a traceback."""
    return run_command(parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
