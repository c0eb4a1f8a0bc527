"""Files that hold networks: the model people use, and the state a stopped run resumes from. Never pickles."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_file, only_writer
from bonexage_utils.images import Preprocessing
from bonexage_utils.model import BoneAgeNet

FORMAT = 1
# One key with one JSON string: safetensors orders several keys differently at each save.
KEY = "bonexage"


def _digest(tensors: dict[str, Tensor], description: dict) -> str:
    """SHA-256 over everything in the file: one changed bit in a weight would still load, and predict."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _network_digest(tensors: dict[str, Tensor], description: dict) -> str:
    return _digest(tensors, {**description, "calibration": None})


def _write(path: Path, tensors: dict[str, Tensor], description: dict) -> None:
    # Two names of one tensor (shared weights) would be refused; each gets its own copy.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    description = {**description, "digest": _digest(tensors, description)}
    # Bytes first: safetensors' own `save_file` writes under a name of its own, which nobody sweeps after a kill.
    content = save(tensors, metadata={KEY: json.dumps(description, sort_keys=True)})
    with atomic_file(path) as temporary:
        try:
            temporary.write_bytes(content)
        except OSError as error:
            raise BoneXageError(f"{path}: cannot be written ({error.strerror}); free space there, then go on") from None


def _read(path: Path) -> tuple[dict[str, Tensor], dict]:
    if not path.is_file():
        raise BoneXageError(f"{path}: no such file; give a model.safetensors written by 'bonexage train'")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            description = json.loads(metadata.get(KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, RecursionError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BoneXageError(f"{path}: not a whole safetensors file ({reason}); copy or train it again") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise BoneXageError(f"{path}: not a BoneXage checkpoint of format {FORMAT}; train one with 'bonexage train'")
    if description.pop("digest", None) != _digest(tensors, description):
        raise BoneXageError(f"{path}: changed since it was written; copy or train it again")
    return tensors, description


def save_model(path: Path | str, model: BoneAgeNet, state: dict[str, Tensor], preprocessing: Preprocessing,
               training: dict) -> None:
    """Write weights `state` of `model` with everything prediction needs.

    `training` is a summary: labels, settings, score.
    """
    description = {
        "format": FORMAT, "model": model.settings, "preprocessing": asdict(preprocessing),
        "sex_coding": {"F": 0, "M": 1}, "training": training, "calibration": None,
    }
    _write(Path(path), state, description)


def load_model(path: Path | str) -> tuple[BoneAgeNet, Preprocessing, dict]:
    """The network in evaluation mode, its preprocessing, and the checkpoint's whole description, with `network_sha256`,
    a digest of weights and description that calibrating leaves as it is.

    Runs no code from the file. Raises BoneXageError for a missing, damaged or foreign file.
    """
    path = Path(path)
    tensors, description = _read(path)
    description["network_sha256"] = _network_digest(tensors, description)
    try:
        model = BoneAgeNet(**description["model"])
        model.load_state_dict(tensors)
        preprocessing = Preprocessing(**description["preprocessing"])
    except (KeyError, TypeError, RuntimeError) as error:  # written by another version
        reason = str(error).splitlines()[0]
        raise BoneXageError(f"{path}: weights and description disagree ({reason}); train it again") from None
    return model.eval(), preprocessing, description


def set_calibration(path: Path | str, network_sha256: str, calibration: dict) -> None:
    """Write `calibration` into the checkpoint; weights and the rest of its description stay as they are.

    Raises BoneXageError if it holds another network than `network_sha256`, while a training writes it, or for what
    `load_model` refuses.
    """
    path = Path(path)
    with only_writer(path):  # from reading to writing: else a training's better model could be lost in between
        tensors, description = _read(path)
        if _network_digest(tensors, description) != network_sha256:
            raise BoneXageError(f"{path}: another network made these predictions; predict with this one first")
        _write(path, tensors, {**description, "calibration": calibration})


def save_state(path: Path | str, parts: dict[str, dict[str, Tensor]], progress: dict) -> None:
    """Write everything a run needs to go on: named groups of tensors, and a JSON-able `progress`."""
    tensors = {f"{part}/{name}": tensor for part, group in parts.items() for name, tensor in group.items()}
    _write(Path(path), tensors, {"format": FORMAT, "progress": progress})


def load_state(path: Path | str) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """What `save_state` wrote. Raises BoneXageError if there is nothing whole to resume from."""
    tensors, description = _read(Path(path))
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, {})[key] = tensor
    return parts, description["progress"]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts, named by the place of their parameter."""
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took; the groups' settings stay those of the new optimizer."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape:  # a moment: laid out as its parameter, as the fused optimizer expects
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Where torch's random streams stand."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def restore_random(state: dict[str, Tensor], device: torch.device) -> None:
    """Put the streams back to where `random_state` found them, as far as this device has them."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def count_parameters(model: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
