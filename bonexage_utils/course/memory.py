"""The memory and the operations of training, computed and not guessed: bytes of a step, operations for a film.

Weights, gradients and the optimizer's copies are counted. What a step keeps for the backward pass is measured with
autograd hooks on one small film and on two, and grows with films and pixels. Sizes are in bytes, a GB is 10⁹ of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from bonexage_utils.course.sliders import slider_or_twin
from bonexage_utils.devices import autocast
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, new_figure
from bonexage_utils.model import BoneAgeNet
from bonexage_utils.settings import TrainConfig

# Bytes for each number that a network learns; the package computes with float32 weights in every precision.
COPIES = {"weights": 4, "their gradient": 4, "AdamW's two moments": 8, "the averaged weights": 4}
RECIPE = TrainConfig()  # the full recipe
GB, GPU = 1e9, 16e9
SPARE = 0.2  # of the GPU, for what is not computed here: scratch space, the driver, gaps between blocks
THERE_AND_BACK = 3  # forward once, backward twice: for the gradient of the input and for that of the weights
PROBE = 128  # px
FULL_SIZE = {"ConvNeXt": "convnext_tiny", "ResNet": "resnet50", "EfficientNet": "tf_efficientnetv2_s"}
SIDES = np.arange(128, 801, 32)  # px
FEWEST, MOST, TWIN_BATCHES = 1, 64, (4, 16, 48)
LOOK = {"fp32": (ACCENT, "--"), "bf16": (BOYS, "-")}
NAMES = {"fp32": "all in float32", "bf16": "with bfloat16 autocast"}


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

    def most_films(self, side: int, of: float = GPU * (1 - SPARE)) -> int:
        """How many films of that side fit into `of` bytes; 0 if none does."""
        return max(0, int((of - self.step(0, side)) // (self.per_pixel * side**2)))


def memory_law(net: BoneAgeNet, precision: str, side: int = PROBE) -> Law:
    """The law of a network in "fp32" or "bf16" (autocast's rules for a processor), from two real calls on this one."""
    kept = [kept_bytes(net, torch.rand(films, 1, side, side), torch.zeros(films, dtype=torch.long),
                       precision=precision) for films in (1, 2)]
    one_film = kept[1] - kept[0]
    return Law(sum(p.numel() for p in net.parameters()), kept[0] - one_film, one_film / side**2)


def operations_per_film(net: BoneAgeNet, side: int, probe: int = PROBE) -> float:
    """Additions and multiplications to train on one film of (side, side) px once: forward and backward."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net.eval()(torch.rand(1, 1, probe, probe), torch.zeros(1, dtype=torch.long))
    return THERE_AND_BACK * counter.get_total_flops() * (side / probe) ** 2


def compare_costs(films: int, side: int, backbones: dict[str, str] | None = None, probe: int = PROBE
                  ) -> tuple[pd.DataFrame, dict[str, dict[str, Law]]]:
    """By family of backbones what a step of `films` films of (side, side) px costs, and each one's two laws."""
    rows, laws = {}, {}
    for family, name in (backbones or FULL_SIZE).items():
        net = BoneAgeNet(name)
        laws[family] = {precision: memory_law(net, precision, probe) for precision in NAMES}
        rows[family] = {
            "backbone": name, "millions of numbers": laws[family]["fp32"].parameters / 1e6,
            "GB a step, float32": laws[family]["fp32"].step(films, side) / GB,
            "GB a step, bfloat16": laws[family]["bf16"].step(films, side) / GB,
            "billion operations a film": operations_per_film(net, side, probe) / GB}
    return pd.DataFrame.from_dict(rows, orient="index"), laws


def draw_memory(laws: dict[str, Law], batches: tuple[int, ...] = TWIN_BATCHES) -> Picture:
    """Memory of a step against the side of the film, a panel for each number of films; `laws` by precision."""
    several = len(batches) > 1
    figure, axes = new_figure(0.8 + 2.9 * len(batches) if several else 6, 3.6, 1, len(batches), sharey=True,
                              squeeze=False)
    parts = []
    for ax, films in zip(axes[0], batches, strict=True):
        fits = []
        for precision, law in laws.items():
            colour, line = LOOK[precision]
            ax.plot(SIDES, law.step(films, SIDES) / GB, color=colour, linestyle=line, linewidth=2,
                    label=NAMES[precision])
            inside = SIDES[law.step(films, SIDES) <= GPU * (1 - SPARE)]
            fits.append(f"{NAMES[precision]} up to {inside.max()} px" if len(inside) else f"{NAMES[precision]} never")
        copies = next(iter(laws.values())).copies / GB
        ax.axhspan(0, copies, color=MUTED, alpha=0.4, linewidth=0, label="weights and their copies")
        ax.axhspan(GPU * (1 - SPARE) / GB, GPU / GB, color=MUTED, alpha=0.15, linewidth=0, label="to be left free")
        ax.axhline(GPU / GB, color="black", linewidth=1, label=f"{GPU / GB:.0f} GB")
        if films == RECIPE.batch_size:
            marks = [law.step(films, RECIPE.image_size) / GB for law in laws.values()]
            ax.plot([RECIPE.image_size] * len(marks), marks, "o", color="black", markersize=5)
        ax.set(xlabel="side of the film (px)", xlim=(SIDES[0], SIDES[-1]), ylim=(0, 24), yticks=range(0, 25, 4),
               xticks=(128, 256, 384, 512, 640, 768), title=f"{films} film{'s' * (films > 1)} a step")
        parts.append(f"with {films} films a step it fits {', '.join(fits)}")
    axes[0, 0].set_ylabel("memory of a step (GB)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5 if several else 3,
                  fontsize=9)
    return Picture(figure, f"""Computed memory of a training step in GB against the side of the film in pixels, with a
        line at {GPU / GB:.0f} GB and the last fifth below it left free. Every curve rises with the square of the side
        from {next(iter(laws.values())).copies / GB:.2f} GB of weights and their copies: {'; '.join(parts)}.""")


def choose_batch(laws: dict[str, Law]) -> Any:
    """A slider over the films of a step and the picture of `draw_memory`, or its static twin."""
    return slider_or_twin(lambda films: draw_memory(laws, (films,)), lambda: draw_memory(laws), value=16, min=FEWEST,
                          max=MOST, step=1, description="films a step")
