"""Take the film: thickness maps of tissue, Beer-Lambert at 33 keV, scatter, quantum noise, blur, display curve."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import cv2
import numpy as np

from bonexage_utils.errors import BoneXageError
from bonexage_utils.phantom import anatomy
from bonexage_utils.phantom.shapes import STEP_MM, profile
from bonexage_utils.phantom.skeleton import Bone, Child

OVERSAMPLE = 2  # bones are drawn this much finer than the film, so that a 1 mm growth plate survives
FLATTENING = 0.85  # front-to-back over side-to-side extent of a bone
SCATTER_SIGMA_MM = 20.0
PSF_SIGMA_MM = 0.12  # detector and scanner, FWHM 0.28 mm
TRABECULAR_CONTRAST = 0.13  # relative scatter of spongiosa thickness
HAND_TURN_SD = (15.0, 7.5)  # degrees, below 60 months and above: toddlers do not hold still
FLIP_RATE = 0.03

# joints that pose turns, with (share of the fan, own SD) in degrees
POSE = {
    "MC1": (5.0, 3.0), "PP1": (3.0, 4.0), "DP1": (0.0, 4.0), "PP2": (3.5, 2.0), "PP3": (0.5, 2.0),
    "PP4": (-3.0, 2.0), "PP5": (-6.0, 3.0), "MP2": (0.0, 3.0), "MP3": (0.0, 3.0), "MP4": (0.0, 3.0),
    "MP5": (0.0, 3.0), "DP2": (0.0, 2.0), "DP3": (0.0, 2.0), "DP4": (0.0, 2.0), "DP5": (0.0, 2.0),
}  # fmt: skip


@dataclass(frozen=True)
class Nuisances:
    """Everything about a film that says nothing about maturity; the defaults are a neutral film.

    aspect: width / height. hand_scale: |radius -> MCP3| over the image height. turn_deg: clockwise turn of the
    hand. centre_x, centre_y: MCP3 as a share of width and height. photons: quanta per mm2 in the open field.
    scatter: scatter over primary. heel: relative fall of the beam from top to bottom. black, white, gamma: display
    window (relative to the film's own range) and curve. flipped: thumb on the left. pose: degrees per joint.
    """

    aspect: float = 0.78
    hand_scale: float = 0.35
    turn_deg: float = 0.0
    centre_x: float = 0.49
    centre_y: float = 0.45
    photons: float = 40_000.0
    scatter: float = 0.12
    heel: float = 0.05
    black: float = -0.04
    white: float = 1.05
    gamma: float = 1.0
    flipped: bool = False
    pose: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def draw(rng: np.random.Generator, age_months: float) -> Nuisances:
        """Nuisances of one film, spread as in 327 annotated public films; age only widens the turn of the hand."""
        aspect = float(np.clip(rng.normal(0.80, 0.09), 0.62, 1.0))
        fan = rng.normal()
        return Nuisances(
            aspect=aspect,
            # independent of the child's size, so that pixels say little about mm
            hand_scale=float(np.clip(rng.normal(0.345, 0.04), 0.26, min(0.42, 0.5 * aspect))),
            turn_deg=float(np.clip(rng.normal(-3.0, HAND_TURN_SD[age_months >= 60]), -30.0, 30.0)),
            centre_x=float(rng.normal(0.49, 0.03)),
            centre_y=float(rng.normal(0.45, 0.03)),
            photons=float(np.exp(rng.uniform(np.log(20_000), np.log(100_000)))),
            scatter=float(rng.uniform(0.05, 0.25)),
            heel=float(rng.uniform(0.0, 0.12)),
            black=float(rng.uniform(-0.25, 0.05)),
            white=float(rng.uniform(0.95, 1.35)),
            gamma=float(np.exp(rng.normal(0.0, 0.2))),
            flipped=bool(rng.random() < FLIP_RATE),
            pose={name: float(share * fan + sd * rng.normal()) for name, (share, sd) in POSE.items()},
        )


@dataclass(frozen=True)
class _Frame:
    """Where the hand frame (mm) falls on a canvas of `shape` (height, width) at `scale` px per mm."""

    shape: tuple[int, int]
    scale: float
    matrix: np.ndarray  # (2, 2): mm to px, y pointing down
    offset: np.ndarray  # (2,): px of the hand frame's origin

    def px(self, mm: np.ndarray) -> np.ndarray:
        """Pixel positions, shape (N, 2), of hand-frame points, shape (N, 2)."""
        return np.atleast_2d(mm) @ self.matrix.T + self.offset


def _frame(child: Child, n: Nuisances, height: int) -> _Frame:
    width = round(height * n.aspect)
    scale = n.hand_scale * height / child.unit_mm
    c, s = np.cos(np.radians(n.turn_deg)), np.sin(np.radians(n.turn_deg))
    matrix = scale * np.array([[c, s], [s, -c]])
    aim = np.array([n.centre_x * width, n.centre_y * height])
    offset = aim - matrix @ np.array([0.0, child.unit_mm])
    # the radiographer keeps the fingertips on the film: push the hand in where they would leave it
    tips = np.array([bone.end for bone in child.bones if bone.kind == "distal"]) @ matrix.T + offset
    margin = 0.04 * height
    low, high = tips.min(axis=0) - margin, tips.max(axis=0) + margin - np.array([width, height])
    push = np.where(low < 0, -low, np.where(high > 0, -high, 0.0))
    return _Frame((height, width), scale, matrix, offset + push)


def _draw_bones(child: Child, frame: _Frame) -> tuple[np.ndarray, np.ndarray]:
    """Thickness (mm) of cortex and of spongiosa along the beam, each float32 of the canvas's shape."""
    cortex, spongy = np.zeros(frame.shape, np.float32), np.zeros(frame.shape, np.float32)
    centres = {centre.name: centre for centre in child.centres}
    back = np.linalg.inv(frame.matrix).astype(np.float32)
    for bone in child.bones:
        centre = centres.get(bone.name)
        if bone.kind == "round" and not centre.present:
            continue
        shape = profile(bone, centre)
        reach = float(shape.outer.max()) * frame.scale + 2
        ends = frame.px(np.array([bone.origin, bone.end]))
        x0, y0 = np.maximum(np.floor(ends.min(axis=0) - reach), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(ends.max(axis=0) + reach), (frame.shape[1], frame.shape[0])).astype(int)
        if x0 >= x1 or y0 >= y1:
            continue
        dx = (np.arange(x0, x1, dtype=np.float32) + 0.5 - np.float32(ends[0, 0]))[None, :]
        dy = (np.arange(y0, y1, dtype=np.float32) + 0.5 - np.float32(ends[0, 1]))[:, None]
        axis, side = bone.direction.astype(np.float32), bone.direction[::-1].astype(np.float32) * [1, -1]
        along = (axis @ back[:, 0]) * dx + (axis @ back[:, 1]) * dy
        across = np.square((side @ back[:, 0]) * dx + (side @ back[:, 1]) * dy, dtype=np.float32)
        index = np.rint(along / STEP_MM).astype(np.int32)
        outside = (index < 0) | (index >= len(shape.outer))
        index[outside] = 0
        across[outside] = np.inf
        solid = np.sqrt(np.maximum(np.square(shape.outer)[index] - across, 0))
        cavity = np.sqrt(np.maximum(np.square(shape.inner)[index] - across, 0))
        cortex[y0:y1, x0:x1] += 2 * FLATTENING * (solid - cavity)
        spongy[y0:y1, x0:x1] += 2 * FLATTENING * cavity * shape.spongiosa[index]
    return cortex, spongy


def _capsule(mask: np.ndarray, ends: np.ndarray, radii: tuple[float, float]) -> None:
    """Fill a tapered capsule between two pixel points."""
    along = ends[1] - ends[0]
    normal = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-6)
    corners = [ends[0] + normal * radii[0], ends[1] + normal * radii[1], ends[1] - normal * radii[1],
               ends[0] - normal * radii[0]]  # fmt: skip
    cv2.fillPoly(mask, [np.rint(np.array(corners)).astype(np.int32)], 255)
    for point, radius in zip(ends, radii, strict=True):
        cv2.circle(mask, tuple(int(v) for v in np.rint(point)), max(1, round(radius)), 255, -1)


def _soft_tissue(child: Child, frame: _Frame) -> np.ndarray:
    """Thickness (mm) of the whole limb along the beam, float32 of the canvas's shape."""
    years, unit = child.chronological_age_months / 12, child.unit_mm
    mm = {k: float(np.interp(years, anatomy.SOFT_AGE_YEARS, v)) * child.size_factor
          for k, v in anatomy.SOFT_THICKNESS_MM.items()}  # fmt: skip
    bones: dict[str, Bone] = {bone.name: bone for bone in child.bones}
    mask = np.zeros(frame.shape, np.uint8)

    def along(name: str, share: float) -> np.ndarray:
        return bones[name].origin + share * bones[name].length * bones[name].direction

    def fill(points: list[np.ndarray]) -> None:
        cv2.fillPoly(mask, [np.rint(frame.px(np.array(points))).astype(np.int32)], 255)

    for bone in child.bones:
        if bone.kind not in ("long", "distal"):
            continue
        base, head = (max(w / 2, 0.42 * bone.widths[0]) + mm["margin"] for w in bone.widths[::2])
        grown = 1.6 if bone.name.startswith("MC") else 1.0
        tip = bone.end + bone.direction * (mm["margin"] * 0.2 - head * 0.4 if bone.kind == "distal" else 0.0)
        _capsule(
            mask, frame.px(np.array([bone.origin, tip])), (base * grown * frame.scale, head * frame.scale * grown)
        )
    webs = [along(f"PP{ray}", 0.42) for ray in range(2, 6)]
    fill([*webs, along("MC5", 0.0), along("MC2", 0.0)])
    fill([along("MC1", 0.0), along("MC1", 1.0), along("MC2", 0.75), along("MC2", 0.0)])
    skin = 1.4 * mm["margin"]
    wrist = [
        [bones["radius"].widths[2] / 2 + skin, 0.0],
        [0.145 * unit + skin, -unit],
        [0.14 * unit + skin, -2 * unit],
    ]
    ulnar = bones["ulna"].end[0]
    other = [[ulnar - bones["ulna"].widths[2] / 2 - skin, 0.0], [ulnar - 0.06 * unit - skin, -unit],
             [ulnar - 0.06 * unit - skin, -2 * unit]]  # fmt: skip
    fill([np.array(p) for p in [*wrist, *other[::-1]]])
    fill([np.array(wrist[0]), along("MC1", 0.1), along("MC2", 0.2), along("MC5", 0.2), np.array(other[0])])
    # closing rounds the corners where capsules meet, as webs and skin folds do
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(0.035 * unit * frame.scale) + 1,) * 2)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
    # the limb goes on below the film: without the pad the forearm would thin out towards the edge
    pad = mask.shape[0] // 4
    depth = cv2.distanceTransform(cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_REPLICATE), cv2.DIST_L2, 5)
    depth = np.minimum(depth[pad:-pad, pad:-pad] / frame.scale, 40.0)
    back = np.linalg.inv(frame.matrix)
    ys, xs = np.mgrid[: frame.shape[0], : frame.shape[1]].astype(np.float32)
    xs, ys = xs + 0.5 - frame.offset[0], ys + 0.5 - frame.offset[1]
    x, y = (back[0, 0] * xs + back[0, 1] * ys) / unit, (back[1, 0] * xs + back[1, 1] * ys) / unit
    radius = np.interp(y, [0.0, 0.4, 0.9, 1.25], np.array([mm["wrist"], mm["palm"], mm["palm"], mm["finger"]]) / 2)
    thumb = np.interp(x, [0.25, 0.5], [1e3, mm["finger"] / 2 * 1.15])
    radius = np.minimum(radius, np.where(y > 0.3, thumb, 1e3)).astype(np.float32)
    depth = np.minimum(depth, radius)
    thickness = 2 * np.sqrt(depth * (2 * radius - depth)).astype(np.float32)
    return cv2.GaussianBlur(thickness, (0, 0), 0.012 * unit * frame.scale)


def _expose(cortex: np.ndarray, spongy: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Transmitted share of the beam (0-1) through thickness maps in mm; bone replaces soft tissue."""
    mu = {k: v / 10 for k, v in anatomy.MU_PER_CM_33KEV.items()}
    paths = mu["soft"] * soft + (mu["cortical"] - mu["soft"]) * cortex + (mu["spongiosa"] - mu["soft"]) * spongy
    return np.exp(-paths)


def _blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Gaussian blur; a wide one is done on a thumbnail, where it costs nothing and looks the same."""
    if sigma_px < 8:
        return cv2.GaussianBlur(image, (0, 0), max(sigma_px, 0.15), borderType=cv2.BORDER_REPLICATE)
    small = cv2.resize(image, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma_px / 8, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)


def render(
    child: Child, rng: np.random.Generator, height_px: int = 400, nuisances: Nuisances | None = None
) -> tuple[np.ndarray, dict[str, float | bool]]:
    """Radiograph of one hand.

    Args:
        child: from `grow`.
        rng: draws the nuisances (when not given), the trabecular texture and the quantum noise.
        height_px: image height, 64 px or more; the width follows from the aspect (0.62 to 1.0).
        nuisances: what to hold fixed; `Nuisances()` is a neutral film, None draws them.

    Returns:
        The image, uint8 of shape (height_px, W), bone white on black; and the flat dict of nuisances, with joint
        turns as `pose_PP2` (degrees) and `mm_per_px`.

    Raises:
        BoneXageError: when `height_px` is below 64.
    """
    if height_px < 64:
        raise BoneXageError(f"phantom: image height is {height_px} px, expected at least 64")
    n = nuisances or Nuisances.draw(rng, child.chronological_age_months)
    posed = child.posed(n.pose)
    film = _frame(posed, n, height_px)
    fine = _Frame((film.shape[0] * OVERSAMPLE, film.shape[1] * OVERSAMPLE), film.scale * OVERSAMPLE,
                  film.matrix * OVERSAMPLE, film.offset * OVERSAMPLE)  # fmt: skip
    cortex, spongy = _draw_bones(posed, fine)
    grain = cv2.GaussianBlur(rng.standard_normal(film.shape, dtype=np.float32), (0, 0), max(0.5, 0.35 * film.scale))
    grain *= TRABECULAR_CONTRAST / max(float(grain.std()), 1e-6)
    size = fine.shape[::-1]
    spongy *= cv2.resize(1 + grain, size, interpolation=cv2.INTER_LINEAR)
    soft = cv2.resize(_soft_tissue(posed, film), size, interpolation=cv2.INTER_LINEAR)
    primary = cv2.resize(_expose(cortex, spongy, soft), film.shape[::-1], interpolation=cv2.INTER_AREA)
    beam = np.linspace(1 + n.heel / 2, 1 - n.heel / 2, height_px, dtype=np.float32)[:, None]
    signal = beam * (primary + n.scatter * _blur(primary, SCATTER_SIGMA_MM * film.scale))
    quanta = n.photons / film.scale**2
    counts = rng.poisson(signal * quanta).astype(np.float32)
    signal = _blur(counts / np.float32(quanta), PSF_SIGMA_MM * film.scale)
    density = -np.log(np.maximum(signal, 1e-4))
    low, high = np.percentile(density[::3, ::3], [1.0, 99.5])
    window = (density - low) / max(high - low, 1e-3)
    value = np.clip((window - n.black) / (n.white - n.black), 0, 1) ** n.gamma
    image = np.rint(255 * value).astype(np.uint8)
    if n.flipped:
        image = np.ascontiguousarray(image[:, ::-1])
    flat = {k: v for k, v in asdict(n).items() if k != "pose"} | {"mm_per_px": 1 / film.scale}
    return image, flat | {f"pose_{name}": n.pose.get(name, 0.0) for name in POSE}
