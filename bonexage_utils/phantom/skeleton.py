"""Grow one child's hand: bones with positions and sizes in mm, ossification centres with their maturity.

Size follows chronological age and a body-size factor, maturity follows bone age; the two are only loosely tied,
as in children, so a model cannot read bone age off the length of a bone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bonexage_utils.errors import BoneXageError
from bonexage_utils.phantom import anatomy

Sex = Literal["M", "F"]

TEMPO_LIMIT = 2.5  # SDs; a wider tail would make children whose centres appear out of any clinical order
SIZE_SD = 0.045  # body size at a given age, relative (+-4.5 % on bone length)
BONE_SD = 0.025  # each bone's own length on top of that, relative
SIZE_TEMPO_CORRELATION = 0.45  # early maturers are taller at the same age
LATE_EVENT_SD = 4.0  # months; EMR and fusion timing of one bone round the child's bone age (estimate)
EMR_AT_APPEARANCE = 0.12  # a nodule of 1-1.5 mm
EMR_FULL_GROWN = 1.06  # the epiphysis slightly overhangs before it fuses
CARPAL_SIZE_AT_APPEARANCE = 0.10
CARPAL_FIT = 0.88  # the layout is good to 2 mm only; at full size neighbours would overlap more than on films


@dataclass(frozen=True)
class Bone:
    """One bone in the hand frame (mm; origin at the distal radius, +x to the thumb, +y to the fingertips).

    `origin` is the proximal end and `direction` a unit vector, both arrays of shape (2,). `widths` are the full
    widths (mm) at the proximal end, the waist and the distal end. `kind` is "long", "distal" (phalanx), "forearm"
    or "round". `epiphysis` names the end that carries the growth plate: "base", "head" or "" for none.
    `epiphysis_mm` and `gap_mm` are the mature epiphysis thickness and the open physis. `cortex_mm` is the cortical
    thickness at the waist. `parent` is the bone it moves with ("" for the fixed palm and forearm).
    """

    name: str
    kind: str
    parent: str
    origin: np.ndarray
    direction: np.ndarray
    length: float
    widths: tuple[float, float, float]
    cortex_mm: float
    epiphysis: str = ""
    epiphysis_mm: float = 0.0
    gap_mm: float = 0.0

    @property
    def end(self) -> np.ndarray:
        """Distal end, shape (2,), mm."""
        return self.origin + self.direction * self.length


@dataclass(frozen=True)
class Centre:
    """Maturity of one ossification centre, named after its bone.

    `emr` is the epiphysis width over the metaphysis width, 0 when absent, up to about 1.06; for carpals and the
    sesamoid, which have no metaphysis, it is the share of their adult size, 0 to 1. `fusion` runs from 0 (open)
    to 1 (complete) and stays 0 for centres that never fuse.
    """

    name: str
    present: bool
    emr: float
    fusion: float


@dataclass(frozen=True)
class Child:
    """A simulated child: ages in months, `tempo` and sizes as drawn, `unit_mm` = radius to third MCP joint (mm)."""

    sex: Sex
    chronological_age_months: float
    bone_age_months: float
    tempo: float
    size_factor: float
    unit_mm: float
    bones: tuple[Bone, ...]
    centres: tuple[Centre, ...]

    def bone(self, name: str) -> Bone:
        """The bone called `name`; raises KeyError when there is none."""
        return {bone.name: bone for bone in self.bones}[name]

    def centre(self, name: str) -> Centre:
        """The centre called `name`; raises KeyError when there is none."""
        return {centre.name: centre for centre in self.centres}[name]

    def posed(self, turns: dict[str, float]) -> Child:
        """The same child with joints turned: `turns` maps a bone to degrees, positive towards the thumb.

        A bone turns about its proximal end and takes every bone beyond it along.
        """
        bones: dict[str, Bone] = {}
        moved: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for bone in self.bones:  # parents stand before their children in the list
            old, new, turn = moved.get(bone.parent, (np.zeros(2), np.zeros(2), np.eye(2)))
            origin = new + turn @ (bone.origin - old)
            turn = turn @ _clockwise(turns.get(bone.name, 0.0))
            moved[bone.name] = (bone.origin, origin, turn)
            bones[bone.name] = replace(bone, origin=origin, direction=turn @ bone.direction)
        return replace(self, bones=tuple(bones.values()))


def _clockwise(degrees: float) -> np.ndarray:
    """Rotation matrix (2, 2) that takes +y towards +x, the thumb's side."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, s], [-s, c]])


def bone_age(sex: Sex, age_months: float, tempo: float) -> float:
    """Bone age (months) of a child `tempo` SDs from the Brush mean, within 1 month and the atlas's last plate."""
    age, mean, sd = np.array(anatomy.BRUSH[sex]).T
    if age_months <= age[-1]:
        # from the first row back to birth, bone age and its scatter both run to zero
        middle = np.interp(age_months, np.r_[0, age], np.r_[0, mean])
        scatter = np.interp(age_months, np.r_[0, age], np.r_[0, sd])
    else:
        middle, scatter = mean[-1] + age_months - age[-1], sd[-1]
    return float(np.clip(middle + scatter * tempo, 1.0, anatomy.GP_STANDARDS[sex][-1]))


def _group(name: str) -> str:
    """Key of `anatomy.MILESTONES` for an epiphysis."""
    if name in ("radius", "ulna", "MC1", "PP1", "DP1"):
        return name
    return f"{name[:2]}2-5"


def _centre(name: str, sex: Sex, ba: float, early: float, late: float) -> Centre:
    """State of centre `name` at bone age `ba`, its own events shifted by `early` and `late` SDs."""
    table = anatomy.APPEARANCE[name][sex]
    appears = max(1.0, table.median + early * table.specific_sd)
    if ba < appears:
        return Centre(name, False, 0.0, 0.0)
    if name in anatomy.ROUND_BONES:
        # mm growth D_adult (0.1 + 0.9 x^0.6), taken relative to the hand a child of this bone age usually has
        x = np.clip((ba - appears) / max(anatomy.CARPALS_ADULT[sex] - appears, 24.0), 0.0, 1.0)
        share = CARPAL_SIZE_AT_APPEARANCE + (1 - CARPAL_SIZE_AT_APPEARANCE) * x**0.6
        hand = _mc2_length(sex, ba) / anatomy.MC2_LENGTH_MM[sex][-1]
        return Centre(name, True, float(min(1.0, share / hand)), 0.0)
    stones = anatomy.MILESTONES[sex][_group(name)]
    shift = late * LATE_EVENT_SD
    half = max(stones.emr_half + shift, appears + 8.0)  # a centre that came late still needs months to grow
    one = max(stones.emr_one + shift, half + 12.0)
    begins = max(stones.fusion_begins + shift, one + 6.0)
    complete = max(stones.fusion_complete + shift, begins + 4.0)
    emr = np.interp(ba, [appears, half, one, begins], [EMR_AT_APPEARANCE, 0.5, 1.0, EMR_FULL_GROWN])
    return Centre(name, True, float(emr), float(np.interp(ba, [begins, complete], [0.0, 1.0])))


def _mc2_length(sex: Sex, age_months: float) -> float:
    return float(np.interp(age_months / 12, anatomy.MC2_AGE_YEARS, anatomy.MC2_LENGTH_MM[sex]))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.hypot(*vector)


def _bones(sex: Sex, age: float, size: float, stretch: dict[str, float]) -> tuple[float, tuple[Bone, ...]]:
    """Unit S (mm) and all bones in the neutral pose for chronological `age`; `stretch` scales single lengths."""
    years = age / 12
    mc2 = _mc2_length(sex, age) * size
    # carpus and cartilage between radius and metacarpals scale with MC3; 4 mm is half the radius epiphysis
    unit = 0.955 * mc2 * 1.53 + 4.0 * size
    at = {name: np.array(xy) * unit for name, xy in anatomy.LAYOUT.items()}
    mc2_width = float(np.interp(years, anatomy.MC2_WIDTH_AGE_YEARS, anatomy.MC2_WIDTH_MM[sex])) * size
    index = float(np.interp(years, anatomy.MC2_WIDTH_AGE_YEARS, anatomy.METACARPAL_INDEX[sex]))
    gap = {k: float(np.interp(years, anatomy.GAP_AGE_YEARS, v)) for k, v in anatomy.PHYSIS_GAP_MM.items()}
    joint = {k: float(np.interp(years, anatomy.GAP_AGE_YEARS, v)) for k, v in anatomy.JOINT_GAP_MM.items()}
    adult = float(np.clip((years - 2) / 14, 0, 1))  # toddler (0) to adult (1) proportions: fingers slim down

    def plump(toddler: float, grown: float) -> float:
        return toddler + (grown - toddler) * adult

    bones: list[Bone] = []
    up = np.array([0.0, 1.0])
    for name, head, shaft in (("radius", 0.465, 0.22), ("ulna", 0.25, 0.18)):
        length = 1.5 * unit
        thick = (0.13 if name == "radius" else 0.09) * mc2
        end = (at["ulna"] if name == "ulna" else np.zeros(2)) + up * thick / 2
        widths = (shaft * mc2, shaft * mc2, head * mc2)
        cortex = index * shaft * mc2 / 2
        bones.append(
            Bone(name, "forearm", "", end - up * length, up, length, widths, cortex, "head", thick, gap[name])
        )
    for ray in range(1, 6):
        width = mc2_width * (1.15, 1.0, 1.0, 0.85, 0.85)[ray - 1]
        start, towards = at[f"MC{ray}"], _unit(at[f"MCP{ray}"] - at[f"MC{ray}"])
        parent = ""
        for row in ("MC", "PP", "MP", "DP"):
            if row == "MP" and ray == 1:
                continue
            name = f"{row}{ray}"
            length = anatomy.ROW_RATIO[row][ray - 1] * mc2 * stretch.get(name, 1.0)
            if row == "MC":
                widths = ((1.6 if ray == 1 else 1.35) * width, width, 1.55 * width)
            elif row == "DP":
                widths = (0.62 * length, plump(0.34, 0.28) * length, 0.45 * length)
            else:
                waist = (plump(0.27, 0.20) if row == "PP" else plump(0.33, 0.26)) * length
                widths = ((1.6 if row == "PP" else 1.65) * waist, waist, 1.25 * waist)
            at_head = row == "MC" and ray > 1
            plate = (plump(0.10, 0.14) if at_head else plump(0.08, 0.11)) * length
            # the table's gap would swallow a toddler's middle phalanx
            physis = min(gap["MC" if row == "MC" else "phalanx"], 0.09 * length)
            kind, end = "distal" if row == "DP" else "long", "head" if at_head else "base"
            cortex = index * widths[1] / 2
            bones.append(Bone(name, kind, parent, start, towards, length, widths, cortex, end, plate, physis))
            joint_point = start + towards * (length + joint["MCP" if row == "MC" else "IP"] / 2)
            if row != "DP":
                towards = _next_direction(row, ray, at, towards)
                start = joint_point + towards * joint["MCP" if row == "MC" else "IP"] / 2
            parent = name
    thumb = {bone.name: bone for bone in bones}["MC1"]
    at["sesamoid"] = thumb.end + _clockwise(-90) @ thumb.direction * 0.45 * thumb.widths[2]
    scale = CARPAL_FIT * unit / (0.955 * anatomy.MC2_LENGTH_MM["M"][-1] * 1.53 + 4.0)
    for name, (long, short, tilt) in anatomy.ROUND_BONES.items():
        direction = _clockwise(tilt) @ up
        length = long * scale
        parent = "MC1" if name == "sesamoid" else ""
        widths = (short * scale,) * 3
        bones.append(Bone(name, "round", parent, at[name] - direction * length / 2, direction, length, widths, 0.4))
    return unit, tuple(bones)


def _next_direction(row: str, ray: int, at: dict[str, np.ndarray], current: np.ndarray) -> np.ndarray:
    """Neutral direction of the bone beyond `row` in `ray`; the distal phalanx continues the one before it."""
    if row == "MC":
        return _unit(at["IP1" if ray == 1 else f"PIP{ray}"] - at[f"MCP{ray}"])
    if row == "PP" and ray > 1:
        return _unit(at[f"DIP{ray}"] - at[f"PIP{ray}"])
    return current


def grow(
    sex: Sex, age_months: float, rng: np.random.Generator, tempo: float | None = None, jitter: bool = True
) -> Child:
    """Grow one child's hand.

    Args:
        sex: "M" or "F".
        age_months: chronological age, 0 to 240.
        rng: source of every draw; not used at all when `tempo` is given and `jitter` is False.
        tempo: maturity in SDs ahead of the Brush mean; None draws it from N(0, 1) cut at +-2.5.
        jitter: False gives the child whose centres all follow the tables and whose size is the median.

    Returns:
        The child in the neutral pose, with 30 centres.

    Raises:
        BoneXageError: for another sex or an age outside 0 to 240 months.
    """
    if sex not in ("M", "F"):
        raise BoneXageError(f"phantom: sex is {sex!r}, expected 'M' or 'F'")
    if not 0 <= age_months <= 240:
        raise BoneXageError(f"phantom: age is {age_months} months, expected 0 to 240")
    if tempo is None:
        tempo = float(np.clip(rng.standard_normal(), -TEMPO_LIMIT, TEMPO_LIMIT))
    names = list(anatomy.APPEARANCE)
    shifts, size_z, stretch = np.zeros((2, len(names))), 0.0, {}
    if jitter:
        shifts = np.clip(rng.standard_normal((2, len(names))), -2.0, 2.0)
        r = SIZE_TEMPO_CORRELATION
        size_z = r * tempo + np.sqrt(1 - r * r) * rng.standard_normal()
        stretch = {name: float(np.exp(BONE_SD * rng.standard_normal())) for name in names}
    size = float(np.exp(SIZE_SD * size_z))
    ba = bone_age(sex, age_months, tempo)
    unit, bones = _bones(sex, age_months, size, stretch)
    centres = tuple(_centre(n, sex, ba, *shifts[:, i]) for i, n in enumerate(names))
    return Child(sex, float(age_months), ba, float(tempo), size, unit, bones, centres)
