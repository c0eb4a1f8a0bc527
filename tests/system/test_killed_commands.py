"""Every command that writes, killed at any moment: each file is as before or whole, and the next call ends the same.

`BONEXAGE_KILLS` sets how many random moments are tried; `train` has its own tests in `test_interruption.py`.
"""

import multiprocessing
import os
import random
import shutil
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bonexage_utils import __main__, download

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("BONEXAGE_KILLS", "2"))
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["bonexage_utils.training", "bonexage_utils.prediction", "bonexage_utils.report"])

SOURCE = "unpacked"
EVALUATE = ["evaluate", "predictions.csv", "data", "--out", "report"]
COMMANDS = {
    "phantom": ["phantom", "drawn", "--n", "12", "--workers", "1", "--faults", "4", "--masks"],
    "check": ["check", "data", "--out", "findings"],
    "predict": ["predict", "model.safetensors", "data", "--out", "new.csv", "--resume"],
    "evaluate": EVALUATE,
    "calibrate": [*EVALUATE, "--calibrate", "model.safetensors", "--coverage", "0.5"],
    "stress": ["stress", "model.safetensors", "data", "--out", "report", "--split", "test"],
    "export": ["export", "model.safetensors", "--out", "model.onnx"],
    "download": ["download", "--out", "rsna"],
}


def stand_in_for_kaggle(folder: Path) -> None:
    """kagglehub's answer: files that were already unpacked below the goal, which is where they are moved from."""
    place = folder / "rsna" / ".kagglehub" / SOURCE

    def fetch(_: str) -> str:
        if not place.exists():  # gone where the first call moved it
            shutil.copytree(folder / SOURCE, place)
        return str(place)

    sys.modules["kagglehub"] = types.SimpleNamespace(dataset_download=fetch)
    download.FILMS = {name: len(list((folder / SOURCE / name).iterdir())) for name in download.FILMS}
    download.KNOWN_LABELS = {download.label_hash(folder / SOURCE / download.TABLES[0]): "a stand-in"}


def run(words: list[str], folder: Path, ready) -> None:
    torch.set_num_threads(1)
    os.chdir(folder)
    stand_in_for_kaggle(folder)
    sys.argv = ["bonexage", *words]
    ready.set()
    __main__.main()


def started(words: list[str], folder: Path) -> multiprocessing.process.BaseProcess:
    ready = PROCESSES.Event()
    process = PROCESSES.Process(target=run, args=(words, folder, ready))
    process.start()
    assert ready.wait(120)
    return process


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def fill(run: Path, phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Puts what the commands read into a new folder."""
    made = tmp_path_factory.mktemp("made") / "made"
    shutil.copytree(phantom_folder, made / "data")
    shutil.copy(run / "model.safetensors", made)
    shutil.copytree(phantom_folder / "boneage-training-dataset", made / SOURCE / "boneage-training-dataset")
    shutil.copy(phantom_folder / "boneage-training-dataset.csv", made / SOURCE)
    (made / SOURCE / "boneage-test-dataset").mkdir()
    film = next((phantom_folder / "boneage-training-dataset").iterdir())
    shutil.copy(film, made / SOURCE / "boneage-test-dataset" / "4360.png")
    (made / SOURCE / "boneage-test-dataset.csv").write_text("Case ID,Sex\n4360,M\n")
    process = started(["predict", "model.safetensors", "data", "--split", "calibration"], made)
    process.join()
    assert process.exitcode == 0
    return lambda folder: shutil.copytree(made, folder)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_killed_command_leaves_whole_files_and_ends_the_same(command: str, fill: Callable[[Path], None],
                                                               tmp_path: Path) -> None:
    words, reference = COMMANDS[command], tmp_path / "reference"
    fill(reference)
    before = contents(reference)
    process, begun = started(words, reference), time.monotonic()
    process.join()
    assert process.exitcode == 0
    seconds = time.monotonic() - begun
    after = contents(reference)
    assert after != before
    assert not [name for name in after if name.endswith((".part", ".lock"))]
    moments = random.Random(command)
    for number in range(KILLS):
        folder = tmp_path / str(number)
        fill(folder)
        process = started(words, folder)
        time.sleep(moments.uniform(0, seconds))
        process.kill()
        process.join()
        for name, content in contents(folder).items():
            if not any(part.startswith(".") for part in Path(name).parts):
                assert content in (before.get(name), after.get(name)), name
        if not (command == "phantom" and (folder / "drawn").exists()):  # whole already: it is never replaced
            process = started(words, folder)
            process.join()
            assert process.exitcode == 0
        assert contents(folder) == after
