"""ONNX: the same months from the same file, letterbox included."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bonexage_utils import export
from bonexage_utils.checkpoints import save_model
from bonexage_utils.cohort import Cohort
from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.export import export_onnx
from bonexage_utils.images import Preprocessing, letterbox
from bonexage_utils.model import BoneAgeNet
from bonexage_utils.prediction import Predictor

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_onnx_says_what_pytorch_says_of_films(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    """From the file on disk: read, letterbox as the metadata say, months; one film and several at once."""
    assert export_onnx(run / "model.safetensors", tmp_path / "model.onnx") < 0.05
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map["bonexage"])
    size = told["preprocessing"]["image_size"]
    part = cohort.table.head(5)
    films = np.stack([letterbox(read_gray(path), size) for path in part["image"]])
    codes = part["sex"].map(told["sex_coding"]).to_numpy(np.int64)
    expected = Predictor(run / "model.safetensors", "cpu").months(films, part["sex"].tolist())
    (together,) = session.run(["months"], {"film": films[:, None], "sex": codes})
    alone = [session.run(["months"], {"film": films[i : i + 1, None], "sex": codes[i : i + 1]})[0][0] for i in range(5)]
    np.testing.assert_allclose(together, expected, atol=0.01)
    np.testing.assert_allclose(alone, expected, atol=0.01)
    assert np.ptp(expected) > 0.1, "films that all get one age would prove nothing"


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_mambaout", "swin_tiny_patch4_window7_224"])
def test_a_backbone_of_another_layout_is_exported_too(tmp_path: Path, backbone: str) -> None:
    """Its map comes out with the channels last, or it is made for one size of film."""
    torch.manual_seed(0)
    model, path = BoneAgeNet(backbone, image_size=96), tmp_path / "model.safetensors"
    # An untrained network says about the same of every film.
    torch.nn.init.normal_(model.head[-1].weight)
    save_model(path, model, model.state_dict(), Preprocessing(96, 0.3, 0.2), {})
    assert export_onnx(path, tmp_path / "model.onnx") < 0.05
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    films = np.random.default_rng(1).integers(0, 256, (5, 96, 96), np.uint8)
    films[1:3, 20:60, 30:50] //= 4
    expected = Predictor(path, "cpu").months(films, list("FMFMF"))
    (months,) = session.run(["months"], {"film": films[:, None], "sex": np.array([0, 1, 0, 1, 0])})
    np.testing.assert_allclose(months, expected, atol=0.01)
    assert np.ptp(expected) > 0.1


@pytest.mark.slow
def test_a_network_that_differs_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE_MONTHS", -1.0)
    with pytest.raises(BoneXageError, match="differs"):
        export_onnx(run / "model.safetensors", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_absent_package_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(BoneXageError, match="pip install"):
        export_onnx(run / "model.safetensors", tmp_path / "model.onnx")
