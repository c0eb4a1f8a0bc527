"""The shipped backbone: whole, recorded, loadable, and refused when it is not the file its record describes."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from bonexage_utils import weights
from bonexage_utils.errors import BoneXageError
from bonexage_utils.model import BoneAgeNet, Features
from bonexage_utils.weights import load_weights, read_record, save_weights, shipped


def test_the_shipped_weights_are_those_that_the_documents_name() -> None:
    """Also that there are any: the next test runs over them."""
    assert shipped() == ["convnext_atto_ols", "resnet10t"]


@pytest.mark.parametrize("name", shipped())
def test_shipped_weights_are_small_and_their_record_is_complete(name: str) -> None:
    record = read_record(name)
    assert {"command", "seed", "minutes", "hardware", "cohort", "films_trained_on", "score", "task"} <= record.keys()
    assert (weights.FOLDER / f"{name}.safetensors").stat().st_size < 10 * 2**20
    score = record["score"]
    assert score["presence_accuracy"] > score["presence_accuracy_of_the_commonest"]
    assert score["width_error"] < score["width_error_of_the_mean"]
    assert score["fusion_error"] < score["fusion_error_of_the_mean"]


@pytest.mark.parametrize("name", shipped())
def test_a_network_starts_from_the_shipped_weights(name: str) -> None:
    torch.manual_seed(0)
    net = BoneAgeNet(name, weights="phantom")
    shipped_state, state = load_weights(name), net.features.body.state_dict()
    assert shipped_state.keys() == state.keys()
    for key, tensor in shipped_state.items():
        assert torch.equal(state[key], tensor), key


def test_weights_come_back_as_they_were_written(tmp_path: Path) -> None:
    state = Features("test_resnet").body.state_dict()
    save_weights("test_resnet", state, {"seed": 3}, tmp_path)
    assert shipped(tmp_path) == ["test_resnet"]
    assert read_record("test_resnet", tmp_path)["seed"] == 3
    loaded = load_weights("test_resnet", tmp_path)
    assert loaded.keys() == state.keys()
    for key, tensor in loaded.items():
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
    with pytest.raises(BoneXageError, match=r"phantom weights.* resnet10t"):
        Features("resnet18", "phantom")


def test_the_record_tells_the_command_that_exists() -> None:
    script = read_record("resnet10t")["command"].split()[1]
    assert (ROOT / "tools" / script).is_file()  # it was made when benchmarks/ lay at the top
    cohort = read_record("resnet10t")["cohort"]
    assert (cohort["n"], cohort["site"], cohort["shortcut"]) == (12_000, "A", False)
