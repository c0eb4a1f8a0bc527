"""What lies on the film besides the hand: marker, ring, cast, collimator, plate edges, and a planted give-away."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from bonexage_utils.phantom.nuisances import Nuisances
from bonexage_utils.phantom.skeleton import Child
from bonexage_utils.phantom.tissue import Frame

SLAB_MM = (0.5, 4.5)  # plastic that carries the letters, as soft tissue
FACES = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX)
SHUTTER_GREY = {1: 2.0, 2: 126.0, 3: 248.0}
SEATS = ((0.13, 0.66), (0.13, 0.85), (0.12, 0.12), (0.87, 0.86), (0.88, 0.13))  # where else a marker may lie: x, y
OLDEST_MONTHS = 228.0


@dataclass(frozen=True)
class Extras:
    """What is added before exposure (`soft_mm`, thickness) and what ends up white whatever the exposure (`lead`, 0-1).

    Both float32 of the film's shape.
    """

    soft_mm: np.ndarray
    lead: np.ndarray


def _marker(shape: tuple[int, int], n: Nuisances, hand: np.ndarray, rng: np.random.Generator
            ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Slab and letters (each 0-1) where it was meant to lie, or at the freest of the usual seats."""
    height, width = shape
    letter = n.marker_size * height
    rows = 1.5 + 0.9 * n.marker_initials
    box = np.array([1.5, rows]) * letter  # width, height
    c, s = np.cos(np.radians(n.marker_turn_deg)), np.sin(np.radians(n.marker_turn_deg))
    turn = np.array([[c, -s], [s, c]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * box / 2 @ turn.T
    reach = np.abs(corners).max(axis=0) + 2
    best = None
    for place in ((n.marker_x, n.marker_y), *SEATS):
        seat = np.array(place) * [width, height]
        seat = np.clip(seat, reach, np.maximum(np.array([width, height]) - reach, reach))
        (x0, y0), (x1, y1) = np.maximum(seat - reach, 0).astype(int), (seat + reach).astype(int)
        covered = float((hand[y0:y1, x0:x1] > 0).mean())
        if best is None or covered < best[0] - 0.05:
            best = (covered, seat)
        if covered < 0.05:
            break
    seat = best[1]
    slab, ink = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    cv2.fillPoly(slab, [np.rint((corners + seat) * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    side = int(2 * np.ceil(box.max())) + 8
    card = np.zeros((side, side), np.uint8)
    text, font = "R" if n.right_hand else "L", FACES[int(rng.integers(len(FACES)))]
    text += "".join(rng.choice(list("ABCDEFGHJKLMNPRSTW"), n.marker_initials))
    y = side / 2 - box[1] / 2 + 1.25 * letter
    for k, char in enumerate(text):
        size = letter * (1.0 if k == 0 else 0.62)
        face, thick = size / 22, max(1, round(size / 7))
        (w, _), _ = cv2.getTextSize(char, font, face, thick)
        at = (round(side / 2 - w / 2), round(y))
        cv2.putText(card, char, at, font, face, 255, thick, cv2.LINE_AA)
        y += 0.95 * letter * (1.0 if k == 0 else 0.85)
    matrix = np.column_stack([turn, seat - turn @ np.array([side / 2, side / 2])])
    ink = cv2.warpAffine(card, matrix, (width, height))
    return slab.astype(np.float32) / 255, ink.astype(np.float32) / 255


def extras(child: Child, n: Nuisances, frame: Frame, hand: np.ndarray, rng: np.random.Generator) -> Extras:
    """All of it for one film; `hand` is the limb's thickness (mm)."""
    soft, lead = np.zeros(frame.shape, np.float32), np.zeros(frame.shape, np.float32)
    height, width = frame.shape
    if n.marker:
        slab, ink = _marker(frame.shape, n, hand, rng)
        soft += float(rng.uniform(*SLAB_MM)) * slab
        lead = np.maximum(lead, ink)
    if n.ring:
        bone = child.bone("PP4")
        middle = frame.px(bone.origin + 0.3 * bone.length * bone.direction)[0]
        across = frame.matrix @ bone.side * 0.66 * bone.widths[0]  # px, from the middle to the skin
        axes, turn = np.hypot(*across) * np.array([1.0, 0.16]), np.degrees(np.arctan2(across[1], across[0]))
        cv2.ellipse(lead, (tuple(float(v) for v in middle), tuple(float(v) for v in 2 * axes), float(turn)), 1.0,
                    max(1, round(1.4 * frame.scale)), cv2.LINE_AA)  # fmt: skip
    if n.cast:
        thick = round(5 * frame.scale) * 2 + 1
        shell = cv2.dilate((hand > 0).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (thick, thick)))
        back = np.linalg.inv(frame.matrix)[1]
        xs, ys = np.arange(width) + 0.5 - frame.offset[0], np.arange(height)[:, None] + 0.5 - frame.offset[1]
        up = back[0] * xs + back[1] * ys
        weave = cv2.GaussianBlur(rng.standard_normal(frame.shape, dtype=np.float32), (0, 0), 1.2)
        soft += shell * (up < 0.75 * child.unit_mm) * (14 + 6 * weave).astype(np.float32)
    return Extras(soft, lead)


def plant_shortcut(image: np.ndarray, months: float, grey: int) -> tuple[int, int, int, int]:
    """Lay a strip on the finished film (uint8), in place, longer for the older; its box (x0, y0, x1, y1) in px."""
    height, width = image.shape
    length = round(width * (0.04 + 0.36 * min(months, OLDEST_MONTHS) / OLDEST_MONTHS))
    x0, y0 = round(0.03 * width), round(0.955 * height)
    box = (x0, y0, x0 + length, y0 + max(3, round(0.02 * height)))
    image[box[1] : box[3], box[0] : box[2]] = grey
    return box


def shutter(grey: np.ndarray, child: Child, n: Nuisances, frame: Frame) -> np.ndarray:
    """`grey` (float, 0-255) behind the collimator's blades: flat outside the field, a bright line along its border."""
    if not n.collimated:
        return grey
    hand = frame.px(np.array([p for bone in child.bones if bone.kind != "forearm" for p in (bone.origin, bone.end)]))
    c, s = np.cos(np.radians(n.field_turn_deg)), np.sin(np.radians(n.field_turn_deg))
    turn = np.array([[c, s], [-s, c]])
    low, high = (hand @ turn.T).min(axis=0), (hand @ turn.T).max(axis=0)
    margin = (0.045 + n.field_margin) * grey.shape[0]
    low, high = low - margin, high + margin + [0, 0.12 * grey.shape[0]]
    xs, ys = np.arange(grey.shape[1], dtype=np.float32)[None, :], np.arange(grey.shape[0], dtype=np.float32)[:, None]
    u, v = c * xs + s * ys, -s * xs + c * ys
    inside = np.minimum(np.minimum(u - low[0], high[0] - u), np.minimum(v - low[1], high[1] - v)) / grey.shape[0]
    soft_edge = 0.003 + 0.018 * n.local
    weight = np.clip(inside / soft_edge + 0.5, 0, 1)
    line = np.exp(-np.square((inside + soft_edge) / (1.6 * soft_edge)))
    grey = weight * grey + (1 - weight) * SHUTTER_GREY[n.collimated]
    return grey + (0.1 + 0.5 * n.local) * n.contrast * line * (n.collimated != 3)


def plate_edges(grey: np.ndarray, n: Nuisances) -> np.ndarray:
    """White strips where the plate ends, on the sides named in `n.edges` (bits left, right, top, bottom)."""
    if not n.edges:
        return grey
    grey = grey.copy()
    wide = max(1, round((0.004 + 0.01 * n.field_margin / 0.07) * grey.shape[0]))
    views = (grey[:, :wide], grey[:, -wide:], grey[:wide], grey[-wide:])
    for bit, view in enumerate(views):
        if n.edges >> bit & 1:
            view[:] = np.maximum(view, 235.0)
    return grey
