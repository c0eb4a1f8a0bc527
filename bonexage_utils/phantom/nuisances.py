"""What varies from film to film and says nothing about maturity: each with its rate, each written into the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

TODDLER_MONTHS = 60
HAND_TURN_SD = (14.0, 6.5)  # degrees, toddlers and others (22 and 7.5 on 327 films, with flips): they do not hold still
FIST_RATE = 0.05  # fingers held together
QUARTER_TURN_RATE = 0.006
FLIP_RATE, RIGHT_HAND_RATE = 0.015, 0.015  # thumb on the left in 3 % of 327 films, of either reason
INVERTED_RATE = 0.01
CAST_RATE, RING_RATE = 0.005, 0.007

# joints that pose turns, with (share of the fan, own SD) in degrees
POSE = {
    "MC1": (4.0, 3.0), "PP1": (2.5, 4.5), "DP1": (0.0, 6.0), "PP2": (3.0, 2.0), "PP3": (0.5, 2.0),
    "PP4": (-2.5, 2.0), "PP5": (-5.0, 3.0), "MP2": (0.0, 3.0), "MP3": (0.0, 3.0), "MP4": (0.0, 3.0),
    "MP5": (0.0, 4.0), "DP2": (0.0, 2.5), "DP3": (0.0, 2.5), "DP4": (0.0, 2.5), "DP5": (0.0, 3.0),
    "forearm": (0.0, 6.0),
}  # fmt: skip

POSE_MEAN = {"forearm": 9.5}  # degrees: on most films the elbow lies a little to the little finger's side


class Style(NamedTuple):
    """A way of turning exposure into grey: ranges (mean, SD) of the grey of air and of the film's contrast, 0-255."""

    background: tuple[float, float]
    contrast: tuple[float, float]
    local: tuple[float, float]  # share of the coarse brightness taken away again, lowest and highest


# Fitted by eye and by histogram to public films at thumbnail size: most dark behind the hand; some whose range was
# spent on white borders and markers; some levelled by multi-scale processing.
STYLES = {
    "plain": Style((6.0, 4.0), (184.0, 18.0), (0.05, 0.45)),
    "flat": Style((34.0, 10.0), (34.0, 14.0), (0.10, 0.50)),
    "levelled": Style((62.0, 18.0), (140.0, 22.0), (0.30, 0.60)),
}


@dataclass(frozen=True)
class Site:
    """A department's habits. Pixel spacing: two scanners, fine and coarse, mm at the reduced size of the course."""

    styles: dict[str, float]
    aspect: tuple[float, float]
    hand_scale: tuple[float, float]
    fine_scanner: float
    fine_mm: tuple[float, float]
    coarse_mm: tuple[float, float]
    photons: tuple[float, float]
    psf_mm: float
    gamma: float
    marker: float
    collimated: float
    plate_edge: float
    reader_bias: float  # months
    reader_step: int | None  # reads to whole steps of so many months; None: to the atlas's plates


# A: as in the public RSNA films (Halabi 2019; aspect, hand size and spacing measured on 327 of them by Koitka et al.;
# spacing x 3.3, because these films are smaller). B: another scanner, wider frames, a reader who reads half-years
# and a little old.
SITES = {
    "A": Site({"plain": 0.73, "flat": 0.13, "levelled": 0.14}, (0.79, 0.10), (0.355, 0.036), 0.27, (0.36, 0.60),
              (0.60, 0.74), (15_000, 90_000), 0.16, 0.82, 0.92, 0.13, 0.15, 0.0, None),
    "B": Site({"plain": 0.25, "flat": 0.05, "levelled": 0.70}, (0.95, 0.12), (0.29, 0.03), 0.9, (0.40, 0.62),
              (0.60, 0.74), (4_000, 15_000), 0.30, 0.70, 0.97, 0.60, 0.05, 4.0, 6),
}  # fmt: skip


@dataclass(frozen=True)
class Nuisances:
    """Everything about a film that says nothing about maturity; the defaults are a neutral film.

    aspect: width / height. hand_scale: |radius -> MCP3| over the image height. mm_per_px: pixel spacing, when the
    height is left to it. turn_deg: clockwise turn of the hand. centre_x, centre_y: MCP3 as a share of width and height.
    photons: quanta per mm2 in the open field. scatter: scatter over primary. heel: relative fall of the beam from top
    to bottom. psf_mm: blur (SD). background, contrast: grey of air and how much whiter the densest bone is (0-255).
    gamma: display curve. local: share of the coarse brightness levelled out. sharpening: how much of the finest detail
    is added again. collimated: 0 no, else the shutter's grey (1 black, 2 grey, 3 white). field_turn_deg, field_margin:
    its turn and how far it stays from the hand (share of the height). edges: white plate edges, bits left, right, top,
    bottom. marker: letter beside the hand; x, y (share of width and height, where it would like to lie), size (share of
    the height) and turn of it; initials: how many more letters. right_hand: the other hand. flipped: film turned over,
    thumb on the left. quarter_turns: of the whole film. inverted: bone black on white. fat: fat layer over the usual.
    mineral: how much more than soft tissue bone attenuates, over the usual. pose: degrees per joint.
    """

    aspect: float = 0.78
    hand_scale: float = 0.35
    mm_per_px: float = 0.66
    turn_deg: float = 0.0
    centre_x: float = 0.49
    centre_y: float = 0.45
    photons: float = 60_000.0
    scatter: float = 0.12
    heel: float = 0.05
    psf_mm: float = 0.16
    background: float = 6.0
    contrast: float = 190.0
    gamma: float = 0.9
    local: float = 0.15
    sharpening: float = 0.15
    collimated: int = 0
    field_turn_deg: float = 0.0
    field_margin: float = 0.05
    edges: int = 0
    marker: bool = False
    marker_x: float = 0.13
    marker_y: float = 0.7
    marker_size: float = 0.06
    marker_turn_deg: float = 0.0
    marker_initials: int = 2
    right_hand: bool = False
    flipped: bool = False
    quarter_turns: int = 0
    inverted: bool = False
    cast: bool = False
    ring: bool = False
    fat: float = 1.0
    mineral: float = 1.0
    pose: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def draw(rng: np.random.Generator, age_months: float, site: str = "A") -> Nuisances:
        """Nuisances of one film at a site; age only decides how well a hand was held still."""
        s = SITES[site]
        toddler = age_months < TODDLER_MONTHS
        style = STYLES[str(rng.choice(list(s.styles), p=list(s.styles.values())))]
        aspect = float(np.clip(rng.normal(*s.aspect), 0.58, 1.25))
        fan = float(rng.normal(-2.2, 0.5) if rng.random() < FIST_RATE else rng.normal())
        collimated = int(rng.choice([1, 2, 3], p=[0.85, 0.11, 0.04])) if rng.random() < s.collimated else 0
        # independent of the child's size, so that pixels say little about mm
        scale = float(np.clip(rng.normal(*s.hand_scale), 0.24, min(0.42, 0.48 * aspect)))
        spacing = rng.uniform(*(s.fine_mm if rng.random() < s.fine_scanner else s.coarse_mm))
        wild = 1.6 if toddler else 1.0
        return Nuisances(
            aspect=aspect,
            hand_scale=scale * (0.82 if collimated else 1.0),
            mm_per_px=float(spacing),
            turn_deg=float(np.clip(rng.normal(-3.0, HAND_TURN_SD[not toddler]), -45.0, 45.0)),
            centre_x=float(rng.normal(0.49, 0.03)),
            centre_y=float(rng.normal(0.435, 0.035)),
            photons=float(np.exp(rng.uniform(*np.log(s.photons)))),
            scatter=float(rng.uniform(0.05, 0.25)),
            heel=float(rng.uniform(0.0, 0.12)),
            psf_mm=float(s.psf_mm * np.exp(rng.normal(0.0, 0.25))),
            background=float(np.clip(rng.normal(*style.background), 0.0, 110.0)),
            contrast=float(np.clip(rng.normal(*style.contrast), 12.0, 235.0)),
            gamma=float(s.gamma * np.exp(rng.normal(0.0, 0.12))),
            local=float(rng.uniform(*style.local)),
            sharpening=float(rng.uniform(0.0, 0.8)),
            collimated=collimated,
            field_turn_deg=float(rng.normal(0.0, 9.0)),
            field_margin=float(rng.uniform(0.01, 0.07)),
            edges=int(rng.integers(1, 16)) if rng.random() < s.plate_edge else 0,
            marker=bool(rng.random() < s.marker),
            marker_x=float(rng.uniform(0.05, 0.2) if rng.random() < 0.87 else rng.uniform(0.8, 0.95)),
            marker_y=float(rng.uniform(0.06, 0.25) if rng.random() < 0.2 else rng.uniform(0.45, 0.92)),
            marker_size=float(np.clip(rng.normal(0.060, 0.012), 0.03, 0.09)),
            marker_turn_deg=float(rng.normal(0.0, 10.0) + 90 * rng.choice([0, 1, 2, 3], p=[0.82, 0.06, 0.06, 0.06])),
            marker_initials=int(rng.integers(0, 4)),
            right_hand=bool(rng.random() < RIGHT_HAND_RATE),
            flipped=bool(rng.random() < FLIP_RATE),
            quarter_turns=int(rng.integers(1, 4)) if rng.random() < QUARTER_TURN_RATE else 0,
            inverted=bool(rng.random() < INVERTED_RATE),
            cast=bool(rng.random() < CAST_RATE),
            ring=bool(rng.random() < RING_RATE),
            fat=float(np.exp(rng.normal(0.0, 0.4))),
            mineral=float(np.exp(rng.normal(0.0, 0.15))),
            pose={n: float(POSE_MEAN.get(n, 0.0) + share * fan + sd * wild * rng.normal())
                  for n, (share, sd) in POSE.items()},
        )
