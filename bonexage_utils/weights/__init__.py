"""Backbones that know what a hand is: small networks pretrained on phantoms, shipped with the package.

They learned to name the state of every ossification centre (present, relative width, fused), without the child's sex
and without the bone age. Beside each `NAME.safetensors` (float16), `NAME.json` records how it was made and its score.
They are for classrooms that reach no model hub: resnet10t (4.9 million numbers, 9.9 MB) and convnext_atto_ols (3.4
million, 6.8 MB), a ConvNeXt with an overlapping stem, which also learned to give the ResNet's maps. Numbers of a
trained network do not compress.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_file, file_hash

FOLDER = Path(__file__).parent


def shipped(folder: Path = FOLDER) -> list[str]:
    """The timm names of the backbones that have phantom weights."""
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def read_record(name: str, folder: Path = FOLDER) -> dict:
    """How the weights of `name` were made: command, seed, duration, hardware, cohort, score, and the file's SHA-256."""
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def load_weights(name: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """The state, float32, of timm's `name` with one input channel and no classifier.

    Raises BoneXageError if no weights are shipped for it, or the file is not the recorded one.
    """
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise BoneXageError(f"backbone '{name}': no phantom weights; there are some for {', '.join(shipped(folder))}")
    if file_hash(path) != read_record(name, folder)["sha256"]:
        raise BoneXageError(f"{path}: not the file its record describes; install the package again")
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in load_file(path).items()}


def save_weights(name: str, state: dict[str, Tensor], record: dict, folder: Path = FOLDER) -> Path:
    """Write a backbone's state as float16 and its `record`, to which the file's hash is added."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    half = {key: tensor.detach().to("cpu", torch.float16 if tensor.is_floating_point() else None).contiguous()
            for key, tensor in state.items()}
    with atomic_file(path) as temporary:
        temporary.write_bytes(save(half))  # `save_file` would write under a name of its own first
    with atomic_file(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({**record, "sha256": file_hash(path)}, indent=1) + "\n", encoding="utf-8")
    return path
