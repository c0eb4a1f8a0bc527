"""Number formats (notebook 07): numbers in 32 and 16 bits, their rounding, and how large a network's numbers are."""

import math

import numpy as np
import torch
from torch import Tensor

from bonexage_utils.figures import ACCENT, BOYS, GIRLS, MUTED, Picture, new_figure

# IEEE 754-2019 for float32 and float16; bfloat16 is float32 with the last 16 bits of the fraction cut off.
FORMATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BITS = {"float32": (8, 23), "bfloat16": (8, 7), "float16": (5, 10)}  # of the exponent, of the fraction
PART_COLOUR = {"sign": MUTED, "exponent": GIRLS, "fraction": BOYS}
FOUR_NUMBERS = (0.1, 200.4, 1e-8, 70000.0)


def power_text(base: int, exponent: float) -> str:
    """ "2¹⁶": the notebooks' figures do without mathematical fonts."""
    return f"{base}{f'{exponent:.0f}'.translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def stored(value: float, kind: str) -> float:
    """`value` rounded to that format; infinity beyond its largest number."""
    return torch.tensor(value, dtype=torch.float64).to(FORMATS[kind]).item()


def bit_parts(value: float, kind: str) -> tuple[str, str, str]:
    """Sign, exponent and fraction of `value` in that format, as texts of 0 and 1."""
    exponent, fraction = BITS[kind]
    width = 1 + exponent + fraction
    number = torch.tensor(value, dtype=torch.float64).to(FORMATS[kind])
    pattern = number.view(torch.int32 if width == 32 else torch.int16).item() % 2**width
    text = f"{pattern:0{width}b}"
    return text[0], text[1:1 + exponent], text[1 + exponent:]


def gap(value: float, kind: str) -> float:
    """From the number at `value` > 0 to the next larger one of that format."""
    info = torch.finfo(FORMATS[kind])
    power = math.floor(math.log2(max(value, info.smallest_normal)))
    return float(info.eps * 2.0**power)


def what_is_left(value: float, kind: str) -> str:
    """In words, `value` as rounded to that format, and the relative error."""
    kept = stored(value, kind)
    if math.isinf(kept):
        return "too large: infinity"
    if kept == 0 and value != 0:
        return "gone: 0"
    error = abs(kept - value) / abs(value) if value else 0.0
    return f"{kept:.9g}, " + ("exact" if error == 0 else f"off by {100 * error:.2g} %")


def draw_bits(numbers: tuple[float, ...] = FOUR_NUMBERS) -> Picture:
    """Each number in the three formats, bit by bit, and its rounded value."""
    figure, axes = new_figure(8.6, 0.55 + 1.1 * len(numbers), len(numbers), 1, squeeze=False)
    described = []
    for ax, value in zip(axes[:, 0], numbers, strict=True):
        for row, kind in enumerate(FORMATS):
            place = 0
            for part, bits in zip(PART_COLOUR, bit_parts(value, kind), strict=True):
                where = place + np.arange(len(bits))
                on = np.array([bit == "1" for bit in bits])
                ax.scatter(where[on], np.full(on.sum(), -row), marker="s", s=42, color=PART_COLOUR[part])
                ax.scatter(where[~on], np.full((~on).sum(), -row), marker="s", s=42, facecolors="none",
                           edgecolors=PART_COLOUR[part], linewidths=0.9)
                place += len(bits)
            ax.text(32.6, -row, what_is_left(value, kind), va="center", fontsize=9)
            described.append(f"{value:g} in {kind} is {' '.join(bit_parts(value, kind))}: {what_is_left(value, kind)}")
        ax.set(xlim=(-1, 45), ylim=(-2.6, 0.6), yticks=[0, -1, -2], xticks=[], title=f"{value:.8g}")
        ax.set_yticklabels(FORMATS)
        ax.tick_params(length=0)
        for side in ax.spines.values():
            side.set_visible(False)
    for part, colour in PART_COLOUR.items():
        axes[0, 0].scatter([], [], marker="s", s=42, color=colour, label=part)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return Picture(figure, f"""Numbers as rows of small squares, one for each bit, filled for 1; sign grey, exponent
        orange, fraction blue. {'; '.join(described)}.""")


# --- where a network's numbers lie ---

LINE = (-18.0, 6.0)  # powers of ten shown


def sizes(values: Tensor) -> np.ndarray:
    """log10 of the absolute values of those that are neither zero nor infinite."""
    flat = values.detach().flatten().double().abs().cpu()
    return flat[(flat > 0) & torch.isfinite(flat)].log10().numpy()


def lost_in_float16(values: Tensor) -> float:
    """The share of the non-zero `values` that become zero in float16."""
    flat = values.detach().flatten().float()
    flat = flat[flat != 0]
    return float((flat.half() == 0).float().mean())


def draw_number_lines(groups: dict[str, Tensor]) -> Picture:
    """A histogram of each group's sizes on a logarithmic axis, over the range of float16 and of the other two."""
    figure, axes = new_figure(8.5, 1.6 + 1.25 * len(groups), len(groups) + 1, 1, sharex=True)
    half = torch.finfo(torch.float16)
    marks = [math.log10(mark) for mark in (half.smallest_normal * half.eps / 2, half.smallest_normal, half.max)]
    described = []
    for ax, (name, values) in zip(axes, groups.items(), strict=False):
        ax.axvspan(LINE[0], marks[0], color=ACCENT, alpha=0.15, linewidth=0)
        ax.axvspan(marks[2], LINE[1], color=ACCENT, alpha=0.15, linewidth=0)
        found = sizes(values)
        ax.hist(np.clip(found, *LINE), np.arange(LINE[0], LINE[1] + 0.1, 0.25), color=BOYS)
        lost, beyond = lost_in_float16(values), float((found > marks[2]).mean())
        ax.set(yticks=[], title=f"{name}: {lost:.1%} become 0 in float16"
                                + (f", {beyond:.2%} infinite" if beyond else ""))
        low, middle, high = np.percentile(found, [5, 50, 95])
        described.append(f"{name}: nine in ten from {10**low:.0e} to {10**high:.0e}, half below {10**middle:.0e}, "
                         f"{lost:.1%} become zero in float16, {beyond:.2%} infinite")
    lines = axes[-1]
    lines.plot([marks[1], marks[2]], [0, 0], color=ACCENT, linewidth=6, solid_capstyle="butt")
    lines.plot([marks[0], marks[1]], [0, 0], color=ACCENT, linewidth=2, linestyle=":")
    lines.plot(LINE, [1, 1], color=MUTED, linewidth=6, solid_capstyle="butt")
    lines.set(yticks=[0, 1], ylim=(-0.6, 1.6), xlim=LINE, xlabel="size of the number",
              xticks=(ticks := range(int(LINE[0]), int(LINE[1]) + 1, 3)))
    lines.set_yticklabels(["float16", "bfloat16, float32"])
    lines.set_xticklabels([power_text(10, tick) for tick in ticks])
    return Picture(figure, f"""Histograms of how large numbers are, on a logarithmic axis from 1e{LINE[0]:g} to
        1e{LINE[1]:g}. {'; '.join(described)}. Below, the range of the formats: float16 from {half.smallest_normal:.0e}
        with all its digits, fewer and fewer down to 6e-08, up to {half.max:g}; shaded where it has no numbers. Those of
        bfloat16 and float32 go beyond the axis on both sides.""")
