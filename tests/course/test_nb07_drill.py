"""Notebook 07's drill: a training in a process of its own is really killed, and ends where it would have ended."""

import signal
import sys
from pathlib import Path

import pandas as pd
import pytest

from bonexage_utils.course.nb07 import drill
from bonexage_utils.course.nb07.drill import Killed
from bonexage_utils.errors import BoneXageError

SETTINGS = {"backbone": "test_convnext", "weights": "none", "image-size": 64, "epochs": 3, "batch-size": 4,
            "grad-accum": 1, "lr": 0.001, "precision": "fp32"}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Children keep their film cache here and take one core."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_the_same(phantom_folder: Path, tmp_path: Path) -> None:
    whole = drill.wait(drill.start_training(phantom_folder, tmp_path / "whole", SETTINGS), tmp_path / "whole")
    assert whole["epoch"].tolist() == [1, 2, 3]

    process = drill.start_training(phantom_folder, tmp_path / "killed", SETTINGS)
    killed = drill.kill_within(process, tmp_path / "killed", after=1, within=0.3)
    if sys.platform != "win32":
        assert process.returncode == -signal.SIGKILL
    assert killed.after == len(killed.log) < 3
    assert set(drill.state_parts(tmp_path / "killed").index) == {"model", "ema", "optimizer", "random"}

    again = drill.start_training(phantom_folder, tmp_path / "killed", SETTINGS, resume=True)
    resumed = drill.wait(again, tmp_path / "killed")
    assert drill.largest_difference(tmp_path / "whole", tmp_path / "killed") == {"model": 0.0, "state": 0.0}
    pd.testing.assert_series_equal(whole["selection_mae_months"], resumed["selection_mae_months"])
    told = drill.draw_drill(whole, killed, resumed).alt
    assert f"killed about 30% into epoch {killed.after + 1}" in told
    assert told.count("epoch 3") == 2 + (killed.after == 2)


@pytest.mark.slow
def test_other_weights_are_noticed(phantom_folder: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("other", 1)):
        drill.wait(drill.start_training(phantom_folder, tmp_path / name, SETTINGS | {"epochs": 1, "seed": seed}),
                   tmp_path / name)
    assert min(drill.largest_difference(tmp_path / "one", tmp_path / "other").values()) > 0


@pytest.mark.slow
def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    process = drill.start_training(tmp_path / "nothing", tmp_path / "run", SETTINGS)
    with pytest.raises(BoneXageError, match=r"ended with 1: .*nothing"):
        drill.wait(process, tmp_path / "run")
    process = drill.start_training(tmp_path / "nothing", tmp_path / "run", SETTINGS)
    with pytest.raises(BoneXageError, match="before it could be killed"):
        drill.kill_within(process, tmp_path / "run", after=1)


def test_the_figure_shows_both_parts_on_one_curve() -> None:
    whole = pd.DataFrame({"epoch": [1, 2, 3, 4], "selection_mae_months": [20.0, 15, 12, 11]})
    told = drill.draw_drill(whole, Killed(2, 0.5, whole.head(2)), whole).alt
    assert "before the kill: epoch 1 20.00, epoch 2 15.00; killed about 50% into epoch 3" in told
    assert "after it went on: epoch 3 12.00, epoch 4 11.00" in told


def test_the_command_is_one_that_a_reader_can_type() -> None:
    command = drill.train_command(Path("DATA"), Path("RUN"), {"epochs": 4, "lr": 0.001})
    assert command[1:] == ["-m", "bonexage_utils", "train", "DATA", "--out", "RUN", "--epochs", "4", "--lr", "0.001"]
