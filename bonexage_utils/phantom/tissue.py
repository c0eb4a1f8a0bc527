"""Thickness of every tissue along the beam, in mm, where the hand lies on the film."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bonexage_utils.phantom import anatomy
from bonexage_utils.phantom.nuisances import Nuisances
from bonexage_utils.phantom.shapes import Solid, solids
from bonexage_utils.phantom.skeleton import Bone, Child

TRABECULAR_CONTRAST = 0.36  # relative scatter of spongiosa thickness
TRABECULA_MM = (1.1, 0.28)  # blur (SD) of the texture's streaks along and across a bone
TILE_MM = 0.18
FAT_MM = (1.6, 1.1)  # under the skin, toddler and adult


@dataclass(frozen=True)
class Frame:
    """Where the hand frame (mm) falls on a canvas of `shape` (height, width) at `scale` px per mm."""

    shape: tuple[int, int]
    scale: float
    matrix: np.ndarray  # (2, 2): mm to px, y pointing down
    offset: np.ndarray  # (2,): px of the hand frame's origin

    @staticmethod
    def of(child: Child, n: Nuisances, height: int) -> Frame:
        """The frame of one film, pushed so that no fingertip leaves it, as the radiographer would."""
        width = round(height * n.aspect)
        scale = n.hand_scale * height / child.unit_mm
        c, s = np.cos(np.radians(n.turn_deg)), np.sin(np.radians(n.turn_deg))
        matrix = scale * np.array([[c, s], [s, -c]])
        offset = np.array([n.centre_x * width, n.centre_y * height]) - matrix @ np.array([0.0, child.unit_mm])
        tips = np.array([bone.end for bone in child.bones if bone.kind == "distal"]) @ matrix.T + offset
        margin = 0.035 * height
        low, high = tips.min(axis=0) - margin, tips.max(axis=0) + margin - np.array([width, height])
        push = np.where(low < 0, -low, np.where(high > 0, -high, 0.0))
        offset = offset + push
        if n.right_hand:  # the mirror image, before a marker is laid beside it
            matrix, offset = matrix * [[-1], [1]], np.array([width - offset[0], offset[1]])
        return Frame((height, width), scale, matrix, offset)

    def times(self, factor: int) -> Frame:
        """The same on a canvas `factor` times as fine."""
        return Frame((self.shape[0] * factor, self.shape[1] * factor), self.scale * factor, self.matrix * factor,
                     self.offset * factor)  # fmt: skip

    def px(self, mm: np.ndarray) -> np.ndarray:
        """Pixel positions, shape (N, 2), of hand-frame points, shape (N, 2)."""
        return np.atleast_2d(mm) @ self.matrix.T + self.offset


def _patch(solid: Solid, step: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Thickness (mm) of `solid` and of its cavity on its own grid (along, across), and the grid's first `across`."""
    low, high = float((solid.middle - solid.half).min()), float((solid.middle + solid.half).max())
    along = np.arange(0.5 * step, solid.length, step)
    across = np.arange(low - step, high + 1.5 * step, step, dtype=np.float32)[None, :]
    s = np.linspace(0, solid.length, len(solid.half))
    middle, half, depth, shell = (np.interp(along, s, v).astype(np.float32)[:, None]
                                  for v in (solid.middle, solid.half, solid.depth, solid.shell))  # fmt: skip
    ratio = np.square(across - middle)

    def thickness(half: np.ndarray, depth: np.ndarray) -> np.ndarray:
        inside = np.minimum(ratio / np.maximum(half * half, 1e-6), 1)
        return depth * np.sqrt(1 - (inside * inside if solid.power > 3 else inside * np.sqrt(inside)))

    inner = np.maximum(half - shell, 0)
    return thickness(half, depth), thickness(inner, np.maximum(depth - 2 * shell, 0)), float(across[0, 0])


def _onto(solid: Solid, frame: Frame, step: float, first: float, patch_shape: tuple[int, int]
          ) -> tuple[np.ndarray, tuple[slice, slice]] | None:  # fmt: skip
    """Affine map (2, 3) from a patch's pixels to a window of the canvas, and that window; None when it is outside."""
    rows, columns = patch_shape
    corner = solid.origin + 0.5 * step * solid.axis + first * solid.side
    corners = np.array([corner + a * step * solid.axis * rows + b * step * solid.side * columns
                        for a in (0, 1) for b in (0, 1)])  # fmt: skip
    px = frame.px(corners)
    x0, y0 = np.maximum(np.floor(px.min(axis=0)) - 2, 0).astype(int)
    x1, y1 = np.minimum(np.ceil(px.max(axis=0)) + 3, frame.shape[::-1]).astype(int)
    if x0 >= x1 or y0 >= y1:
        return None
    start = frame.px(corner)[0] - 0.5 - [x0, y0]  # 0.5: a pixel's centre
    matrix = np.column_stack([frame.matrix @ solid.side * step, frame.matrix @ solid.axis * step, start])
    return matrix, (slice(y0, y1), slice(x0, x1))


def bones(child: Child, frame: Frame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Thickness (mm) of cortex and of spongiosa along the beam, each float32 of the canvas's shape."""
    cortex, spongy = np.zeros(frame.shape, np.float32), np.zeros(frame.shape, np.float32)
    tile = cv2.GaussianBlur(rng.standard_normal((256, 128), dtype=np.float32), (0, 0), TRABECULA_MM[1] / TILE_MM,
                            sigmaY=TRABECULA_MM[0] / TILE_MM, borderType=cv2.BORDER_REFLECT)  # fmt: skip
    even = cv2.GaussianBlur(rng.standard_normal(tile.shape, dtype=np.float32), (0, 0), TRABECULA_MM[1] / TILE_MM)
    tile = tile / tile.std() + even / even.std()
    tile *= TRABECULAR_CONTRAST / tile.std()
    step = 1 / frame.scale
    for solid in solids(child):
        whole, cavity, first = _patch(solid, step)
        placed = _onto(solid, frame, step, first, whole.shape)
        if placed is None or not whole.size:
            continue
        matrix, window = placed
        share = np.interp(np.arange(len(whole)) + 0.5, np.linspace(0, len(whole), len(solid.spongiosa)),
                          solid.spongiosa).astype(np.float32)[:, None]  # fmt: skip
        texture = tile.T if abs(solid.axis[0]) > 0.8 else tile
        wanted = [min(max(2, round(n * step / TILE_MM)), limit)
                  for n, limit in zip(whole.shape, texture.shape, strict=True)]  # fmt: skip
        at = [int(rng.integers(0, limit - n + 1)) for n, limit in zip(wanted, texture.shape, strict=True)]
        grain = cv2.resize(texture[at[0] : at[0] + wanted[0], at[1] : at[1] + wanted[1]], whole.shape[::-1])
        both = cv2.merge([whole - cavity, cavity * (share + np.minimum(share, 1) * grain)])
        size = (window[1].stop - window[1].start, window[0].stop - window[0].start)
        drawn = cv2.warpAffine(both, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        cortex[window] += drawn[..., 0]
        spongy[window] += drawn[..., 1]
    return cortex, spongy


def masks(child: Child, frame: Frame) -> dict[str, np.ndarray]:
    """Where each ossified piece lies: "bone_X" for shafts, "centre_X" for epiphyses and carpals, bool (H, W)."""
    found: dict[str, np.ndarray] = {}
    step = 0.5 / frame.scale
    for solid in solids(child):
        mask = found.setdefault(solid.name, np.zeros(frame.shape, bool))
        whole, _, first = _patch(solid, step)
        placed = _onto(solid, frame, step, first, whole.shape)
        if placed is not None and whole.size:
            matrix, window = placed
            size = (window[1].stop - window[1].start, window[0].stop - window[0].start)
            mask[window] |= cv2.warpAffine((whole > 0).astype(np.float32), matrix, size) > 0.5
    return found


def _capsule(mask: np.ndarray, ends: np.ndarray, radii: tuple[float, float]) -> None:
    """Fill a tapered capsule between two pixel points."""
    along = ends[1] - ends[0]
    normal = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-6)
    corners = [ends[0] + normal * radii[0], ends[1] + normal * radii[1], ends[1] - normal * radii[1],
               ends[0] - normal * radii[0]]  # fmt: skip
    cv2.fillPoly(mask, [np.rint(np.array(corners)).astype(np.int32)], 255)
    for point, radius in zip(ends, radii, strict=True):
        cv2.circle(mask, tuple(int(v) for v in np.rint(point)), max(1, round(radius)), 255, -1)


def _outline(child: Child, frame: Frame, margin: float) -> np.ndarray:
    """Skin contour, uint8 0 or 255 of the canvas's shape; `margin` (mm) is the skin beyond a phalanx."""
    unit = child.unit_mm
    bones: dict[str, Bone] = {bone.name: bone for bone in child.bones}
    mask = np.zeros(frame.shape, np.uint8)

    def along(name: str, share: float, aside: float = 0.0) -> np.ndarray:
        bone = bones[name]
        return bone.origin + share * bone.length * bone.direction + aside * bone.side

    def fill(points: list[np.ndarray]) -> None:
        cv2.fillPoly(mask, [np.rint(frame.px(np.array(points))).astype(np.int32)], 255)

    for bone in child.bones:
        if bone.kind not in ("long", "distal"):
            continue
        base = bone.widths[0] / 2 + (0.5 if bone.kind == "distal" else 0.62) * margin
        head = max(bone.widths[2], 0.8 * bone.widths[0]) / 2 + 0.72 * margin
        tip = bone.end + bone.direction * (margin * 0.5 - head * 0.6 if bone.kind == "distal" else 0.0)
        wide = 1.0 if bone.name[:2] != "MC" else 1.15
        _capsule(mask, frame.px(np.array([bone.origin, tip])), (base * wide * frame.scale, head * frame.scale * wide))
    webs = [along(f"PP{ray}", 0.24) for ray in range(2, 6)]
    skin = 1.3 * margin
    wrist = [along("radius", 0.98, bones["radius"].widths[2] / 2 + 0.8 * skin),
             along("ulna", 0.98, -bones["ulna"].widths[2] / 2 - 0.8 * skin)]  # fmt: skip
    heel = [along("MC5", share, -aside * unit) for share, aside in ((0.9, 0.11), (0.5, 0.15), (0.1, 0.165))]
    heel.append((2 * along("MC5", 0.0, -0.13 * unit) + wrist[1]) / 3)
    fill([*webs, *heel, wrist[1], wrist[0], along("MC1", 0.0), along("MC2", 0.0)])
    fill([along("MC1", 0.0, 2 * margin), along("MC1", 0.95), along("PP1", 0.12), along("MC2", 0.86), along("MC2", 0.0)])
    ball = [along("MC1", share, aside * margin) for share, aside in ((0.05, 2.9), (0.5, 2.6), (0.85, 2.0))]
    fill([wrist[0], *ball, along("MC2", 0.3), wrist[1]])
    # the forearm widens away from the wrist
    down = [(d, 1 - d * unit / bones["radius"].length) for d in (0.35, 0.8, 1.6)]  # both bones are equally long
    radial = [along("radius", share, (0.15 + 0.03 * d) * unit + skin) for d, share in down]
    ulnar = [along("ulna", share, -(0.075 + 0.05 * d) * unit - skin) for d, share in down]
    fill([wrist[0], *radial, *ulnar[::-1], wrist[1]])
    # closing rounds the corners where capsules meet, as webs and skin folds do
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(0.028 * unit * frame.scale) + 1,) * 2)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, kernel)
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, cv2.getStructuringElement(
        cv2.MORPH_ELLIPSE, (2 * round(0.012 * unit * frame.scale) + 1,) * 2))  # fmt: skip


def _folds(child: Child, frame: Frame) -> np.ndarray:
    """Extra thickness (mm): the ball of the thumb with its fold, finger creases, nails."""
    bones: dict[str, Bone] = {bone.name: bone for bone in child.bones}
    extra = np.zeros(frame.shape, np.float32)
    mc1, mc2 = bones["MC1"], bones["MC2"]
    ball = np.array([mc1.origin, mc1.origin + 0.55 * mc1.length * mc1.direction + 0.1 * mc1.length * mc1.side,
                     mc1.end - 0.2 * mc1.length * mc1.side, (mc1.end + mc2.end) / 2 - 0.05 * mc2.length * mc2.direction,
                     mc2.origin + 0.62 * mc2.length * mc2.direction, mc2.origin])  # fmt: skip
    cv2.fillPoly(extra, [np.rint(frame.px(ball)).astype(np.int32)], 2.6)
    small = max(0.4, 0.012 * child.unit_mm * frame.scale)
    extra = cv2.GaussianBlur(extra, (0, 0), small)
    lines = np.zeros(frame.shape, np.float32)
    for bone in child.bones:
        if bone.kind == "distal":
            nail = bone.end + np.outer([-0.45, 0.05], bone.length * bone.direction)
            _capsule(lines, frame.px(nail), (0.3 * bone.widths[0] * frame.scale,) * 2)
            np.minimum(lines, 0.5, out=lines)
        elif bone.name[:2] in ("PP", "MP"):
            at = bone.end + 0.02 * bone.length * bone.direction
            ends = frame.px(np.array([at - 0.9 * bone.widths[0] * bone.side, at + 0.9 * bone.widths[0] * bone.side]))
            cv2.line(lines, *(tuple(int(v) for v in np.rint(p)) for p in ends), -0.5, 1, cv2.LINE_8)
    return extra + cv2.GaussianBlur(lines, (0, 0), max(0.6, 0.35 * small))


def soft(child: Child, frame: Frame, fat: float) -> tuple[np.ndarray, np.ndarray]:
    """Thickness (mm) along the beam of the whole limb and of the fat in it, float32 of the canvas's shape."""
    years, unit = child.chronological_age_months / 12, child.unit_mm
    mm = {k: float(np.interp(years, anatomy.SOFT_AGE_YEARS, v)) * child.size_factor
          for k, v in anatomy.SOFT_THICKNESS_MM.items()}  # fmt: skip
    layer = fat * float(np.interp(years, (2, 14), FAT_MM))
    mask = _outline(child, frame, mm["margin"] * (0.55 + 0.45 * fat))
    # the limb goes on beyond the film: without the pad the forearm would thin out towards the edge
    pad = mask.shape[0] // 4
    depth = cv2.distanceTransform(cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_REPLICATE), cv2.DIST_L2, 5)
    depth = np.minimum(depth[pad:-pad, pad:-pad] / frame.scale, 40.0)
    back = np.linalg.inv(frame.matrix) / unit
    ys = np.arange(frame.shape[0], dtype=np.float32)[:, None] + 0.5 - frame.offset[1]
    xs = np.arange(frame.shape[1], dtype=np.float32)[None, :] + 0.5 - frame.offset[0]
    x, y = back[0, 0] * xs + back[0, 1] * ys, back[1, 0] * xs + back[1, 1] * ys
    grid = np.linspace(-2, 3, 256)
    at = {-1.3: 1.45 * mm["wrist"], -0.1: 1.05 * mm["wrist"], 0.1: mm["wrist"], 0.45: 1.05 * mm["palm"],
          0.9: 0.85 * mm["palm"], 1.2: mm["finger"]}  # fmt: skip
    table = np.interp(grid, list(at), np.array(list(at.values())) / 2)
    radius = table.astype(np.float32)[np.clip((y + 2) * 51, 0, 255).astype(np.intp)]
    thumb = mm["finger"] * (0.6 + 3 * np.clip(0.5 - x, 0, 1))
    radius = np.where(y > 0.3, np.minimum(radius, thumb), radius).astype(np.float32)

    def thickness(depth: np.ndarray, radius: np.ndarray) -> np.ndarray:
        depth = np.minimum(depth, radius)
        return 2 * np.sqrt(depth * (2 * radius - depth))

    whole = thickness(depth, radius)
    lean = thickness(np.maximum(depth - layer, 0), np.maximum(radius - layer, 0.5))
    whole += np.where(mask > 0, _folds(child, frame), 0)
    blur = max(0.4, 0.003 * unit * frame.scale)
    return cv2.GaussianBlur(whole, (0, 0), blur), cv2.GaussianBlur(np.maximum(whole - lean, 0), (0, 0), blur)
