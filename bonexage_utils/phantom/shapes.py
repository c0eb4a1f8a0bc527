"""Outlines: every bone is one or a few solids, each given by its slices across an axis.

A shaft is sliced across the bone, an epiphysis lengthwise, because it is a plate as wide as the bone: so its horns,
its sloping joint surface and its styloid are all simple edges. A carpal is sliced across the hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bonexage_utils.phantom import anatomy
from bonexage_utils.phantom.maturity import Centre
from bonexage_utils.phantom.skeleton import Bone, Child

SAMPLES = 97  # slices of one solid
FLATTENING = 0.85  # front-to-back over side-to-side extent of a shaft
SHAFT_MARROW_SPONGIOSA = 0.12  # the shaft's cavity is nearly all marrow
END_SPONGIOSA = 0.75  # and its ends are not all bone
END_PLATE = 2.6  # zone of provisional calcification: spongiosa this much denser ...
END_PLATE_MM = 0.6  # ... over this depth at a metaphysis
LARGEST_GAP = 0.055  # growth plate over bone length: the tabled gap would swallow a toddler's middle phalanx


@dataclass(frozen=True)
class Solid:
    """One ossified piece. Arrays have shape (SAMPLES,) and run from `origin` over `length` mm along `axis`.

    `middle` is where the slice's middle lies across the axis (mm, towards the axis turned clockwise), `half` its
    half-width, `depth` its extent along the beam, `shell` the cortex around its cavity (mm), `spongiosa` the share of
    the cavity that is spongy bone and not marrow (above 1: dense). `power` shapes the slice: |s|^power + t^2 = 1,
    so 2 would be an ellipse and more is boxier. `name` is "bone_X" or "centre_X".
    """

    name: str
    origin: np.ndarray
    axis: np.ndarray
    length: float
    middle: np.ndarray
    half: np.ndarray
    depth: np.ndarray
    shell: np.ndarray
    spongiosa: np.ndarray
    power: float = 3.0

    @property
    def side(self) -> np.ndarray:
        """The direction in which `middle` counts: `axis` turned clockwise, shape (2,)."""
        return self.axis[::-1] * [1, -1]


def _rounded(distance: np.ndarray, reach: float) -> np.ndarray:
    """Factor 0-1 that rounds an end off: a quarter ellipse over `reach` mm, 0 beyond the end."""
    s = np.clip(distance / max(reach, 1e-6), 0.0, 1.0)
    return np.sqrt(s * (2 - s))


def _shaft(bone: Bone, centre: Centre) -> Solid:
    """Diaphysis with its flared ends, up to the growth plate."""
    base, waist, head = (w / 2 for w in bone.widths)
    open_end = bone.epiphysis_mm + min(centre.gap_mm, LARGEST_GAP * bone.length)
    start, end = (open_end, bone.length) if bone.epiphysis == "base" else (0.0, bone.length - open_end)
    u = np.linspace(start, end, SAMPLES)
    t, from_start, from_end = (u - start) / (end - start), u - start, end - u
    middle = np.zeros(SAMPLES)
    # the sharp edge of a metaphysis; under a head not yet there it is round
    corner = 0.09 * (1 - 0.8 * centre.fusion) + 0.5 * (bone.name[:2] == "MC") * max(0.0, 0.5 - centre.emr)
    if bone.kind == "forearm":
        half = waist + (head - waist) * np.clip(1 - from_end / (1.9 * bone.widths[2]), 0, None) ** 2.8
        half = half * _rounded(from_end + 0.04 * head, corner * head)
        middle = (0.09 if bone.name == "radius" else -0.05) * waist * np.clip(from_end / bone.widths[2], 0, 3) ** 2
    elif bone.kind == "distal":
        tuft = np.exp(-(((t - 0.88) / 0.13) ** 2))
        half = waist + (base - waist) * np.clip(1 - t / 0.5, 0, None) ** 1.5 + (head - waist) * tuft
        half = half * _rounded(from_start, corner * base) * _rounded(from_end, 1.1 * head)
    elif bone.epiphysis == "head":
        half = waist + (base - waist) * np.clip(1 - t / 0.45, 0, None) ** 1.9
        half = half + (0.94 * head - waist) * np.clip(1 - (1 - t) / 0.42, 0, None) ** 2.2
        blunt = (1.0 - 0.7 * min(centre.emr, 1.0)) * base  # a toddler's metacarpal begins round, a grown one square
        half = half * _rounded(from_start, blunt) * _rounded(from_end, corner * head)
    else:
        half = waist + (base - waist) * np.clip(1 - t / 0.55, 0, None) ** 1.8
        half = half + (head - waist) * np.clip(1 - (1 - t) / 0.28, 0, None) ** 1.2
        half = half * _rounded(from_start, corner * base) * _rounded(from_end, 0.55 * head)
    if bone.name in ("MC2", "MC5"):  # bases cut aslant: the notch for the trapezoid, the slope of the fifth
        slope = 0.55 * base * (centre.detail if bone.name == "MC2" else 0.6 * min(centre.emr, 1))
        low, high = -half, np.minimum(half, -half + 2 * half * np.clip(0.45 + from_start / max(slope, 1e-3), 0, 1))
        sign = 1.0 if bone.name == "MC2" else -1.0
        middle, half = sign * (low + high) / 2, (high - low) / 2
    inland = np.minimum(from_start, from_end) / (end - start) * 2
    if bone.kind == "forearm":
        inland = np.clip(from_end / (2.2 * bone.widths[2]), 0, 1)
    shell = bone.shell_mm + np.clip(bone.cortex_mm - bone.shell_mm, 0, None) * np.clip(1.6 * inland - 0.15, 0, 1)
    marrow = END_SPONGIOSA - (END_SPONGIOSA - SHAFT_MARROW_SPONGIOSA) * np.clip(1.7 * inland - 0.35, 0, 1)
    to_plate = from_start if bone.epiphysis == "base" else from_end
    line = (END_PLATE - 1) * (0.5 * centre.scar if centre.fusion == 1 else 1.0) * (to_plate < END_PLATE_MM)
    depth = 2 * FLATTENING * half**0.7 * min(waist, half.max()) ** 0.3  # ends flare less front to back
    return Solid(f"bone_{bone.name}", bone.origin + start * bone.direction, bone.direction, end - start, middle, half,
                 depth, shell, marrow + line)  # fmt: skip


def _mature_plate(bone: Bone, centre: Centre, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the grown epiphysis over its thickness at x (-1 to 1): towards the growth plate, towards the joint."""
    near = np.zeros_like(x)
    if bone.name == "radius":
        far = 0.66 + 0.22 * x + 0.30 * centre.detail * np.exp(-(((x - 0.75) / 0.35) ** 2))
        near = -0.06 * (1 - x * x)
    elif bone.name == "ulna":
        far = 0.72 + 0.12 * x * x + 0.75 * centre.detail * np.exp(-(((x + 0.68) / 0.24) ** 2))
    elif bone.epiphysis == "head":
        far = 0.34 + 0.66 * np.sqrt(1 - (0.94 * x) ** 2)
    elif bone.name == "MC1":
        far = 0.84 - 0.16 * x + 0.1 * x * x
    else:
        far = 0.90 + 0.10 * x * x  # a shallow cup for the head it meets
    near = near - (centre.fusion == 1) * (0.03 + 0.06 * centre.scar)  # shaft and epiphysis overlap in the scar
    horn = 0.42 * centre.cap * (1 - 0.7 * centre.fusion)
    return near - horn * np.clip((np.abs(x) - 0.8) / 0.2, 0, 1), far


def _epiphysis(bone: Bone, centre: Centre) -> Solid:
    """The epiphysis: a round nodule in its cartilage first, then a disc, then a plate with its own shape."""
    metaphysis = bone.widths[2 if bone.epiphysis == "head" else 0] / 2 * (0.94 if bone.name[:2] == "MC" else 1.0)
    reach = metaphysis * (centre.emr - 0.06 * centre.fusion)
    x = np.linspace(-1.0, 1.0, SAMPLES)
    grown = float(np.clip((centre.emr - 0.3) / 0.5, 0, 1))
    thick = min(bone.epiphysis_mm, 1.6 * reach)
    near, far = _mature_plate(bone, centre, x)
    # ends rounded to the middle; after fusion the edge towards the shaft stays square
    waist = 0.45
    edge = (1 - np.abs(x) ** (4 + 6 * grown)) ** 0.3
    near = near * edge + waist * (1 - edge) * (1 - centre.fusion)
    far = waist + (far - waist) * edge
    nodule = 0.5 * np.sqrt(1 - x * x)
    near, far = grown * near + (1 - grown) * (0.5 - nodule), grown * far + (1 - grown) * (0.5 + nodule)
    lift = (1 - grown) * 0.5 * (bone.epiphysis_mm - thick)
    sideways = 0.25 * (1 - grown) * metaphysis if bone.name == "radius" else 0.0  # its nodule comes on the thumb's side
    near, far = lift + near * thick, lift + far * thick  # mm from the growth plate, towards the joint
    outwards = bone.direction * (1 if bone.epiphysis == "head" else -1)
    plate = bone.origin + bone.direction * (
        bone.length - bone.epiphysis_mm if bone.epiphysis == "head" else bone.epiphysis_mm
    )
    axis = bone.side
    sign = float(np.sign(np.dot(axis[::-1] * [1, -1], outwards)))
    depth = 1.5 * FLATTENING * min(reach, metaphysis) * np.sqrt(np.clip(1 - np.abs(x) ** 5, 0, 1))
    closed = centre.fusion == 1
    return Solid(f"centre_{bone.name}", plate + axis * (sideways - reach), axis, 2 * reach, sign * (near + far) / 2,
                 np.maximum(far - near, 0) / 2, depth, np.full(SAMPLES, bone.shell_mm * (0.55 if closed else 1.0)),
                 np.full(SAMPLES, 0.8), power=4.0)  # fmt: skip


def _bridge(bone: Bone, centre: Centre) -> Solid | None:
    """New bone across a closing growth plate, spreading from the middle."""
    gap = min(centre.gap_mm, LARGEST_GAP * bone.length)
    if not 0 < centre.fusion < 1 or gap < 0.02:
        return None
    half = np.full(SAMPLES, centre.fusion * bone.widths[2 if bone.epiphysis == "head" else 0] / 2)
    start = bone.length - bone.epiphysis_mm - gap if bone.epiphysis == "head" else bone.epiphysis_mm
    return Solid(f"centre_{bone.name}", bone.origin + start * bone.direction, bone.direction, gap, np.zeros(SAMPLES),
                 half, 2 * FLATTENING * half, np.full(SAMPLES, 0.1), np.full(SAMPLES, 1.2))  # fmt: skip


@lru_cache(maxsize=16)
def _outline(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Adult outline of a carpal with its corners worn off, and its round beginning: both (N, 2), mm, same angles."""
    points = np.array(anatomy.ROUND_BONES[name])
    for _ in range(2):  # Chaikin's corner cutting
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.82 * points + 0.18 * following, 0.18 * points + 0.82 * following], 1).reshape(-1, 2)
    angles = np.linspace(-np.pi, np.pi, 73)[:-1]
    order = np.argsort(np.arctan2(points[:, 1], points[:, 0]))
    theta, radius = np.arctan2(*points[order].T[::-1]), np.hypot(*points[order].T)
    adult = np.interp(angles, theta, radius, period=2 * np.pi)
    # a round centre keeps a hint of its later length
    cover = np.array([[np.cos(a), np.sin(a)] for a in angles])
    spread = np.linalg.eigh(np.cov((adult[:, None] * cover).T))
    axes = np.sqrt(2 * spread.eigenvalues) * [0.93, 0.74]
    along = cover @ spread.eigenvectors
    young = 1 / np.hypot(along[:, 0] / axes[0], along[:, 1] / axes[1])
    return adult[:, None] * cover, young[:, None] * cover


def _sliced(name: str, centre_mm: np.ndarray, points: np.ndarray, depth: float, shell: float,
            spongiosa: float) -> Solid:  # fmt: skip
    """A solid sliced along +y from an outline (N, 2) in mm around `centre_mm`."""
    low, high = points[:, 1].min(), points[:, 1].max()
    y = np.linspace(low, high, SAMPLES)
    start = int(points[:, 1].argmin())
    ring = np.roll(points, -start, axis=0)
    top = int(ring[:, 1].argmax())
    edges = []
    for chain in (ring[: top + 1], np.vstack([ring[top:], ring[:1]])[::-1]):
        edges.append(np.interp(y, np.maximum.accumulate(chain[:, 1]) + np.arange(len(chain)) * 1e-9, chain[:, 0]))
    left, right = np.minimum(*edges), np.maximum(*edges)
    profile = np.sqrt(np.clip(1 - np.abs(2 * (y - low) / (high - low) - 1) ** 3, 0, 1))
    up = np.array([0.0, 1.0])
    return Solid(name, centre_mm + up * low, up, high - low, (left + right) / 2, (right - left) / 2,
                 depth * profile, np.full(SAMPLES, shell), np.full(SAMPLES, spongiosa), power=4.0)  # fmt: skip


def _round(bone: Bone, centre: Centre) -> list[Solid]:
    """A carpal or the sesamoid, and on a grown hamate the ring of its hook seen end on."""
    adult, young = _outline(bone.name)
    faceted = centre.detail if bone.name not in ("pisiform", "sesamoid") else 0.0
    size = bone.length / np.ptp(np.array(anatomy.ROUND_BONES[bone.name])[:, 1]) * centre.emr
    points = size * (faceted * adult + (1 - faceted) * young)
    turn = np.stack([bone.side, bone.direction])  # thumb's sesamoid turns with it
    points = points @ turn if bone.name == "sesamoid" else points
    middle = bone.origin + bone.direction * bone.length / 2
    width = float(np.ptp(points[:, 0]))
    solids = [_sliced(f"centre_{bone.name}", middle, points, 0.75 * width, bone.shell_mm, 0.75)]
    hook = float(np.clip((centre.detail - 0.6) / 0.3, 0, 1)) if bone.name == "hamate" else 0.0  # M 132-168, F 114-145
    if hook:
        ring = np.array([[np.cos(a), 1.25 * np.sin(a)] for a in np.linspace(0, 2 * np.pi, 24, endpoint=False)])
        place = middle + np.array([-0.5, 2.0]) * size
        solids.append(_sliced("centre_hamate", place, 2.6 * size * ring, 4.0 * hook * size, 0.8 * size, 0.1))
    return solids


def solids(child: Child) -> list[Solid]:
    """All that is ossified in `child`'s hand."""
    centres = {centre.name: centre for centre in child.centres}
    found: list[Solid | None] = []
    for bone in child.bones:
        centre = centres[bone.name]
        if bone.kind == "round":
            found += _round(bone, centre) if centre.present else []
            continue
        found.append(_shaft(bone, centre))
        if centre.present:
            found += [_epiphysis(bone, centre), _bridge(bone, centre)]
    return [solid for solid in found if solid is not None]
