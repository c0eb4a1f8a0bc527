"""A checkpoint as ONNX: the whole way from a letterboxed film's bytes to months, for programs without PyTorch."""

import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bonexage_utils.checkpoints import KEY, load_model
from bonexage_utils.devices import to_network
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_file, only_writer
from bonexage_utils.images import Preprocessing

OPSET = 18
# Months between PyTorch and onnxruntime, both in float32: the same sums in another order.
TOLERANCE_MONTHS = 0.05


class _FromBytes(nn.Module):
    """Scaling and standardising are part of the exported network: what is left to the caller is the letterbox."""

    def __init__(self, model: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model, self.preprocessing = model, preprocessing

    def forward(self, film: Tensor, sex: Tensor) -> Tensor:
        return self.model(to_network(film, self.preprocessing), sex)


def export_onnx(checkpoint: Path | str, out: Path | str) -> float:
    """Write `out`, an ONNX file, and return the largest difference to PyTorch in months on films of noise.

    Inputs: `film` uint8 (B, 1, S, S), grey and letterboxed by the checkpoint's rules, and `sex` int64 (B,), 0 girl and
    1 boy. Output: `months` float32 (B,). The checkpoint's description, letterbox rule included, is in the file's
    metadata under "bonexage", as JSON.

    Raises BoneXageError if the ONNX packages are absent, the checkpoint is no good, the two differ by more than
    `TOLERANCE_MONTHS`, another process writes `out`, or it is a file of another kind; then nothing is written.
    """
    out = Path(out)
    if out.is_file() and not out.name.lower().endswith(".onnx"):
        raise BoneXageError(f"{out}: is there already, and no ONNX file by its name; name another")
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError as error:
        raise BoneXageError(f"export: {error.name} is not installed; pip install onnx onnxruntime onnxscript") from None
    model, preprocessing, description = load_model(checkpoint)
    network = _FromBytes(model, preprocessing).eval()
    size = preprocessing.image_size
    noise = np.random.default_rng(0).integers(0, 256, (3, 1, size, size), np.uint8)
    films, sexes = torch.from_numpy(noise), torch.tensor([0, 1, 0])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # notes for developers of exporters
    with torch.no_grad():
        program = torch.onnx.export(
            network, (films, sexes), input_names=["film", "sex"], output_names=["months"], opset_version=OPSET,
            dynamo=True, dynamic_shapes=({0: "batch"}, {0: "batch"}), verbose=False,
        )
        expected = network(films, sexes).numpy()
    exported = program.model_proto
    onnx.helper.set_model_props(exported, {KEY: json.dumps(description, sort_keys=True)})
    content = exported.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (months,) = session.run(None, {"film": noise, "sex": sexes.numpy()})
    difference = float(np.abs(months - expected).max())
    if not difference <= TOLERANCE_MONTHS:
        raise BoneXageError(f"{checkpoint}: onnxruntime differs from PyTorch by {difference:.3f} months; not exported")
    with only_writer(out), atomic_file(out) as temporary:
        temporary.write_bytes(content)
    return difference
