"""What the machine is asked to compute in: number formats, memory, and the way from bytes to the network's input."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.images import Preprocessing
from bonexage_utils.settings import DEVICES, TrainConfig

PIXEL_MAX = 255.0
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(wanted: str = "auto") -> torch.device:
    """The device of that name (`settings.DEVICES`); "auto" is the first GPU, else the processor.

    Raises BoneXageError for one that is not here.
    """
    if not DEVICES.fullmatch(wanted):
        raise BoneXageError(f"--device {printable(wanted)}: unknown; give auto, cpu, cuda, cuda:N, mps …")
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device).cpu()
        return device
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BoneXageError(f"--device {wanted}: not usable here ({reason[:120]}); use cpu, or cuda where there is a "
                            "GPU") from None


def choose_precision(wanted: str, device: torch.device) -> str:
    """ "auto" means fp32 on a processor; on a GPU bf16 where it multiplies that natively, else fp16.

    A processor with units for bf16 computes forward in about 0.6 of fp32's time, but backward it gains little: whole
    steps took 1.1 times as long for a small ConvNeXt, 0.7 for a ResNet, 2.0 for an EfficientNet (`precision="bf16"`
    asks for it). And fp32 gives about the same numbers on every processor.
    """
    if wanted not in ("auto", *DTYPES):
        raise BoneXageError(f"precision '{wanted}': unknown; use auto, fp32, bf16 or fp16")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    return "fp32"


@contextmanager
def memory_advice(place: Path, films: int, advice: str) -> Iterator[None]:
    """Where torch runs out of memory with `films` films at a time, raise a BoneXageError that ends in the advice."""
    try:
        yield
    except RuntimeError as error:  # on a GPU it has an error of its own, on a processor only words
        if not isinstance(error, torch.cuda.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise BoneXageError(f"{place}: out of memory with {films} films at a time; {advice}") from None


def fit_in_memory(config: TrainConfig) -> str:
    """What to try when a step does not fit into memory: half the films a step, twice the steps an update."""
    if config.batch_size == 1:
        return f"try a smaller --image-size than {config.image_size}"
    half = config.batch_size // 2
    accumulate = math.ceil(config.batch_size * config.grad_accum / half)
    return f"try --batch-size {half} --grad-accum {accumulate}, which makes updates of {half * accumulate} films"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A `with` block in which the forward pass runs in "fp32", or mixed with "bf16" or "fp16"."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def to_unit(images: Tensor) -> Tensor:
    """Grey levels 0–255, uint8 or float, to float32 on the 0–1 scale."""
    return images.float() / PIXEL_MAX


def standardise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """0–1 scale to the network's: minus the mean, over the standard deviation of the training films."""
    return (images - preprocessing.mean) / preprocessing.std


def to_network(films: Tensor, preprocessing: Preprocessing, device: torch.device | str | None = None,
               change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Letterboxed films, grey levels (B, S, S) or (B, 1, S, S), as the network takes them: float32 (B, 1, S, S).

    Moved to `device` as they are, if one is given, then scaled to 0–1, changed by `change` (an augmentation, say),
    standardised, and laid out channels-last.
    """
    images = to_unit(films.to(device) if device is not None else films)
    images = images[:, None] if images.ndim == 3 else images
    images = change(images) if change is not None else images
    return standardise(images, preprocessing).to(memory_format=torch.channels_last)
