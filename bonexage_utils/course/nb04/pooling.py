"""Data and figures of notebook 04: what each place of a map contributes to the pooled value, hands whose centres are
known on the same grid, and power means in formats with too few bits."""

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

from bonexage_utils.cohort import load_cohort
from bonexage_utils.course.bones import hands_with_masks, letterbox_mask
from bonexage_utils.course.frozen import BACKBONE
from bonexage_utils.course.sliders import Slider, slider
from bonexage_utils.decoding import read_gray
from bonexage_utils.devices import to_network
from bonexage_utils.figures import ACCENT, BOYS, GIRLS, Picture, new_figure
from bonexage_utils.images import Preprocessing, letterbox, measure_intensity
from bonexage_utils.model import Features, GeM
from bonexage_utils.phantom import read_masks
from bonexage_utils.phantom.dataset import MASK_FOLDER
from bonexage_utils.statistics import bootstrap_mean

HANDS, HANDS_SEED = 40, 4  # of this notebook alone: children in no cohort of the course, nor in the pretraining
SIDE = 320  # px: gives a map of 10 × 10 places
EPS = 1e-6
TWIN_POWERS, LARGEST_POWER = (1, 3, 10), 30
LARGEST_SHOWN = 4.0  # times an even share: upper end of the colours of a response map
REGIONS = ("centres", "shafts", "elsewhere")
TOLERANCE = 0.01  # the largest relative error of a pooled value that counts as right
ACTIVE = 1e-3  # channels that nowhere exceed this are left out; also the least divisor of a relative error
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
    parts = []
    for (name, row), colour, line in zip(rows.items(), (BOYS, ACCENT, "black"), ("-", "--", ":"), strict=False):
        row = row.double() / row.double().mean()
        curve = [float(GeM(p).double()(row.reshape(1, 1, 1, -1)).detach()) for p in POWERS]
        ax.semilogx(POWERS, curve, color=colour, linestyle=line, linewidth=2, label=name)
        ax.axhline(float(row.max()), color=colour, linewidth=0.6, linestyle=line)
        parts.append(f"{name}: from 1 at p = 1 to {curve[-1]:.2f} at p = {POWERS[-1]:g}; its maximum is "
                     f"{row.max():.2f} times its mean")
    ax.set(xlabel="p", ylabel="GeM / mean", ylim=(0, None), xticks=(ticks := (1, 3, 10, 30, 100)))
    ax.set_xticklabels(map(str, ticks))
    ax.minorticks_off()
    ax.legend(loc="upper left", frameon=True, framealpha=1, edgecolor="none")
    return Picture(figure, f"""GeM as a multiple of the mean against p, logarithmic, from 1 to {POWERS[-1]:g}.
        {'; '.join(parts)}.""")


def draw_signed(before: Tensor, after: Tensor) -> Picture:
    """Histograms of the values of a signed map and of the same map after softplus; values below zero, which a clamp
    would cut off, have another colour."""
    figure, axes = new_figure(8, 3.0, 1, 2, sharey=True)
    cut = float((before < 0).float().mean())
    bins = np.linspace(-4, 6, 101)
    for ax, values, title in zip(axes, (before, after), ("after the norm", "and after softplus"), strict=True):
        bars = ax.hist(values.flatten().clamp(-4, 6).numpy(), bins, color=BOYS)[2]
        for bar, left in zip(bars, bins, strict=False):
            bar.set_color(ACCENT if left < -1e-9 else BOYS)
        ax.set(title=title, xlabel="value in the map", yticks=[])
    axes[0].text(0.03, 0.9, f"{cut:.0%} below zero", color=ACCENT, transform=axes[0].transAxes)
    return Picture(figure, f"""Two histograms of the values of a map. Left, after the norm: a hill around zero,
        {cut:.0%} of it below. Right, after softplus: nothing below zero; from {after.min():.3f} to
        {after.max():.1f}, half of it below {after.median():.2f}.""")


# --- what each place contributes ---

def shares(maps: Tensor, p: float) -> Tensor:
    """The share of each place in GeM's sum: x^p / Σ x^p over the last two axes of maps (…, h, w) ≥ 0.

    The shares add up to 1. p = 1 gives those of the average, infinity those of the maximum (equal maxima share). A
    share is also the elasticity d log GeM / d log x: by how many per cent GeM rises if the place rises by one per cent.
    """
    flat = maps.float().clamp(min=EPS).flatten(-2)
    if math.isinf(p):
        largest = (flat == flat.amax(-1, keepdim=True)).float()
        return (largest / largest.sum(-1, keepdim=True)).reshape(maps.shape)
    return (p * flat.log()).softmax(-1).reshape(maps.shape)  # x^p = exp(p log x); softmax cannot overflow


def active_channels(maps: Tensor) -> Tensor:
    """Which channels of maps (…, C, h, w) are above ACTIVE at some place, bool (…, C); the others are left out."""
    return maps.amax((-2, -1)) > ACTIVE


def mean_share(maps: Tensor, p: float) -> Tensor:
    """`shares` of maps (…, C, h, w), mean over the active channels: (…, h, w)."""
    active = active_channels(maps).float()[..., None, None]
    return (shares(maps, p) * active).sum(-3) / active.sum(-3).clamp(min=1)


def held_by(response: Tensor, p: float) -> Tensor:
    """The share of a channel's sum that its loudest k places hold, k = 1 … h·w, in one map (C, h, w): the median over
    the active channels, (h·w,)."""
    active = response[active_channels(response)]
    return -(-shares(active, p).flatten(-2).sort(-1, descending=True)[0].cumsum(-1)).median(0)[0]


def places_for_half(response: Tensor, p: float) -> float:
    """The fewest places that hold half of a channel's sum in one map (C, h, w): the median over the active channels."""
    return float((held_by(response, p) < 0.5 - 1e-6).sum() + 1)


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

    def shown(self) -> int:
        """The row of the hand to look at: of the children of seven to eleven, the one that fills its film best."""
        bone = (self.centres | self.shafts).mean((1, 2))
        return int(np.where((self.months >= 84) & (self.months <= 132), bone, 0).argmax())


@lru_cache
def load_hands(count: int = HANDS) -> Hands:
    """The first `count` hands of this notebook's own cohort; the seed is fixed."""
    folder, _ = hands_with_masks(count, HANDS_SEED)
    table = load_cohort(folder).table
    films = np.stack([letterbox(read_gray(path), SIDE) for path in table["image"]])
    all_masks = [read_masks(folder / MASK_FOLDER / f"{film}.npz") for film in table["id"]]
    kinds = {kind: np.stack([_any_mask(masks, f"{kind}_") for masks in all_masks]) for kind in ("centre", "bone")}
    return Hands(films, kinds["centre"], kinds["bone"] & ~kinds["centre"], table["months"].to_numpy())


def _any_mask(masks: dict[str, np.ndarray], prefix: str) -> np.ndarray:
    """The union of the masks whose name begins with `prefix`, letterboxed like the film: bool (SIDE, SIDE)."""
    return letterbox_mask(np.any([mask for name, mask in masks.items() if name.startswith(prefix)], axis=0), SIDE)


@torch.inference_mode()
def maps_of(features: Features, films: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """The last map of films uint8 (n, S, S), on the processor: float32 (n, C, h, w)."""
    device = next(features.parameters()).device
    batches = torch.from_numpy(films)[:, None].split(8)
    bar = tqdm(batches, desc="reading maps", leave=False, mininterval=0.5)
    return torch.cat([features.eval()(to_network(b, preprocessing, device)).float().cpu() for b in bar])


@lru_cache
def hands_and_maps() -> tuple[Hands, Tensor]:
    """The hands and their maps (n, C, 10, 10) from the small backbone that the course ships, in every profile."""
    hands = load_hands()
    return hands, maps_of(Features(BACKBONE, "phantom"), hands.films, hands.preprocessing)


def cover(masks: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """The share (0–1) of each cell of a grid (h, w) that masks bool (n, S, S) cover: float32 (n, h, w)."""
    return F.adaptive_avg_pool2d(torch.from_numpy(masks).float()[:, None], grid)[:, 0]


def region_shares(hands: Hands, maps: Tensor, p: float) -> pd.DataFrame:
    """Per hand, the share of the pooled response that lies on each of REGIONS, mean over the active channels.

    The share of a cell is divided among the regions in proportion to the area they cover of it. p = 0 is an even
    response, that is, the region's share of the area.
    """
    share = mean_share(maps, p)
    parts = {name: (share * cover(masks, share.shape[-2:])).sum((-2, -1)).numpy()
             for name, masks in (("centres", hands.centres), ("shafts", hands.shafts))}
    return pd.DataFrame(parts | {"elsewhere": 1 - parts["centres"] - parts["shafts"]})


# --- response maps ---

def draw_responses(film: np.ndarray, response: Tensor, outline: np.ndarray | None = None,
                   powers: tuple[float, ...] = TWIN_POWERS) -> Picture:
    """The response maps of a hand: `mean_share` of its map (C, h, w) at each p, laid over its film (S, S).

    `outline`, bool (S, S): drawn as a line.
    """
    figure, axes = new_figure(1.0 + 2.3 * len(powers), 2.9, 1, len(powers), squeeze=False)
    places, parts = response[0].numel(), []
    for ax, p in zip(axes[0], powers, strict=True):
        times = mean_share(response, p).numpy() * places
        shown = _over_film(ax, film, times, outline)
        ax.set_title(f"p = {p:g}", loc="center")
        parts.append(f"p = {p:g}: the loudest place has {times.max():.1f} times an even share, the faintest "
                     f"{times.min():.2f}")
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, extend="max")
    bar.set_label("times an even share")
    return Picture(figure, f"""A hand film under a grid of colours: what each place contributes to the pooled value,
        mean over the channels. {'; '.join(parts)}.""")


def _over_film(ax: Any, film: np.ndarray, times: np.ndarray, outline: np.ndarray | None) -> Any:
    side = film.shape[0]
    ax.imshow(film, cmap="gray", vmin=0, vmax=255)
    # Quiet places let the film through; a veil of one thickness would hide the hand.
    shown = ax.imshow(times, cmap="viridis", vmin=0, vmax=LARGEST_SHOWN, alpha=np.clip(times / 2, 0.1, 0.6),
                      extent=(-0.5, side - 0.5, side - 0.5, -0.5))
    if outline is not None and outline.any():
        ax.contour(outline, [0.5], colors="white", linewidths=0.6)
    ax.axis("off")
    return shown


def choose_p(film: np.ndarray, response: Tensor, outline: np.ndarray | None = None) -> Slider:
    """A slider over p and the response map of `draw_responses`."""
    return slider(lambda p: draw_responses(film, response, outline, (p,)), range(1, LARGEST_POWER + 1), 3, "p")


def draw_region_shares(area: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> Picture:
    """The response on each of REGIONS as a multiple of its share of the `area`, a bar for each of `tables`.

    `area` and `tables` (by the name of the pooling) are from `region_shares`. The thin lines are 95 % intervals over
    hands.
    """
    figure, ax = new_figure(7, 3.6)
    width, parts = 0.8 / len(tables), []
    for number, ((name, table), colour) in enumerate(zip(tables.items(), (GIRLS, BOYS, ACCENT), strict=False)):
        means = [bootstrap_mean(table[region] / area[region].mean()) for region in REGIONS]
        ends = np.array([[mean.value - mean.low, mean.high - mean.value] for mean in means]).T
        places = np.arange(len(REGIONS)) + (number - (len(tables) - 1) / 2) * width
        values = [mean.value for mean in means]
        ax.bar(places, values, 0.9 * width, yerr=ends, color=colour, label=name, error_kw={"linewidth": 1})
        parts.append(f"{name}: " + ", ".join(f"{r} {v:.2f}" for r, v in zip(REGIONS, values, strict=True)))
    ax.axhline(1, color="black", linewidth=1, linestyle="--", label="an even response")
    names = [f"{region}\n{area[region].mean():.0%} of the area" for region in REGIONS]
    ax.set(xticks=range(len(REGIONS)), xticklabels=names, ylabel="response / area", ylim=(0, None))
    ax.legend(loc="upper right")
    return Picture(figure, f"""Bars: how many times its share of the area each region gets of the pooled response, mean
        over {len(area)} hands; an even response gives 1. {'; '.join(parts)}.""")


# --- too few bits ---

def power_mean(maps: Tensor, p: float, dtype: torch.dtype) -> Tensor:
    """Clamp, power, mean, root, all in one `dtype`, in the order of the formula: (…, h, w) to (…)."""
    return maps.to(dtype).clamp(min=EPS).pow(p).mean((-2, -1)).pow(1 / p)


def wrong_values(maps: Tensor, p: float, way: str) -> float:
    """The share (0–1) of pooled values that one of WAYS gets wrong by more than TOLERANCE, against float64."""
    truth = GeM(p).double()(maps.double()).detach()
    error = (WAYS[way](maps, p).double() - truth).abs() / truth.clamp(min=ACTIVE)
    return float((~(error <= TOLERANCE)).float().mean())  # not `>`: NaN counts as wrong, too


def draw_precision(maps: Tensor) -> Picture:
    """The share of wrong pooled values of maps (n, C, h, w) against p, a line for each of WAYS, a dot at the first."""
    figure, ax = new_figure(6.5, 3.6)
    parts = []
    for (way, name), colour, line in zip(WAY_NAMES.items(), (ACCENT, BOYS, "black"), ("-", "--", ":"), strict=True):
        wrong = np.array([wrong_values(maps, p, way) for p in POWERS])
        ax.semilogx(POWERS, 100 * wrong, color=colour, linestyle=line, linewidth=2, label=name)
        first = POWERS[wrong > 0][:1]
        ax.plot(first, 100 * wrong[wrong > 0][:1], "o", color=colour, markersize=8)
        parts.append(f"{name}: " + (f"wrong values from p = {first[0]:.1f} on, {wrong[-1]:.0%} at p = {POWERS[-1]:g}"
                                    if len(first) else "no wrong value at any p"))
    ax.set(xlabel="p", ylabel="wrong pooled values (%)", ylim=(-3, 103), xticks=(ticks := (1, 3, 10, 20, 30, 100)))
    ax.set_xticklabels(map(str, ticks))
    ax.minorticks_off()
    ax.legend(loc="upper left")
    return Picture(figure, f"""Share of pooled values that are off by more than {TOLERANCE:.0%}, or no number at all,
        against p on a logarithmic axis. {'; '.join(parts)}.""")
