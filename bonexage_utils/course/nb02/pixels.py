"""Data and figures of notebook 02: the shape of a bone on a square film, pixels per growth gap, how fast films load,
six changes of one film, and data sets whose films change from one reading to the next or stay the same."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from time import process_time

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bonexage_utils.course.sliders import Slider, average_child, slider
from bonexage_utils.decoding import read_gray
from bonexage_utils.devices import to_unit
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, montage, new_figure
from bonexage_utils.images import cached_images, letterbox
from bonexage_utils.phantom import Nuisances, grow, render, tissue
from bonexage_utils.phantom.radiograph import film_height, film_masks, oriented

BONE = "bone_MC3"  # the shaft of the middle metacarpal
SQUARE = 512  # px, fine enough to measure the shape of a bone
BONES, BONE_AGES = 400, (12.0, 120.0)  # children in the table of bones; months: later this bone's shape hardly changes
FILM_HEIGHT = 400  # px
AGE_MONTHS = 120
HAND_SCALE = 0.32  # so small that the hand fits on the narrowest film as well
NARROWEST, WIDEST, TWIN_WIDTHS = 60, 125, (60, 80, 125)  # a film's width in per cent of its height
SIDES = (64, 96, 128, 256, 512)  # px: squares in use
RSNA_SIDES = (1277, 1624)  # px: median width and height of RSNA's films
WAYS = {"squashed": ("s", ACCENT), "letterboxed": ("o", BOYS)}
CHANGES = {"A": "turned by 12°", "B": "mirrored", "C": "zoomed in", "D": "brightened", "E": "a quarter turn",
           "F": "blurred"}
ZOOM, BLUR_MM = 2.8, 2.0


# --- a bone's shape ---

def squash(image: np.ndarray, size: int) -> np.ndarray:
    """A grey image (H, W) stretched to (size, size): the distortion depends on the proportions of the film."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def slimness(mask: np.ndarray) -> float:
    """Length over width of the bone that is white in `mask` (H, W), 0–255, in any direction: the standard
    deviation of its pixels along it over that across it; for a rectangle this is the ratio of its sides."""
    across, along = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T, aweights=mask[mask > 0]))
    return float(np.sqrt(along / across))


def slimness_by_way(mask: np.ndarray) -> dict[str, float]:
    """`slimness` of a mask (H, W), 0 or 255: on the film, squashed, letterboxed."""
    return {"film": slimness(mask), "squashed": slimness(squash(mask, SQUARE)),
            "letterboxed": slimness(letterbox(mask, SQUARE))}


@lru_cache(maxsize=32)  # a slider goes back and forth
def film_and_bone(width: int, months: int = AGE_MONTHS) -> tuple[np.ndarray, np.ndarray]:
    """The average girl of that age on a film `width` per cent as wide as high: the film (H, W), and where her BONE
    lies, 0 or 255."""
    child, film = average_child("F", months), Nuisances(aspect=width / 100, hand_scale=HAND_SCALE)
    image, _ = render(child, np.random.default_rng(0), FILM_HEIGHT, film)
    return image, film_masks(child, film, FILM_HEIGHT)[BONE].astype(np.uint8) * 255


def draw_squares(widths: tuple[int, ...] = TWIN_WIDTHS) -> Picture:
    """One hand on films of several widths (per cent of the height), a row each: the film, squashed, letterboxed. The
    middle metacarpal is outlined; above stands its length over its width."""
    figure, axes = new_figure(6.0, 2.35 * len(widths), len(widths), 3, squeeze=False)
    parts = []
    for row, width in zip(axes, widths, strict=True):
        image, bone = film_and_bone(width)
        pairs = {"film": (image, bone), "squashed": (squash(image, SQUARE), squash(bone, SQUARE)),
                 "letterboxed": (letterbox(image, SQUARE), letterbox(bone, SQUARE))}
        numbers = {way: slimness(mask) for way, (_, mask) in pairs.items()}
        for ax, (way, (film, mask)) in zip(row, pairs.items(), strict=True):
            ax.imshow(film, cmap="gray", vmin=0, vmax=255)
            ax.contour(mask, [127], colors=[ACCENT], linewidths=1.2)
            if way == "letterboxed":  # a line between the film and the bars
                ax.contour(letterbox(np.full_like(image, 255), SQUARE), [127], colors="white", linewidths=0.6)
            name = f"film, {width} % as wide as high" if way == "film" else way
            ax.set_title(f"{name}\nbone {numbers[way]:.1f} : 1", loc="center", fontsize=9)
            ax.axis("off")
            ax.set_anchor("N")
        parts.append(f"width {width} % of the height: {numbers['film']:.1f} on the film, {numbers['squashed']:.1f} "
                     f"squashed, {numbers['letterboxed']:.1f} letterboxed")
    return Picture(figure, f"""The same simulated hand, a row for each width of its film: as it is, squashed to a square
        and letterboxed, the middle metacarpal outlined. How many times the bone is as long as wide: {'; '.join(parts)}.
        """)


def choose_width() -> Slider:
    """A slider over the film's width and the row of `draw_squares`."""
    return slider(lambda width: draw_squares((width,)), range(NARROWEST, WIDEST + 1, 5), 80, "width, % of height")


@lru_cache
def bones() -> pd.DataFrame:
    """The middle metacarpal of BONES simulated children of BONE_AGES, on films of random shape, one row each.

    Columns: `months` (true bone age), `aspect` (the film's width over its height), and the bone's length over its
    width on the `film`, `squashed` and `letterboxed`. Measured on the bone's own mask; the seed is fixed.
    """
    rng, rows = np.random.default_rng(0), []
    for age in rng.permutation(np.linspace(*BONE_AGES, BONES)):
        child = grow("FM"[int(rng.integers(2))], float(age), rng)
        film = Nuisances.draw(rng, float(age))
        posed = child.posed(film.pose)
        one_bone = replace(posed, bones=(posed.bone(BONE.removeprefix("bone_")),))  # drawing all takes far longer
        drawn = tissue.masks(one_bone, tissue.Frame.of(posed, film, film_height(child, film)))[BONE]
        mask = oriented(drawn, film).astype(np.uint8) * 255
        rows.append({"months": child.bone_age_months, "aspect": mask.shape[1] / mask.shape[0], **slimness_by_way(mask)})
    return pd.DataFrame(rows)


def draw_bones(table: pd.DataFrame) -> Picture:
    """Length over width of the bone against bone age, squashed and letterboxed, coloured by the film's shape."""
    figure, axes = new_figure(9, 3.8, 1, 2, sharex=True, sharey=True)
    parts = []
    for ax, way in zip(axes, WAYS, strict=True):
        points = ax.scatter(table["months"], table[way], c=table["aspect"], cmap="cividis", s=10)
        correlation = table[way].corr(table["months"], method="spearman")
        ax.set(title=f"{way}: rank correlation {correlation:.2f}", xlabel="bone age (months)", xticks=range(0, 145, 24))
        parts.append(f"{way}, rank correlation {correlation:.2f}")
    axes[0].set_ylabel("length / width of the bone")
    figure.colorbar(points, ax=axes, label="width / height of the film")
    return Picture(figure, f"""Length over width of the middle metacarpal against bone age in months for {len(table)}
        simulated children up to ten, coloured by the film's width over its height. {'; '.join(parts)}. Squashed, the
        points spread, and wide films lie above narrow ones.""")


# --- how many pixels ---

def px_per_mm(side: int) -> float:
    """Pixels for one millimetre where a letterboxed film of the average ten-year-old girl is `side` px high."""
    _, facts = render(average_child("F", AGE_MONTHS), np.random.default_rng(0), FILM_HEIGHT, Nuisances())
    return side / FILM_HEIGHT / facts["mm_per_px"]


def draw_sides() -> Picture:
    """The knuckles of one film at the sizes of SIDES, each pixel a square, and the px that a millimetre gets."""
    film, _ = render(average_child("F", AGE_MONTHS), np.random.default_rng(0), 2 * SQUARE, Nuisances())
    tiles, titles = [], []
    for side in SIDES:
        small = letterbox(film, side)
        rows, columns = (slice(round(a * side), round(b * side)) for a, b in ((0.22, 0.5), (0.36, 0.64)))
        tiles.append(small[rows, columns])
        titles.append(f"{side} px\n1 mm = {px_per_mm(side):.1f} px")
    return montage(tiles, titles, f"""The knuckles of one simulated hand, a ten-year-old girl's, from films letterboxed
        to {', '.join(map(str, SIDES))} pixels: {'; '.join(' '.join(t.split()) for t in titles)}. The dark growth gaps
        show at the larger sizes and are gone at the smallest.""", columns=len(SIDES), side=1.75)


# --- how fast ---

def best_rate(load: Callable[[int], object], count: int, passes: int = 3) -> float:
    """Items per second of processor time that `load(0)` … `load(count - 1)` manages, the best of several passes.

    Processor time: other work of the machine hardly changes it, and waiting for the disk is not counted.
    """
    seconds = []
    for _ in range(passes):
        started = process_time()
        for number in range(count):
            load(number)
        seconds.append(max(process_time() - started, 1e-6))
    return count / min(seconds)


def rates(paths: list[str], size: int = SQUARE) -> dict[str, float]:
    """Films per second of processor time, from the file or the cache to a float tensor (1, 1, size, size): files of the
    size of RSNA's (these, enlarged), these files, and the cache of the enlarged ones."""
    # on Windows a mapped file outlives its folder
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        enlarged = []
        for number, path in enumerate(paths):
            enlarged.append(str(Path(folder) / f"{number}.png"))
            film = cv2.resize(read_gray(path), RSNA_SIDES, interpolation=cv2.INTER_LINEAR)
            Path(enlarged[-1]).write_bytes(cv2.imencode(".png", film)[1].tobytes())
        cached = cached_images(enlarged, size, Path(folder) / "cache").array

        def to_tensor(square: np.ndarray) -> Tensor:
            return to_unit(torch.from_numpy(np.array(square))[None, None])

        return {
            "file of RSNA's size": best_rate(lambda row: to_tensor(letterbox(read_gray(enlarged[row]), size)),
                                              len(paths)),
            "file of the phantom": best_rate(lambda row: to_tensor(letterbox(read_gray(paths[row]), size)), len(paths)),
            "row of the cache": best_rate(lambda row: to_tensor(cached[row]), len(paths)),
        }


def draw_rates(measured: dict[str, float]) -> Picture:
    """Films per second by where a film comes from, on a logarithmic axis, with the ratio to the slowest."""
    figure, ax = new_figure(6.5, 2.0)
    slowest = min(measured.values())
    ax.barh(list(measured), list(measured.values()), color=[MUTED, MUTED, BOYS], log=True)
    for place, rate in enumerate(measured.values()):
        ax.text(1.1 * rate, place, "1" if rate == slowest else f"{rate / slowest:,.0f} times as many", va="center")
    ax.xaxis.set_major_formatter("{x:,.0f}")  # powers of ten would need fonts that not every machine has
    ax.set(xlabel="films per second of one core's time", xlim=(slowest / 2, 12 * max(measured.values())))
    parts = "; ".join(f"{name} {rate / slowest:,.0f}" for name, rate in measured.items())
    return Picture(figure, f"""Bars of the films per second of processor time by where a film comes from, measured in
        one run. As multiples of the slowest: {parts}.""")


# --- sixteen bits ---

def deep_film(film: np.ndarray) -> np.ndarray:
    """A film (H, W), 0–255, as a scanner of 12 bits stores it in 16: the same picture, values 0–4095."""
    return np.rint(film.astype(np.float32) * (4095 / 255)).astype(np.uint16)


# --- what keeps the label ---

@lru_cache
def six_changes() -> tuple[dict[str, np.ndarray], float, float]:
    """The changed films by letter; the share (0–1) of the ossification centres that the zoomed film still shows;
    and the widest growth gap (mm) on the film, to compare with BLUR_MM. The child is an average boy of ten."""
    child, nuisances = average_child("M", AGE_MONTHS), Nuisances(aspect=1.0, hand_scale=0.38, centre_y=0.5)
    film, facts = render(child, np.random.default_rng(0), FILM_HEIGHT, nuisances)
    middle = (FILM_HEIGHT / 2, FILM_HEIGHT / 2)
    zoomed = cv2.getRotationMatrix2D(middle, 0, ZOOM)
    films = {
        "A": _warp(film, cv2.getRotationMatrix2D(middle, 12, 1.0)),
        "B": film[:, ::-1],
        "C": _warp(film, zoomed),
        "D": np.clip(40 + 0.9 * film.astype(np.float32), 0, 255).astype(np.uint8),
        "E": np.rot90(film),
        "F": cv2.GaussianBlur(film, (0, 0), BLUR_MM / facts["mm_per_px"]),
    }
    masks = [mask for name, mask in film_masks(child, nuisances, FILM_HEIGHT).items() if name.startswith("centre_")]
    # A centre counts as visible if at least half of it is on the zoomed film, where its pixels are ZOOM² as large.
    visible = [_warp(mask.astype(np.uint8), zoomed).sum() >= 0.5 * ZOOM**2 * mask.sum() for mask in masks]
    gap = max(centre.gap_mm for centre in child.centres)
    return films, float(np.mean(visible)), gap


def _warp(film: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(film, matrix, film.shape[::-1], flags=cv2.INTER_LINEAR)


def draw_six_changes() -> Picture:
    """The six films of `six_changes` under their letters."""
    films, visible, _ = six_changes()
    parts = "; ".join(f"{letter} {change}" for letter, change in CHANGES.items())
    return montage(list(films.values()), list(films), f"""One simulated film of a ten-year-old boy's hand, changed in
        six ways: {parts}. Zoomed in, {visible:.0%} of the ossification centres are left on the film.""", columns=3,
                   side=1.9)


# --- films that change between readings, or not ---

class ToyFilms:
    """A stand-in for a data set: `len`, and films (1, 8, 8) that `change(film, row)` alters each time they are read.

    It has a `transform` if `has_transform`, which need not fit its films; `dataset` is itself, as a `Subset` has one.
    """

    def __init__(self, change: Callable[[Tensor, int], Tensor], has_transform: bool, films: int = 30) -> None:
        # Multiples of 1/256 add up without rounding: two films with the same pixels have the same mean.
        self.films = torch.randint(256, (films, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 256
        self.change, self.transform, self.dataset = change, change if has_transform else None, self

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, row: int) -> Tensor:
        if row >= len(self):  # else `for film in part` would never end
            raise IndexError(row)
        return self.change(self.films[row].clone(), row)


def stand_ins() -> dict[str, tuple[ToyFilms, bool]]:
    """Data sets, and whether their films change from one reading to the next."""
    rng = np.random.default_rng(0)
    readings: dict[int, int] = {}

    def brightness() -> float:
        return float(rng.uniform(0.01, 0.1))

    def mirrored(film: Tensor, row: int) -> Tensor:  # every second time a film is read
        readings[row] = readings.get(row, 0) + 1
        return film.flip(-1) if readings[row] % 2 else film

    return {
        "still": (ToyFilms(lambda film, _: film, has_transform=False), False),
        "brighter": (ToyFilms(lambda film, _: film + brightness(), has_transform=True), True),
        "says so, but still": (ToyFilms(lambda film, _: film, has_transform=True), False),
        "mirrored": (ToyFilms(mirrored, has_transform=True), True),
        "silent": (ToyFilms(lambda film, _: film + brightness(), has_transform=False), True),
        "rare": (ToyFilms(lambda film, row: film + brightness() * (row % 3 == 2), has_transform=True), True),
    }
