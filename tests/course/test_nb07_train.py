"""The `train.py` that notebook 07 writes: the very file, taken from the source, run as a script, killed, compared."""

import signal
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY

from bonexage_utils.cohort import load_cohort
from bonexage_utils.course.nb07 import drill
from bonexage_utils.errors import BoneXageError
from bonexage_utils.prediction import Predictor
from bonexage_utils.settings import TrainConfig
from bonexage_utils.training import Trainer
from tools.sources import convert

MAGIC = "%%writefile"
SOURCE = ROOT / "notebooks" / "source" / "07_amp_and_gpu_training.py"
SMALL = {"backbone": "test_convnext", "weights": "none", "image_size": 64, "batch_size": 4, "lr": 1e-3}


def written() -> str:
    """What the notebook's cells write, one after the other, as IPython does."""
    cells = [cell.source for cell in convert(SOURCE).cells if cell.source.startswith(MAGIC)]
    assert [cell.splitlines()[0] for cell in cells] == [f"{MAGIC} train.py"] + [f"{MAGIC} -a train.py"] * (
        len(cells) - 1)
    return "".join(cell.partition("\n")[2] + "\n" for cell in cells)


def words(**settings: object) -> list[str]:
    return [word for name, value in (SMALL | settings).items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "train.py"
    path.write_text(written(), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> None:
    """Children keep their film cache where this process does, and take one core."""
    monkeypatch.setenv("BONEXAGE_CACHE", str(cache_dir))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def largest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    {"precision": "fp32", "epochs": 2, "grad_accum": 2}, {"precision": "fp16", "epochs": 1, "grad_accum": 1},
    {"precision": "bf16", "epochs": 1, "grad_accum": 1, "backbone": "test_resnet"}], ids=str)
def test_it_trains_as_the_package_bit_for_bit(script: Path, phantom_folder: Path, tmp_path: Path, cache_dir: Path,
                                              settings: dict) -> None:
    """On a processor. More epochs than one show that validation moves no random stream that the package's leaves."""
    drill.wait(drill.start_script(script, str(phantom_folder), str(tmp_path / "mine"), *words(**settings)))
    state = torch.load(tmp_path / "mine" / "state.pt", "cpu", weights_only=True)
    trainer = Trainer(load_cohort(phantom_folder), tmp_path / "theirs", TrainConfig(**(SMALL | settings)),
                      cache_dir=cache_dir)
    start = {name: weight.clone() for name, weight in trainer.network.state_dict().items()}
    trainer.fit()
    assert largest(state["net"], trainer.network.state_dict()) == 0.0
    assert largest(state["ema"], trainer.ema.state_dict()) == 0.0
    assert largest(state["net"], start) > 1e-4, "nothing was learned"
    assert [row["selection_mae_months"] for row in state["log"]] == pytest.approx(
        [row["selection_mae_months"] for row in trainer.log], rel=1e-5)
    assert state["scaler"] == trainer.scaler.state_dict()


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(script: Path, phantom_folder: Path, tmp_path: Path) -> None:
    settings = words(epochs=3, grad_accum=1)
    data, runs = str(phantom_folder), [tmp_path / name for name in ("whole", "killed")]
    printed = drill.wait(drill.start_script(script, data, str(runs[0]), *settings))
    assert printed.startswith("epoch 1 of 3: MAE ")
    process = drill.start_script(script, data, str(runs[1]), *settings)
    killed = drill.kill_within(process, runs[1], after=1, within=0.3)
    if sys.platform != "win32":
        assert process.returncode == -signal.SIGKILL
    assert killed.after == len(killed.log) < 3
    drill.wait(drill.start_script(script, data, str(runs[1]), *settings, "--resume"))
    found = drill.largest_difference(*runs)
    assert {"net", "ema", "optimizer", "random", "epoch", "update"} <= set(found)
    assert max(found.values()) == 0.0
    whole, resumed = map(drill.read_log, runs)
    pd.testing.assert_series_equal(whole["selection_mae_months"], resumed["selection_mae_months"])
    told = drill.draw_drill(whole, killed, resumed).alt
    assert f"killed about 30% into epoch {killed.after + 1}" in told

    drill.wait(drill.start_script(script, data, str(tmp_path / "other"), *words(epochs=3, grad_accum=1, seed=1)))
    assert drill.largest_difference(runs[0], tmp_path / "other")["net"] > 0
    best = Predictor(runs[0] / "model.safetensors")
    assert best.description["training"]["selection_mae_months"] == pytest.approx(
        whole["selection_mae_months"].min(), rel=1e-5)


@pytest.mark.slow
def test_a_run_that_fails_says_why(script: Path, tmp_path: Path) -> None:
    nothing = str(tmp_path / "nothing")
    with pytest.raises(BoneXageError, match=r"ended with 1: .*nothing"):
        drill.wait(drill.start_script(script, nothing, str(tmp_path / "run"), *words()))
    process = drill.start_script(script, nothing, str(tmp_path / "run"), *words())
    with pytest.raises(BoneXageError, match="before it could be killed"):
        drill.kill_within(process, tmp_path / "run", after=1)


def test_its_settings_are_those_of_the_full_recipe(script: Path) -> None:
    scope: dict = {"__name__": "train"}
    exec(compile(script.read_text(encoding="utf-8"), "train.py", "exec"), scope)
    recipe = TrainConfig()
    assert {name: value for name, value in scope["SETTINGS"].items() if value != getattr(recipe, name)} == {
        "precision": "fp32"}
    assert TINY.backbone == SMALL["backbone"]


def test_torchs_own_names_stand_in_it() -> None:
    text = written()
    for call in ("DataLoader(", "torch.autocast(", "torch.amp.GradScaler(", "scaler.scale(loss).backward()",
                 "scaler.unscale_(optimizer)", "clip_grad_norm_(", "scaler.step(optimizer)", "scaler.update()",
                 "pin_memory", "non_blocking=True", "weights_only=True"):
        assert call in text, call
    assert "accelerate" not in text
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= 148, "a file to be written from memory should be short"  # of 88 columns


def test_the_line_is_one_that_a_reader_can_type() -> None:
    assert drill.show_command(["train.py", "DATA", "RUN", "--epochs", "4"]) == "python train.py DATA RUN --epochs 4"


def test_differences_are_found_wherever_they_are(tmp_path: Path) -> None:
    for name, value in (("one", 1.0), ("other", 3.5)):
        (tmp_path / name).mkdir()
        torch.save({"net": {"a": torch.zeros(2)}, "optimizer": {"state": {0: {"step": torch.tensor(value)}}},
                    "scaler": {}, "epoch": 2, "log": [[value]]}, tmp_path / name / "state.pt")
    assert drill.largest_difference(tmp_path / "one", tmp_path / "other") == {
        "epoch": 0.0, "net": 0.0, "optimizer": 2.5, "scaler": 0.0}
def test_the_figure_shows_both_parts_on_one_curve() -> None:
    whole = pd.DataFrame({"epoch": [1, 2, 3, 4], "selection_mae_months": [20.0, 15, 12, 11]})
    told = drill.draw_drill(whole, drill.Killed(2, 0.5, whole.head(2)), whole).alt
    assert "before the kill: epoch 1 20.00, epoch 2 15.00; killed about 50% into epoch 3" in told
    assert "after it went on: epoch 3 12.00, epoch 4 11.00" in told


