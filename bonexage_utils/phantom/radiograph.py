"""Take the film: thickness maps of tissue, Beer-Lambert at 33 keV, scatter, quantum noise, blur, display curve."""

from __future__ import annotations

from dataclasses import asdict, replace

import cv2
import numpy as np

from bonexage_utils.errors import BoneXageError
from bonexage_utils.phantom import anatomy, plate, tissue
from bonexage_utils.phantom.nuisances import POSE, Nuisances
from bonexage_utils.phantom.skeleton import Child
from bonexage_utils.phantom.tissue import Frame

FINE_PX_PER_MM = 2.2  # below this, bones are drawn twice as fine, so that a 1 mm growth plate survives
SCATTER_SIGMA_MM = 20.0
LEVELLING_SHARE = 0.05  # SD of what is levelled out, as a share of the image's height
SHARPENING_MM = 0.9  # SD over which a console enhances edges
SPACING_LIMITS_PX = (240, 820)  # heights of films whose height follows from their spacing


def _expose(years: float, mineral: float, cortex: np.ndarray, spongy: np.ndarray, soft: np.ndarray,
            fat: np.ndarray) -> np.ndarray:  # fmt: skip
    """Transmitted share of the beam (0-1) through thickness maps (mm) at an age in years.

    Bone replaces soft tissue and attenuates more, `mineral` times as much more as usual; fat is part of soft tissue.
    """
    mu = {k: np.float32(v / 10) for k, v in anatomy.MU_PER_CM_33KEV.items()}
    more = {k: np.float32(mineral * (np.interp(years, anatomy.MINERAL_AGE_YEARS, v) / 10 - mu["soft"]))
            for k, v in anatomy.MU_BONE_PER_CM_33KEV.items()}
    paths = mu["soft"] * soft - (mu["soft"] - mu["fat"]) * fat + more["cortical"] * cortex + more["spongiosa"] * spongy
    return np.exp(-paths)


def _blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian blur; a wide one is done on a thumbnail, where it costs nothing and looks the same."""
    if sigma_px < 8:
        return cv2.GaussianBlur(image, (0, 0), max(sigma_px, 0.15), borderType=cv2.BORDER_REPLICATE)
    small = cv2.resize(image, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / 8, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)


def _display(signal: np.ndarray, hand: np.ndarray, n: Nuisances, scale: float) -> np.ndarray:
    """Grey (float, 0 at black, about 255 at white) from the detector's signal: log, levelling, sharpening, curve."""
    density = -np.log(np.maximum(signal, 1e-4))
    coarse = _blur(density, LEVELLING_SHARE * density.shape[0])
    density = density - n.local * coarse
    density += n.sharpening * (density - _blur(density, SHARPENING_MM * scale))
    thin = (slice(None, None, 3),) * 2
    limb = hand[thin] > 1.0
    air = np.median(density[thin][~limb]) if (~limb).any() else density.min()
    white = np.percentile(density[thin][limb], 99.0) if limb.any() else density.max()
    value = (density - air) / max(float(white - air), 1e-3)
    return n.background + n.contrast * np.sign(value) * np.abs(value) ** n.gamma


def film_height(child: Child, n: Nuisances) -> int:
    """Height (px) of a film at its own spacing, so that in pixels, too, a hand's size says little about its age."""
    return int(np.clip(round(child.unit_mm / n.hand_scale / n.mm_per_px), *SPACING_LIMITS_PX))


def film_masks(child: Child, n: Nuisances, height_px: int | None = None) -> dict[str, np.ndarray]:
    """Where each ossified piece lies on the film that `render` takes with the same nuisances and height.

    Returns bool arrays of the image's shape: "bone_X" for shafts, "centre_X" for epiphyses, carpals and the sesamoid,
    "place_X" for a centre that does not show yet: the cartilage, as large as in this hand, that it will take up.
    Bones overlap in the wrist, so do their masks; a piece beyond the film's border has an empty one.
    """
    posed = child.posed(n.pose)
    frame = Frame.of(posed, n, height_px or film_height(child, n))
    drawn = tissue.masks(posed, frame)
    absent = [centre.name for centre in child.centres if not centre.present]
    if absent:
        grown = tuple(c if c.present else replace(c, present=True, emr=1.0) for c in posed.centres)
        later = tissue.masks(replace(posed, centres=grown), frame)
        drawn |= {f"place_{name}": later[f"centre_{name}"] for name in absent}
    return {name: oriented(mask, n) for name, mask in drawn.items()}


def oriented(image: np.ndarray, n: Nuisances) -> np.ndarray:
    """An array (H, W) drawn as a left hand, fingers up, as it lies on the film."""
    image = np.rot90(image[:, ::-1] if n.flipped else image, n.quarter_turns)
    return np.ascontiguousarray(image)


def render(
    child: Child,
    rng: np.random.Generator,
    height_px: int | None = 400,
    nuisances: Nuisances | None = None,
    shortcut_months: float | None = None,
) -> tuple[np.ndarray, dict[str, float | bool]]:
    """Radiograph of one hand.

    Args:
        child: from `grow`.
        rng: draws the nuisances (when not given), the trabecular texture and the quantum noise.
        height_px: image height, 64 px or more; the width follows from the aspect (0.58 to 1.25). None: from the
            pixel spacing among the nuisances, 240 to 820 px.
        nuisances: what to hold fixed; `Nuisances()` is a neutral film, None draws them.
        shortcut_months: plant a white strip at the lower left whose length tells this age.

    Returns:
        The image, uint8 of shape (height_px, W), bone white on black; and the flat dict of nuisances, with joint
        turns as `pose_PP2` (degrees), and with `shortcut_x0` to `shortcut_y1` (px) where one is planted.

    Raises:
        BoneXageError: when `height_px` is below 64.
    """
    if height_px is not None and height_px < 64:
        raise BoneXageError(f"phantom: image height is {height_px} px, expected at least 64")
    n = nuisances or Nuisances.draw(rng, child.chronological_age_months)
    posed = child.posed(n.pose)
    film = Frame.of(posed, n, height_px or film_height(child, n))
    fine = film.times(2) if film.scale < FINE_PX_PER_MM else film
    cortex, spongy = tissue.bones(posed, fine, rng)
    hand, fat = tissue.soft(posed, film, n.fat)
    added = plate.extras(posed, n, film, hand, rng)
    size = fine.shape[::-1]
    limb = cv2.resize(hand + added.soft_mm, size, interpolation=cv2.INTER_LINEAR)
    primary = _expose(child.chronological_age_months / 12, n.mineral, cortex, spongy, limb,
                      cv2.resize(fat, size, interpolation=cv2.INTER_LINEAR))  # fmt: skip
    if fine is not film:
        primary = cv2.resize(primary, film.shape[::-1], interpolation=cv2.INTER_AREA)
    beam = np.linspace(1 + n.heel / 2, 1 - n.heel / 2, film.shape[0], dtype=np.float32)[:, None]
    signal = beam * (primary + n.scatter * _blur(primary, SCATTER_SIGMA_MM * film.scale))
    quanta = np.float32(n.photons / film.scale**2)
    signal = _blur(rng.poisson(signal * quanta).astype(np.float32) / quanta, n.psf_mm * film.scale)
    grey = plate.shutter(_display(signal, hand, n, film.scale), posed, n, film)
    grey = plate.plate_edges(grey + (255 - grey) * added.lead, n)
    image = np.rint(np.clip(grey, 0, 255)).astype(np.uint8)
    image = oriented(255 - image if n.inverted else image, n)
    facts = {k: v for k, v in asdict(n).items() if k != "pose"} | {"mm_per_px": 1 / film.scale}
    facts |= {f"pose_{name}": n.pose.get(name, 0.0) for name in POSE}
    if shortcut_months is not None:
        box = plate.plant_shortcut(image, shortcut_months, 0 if n.inverted else 255)
        facts |= dict(zip(("shortcut_x0", "shortcut_y0", "shortcut_x1", "shortcut_y1"), box, strict=True))
    return image, facts
