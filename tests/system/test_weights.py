"""The shipped backbone: whole, recorded, loadable, and refused when it is not the file its record describes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from bonexage_utils import weights
from bonexage_utils.errors import BoneXageError
from bonexage_utils.model import BoneAgeNet, Features
from bonexage_utils.weights import load_weights, read_record, save_weights, shipped


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_are_small_and_their_record_is_complete(name: str) -> None:
    record = read_record(name)
    assert {"command", "seed", "minutes", "hardware", "cohort", "films_trained_on", "score", "task"} <= record.keys()
    assert (weights.FOLDER / f"{name}.safetensors").stat().st_size < 10 * 2**20
    score = record["score"]
    assert score["presence_accuracy"] > score["presence_accuracy_of_the_commonest"]
    assert score["width_error"] < score["width_error_of_the_mean"]
    assert score["fusion_error"] < score["fusion_error_of_the_mean"]


def test_a_network_starts_from_the_shipped_weights() -> None:
    torch.manual_seed(0)
    net = BoneAgeNet("resnet10t", weights="phantom")
    shipped = load_weights("resnet10t")
    assert shipped
    for key, tensor in shipped.items():
        assert torch.equal(net.features.body.state_dict()[key], tensor), key


def test_weights_come_back_as_they_were_written(tmp_path: Path) -> None:
    state = Features("test_resnet").body.state_dict()
    save_weights("test_resnet", state, {"seed": 3}, tmp_path)
    assert shipped(tmp_path) == ["test_resnet"]
    assert read_record("test_resnet", tmp_path)["seed"] == 3
    for key, tensor in load_weights("test_resnet", tmp_path).items():
        torch.testing.assert_close(tensor, state[key], rtol=1e-3, atol=1e-6)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    for ending in ("safetensors", "json"):
        shutil.copy(weights.FOLDER / f"resnet10t.{ending}", tmp_path)
    path = tmp_path / "resnet10t.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(BoneXageError, match="not the file its record describes"):
        load_weights("resnet10t", tmp_path)


def test_a_backbone_without_weights_is_named_with_those_that_have_some() -> None:
    with pytest.raises(BoneXageError, match=r"phantom weights; .*resnet10t"):
        Features("resnet18", "phantom")


def test_the_record_tells_the_command_that_exists() -> None:
    script = read_record("resnet10t")["command"].split()[1]
    assert (ROOT / "tools" / script).is_file()  # it was made when benchmarks/ lay at the top
    assert json.dumps(read_record("resnet10t")["cohort"])
