"""Gradients in float16 (notebook 07): what is lost without a scale and with one, and what a backward pass keeps."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from bonexage_utils.batches import FilmDataset, eval_loader
from bonexage_utils.course.memory import COPIES, memory_law
from bonexage_utils.course.nb07.formats import power_text
from bonexage_utils.devices import autocast, to_network
from bonexage_utils.figures import ACCENT, BOYS, GIRLS, MUTED, Picture, new_figure
from bonexage_utils.images import Preprocessing
from bonexage_utils.model import BoneAgeNet, age_loss
from bonexage_utils.settings import TrainConfig

USUAL_SCALE = 2.0**16  # what torch.amp.GradScaler begins with
SCALES = tuple(2.0**power for power in range(0, 25, 4))
PART_COLOUR = dict(zip((*COPIES, "kept for backward"), (MUTED, GIRLS, "#009E73", "#CC79A7", BOYS), strict=True))


@dataclass(frozen=True)
class Batch:
    """Films (B, 1, S, S), standardised, with sex (B,) and months (B,), on one device."""

    images: Tensor
    sex: Tensor
    months: Tensor

    def __len__(self) -> int:
        return len(self.months)

    def __getitem__(self, part: slice) -> "Batch":
        return Batch(self.images[part], self.sex[part], self.months[part])


def first_batch(films: FilmDataset, count: int, preprocessing: Preprocessing,
                device: torch.device | str = "cpu") -> Batch:
    """The first `count` films, as they are, channels-last."""
    batch = next(iter(eval_loader(films, count)))
    return Batch(to_network(batch["image"], preprocessing, device), batch["sex"].to(device), batch["months"].to(device))


def batch_loss(net: nn.Module, batch: Batch, precision: str) -> Tensor:
    """The training loss of a batch, its forward pass under autocast as in the package."""
    with autocast(batch.images.device, precision):
        months = net(batch.images, batch.sex)
    return age_loss(months, batch.months, "smoothl1")


def gradients(net: nn.Module, batch: Batch, precision: str = "fp32", scale: float = 1.0) -> Tensor:
    """The gradient of scale · loss by every weight, in one row. No weight changes."""
    net.zero_grad()
    (batch_loss(net, batch, precision) * scale).backward()
    found = torch.cat([p.grad.detach().flatten() for p in net.parameters() if p.grad is not None])
    net.zero_grad()
    return found


def sweep_scales(net: nn.Module, batch: Batch, scales: Iterable[float] = SCALES) -> pd.DataFrame:
    """For each scale, of the gradients that float32 finds: the share that float16 loses, and makes infinite or NaN.

    `lost`: zero in float16 and not in float32. Dropout draws the same at every scale.
    """

    def once(precision: str, scale: float) -> Tensor:
        with torch.random.fork_rng(devices=[batch.images.device] if batch.images.is_cuda else []):
            torch.manual_seed(0)
            return gradients(net, batch, precision, scale)

    there = once("fp32", 1.0) != 0
    rows = []
    for scale in tqdm(list(scales), desc="trying scales", leave=False):
        found = once("fp16", scale)[there]
        rows.append({"scale": scale, "lost": float((found == 0).float().mean()),
                     "infinite": float((~torch.isfinite(found)).float().mean())})
    return pd.DataFrame(rows)


def clip_in_order(parameters: list[nn.Parameter], scale: float, unscale_first: bool,
                  limit: float = TrainConfig.clip) -> None:
    """Divide gradients by `scale` and clip their norm at `limit`, in either order."""
    if unscale_first:
        torch._foreach_div_([p.grad for p in parameters], scale)
    nn.utils.clip_grad_norm_(parameters, limit)
    if not unscale_first:
        torch._foreach_div_([p.grad for p in parameters], scale)


def learn_in_order(net: nn.Module, batch: Batch, optimizer: str, unscale_first: bool, steps: int = 40) -> float:
    """The MAE (months) on `batch` after so many steps on it in float32, starting from `net`, which does not change.

    `optimizer`: "AdamW", or "SGD", plain gradient descent.
    """
    net = deepcopy(net)
    parameters = [p for p in net.parameters() if p.requires_grad]
    made = {"AdamW": partial(torch.optim.AdamW, lr=1e-3), "SGD": partial(torch.optim.SGD, lr=1e-2)}[optimizer]
    step_by = made(parameters)
    for _ in range(steps):
        step_by.zero_grad()
        (batch_loss(net, batch, "fp32") * USUAL_SCALE).backward()
        clip_in_order(parameters, USUAL_SCALE, unscale_first)
        step_by.step()
    with torch.no_grad():
        return float((net.eval()(batch.images, batch.sex) - batch.months).abs().mean())


def draw_scales(table: pd.DataFrame) -> Picture:
    """`sweep_scales` as two curves."""
    figure, ax = new_figure(7, 3.8)
    powers = np.log2(table["scale"])
    ax.plot(powers, table["lost"], "o-", color=BOYS, label="lost: zero")
    ax.plot(powers, table["infinite"], "s--", color=ACCENT, label="spoiled: infinite or no number")
    spoiled = powers[table["infinite"] > 0]  # few are too few to see, and one is enough
    if len(spoiled):
        ax.axvspan(spoiled.min(), powers.max() + 1, color=ACCENT, alpha=0.12, linewidth=0,
                   label="tried here: the step is skipped")
    ax.axvline(np.log2(USUAL_SCALE), color=MUTED, linestyle=":", label="where torch's scaler begins")
    ax.set(xlabel="the loss is multiplied by", ylabel="share of the gradients", ylim=(-0.03, 1.03), xticks=powers,
           xlim=(powers.min() - 1, powers.max() + 1),
           title="Too small a scale loses, too large a scale spoils")
    ax.set_xticklabels([power_text(2, power) for power in powers])
    ax.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    described = "; ".join(f"2^{np.log2(row.scale):.0f}: {row.lost:.1%} lost, {row.infinite:.2%} spoiled"
                          for row in table.itertuples())
    return Picture(figure, f"""The share of gradients that float16 loses, and the share that it spoils, against the
        factor that the loss is multiplied by; shaded red from the first factor tried at which one is spoiled, so that
        the step is skipped.
        {described}.""")


def draw_scale_history(scales: list[float], skipped: list[bool]) -> Picture:
    """The scale at each step, and which steps were skipped."""
    figure, ax = new_figure(7, 3.2)
    steps, powers = np.arange(1, len(scales) + 1), np.log2(scales)
    gone = np.array(skipped)
    ax.step(steps, powers, where="mid", color=MUTED)
    ax.plot(steps[~gone], powers[~gone], "o", color=BOYS, label="step taken")
    ax.plot(steps[gone], powers[gone], "X", color=ACCENT, markersize=9, label="step skipped")
    ticks = np.arange(int(powers.min()), int(powers.max()) + 1)
    ax.set(xlabel="step", ylabel="scale", yticks=ticks, title="The scaler looks for the largest scale that holds",
           xticks=steps)
    ax.set_yticklabels([power_text(2, tick) for tick in ticks])
    ax.legend()
    return Picture(figure, f"""The scale at each of {len(scales)} steps: {', '.join(f'2^{p:.0f}' for p in powers)}.
        Skipped: {', '.join(map(str, steps[gone])) or 'none'}.""")


# --- memory ---

def step_megabytes(backbone: str, size: int, films: int, precision: str) -> dict[str, float]:
    """MB that a training step needs, computed: the package's network on `films` films of (size, size) px.

    Scratch space of the kernels and what the allocator wastes are not included.
    """
    law = memory_law(BoneAgeNet(backbone), precision)
    parts = {part: copies * law.parameters for part, copies in COPIES.items()}
    parts["kept for backward"] = law.step(films, size) - law.copies
    return {part: float(size_bytes) / 1e6 for part, size_bytes in parts.items()}


def draw_step_memory(steps: dict[str, dict[str, float]], card_gb: float = 16.0) -> Picture:
    """Bars of what fills the memory, one for each of `steps` (name to `step_megabytes`), beside a card of so many
    GB."""
    figure, ax = new_figure(8, 1.3 + 0.55 * len(steps))
    described = []
    for row, (name, parts) in enumerate(steps.items()):
        start = 0.0
        for part, megabytes in parts.items():
            ax.barh(-row, megabytes / 1e3, left=start, height=0.6, color=PART_COLOUR[part],
                    label=part if not row else None)
            start += megabytes / 1e3
        ax.text(start + 0.1, -row, f"{start:.1f} GB", va="center", fontsize=9)
        kept = parts["kept for backward"] / 1e3
        described.append(f"{name}: {start:.1f} GB, of which {kept:.1f} are kept for the backward pass")
    ax.axvline(card_gb, color=ACCENT, linestyle="--")
    ax.text(card_gb - 0.15, 0.55, f"{card_gb:g} GB", color=ACCENT, ha="right", fontsize=9)
    ax.set(yticks=range(0, -len(steps), -1), xlabel="GB, computed", xlim=(0, 1.08 * card_gb),
           ylim=(0.9 - len(steps) - 0.4, 0.9))
    ax.set_yticklabels(steps)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    return Picture(figure, f"""What a training step keeps in memory, computed: {'; '.join(described)}. A dashed line at
        {card_gb:g} GB.""")
