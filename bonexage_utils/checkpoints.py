"""Files that hold networks: the model people use, and the state a stopped run resumes from. Never pickles."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bonexage_utils.batches import SEX_CODE
from bonexage_utils.description import DESCRIPTION, STATE, Section, check_description
from bonexage_utils.errors import BoneXageError
from bonexage_utils.familiarity import Familiarity
from bonexage_utils.files import atomic_file, only_writer
from bonexage_utils.images import Preprocessing
from bonexage_utils.model import BoneAgeNet, create_backbone
from bonexage_utils.tensor_files import FORMAT, KEY, Shapes, read_contents, whole_file

FAMILIAR = "familiar."  # what was learned of usual maps, beside the network and no part of it
LEARNED_FROM = "learned_from"  # the `batches.pixel_keys` of the films that trained or selected the network
ADAM = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of each parameter


def _digest(tensors: dict[str, Tensor], description: dict) -> str:
    """SHA-256 over everything in the file: one changed bit in a weight would still load, and predict."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _network_digest(tensors: dict[str, Tensor], description: dict) -> str:
    network = {name: tensor for name, tensor in tensors.items() if not name.startswith(FAMILIAR)}
    return _digest(network, {**description, "calibration": None})


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    # Two names of one tensor (shared weights) would be refused; each gets its own copy.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _write(path: Path, tensors: dict[str, Tensor], description: dict) -> None:
    description = {**description, "digest": _digest(tensors, description)}
    # Bytes first: safetensors' own `save_file` writes under a name of its own, which nobody sweeps after a kill.
    content = save(tensors, metadata={KEY: json.dumps(description, sort_keys=True)})
    with atomic_file(path) as temporary:
        try:
            temporary.write_bytes(content)
        except OSError as error:
            raise BoneXageError(f"{path}: cannot be written ({error.strerror}); free space there, then go on") from None


def _read(path: Path, section: Section, fit: Callable[[dict, Shapes], None] | None = None
          ) -> tuple[dict[str, Tensor], dict]:
    """Tensors and description. Before any number is read, the description is held against `section`, and `fit` may
    refuse it and the tensors' shapes with a BoneXageError, which gets the file's name in front."""
    description, shapes = read_contents(path)
    with whole_file(path):
        digest = description.pop("digest", None)
        check_description(description, section)
        if fit:
            fit(description, shapes)
        with safe_open(path, framework="pt") as file:
            # Copies, because on Windows a file cannot be replaced while tensors are mapped from it.
            tensors = {name: file.get_tensor(name).clone() for name in shapes}
        if digest != _digest(tensors, description):
            raise BoneXageError("changed since it was written")
    return tensors, description


def network_digest(path: Path | str) -> str:
    """The `network_sha256` (see `load_model`) of a checkpoint, without building its network."""
    return _network_digest(*_read(Path(path), DESCRIPTION))


def save_model(path: Path | str, model: BoneAgeNet, state: dict[str, Tensor], preprocessing: Preprocessing,
               training: dict, learned_from: np.ndarray | None = None) -> str:
    """Write weights `state` of `model` with everything prediction needs; returns their `network_sha256`.

    `training` is a summary: labels, settings, score; the number of parameters is added. `learned_from` are the
    `batches.pixel_keys` of the films that trained or selected the network, int64 (n,), by which calibrating knows them
    again.
    """
    description = {
        "format": FORMAT, "model": model.settings, "preprocessing": asdict(preprocessing),
        "sex_coding": SEX_CODE, "training": {**training, "parameters": count_parameters(model)}, "calibration": None,
    }
    state = _plain(state if learned_from is None else {**state, LEARNED_FROM: torch.from_numpy(learned_from)})
    _write(Path(path), state, description)
    return _network_digest(state, description)


def load_model(path: Path | str) -> tuple[BoneAgeNet, Preprocessing, dict]:
    """The network in evaluation mode, its preprocessing, and the checkpoint's whole description, with `network_sha256`,
    a digest of weights and description that calibrating leaves as it is.

    Runs no code from the file, calls no hub, and builds no network but the one whose weights it holds. Raises
    BoneXageError for a missing, damaged or foreign file, and for a network that answers with no number.
    """
    path = Path(path)
    tensors, description = _read(path, DESCRIPTION, _check_backbone)
    description["network_sha256"] = _network_digest(tensors, description)
    preprocessing = Preprocessing(**description["preprocessing"])
    try:
        model = BoneAgeNet(**description["model"], image_size=preprocessing.image_size).eval()
    except BoneXageError as error:
        raise BoneXageError(f"{path}: {error}") from None
    familiar = {name.removeprefix(FAMILIAR): tensors.pop(name) for name in list(tensors) if name.startswith(FAMILIAR)}
    tensors.pop(LEARNED_FROM, None)
    restore_network(model, _Stored(path, tensors))
    if familiar:
        try:
            model.familiarity = Familiarity.from_tensors(familiar, model.features.channels)
        except BoneXageError as error:
            raise BoneXageError(f"{path}: {error}; copy it again, or use another") from None
    if not _gives_numbers(model):
        raise BoneXageError(f"{path}: its weights are not all numbers, or give an age that is none; train it again")
    return model, preprocessing, description


def _check_backbone(description: dict, shapes: Shapes) -> None:
    """A file of a few bytes may name a network of gigabytes: no memory is given to it before its weights are there."""
    with torch.device("meta"):
        body = create_backbone(description["model"]["backbone"], image_size=description["preprocessing"]["image_size"])
    wanted = {f"features.body.{name}": tuple(tensor.shape) for name, tensor in body.state_dict().items()}
    if wanted != {name: shape for name, shape in shapes.items() if name.startswith("features.body.")}:
        raise BoneXageError(f"weights and description disagree (backbone '{description['model']['backbone']}')")


@torch.inference_mode()
def _gives_numbers(model: BoneAgeNet) -> bool:
    """Whether all weights are finite, and the age of a film of one grey, for both sexes.

    A small film tells as much: but for its rim, the map of one grey is the same everywhere, at any size.
    """
    side = model.features.tried_at
    maps = model.features(torch.zeros(1, 1, side, side)).expand(2, -1, -1, -1)
    months = model.from_map(maps, torch.tensor([0, 1]))
    return all(bool(torch.isfinite(tensor).all()) for tensor in [*model.state_dict().values(), months])


def restore_network(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back a `state_dict`. Raises BoneXageError if names, shapes or number formats are not the network's own."""
    def formats(state: dict[str, Tensor]) -> set[tuple]:
        return {(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()}

    differing = sorted({name for name, *_ in formats(network.state_dict()) ^ formats(tensors)})
    if differing:
        raise _misfit(tensors, f"{len(differing)} weights are others, e.g. {differing[0][:60]!a}")
    network.load_state_dict(tensors)


def check_network(path: Path | str, network_sha256: str) -> set[int]:
    """The `batches.pixel_keys` of the films that a checkpoint's network learned from, as far as it tells. Raises
    BoneXageError if it holds another network than `network_sha256`, or is none."""
    tensors, description = _read(Path(path), DESCRIPTION)
    _require_network(Path(path), network_sha256, tensors, description)
    return set(tensors.get(LEARNED_FROM, torch.empty(0)).flatten().tolist())


def _require_network(path: Path, network_sha256: str, tensors: dict[str, Tensor], description: dict) -> None:
    if _network_digest(tensors, description) != network_sha256:
        raise BoneXageError(f"{path}: another network made these predictions; predict with this one first")


def set_calibration(path: Path | str, network_sha256: str, calibration: dict,
                    familiarity: Familiarity | None = None) -> None:
    """Write `calibration` and `familiarity`, or that there is none, into the checkpoint; weights and the rest of its
    description stay as they are.

    Raises BoneXageError if it holds another network than `network_sha256`, while a training writes it, for half-widths
    and bands that are none, or for a file that is missing, damaged or foreign.
    """
    path = Path(path)
    with only_writer(path):  # from reading to writing: else a training's better model could be lost in between
        tensors, description = _read(path, DESCRIPTION)
        _require_network(path, network_sha256, tensors, description)
        description = {**description, "calibration": calibration}
        check_description(description)
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(FAMILIAR)}
        known = familiarity.tensors() if familiarity else {}
        _write(path, tensors | {FAMILIAR + name: tensor for name, tensor in known.items()}, description)


def save_state(path: Path | str, parts: dict[str, dict[str, Tensor]], progress: dict) -> None:
    """Write everything a run needs to go on: named groups of tensors, and a JSON-able `progress`."""
    tensors = {f"{part}/{name}": tensor for part, group in parts.items() for name, tensor in group.items()}
    _write(Path(path), _plain(tensors), {"format": FORMAT, "progress": progress})


class _Stored(dict):
    """What the file at `place` holds under names; one that it lacks is told as a fault of the file."""

    def __init__(self, place: Path, content: dict | None = None) -> None:
        super().__init__(content or {})
        self.place = place

    def __missing__(self, name: str) -> None:
        raise _misfit(self, f"'{name}' is absent")


def _misfit(stored: dict, reason: str) -> BoneXageError:
    place = stored.place if isinstance(stored, _Stored) else "what was stored"
    return BoneXageError(f"{place}: not of this network ({reason}); train again, into a new folder")


def load_state(path: Path | str) -> tuple[dict[str, dict[str, Tensor]], dict]:
    """What `save_state` wrote. Raises BoneXageError if there is nothing whole to resume from; so do both tables when
    asked for a name that they lack."""
    path = Path(path)
    tensors, description = _read(path, STATE)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        part, _, key = name.partition("/")
        parts.setdefault(part, _Stored(path))[key] = tensor
    return _Stored(path, parts), _Stored(path, description["progress"])


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts, named by the place of their parameter."""
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` took; the groups' settings stay those of the new optimizer.

    Raises BoneXageError if they are of other parameters, or of another kind of optimizer.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    places = {f"{index}.{name}": (index, name) for index in range(len(parameters)) for name in ADAM}
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = places.get(key, (0, ""))
        parameter = parameters[index]
        if not name or tensor.shape != (() if name == "step" else parameter.shape):
            raise _misfit(tensors, f"'{key}' is not of this network's optimizer")
        if name != "step":  # a moment: laid out as its parameter, as the fused optimizer expects
            tensor = torch.empty_like(parameter).copy_(tensor)
        state.setdefault(index, {})[name] = tensor
    if any(len(found) < len(ADAM) for found in state.values()):
        raise _misfit(tensors, "a moment of the optimizer is absent")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Where torch's random streams stand."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def restore_random(state: dict[str, Tensor], device: torch.device) -> None:
    """Put the streams back to where `random_state` found them, as far as this device has them.

    Raises BoneXageError for numbers that are no state of such a stream.
    """
    try:
        torch.set_rng_state(state["cpu"])
        if "cuda" in state and device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], device)
    except (KeyError, TypeError, RuntimeError) as error:
        raise _misfit(state, f"random stream: {error}") from None


def count_parameters(model: nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
