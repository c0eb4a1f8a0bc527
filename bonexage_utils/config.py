"""The settings of a run, and the rules that follow from them: number format and learning rate."""

import json
import math
from dataclasses import asdict, dataclass, field

import torch

from bonexage_utils.batches import Augmentation
from bonexage_utils.errors import BoneXageError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run, as in `bonexage train --help`. `lr` is the peak; `batch_size` films per step and
    `grad_accum` steps per update make batch_size × grad_accum films per update over all processes together."""

    backbone: str = "convnext_tiny"
    image_size: int = 512
    epochs: int = 35
    batch_size: int = 16
    grad_accum: int = 2
    lr: float = 2e-4
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of all updates
    clip: float = 5.0  # largest norm of the gradient
    ema_decay: float = 0.999
    max_age: float = 240.0
    seed: int = 0
    precision: str = "auto"
    weights: str = "imagenet"
    pooling: str = "gem"
    sex: bool = True
    output: str = "bounded"
    loss: str = "smoothl1"
    workers: int = 0
    augmentation: Augmentation | None = field(default_factory=Augmentation)

    def fixed(self) -> dict:
        """The settings a resumed run must share, as JSON gives them back; `workers` changes no result."""
        return {k: v for k, v in json.loads(json.dumps(asdict(self))).items() if k != "workers"}


def choose_precision(wanted: str, device: torch.device) -> str:
    """ "auto" means bf16 where the device multiplies it natively, else fp16 on a GPU and fp32 on a processor."""
    if wanted not in ("auto", *DTYPES):
        raise BoneXageError(f"precision '{wanted}': unknown; use auto, fp32, bf16 or fp16")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if device.type == "cpu":
        has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
    return "fp32"


def lr_factor(update: int, updates: int, warmup: float) -> float:
    """Linear warm-up over the first share of all updates, then half a cosine to zero. A function, so that a resumed
    run cannot disagree with an uninterrupted one."""
    first = max(1, round(warmup * updates))
    if update < first:
        return (update + 1) / first
    return 0.5 * (1.0 + math.cos(math.pi * (update - first) / max(1, updates - first)))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory: on a GPU it has an error of its own, on a processor only words."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "allocate memory" in str(error)


def fit_in_memory(config: TrainConfig) -> str:
    """What to try when a step does not fit into memory: half the films a step, twice the steps an update."""
    if config.batch_size == 1:
        return f"try a smaller --image-size than {config.image_size}"
    half = config.batch_size // 2
    accumulate = math.ceil(config.batch_size * config.grad_accum / half)
    return f"try --batch-size {half} --grad-accum {accumulate}, which makes updates of {half * accumulate} films"
