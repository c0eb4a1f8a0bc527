"""The settings of a run and of its augmentation, as data."""

import json
import re
from dataclasses import asdict, dataclass, field

from bonexage_utils.errors import BoneXageError

# From, to, by the name of the option, or of the field where there is none. Whole numbers have whole limits.
LIMITS = {
    "--image-size": (32, 4096), "--epochs": (1, 100_000), "--batch-size": (1, 10**6), "--grad-accum": (1, 10**6),
    "--lr": (1e-12, 1e38), "weight_decay": (0.0, 1e38), "warmup": (0.0, 1.0), "clip": (0.0, 1e38),
    "ema_decay": (0.0, 1.0), "--max-age": (1.0, 1200.0), "--seed": (0, 2**63 - 1), "--workers": (0, 256),
}
CHOICES = {
    "--precision": ("auto", "fp32", "bf16", "fp16"), "--weights": ("imagenet", "phantom", "none"),
    "--pooling": ("gem", "avg", "max"), "--output": ("bounded", "linear"), "--loss": ("smoothl1", "l1", "mse"),
}
# As torch spells them; what is here of them, `devices.choose_device` finds out.
DEVICES = re.compile(r"auto|cpu|mps|(cuda|xpu)(:[0-9]{1,3})?")
AUGMENTATION_LIMITS = {
    "rotation": (0.0, 180.0), "shift": (0.0, 1.0), "scale": (0.0, 3.0), "flip": (0.0, 1.0), "brightness": (0.0, 1.0),
    "contrast": (0.0, 3.0), "gamma": (0.0, 3.0), "noise": (0.0, 1.0), "occlusion": (0.0, 1.0),
}


def _check_numbers(settings: object, limits: dict[str, tuple[float, float]]) -> None:
    for name, (low, high) in limits.items():
        value, whole = getattr(settings, _field(name)), isinstance(low, int)
        if not isinstance(value, int if whole else (int, float)) or not low <= value <= high:  # False for NaN
            kind = "whole number" if whole else "number"
            raise BoneXageError(f"{name} {value}: give a {kind} from {low:,} to {high:,}")


def _field(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")


@dataclass(frozen=True)
class Augmentation:
    """How far a training film may be changed; every range is symmetric and drawn uniformly per film and epoch.

    rotation: degrees; shift: fraction of the side; scale: log of the factor; brightness: added, on the 0–1 scale;
    contrast: log of the factor about the film's mean; gamma: log of the exponent; noise: the largest standard
    deviation, 0–1 scale; occlusion: the chance of a black box of at most a quarter of each side.
    `flip` is the chance of a mirror image: 0 by default, because films are nearly all left hands.
    """

    rotation: float = 10.0
    shift: float = 0.05
    scale: float = 0.1
    flip: float = 0.0
    brightness: float = 0.1
    contrast: float = 0.15
    gamma: float = 0.15
    noise: float = 0.02
    occlusion: float = 0.1

    def __post_init__(self) -> None:
        _check_numbers(self, AUGMENTATION_LIMITS)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run, as in `bonexage train --help`. `lr` is the peak; `batch_size` films per step and
    `grad_accum` steps per update make batch_size × grad_accum films per update over all processes together.

    Raises BoneXageError for a value outside `LIMITS` or `CHOICES`, as `Augmentation` for one outside its own limits."""

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
    tf32: bool = False  # on a GPU, multiply fp32 at 10 bits instead of 23: faster, and no longer as a processor does
    compile: bool = False
    weights: str = "imagenet"
    pooling: str = "gem"
    sex: bool = True
    output: str = "bounded"
    loss: str = "smoothl1"
    workers: int = 0
    augmentation: Augmentation | None = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        _check_numbers(self, LIMITS)
        for name, choices in CHOICES.items():
            if (value := getattr(self, _field(name))) not in choices:
                raise BoneXageError(f"{name} {value}: unknown; give {', '.join(choices)}")

    def fixed(self) -> dict:
        """The settings a resumed run must share, as JSON gives them back; `workers` changes no result."""
        return {k: v for k, v in json.loads(json.dumps(asdict(self))).items() if k != "workers"}
