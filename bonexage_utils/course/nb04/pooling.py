"""What notebook 04 looks at: what each place of a map contributes to the pooled value, hands whose centres are known
on the same grid, and power means in too few bits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from bonexage_utils.batches import standardise, to_unit
from bonexage_utils.cohort import load_cohort
from bonexage_utils.course.bones import hands_with_masks, letterbox_mask
from bonexage_utils.course.frozen import BACKBONE
from bonexage_utils.course.sliders import slider_or_twin
from bonexage_utils.decoding import read_gray
from bonexage_utils.figures import ACCENT, BOYS, GIRLS, Picture, new_figure
from bonexage_utils.images import Preprocessing, letterbox, measure_intensity
from bonexage_utils.model import Features, GeM
from bonexage_utils.phantom import read_masks
from bonexage_utils.phantom.dataset import MASK_FOLDER
from bonexage_utils.statistics import bootstrap_mean

HANDS, HANDS_SEED = 40, 4  # children drawn for this notebook alone: in no cohort of the course, nor in the pretraining
FINE = 320  # px: 10 × 10 places
EPS = 1e-6
TWIN_POWERS, LARGEST_POWER = (1, 3, 10), 30
LOUDEST = 4.0  # times an even share: where the colours of a response map end
REGIONS = ("centres", "shafts", "elsewhere")
TOLERATED, SILENT = 0.01, 1e-3  # a pooled value may be off by so much of itself; below SILENT nothing counts
POWERS = np.geomspace(1, 100, 41)
WAYS: dict[str, Callable[[Tensor, float], Tensor]] = {  # the cheapest first
    "float16": lambda maps, p: power_mean(maps, p, torch.float16),
    "float32": lambda maps, p: power_mean(maps, p, torch.float32),
    "package": lambda maps, p: GeM(p)(maps).detach(),
}
WAY_NAMES = {"float16": "all in float16", "float32": "all in float32",
             "package": "float32, largest taken out first (package)"}


# --- from the mean to the maximum ---

def draw_from_mean_to_max(rows: dict[str, Tensor]) -> Picture:
    """GeM of each row of numbers as a multiple of its mean, against p; a thin line at its maximum."""
    figure, ax = new_figure(6.5, 3.6)
    told = []
    for (name, row), colour, line in zip(rows.items(), (BOYS, ACCENT, "black"), ("-", "--", ":"), strict=False):
        row = row.double() / row.double().mean()
        curve = [float(GeM(p).double()(row.reshape(1, 1, 1, -1)).detach()) for p in POWERS]
        ax.semilogx(POWERS, curve, color=colour, linestyle=line, linewidth=2, label=name)
        ax.axhline(float(row.max()), color=colour, linewidth=0.6, linestyle=line)
        told.append(f"{name}: from 1 at p = 1 to {curve[-1]:.2f} at p = {POWERS[-1]:g}; its maximum is "
                    f"{row.max():.2f} times its mean")
    ax.set(xlabel="p", ylabel="GeM / mean", ylim=(0, None), xticks=(ticks := (1, 3, 10, 30, 100)))
    ax.set_xticklabels(map(str, ticks))
    ax.minorticks_off()
    ax.legend(loc="upper left", frameon=True, framealpha=1, edgecolor="none")
    return Picture(figure, f"""GeM as a multiple of the mean against p, logarithmic, from 1 to {POWERS[-1]:g}.
        {'; '.join(told)}.""")


def draw_signed(before: Tensor, lifted: Tensor) -> Picture:
    """Histograms of a signed map's values and of the same after softplus; what a clamp would cut is darker."""
    figure, axes = new_figure(8, 3.0, 1, 2, sharey=True)
    cut = float((before < 0).float().mean())
    bins = np.linspace(-4, 6, 101)
    for ax, values, title in zip(axes, (before, lifted), ("after the norm", "and after softplus"), strict=True):
        bars = ax.hist(values.flatten().clamp(-4, 6).numpy(), bins, color=BOYS)[2]
        for bar, left in zip(bars, bins, strict=False):
            bar.set_color(ACCENT if left < -1e-9 else BOYS)
        ax.set(title=title, xlabel="value in the map", yticks=[])
    axes[0].text(0.03, 0.9, f"{cut:.0%} below zero", color=ACCENT, transform=axes[0].transAxes)
    return Picture(figure, f"""Two histograms of the values of a map. Left, after the norm: a hill around zero,
        {cut:.0%} of it below. Right, after softplus: nothing below zero; from {lifted.min():.3f} to
        {lifted.max():.1f}, half of it below {lifted.median():.2f}.""")


# --- what each place contributes ---

def shares(maps: Tensor, p: float) -> Tensor:
    """What each place contributes to GeM's sum: x^p / Σ x^p over the last two axes of maps (…, h, w) ≥ 0.

    They add up to 1. p = 1 is the average's, infinity the maximum's (several equal ones share). The same number says
    by how many per cent GeM rises when this place rises by one per cent: it is d log GeM / d log x.
    """
    flat = maps.float().clamp(min=EPS).flatten(-2)
    if math.isinf(p):
        largest = (flat == flat.amax(-1, keepdim=True)).float()
        return (largest / largest.sum(-1, keepdim=True)).reshape(maps.shape)
    return (p * flat.log()).softmax(-1).reshape(maps.shape)  # x^p = exp(p log x); softmax cannot overflow


def speaking(maps: Tensor) -> Tensor:
    """Which channels of maps (…, C, h, w) are anywhere above SILENT, bool (…, C): shares of the others mean nothing."""
    return maps.amax((-2, -1)) > SILENT


def mean_share(maps: Tensor, p: float) -> Tensor:
    """`shares` of maps (…, C, h, w), mean over the channels that say anything: (…, h, w)."""
    loud = speaking(maps).float()[..., None, None]
    return (shares(maps, p) * loud).sum(-3) / loud.sum(-3).clamp(min=1)


def places_for_half(response: Tensor, p: float) -> float:
    """How few places hold half of a channel's sum in one map (C, h, w): the median over the channels that speak."""
    held = shares(response[speaking(response)], p).flatten(-2).sort(-1, descending=True)[0].cumsum(-1)
    return float(((held < 0.5 - 1e-6).sum(-1) + 1).float().median())


# --- hands whose centres are known ---

@dataclass(frozen=True)
class Hands:
    """n simulated hands. `films` uint8 (n, S, S), letterboxed; `centres` and `shafts` bool (n, S, S): where a pixel
    shows an ossification centre, or the shaft of a bone and no centre; `months` (n,), the label."""

    films: np.ndarray
    centres: np.ndarray
    shafts: np.ndarray
    months: np.ndarray

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.films.shape[-1], *measure_intensity(self.films, np.arange(len(self.films))))

    def nearest(self, months: float) -> int:
        """The row of the hand whose label is nearest to `months`."""
        return int(np.abs(self.months - months).argmin())


@lru_cache
def draw_hands_with_masks(count: int = HANDS) -> Hands:
    """The hands of a cohort of their own; the seed is fixed."""
    folder, _ = hands_with_masks(count, HANDS_SEED)
    table = load_cohort(folder).table
    films = np.stack([letterbox(read_gray(path), FINE) for path in table["image"]])
    drawn = [read_masks(folder / MASK_FOLDER / f"{film}.npz") for film in table["id"]]
    kinds = {kind: np.stack([_union(masks, f"{kind}_") for masks in drawn]) for kind in ("centre", "bone")}
    return Hands(films, kinds["centre"], kinds["bone"] & ~kinds["centre"], table["months"].to_numpy())


def _union(masks: dict[str, np.ndarray], start: str) -> np.ndarray:
    """Where any of the masks lies whose name begins so, letterboxed like the film: bool (FINE, FINE)."""
    return letterbox_mask(np.any([mask for name, mask in masks.items() if name.startswith(start)], axis=0), FINE)


@torch.inference_mode()
def maps_of(features: Features, films: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """The last map of films uint8 (n, S, S), on the processor: float32 (n, C, h, w)."""
    device = next(features.parameters()).device
    batches = torch.from_numpy(films)[:, None].split(8)
    bar = tqdm(batches, desc="reading maps", leave=False, mininterval=0.5)
    return torch.cat([features.eval()(standardise(to_unit(b.to(device)), preprocessing)).float().cpu() for b in bar])


@lru_cache
def hands_and_maps() -> tuple[Hands, Tensor]:
    """The hands and their maps (n, C, 10, 10) from the small backbone that the course ships, in every profile."""
    hands = draw_hands_with_masks()
    return hands, maps_of(Features(BACKBONE, "phantom"), hands.films, hands.preprocessing)


def cover(masks: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """How much of each cell of a grid (h, w) is covered by masks bool (n, S, S): float32 (n, h, w), 0–1."""
    return F.adaptive_avg_pool2d(torch.from_numpy(masks).float()[:, None], grid)[:, 0]


def looks(hands: Hands, maps: Tensor, p: float) -> pd.DataFrame:
    """Per hand, the share of the pooled response that lies on each of REGIONS; all channels that speak count alike.

    A cell gives each region as much of its share as the region covers of it. p = 0 is an even response, that is, the
    region's share of the area.
    """
    share = mean_share(maps, p)
    on = {name: (share * cover(masks, share.shape[-2:])).sum((-2, -1)).numpy()
          for name, masks in (("centres", hands.centres), ("shafts", hands.shafts))}
    return pd.DataFrame(on | {"elsewhere": 1 - on["centres"] - on["shafts"]})


# --- response maps ---

def draw_shares(film: np.ndarray, response: Tensor, outline: np.ndarray | None = None,
                powers: tuple[float, ...] = TWIN_POWERS) -> Picture:
    """What each place of a map (C, h, w) contributes at each p, mean over the channels, over its film (S, S).

    `outline` (S, S), bool: drawn as a line.
    """
    figure, axes = new_figure(1.0 + 2.3 * len(powers), 2.9, 1, len(powers), squeeze=False)
    places, told = response[0].numel(), []
    for ax, p in zip(axes[0], powers, strict=True):
        half, times = places_for_half(response, p), mean_share(response, p).numpy() * places
        shown = _over_film(ax, film, times, outline)
        ax.set_title(f"p = {p:g}: half of a channel's\nsum on {half:.0f} of {places} places", loc="center", fontsize=9)
        told.append(f"p = {p:g}: the loudest place has {times.max():.1f} times an even share, the faintest "
                    f"{times.min():.2f}; a channel has half of its sum on {half:.0f} of {places} places")
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, extend="max")
    bar.set_label("times an even share")
    return Picture(figure, f"""A hand film under a grid of colours: what each place contributes to the pooled value,
        mean over the channels. {'; '.join(told)}.""")


def _over_film(ax: Any, film: np.ndarray, times: np.ndarray, outline: np.ndarray | None) -> Any:
    side = film.shape[0]
    ax.imshow(film, cmap="gray", vmin=0, vmax=255)
    shown = ax.imshow(times, cmap="viridis", vmin=0, vmax=LOUDEST, alpha=0.6, extent=(-0.5, side - 0.5, side - 0.5,
                                                                                     -0.5))
    if outline is not None and outline.any():
        ax.contour(outline, [0.5], colors="white", linewidths=0.7)
    ax.axis("off")
    return shown


def choose_p(film: np.ndarray, response: Tensor, outline: np.ndarray | None = None) -> Any:
    """A slider over p and the response map of `draw_shares`; the static twin without ipywidgets."""
    return slider_or_twin(lambda p: draw_shares(film, response, outline, (p,)),
                          lambda: draw_shares(film, response, outline), value=3, min=1, max=LARGEST_POWER, step=1,
                          description="p")


def draw_looks(area: pd.DataFrame, seen: dict[str, pd.DataFrame]) -> Picture:
    """How many times its share of the `area` each of REGIONS gets of the response, a bar for each of `seen` (`looks`).

    The thin lines are 95 % intervals over the hands.
    """
    figure, ax = new_figure(7, 3.6)
    width, told = 0.8 / len(seen), []
    for number, ((name, table), colour) in enumerate(zip(seen.items(), (GIRLS, BOYS, ACCENT), strict=False)):
        means = [bootstrap_mean(table[region] / area[region].mean()) for region in REGIONS]
        ends = np.array([[mean.value - mean.low, mean.high - mean.value] for mean in means]).T
        where = np.arange(len(REGIONS)) + (number - (len(seen) - 1) / 2) * width
        values = [mean.value for mean in means]
        ax.bar(where, values, 0.9 * width, yerr=ends, color=colour, label=name, error_kw={"linewidth": 1})
        told.append(f"{name}: " + ", ".join(f"{r} {v:.2f}" for r, v in zip(REGIONS, values, strict=True)))
    ax.axhline(1, color="black", linewidth=1, linestyle="--", label="an even response")
    names = [f"{region}\n{area[region].mean():.0%} of the area" for region in REGIONS]
    ax.set(xticks=range(len(REGIONS)), xticklabels=names, ylabel="response / area", ylim=(0, None))
    ax.legend(loc="upper right")
    return Picture(figure, f"""Bars: how many times its share of the area each region gets of the pooled response, mean
        over {len(area)} hands; an even response gives 1. {'; '.join(told)}.""")


# --- too few bits ---

def power_mean(maps: Tensor, p: float, dtype: torch.dtype) -> Tensor:
    """Clamp, power, mean, root, all in one `dtype`, as it stands in the formula: (…, h, w) to (…)."""
    return maps.to(dtype).clamp(min=EPS).pow(p).mean((-2, -1)).pow(1 / p)


def wrong_values(maps: Tensor, p: float, way: str) -> float:
    """The share (0–1) of pooled values that one of WAYS gets wrong by more than TOLERATED, against float64."""
    truth = GeM(p).double()(maps.double()).detach()
    off = (WAYS[way](maps, p).double() - truth).abs() / truth.clamp(min=SILENT)
    return float((~(off <= TOLERATED)).float().mean())  # so that what is not a number counts as wrong


def draw_precision(maps: Tensor) -> Picture:
    """The share of wrong pooled values of maps (n, C, h, w) against p, a line for each of WAYS; a dot is the first."""
    figure, ax = new_figure(6.5, 3.6)
    told = []
    for (way, name), colour, line in zip(WAY_NAMES.items(), (ACCENT, BOYS, "black"), ("-", "--", ":"), strict=True):
        wrong = np.array([wrong_values(maps, p, way) for p in POWERS])
        ax.semilogx(POWERS, 100 * wrong, color=colour, linestyle=line, linewidth=2, label=name)
        first = POWERS[wrong > 0][:1]
        ax.plot(first, 100 * wrong[wrong > 0][:1], "o", color=colour, markersize=8)
        told.append(f"{name}: " + (f"wrong values from p = {first[0]:.1f} on, {wrong[-1]:.0%} at p = {POWERS[-1]:g}"
                                   if len(first) else "no wrong value at any p"))
    ax.set(xlabel="p", ylabel="wrong pooled values (%)", ylim=(-3, 103), xticks=(ticks := (1, 3, 10, 20, 30, 100)))
    ax.set_xticklabels(map(str, ticks))
    ax.minorticks_off()
    ax.legend(loc="upper left")
    return Picture(figure, f"""Share of pooled values that are off by more than {TOLERATED:.0%}, or no number at all,
        against p on a logarithmic axis. {'; '.join(told)}.""")
