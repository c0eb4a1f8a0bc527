"""The commands that README prints, as printed, in README's order; small numbers stand in place of large ones."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow
TEXT = re.sub(r" \\\n\s+", " ", (ROOT / "README.md").read_text("utf-8")
              .split("## Your own data")[1].split("## The house")[0])
# What a laptop and a test can wait for. Each must occur, so that a changed README does not pass it by.
SMALLER = {
    "--n 2400": "--n 160", "--image-size 128 --epochs 8": "--image-size 64 --epochs 2",
    'backbone="resnet18", image_size=128': 'backbone="test_convnext", image_size=64', "epochs=10": "epochs=1",
}
TINY = "--backbone test_convnext --image-size 64 --epochs 2 --grad-accum 1 --weights none"  # for the full recipe
ELSEWHERE = ("bonexage download", "--multi_gpu", "COMMAND")  # the network, several GPUs, a placeholder


def printed_commands() -> list[str]:
    text = re.sub(r"```.*?```", "", TEXT, flags=re.S)
    return [line.split("  #")[0].strip() for line in re.findall(r"^    (\S.*)$", text, re.M)]


def smaller(text: str) -> str:
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    binaries = Path(sys.executable).parent
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False, timeout=300,
                          env={**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
                               "XDG_CACHE_HOME": str(folder / "cache"), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"})


def test_the_commands_of_the_readme_run_as_printed(tmp_path: Path) -> None:
    commands = [line for line in printed_commands() if not any(word in line for word in ELSEWHERE)]
    for large in SMALLER:
        assert large in TEXT, f"README no longer prints {large}"
    assert sum("torchrun" in line for line in commands) == 1
    for command in commands:
        if "checkpoints/tiny --resume" in command:
            assert (tmp_path / "checkpoints" / "tiny" / "last").is_dir()
        if "torchrun" in command:  # a run of its own, as two processes
            shutil.rmtree(tmp_path / "checkpoints" / "tiny")
        full = smaller(command) + (f" {TINY}" if " train data " in command else "")
        done = run(full, tmp_path)
        assert done.returncode == 0, f"{full}\n{done.stderr[-2000:]}"
        prepare_next(command, tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    (tmp_path / "program.py").write_text(smaller(program), encoding="utf-8")
    done = run("python program.py", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "bone_age_months" in done.stdout


def prepare_next(command: str, folder: Path) -> None:
    """What the reader has: a cohort of her own under `data`, a folder of films and a spreadsheet of their ages, another
    model's predictions."""
    if command.startswith("bonexage phantom"):
        for name in ("boneage-training-dataset", "boneage-training-dataset.csv"):
            (shutil.copytree if "." not in name else shutil.copy)(folder / "data" / "phantom" / name,
                                                                  folder / "data" / name)
        shutil.copytree(folder / "data" / "boneage-training-dataset", folder / "films")
        labels = pd.read_csv(folder / "data" / "boneage-training-dataset.csv")
        ages = [f"{months // 12:.0f}y {months % 12:.3f}m" for months in labels["boneage"]]
        sheet = pd.DataFrame({"Film": labels["id"], "Age": ages, "Gender": 2 - labels["male"]})
        sheet.to_excel(folder / "ages.xlsx", index=False)
    if "--out test.csv" in command:
        shutil.copy(folder / "test.csv", folder / "other.csv")
        shutil.copy(folder / "test.json", folder / "other.json")


def test_a_run_of_two_processes_stops_when_asked_and_goes_on(phantom_folder: Path, tmp_path: Path) -> None:
    """README's line with torchrun, stopped by SIGTERM to its processes, then the same line with --resume."""
    (line,) = [line for line in printed_commands() if "torchrun" in line]
    line = line.replace("train data", f"train '{phantom_folder}'") + f" {TINY}".replace("--epochs 2", "--epochs 12")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                   "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    words = dict(word.split("=") for word in shlex.split(line) if re.fullmatch(r"[A-Z_]+=\S+", word))
    arguments = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    process = subprocess.Popen(arguments, cwd=tmp_path, env={**environment, **words}, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    assert process.stdout.readline().startswith("Cohort")
    assert "epoch   1/12" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=120)
    state = tmp_path / "checkpoints" / "tiny" / "last" / "state.safetensors"
    assert state.is_file()
    done = run(line + " --resume", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    epochs = re.findall(r"epoch +(\d+)/12", done.stdout)
    assert epochs[-1] == "12"
    assert 1 < int(epochs[0]) < 12
    assert not list(tmp_path.rglob(".*"))
