"""Outlines: every bone is a solid of revolution, flattened front to back, given by its half-width along its axis.

One profile holds shaft, growth plate and epiphysis, so an open physis is a stretch of zero half-width and fusion
is a bridge that widens from the middle until the outline is that of the adult bone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bonexage_utils.phantom.skeleton import Bone, Centre

STEP_MM = 0.1  # sampling of a profile; a third of the finest pixel drawn
END_CORTEX_MM = 0.4  # thin shell at bone ends, epiphyses and carpals
GAP_CLOSES_BY = 0.6  # share of the physis gap lost to new bone before the bridge takes over
SHAFT_MARROW_SPONGIOSA = 0.15  # the shaft's cavity is nearly all marrow


@dataclass(frozen=True)
class Profile:
    """Half-widths (mm) along the axis of one bone, all arrays of shape (K,), K = length / STEP_MM + 1.

    `outer` is the bone's surface, `inner` the border between cortex and cavity, `spongiosa` the share (0-1) of
    the cavity that is spongy bone and not marrow.
    """

    outer: np.ndarray
    inner: np.ndarray
    spongiosa: np.ndarray


def _cap(distance: np.ndarray, reach: float) -> np.ndarray:
    """Factor 0-1 that rounds an end off: a quarter ellipse over `reach` mm, 0 beyond the end."""
    s = np.clip(distance / max(reach, 1e-6), 0.0, 1.0)
    return np.sqrt(s * (2 - s))


def _mature(bone: Bone, u: np.ndarray) -> np.ndarray:
    """Half-width (mm) of the fully grown outline at `u` mm from the proximal end."""
    base, waist, head = (w / 2 for w in bone.widths)
    left, right = u / bone.length, 1 - u / bone.length
    if bone.kind == "round":
        return base * np.clip(1 - np.abs(left - right) ** 2.4, 0, None) ** (1 / 2.4)
    if bone.kind == "forearm":
        flare = 1.9 * bone.widths[2]
        h = waist + (head - waist) * np.clip(1 - (bone.length - u) / flare, 0, None) ** 2.2
        return h * _cap(bone.length - u, 0.25 * head)
    reach = 0.35 if bone.kind == "distal" else 0.45
    h = waist + (base - waist) * np.clip(1 - left / 0.45, 0, None) ** 2
    h = h + (head - waist) * np.clip(1 - right / reach, 0, None) ** (1.0 if bone.kind == "distal" else 2.0)
    rounder = 1.0 if bone.kind == "distal" or bone.epiphysis == "head" else 0.7
    return h * _cap(u, 0.35 * base) * _cap(bone.length - u, rounder * head)


def _grown(bone: Bone, centre: Centre, u: np.ndarray) -> np.ndarray:
    """Half-width (mm) of the ossified part at `u`: shaft, epiphysis, and the bridge that fusion builds."""
    mature = _mature(bone, u)
    gap = bone.gap_mm * (1 - GAP_CLOSES_BY * centre.fusion)
    plate = bone.epiphysis_mm  # where the mature epiphysis meets the physis, mm from the joint
    from_joint = bone.length - u if bone.epiphysis == "head" else u
    metaphysis = float(np.interp(plate + gap, *_ascending(from_joint, mature)))
    shaft = np.where(from_joint > plate + gap, mature, 0.0) * _cap(from_joint - plate - gap, 0.2 * metaphysis)
    if not centre.present:
        return shaft
    half = centre.emr * metaphysis
    # a nodule is as thick as wide, then a disc: it reaches the mature thickness well before the mature width
    thick = min(plate, 1.7 * half)
    s = (plate - from_joint) / thick * 2 - 1  # -1 at the physis, +1 at the joint
    power = 2 + 1.5 * min(1.0, centre.emr)
    epiphysis = half * np.clip(1 - np.abs(s) ** power, 0, None) ** (1 / power)
    return np.maximum(np.maximum(shaft, epiphysis), centre.fusion * mature)


def _ascending(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`x`, `y` in the order `np.interp` needs."""
    return (x, y) if x[0] < x[-1] else (x[::-1], y[::-1])


def profile(bone: Bone, centre: Centre | None) -> Profile:
    """Profile of `bone` at the maturity of its `centre`; None for a bone without one."""
    if bone.kind == "round" and centre is not None:
        # a small centre lies in the middle of its cartilage
        length = bone.length * centre.emr
        grown = Bone(**{**vars(bone), "length": length, "widths": tuple(w * centre.emr for w in bone.widths)})
        u = np.arange(0.0, bone.length + STEP_MM, STEP_MM) - (bone.length - length) / 2
        inside = (u >= 0) & (u <= length)
        outer = np.where(inside, _mature(grown, np.clip(u, 0, length)), 0.0) if length else np.zeros_like(u)
        u = u + (bone.length - length) / 2
    else:
        u = np.arange(0.0, bone.length + STEP_MM, STEP_MM)
        outer = _mature(bone, np.minimum(u, bone.length)) if centre is None else _grown(bone, centre, u)
    middle = 1 - np.abs(2 * u / bone.length - 1)  # 0 at the ends, 1 at the waist
    if bone.kind == "forearm":
        middle = np.clip((bone.length - u) / (2.5 * bone.widths[2]), 0, 1)
    if bone.kind == "round":
        middle = np.zeros_like(u)
    shell = END_CORTEX_MM + np.clip(bone.cortex_mm - END_CORTEX_MM, 0, None) * np.clip(1.5 * middle - 0.2, 0, 1)
    reach = round(END_CORTEX_MM / STEP_MM)
    padded = np.pad(outer, reach, mode="edge" if bone.kind == "forearm" else "constant")
    eroded = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    inner = np.clip(np.minimum(eroded, outer) - shell, 0, None)
    spongiosa = 1 - (1 - SHAFT_MARROW_SPONGIOSA) * np.clip(1.6 * middle - 0.3, 0, 1)
    return Profile(outer.astype(np.float32), inner.astype(np.float32), spongiosa.astype(np.float32))
