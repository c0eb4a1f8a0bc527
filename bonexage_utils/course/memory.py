"""The memory of a training step, computed and not guessed.

Weights, gradients and the optimizer's copies are counted. What a step keeps for the backward pass is measured with
autograd hooks on one small film and on two, and grows with films and pixels. Sizes are in bytes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from bonexage_utils.devices import autocast
from bonexage_utils.model import BoneAgeNet

# Bytes for each number that a network learns; the package computes with float32 weights in every precision.
COPIES = {"weights": 4, "their gradient": 4, "AdamW's two moments": 8, "the averaged weights": 4}
PROBE = 128  # px


def kept_bytes(net: nn.Module, *inputs: Tensor, precision: str = "fp32") -> int:
    """Bytes that autograd keeps from one forward call for the backward pass, without the network's own weights.

    `precision` is "fp32", or "bf16" or "fp16" under autocast.
    """
    own = {weight.untyped_storage().data_ptr() for weight in net.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        store = tensor.untyped_storage()  # two views of one piece of memory count once
        if store.data_ptr() not in own:
            kept[store.data_ptr()] = store.nbytes()
        return tensor

    with autocast(inputs[0].device, precision), saved_tensors_hooks(note, lambda tensor: tensor):
        output = net(*inputs)  # alive till the end, or memory would be given back and used again
    del output
    return sum(kept.values())


@dataclass(frozen=True)
class Law:
    """How many bytes a step needs: `fixed`, and `per_pixel` for each pixel of each film; `parameters` are numbers."""

    parameters: int
    fixed: float
    per_pixel: float

    @property
    def copies(self) -> float:
        """Bytes of the weights and of their copies (COPIES)."""
        return sum(COPIES.values()) * self.parameters

    def step(self, films: int, side: Any) -> Any:
        """Bytes for a step of so many films of (side, side) px."""
        return self.copies + self.fixed + self.per_pixel * films * np.asarray(side, float) ** 2


def memory_law(net: BoneAgeNet, precision: str, side: int = PROBE) -> Law:
    """The law of a network in "fp32" or "bf16" (autocast's rules for a processor), from two real calls on this one."""
    kept = [kept_bytes(net, torch.rand(films, 1, side, side), torch.zeros(films, dtype=torch.long),
                       precision=precision) for films in (1, 2)]
    one_film = kept[1] - kept[0]
    return Law(sum(p.numel() for p in net.parameters()), kept[0] - one_film, one_film / side**2)
