"""The settings of a run and of its augmentation, as data."""

import json
from dataclasses import asdict, dataclass, field


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
