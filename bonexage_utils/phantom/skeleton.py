"""Grow one child's hand: bones with positions and sizes in mm, ossification centres with their maturity.

Size follows chronological age and a body-size factor, maturity follows bone age; the two are only loosely tied,
as in children, so a model cannot read bone age off the length of a bone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bonexage_utils.errors import BoneXageError
from bonexage_utils.phantom import anatomy, maturity
from bonexage_utils.phantom.maturity import Centre, Sex

SIZE_SD = 0.045  # body size at a given age, relative (+-4.5 % on bone length)
BUILD_SD = 0.08  # slender or sturdy: the widths of all bones for their length, relative
BONE_SD = 0.025  # each bone's own length on top of that, relative
SIZE_TEMPO_CORRELATION = 0.45  # early maturers are taller at the same age
CARPAL_FIT = 1.3  # over the tabled sizes: 1.18 is lost by rounding corners off, the rest is larger on public films
LAYOUT_SD = 0.012  # each landmark's own place, in units of |radius -> MCP3|


@dataclass(frozen=True)
class Bone:
    """One bone in the hand frame (mm; origin at the distal radius, +x to the thumb, +y to the fingertips).

    `origin` is the proximal end and `direction` a unit vector, both arrays of shape (2,). `widths` are the full
    widths (mm) at the proximal end, the waist and the distal end. `kind` is "long", "distal" (phalanx), "forearm"
    or "round". `epiphysis` names the end that carries the growth plate: "base", "head" or "" for none.
    `epiphysis_mm` is the mature epiphysis' thickness. `cortex_mm` is the cortical thickness at the waist, `shell_mm`
    that of ends, epiphyses and carpals. `parent` is
    the bone it moves with ("" for the fixed palm).
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
    shell_mm: float = 0.4

    @property
    def end(self) -> np.ndarray:
        """Distal end, shape (2,), mm."""
        return self.origin + self.direction * self.length

    @property
    def side(self) -> np.ndarray:
        """Unit vector across the bone, towards the thumb's side, shape (2,)."""
        return self.direction[::-1] * [1, -1]


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

    @property
    def hand_length_mm(self) -> float:
        """From the distal radius to the tip of the third distal phalanx along the middle ray (mm), fingers straight."""
        ray = [self.bone(f"{row}3") for row in ("MC", "PP", "MP", "DP")]
        return float(np.hypot(*ray[0].origin) + sum(bone.length for bone in ray))

    def posed(self, turns: dict[str, float]) -> Child:
        """The same child with joints turned: `turns` maps a bone to degrees, positive towards the thumb.

        A bone turns about its proximal end and takes every bone beyond it along; "forearm" turns radius and ulna
        about the wrist.
        """
        bones: dict[str, Bone] = {}
        moved: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        wrist = np.array([-0.05, 0.05]) * self.unit_mm
        for bone in self.bones:  # parents stand before their children in the list
            if bone.kind == "forearm":
                turn = _clockwise(turns.get("forearm", 0.0))
                origin = wrist + turn @ (bone.origin - wrist)
            else:
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


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.hypot(*vector)


@dataclass(frozen=True)
class _Body:
    """Sizes that all bones of one child share: mm unless stated."""

    years: float
    mc2: float
    mc2_width: float
    index: float  # metacarpal index 2T/W
    unit: float
    male: bool
    build: float  # widths of bones over the usual

    def between(self, toddler: float, adult: float) -> float:
        """Toddler (2 years) to adult (16 years) proportions: fingers slim down."""
        return toddler + (adult - toddler) * float(np.clip((self.years - 2) / 14, 0, 1))

    def joint(self, row: str) -> float:
        """Joint gap (mm) beyond a bone of `row`; the tabled gap of a toddler would swallow a phalanx."""
        kind = "MCP" if row == "MC" else "IP"
        return min(float(np.interp(self.years, anatomy.GAP_AGE_YEARS, anatomy.JOINT_GAP_MM[kind])), 0.05 * self.mc2)


def _forearm(body: _Body, at: dict[str, np.ndarray]) -> list[Bone]:
    up, bones = np.array([0.0, 1.0]), []
    for name, head, shaft in (("radius", 0.445, 0.20), ("ulna", 0.24, 0.14)):
        length, thick = 1.6 * body.unit, (0.13 if name == "radius" else 0.09) * body.mc2
        end = (at["ulna"] if name == "ulna" else np.zeros(2)) + up * thick / 2
        widths = tuple(body.build * body.mc2 * share for share in (shaft, shaft, head))
        cortex = anatomy.CORTEX_SHARE["forearm"] * body.index * widths[1] / 2
        bones.append(Bone(name, "forearm", "", end - up * length, up, length, widths, cortex, "head", thick))
    return bones


def _ray(body: _Body, ray: int, at: dict[str, np.ndarray], stretch: dict[str, float]) -> list[Bone]:
    """Metacarpal and phalanges of one ray, from the MCP joint outwards in the directions of the layout."""
    bones: list[Bone] = []
    width = body.build * body.mc2_width * (1.15, 1.0, 0.97, 0.82, 0.85)[ray - 1]
    names = [row for row in ("MC", "PP", "MP", "DP") if row != "MP" or ray > 1]
    for row in names:
        name = f"{row}{ray}"
        longer = anatomy.LONGER_FINGERS if row in ("PP", "MP") else 1.0
        length = anatomy.ROW_RATIO[row][ray - 1] * body.mc2 * longer * stretch.get(name, 1.0)
        if row == "MC":
            towards = _unit(at[f"MCP{ray}"] - at[f"MC{ray}"])
            start = at[f"MCP{ray}"] - towards * (length + body.joint(row) / 2)
            base, head = (1.65, 2.1, 1.75, 1.75, 1.9)[ray - 1], 1.6 if ray == 1 else 1.9
            widths = (body.between(0.7, 1) * base * width, 0.97 * width, body.between(0.7, 1) * head * width)
        else:
            joint = body.joint("MC" if row == "PP" else "IP")
            start = bones[-1].end + bones[-1].direction * joint / 2
            towards = _direction(row, ray, at, bones[-1].direction)
            start = start + towards * joint / 2
            if row == "DP":
                stout = body.build * length
                widths = (0.6 * stout, body.between(0.32, 0.28) * stout, 0.42 * stout)
            else:
                waist = (body.between(0.25, 0.205) if row == "PP" else body.between(0.31, 0.265)) * body.build * length
                widths = (1.6 * waist, waist, 1.2 * waist)
        at_head = row == "MC" and ray > 1
        thin, thick = (0.10, 0.19) if at_head else (0.075, 0.11 if row == "PP" else 0.13)
        plate = body.between(thin, thick) * length
        cortex = anatomy.CORTEX_SHARE[row] * body.index * widths[1] / 2
        bones.append(Bone(name, "distal" if row == "DP" else "long", bones[-1].name if bones else "", start, towards,
                          length, widths, cortex, "head" if at_head else "base", plate))  # fmt: skip
    return bones


def _direction(row: str, ray: int, at: dict[str, np.ndarray], current: np.ndarray) -> np.ndarray:
    """Neutral direction of a phalanx; the distal one continues the one before it."""
    if row == "PP":
        return _unit(at["IP1" if ray == 1 else f"PIP{ray}"] - at[f"MCP{ray}"])
    return _unit(at[f"DIP{ray}"] - at[f"PIP{ray}"]) if row == "MP" else current


def _carpals(body: _Body, at: dict[str, np.ndarray], thumb: Bone) -> list[Bone]:
    """Carpals and sesamoid at full size for this hand; how much of them is bone is their centre's business."""
    adult = 0.955 * anatomy.MC2_LENGTH_MM["M"][-1] * 1.53 + 4.0
    at = at | {"sesamoid": thumb.end - thumb.side * 0.42 * thumb.widths[2] - thumb.direction * 0.05 * thumb.length}
    bones = []
    scale = CARPAL_FIT * body.unit / adult * (1.0 if body.male else anatomy.FEMALE_CARPALS / 0.94)  # her hand is .94
    for name, corners in anatomy.ROUND_BONES.items():
        size = np.ptp(np.array(corners), axis=0) * scale
        up = np.array([0.0, 1.0])
        bones.append(Bone(name, "round", "MC1" if name == "sesamoid" else "", at[name] - up * size[1] / 2, up,
                          float(size[1]), (float(size[0]),) * 3, 0.4))  # fmt: skip
    return bones


def _bones(sex: Sex, age: float, size: float, build: float, stretch: dict[str, float], sway: np.ndarray
           ) -> tuple[float, list[Bone]]:  # fmt: skip
    """Unit S (mm) and all bones in the neutral pose at `age`; `build` scales widths, `stretch` single lengths."""
    years = age / 12
    mc2 = maturity.mc2_length(sex, age) * size
    # carpus and cartilage between radius and metacarpals scale with MC3; 4 mm is half the radius epiphysis
    unit = 0.955 * mc2 * 1.53 + 4.0 * size
    layout = {k: np.array([np.interp(age, anatomy.LAYOUT_AGE_MONTHS, axis) for axis in zip(*v, strict=True)])
              for k, v in anatomy.LAYOUT.items()}  # fmt: skip
    # a young child's carpus lies further from the radius
    lift = layout["carpus"] - anatomy.LAYOUT["carpus"][-1]
    at = {name: (xy + 0.8 * lift) * unit for name, xy in (anatomy.LANDMARK | {}).items()}
    at |= {name: (xy + s * LAYOUT_SD * (name != "MCP3")) * unit
           for (name, xy), s in zip(layout.items(), sway, strict=True)}  # fmt: skip
    width, index = (float(np.interp(years, anatomy.MC2_WIDTH_AGE_YEARS, table[sex]))
                    for table in (anatomy.MC2_WIDTH_MM, anatomy.METACARPAL_INDEX))  # fmt: skip
    # metacarpals are wider on films than in the table, for their length, and toddlers' most
    width *= size * float(np.interp(years, (1.5, 9), (1.35, 1.15)))
    body = _Body(years, mc2, width, index, unit, sex == "M", build)
    rays = [_ray(body, ray, at, stretch) for ray in range(1, 6)]
    fingers = [bone for ray in rays for bone in ray]
    shell = float(np.interp(years, anatomy.MINERAL_AGE_YEARS, anatomy.SHELL_MM))
    everything = _forearm(body, at) + fingers + _carpals(body, at, rays[0][0])
    return unit, [replace(bone, shell_mm=shell) for bone in everything]


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
        tempo = float(np.clip(rng.standard_normal(), -maturity.TEMPO_LIMIT, maturity.TEMPO_LIMIT))
    shifts: dict[str, tuple[float, float]] = {}
    size_z, build, stretch, sway = 0.0, 1.0, {}, np.zeros((len(anatomy.LAYOUT), 2))
    if jitter:
        shifts = maturity.draw_shifts(rng)
        r = SIZE_TEMPO_CORRELATION
        size_z = r * tempo + np.sqrt(1 - r * r) * rng.standard_normal()
        build = float(np.exp(BUILD_SD * rng.standard_normal()))
        stretch = {name: float(np.exp(BONE_SD * rng.standard_normal())) for name in maturity.CENTRES}
        sway = rng.standard_normal(sway.shape)
    size = float(np.exp(SIZE_SD * size_z))
    ba = maturity.bone_age(sex, age_months, tempo)
    unit, bones = _bones(sex, age_months, size, build, stretch, sway)
    centres = tuple(maturity.state(name, sex, ba, maturity.clock(name, sex, *shifts.get(name, (0.0, 0.0))))
                    for name in maturity.CENTRES)  # fmt: skip
    return Child(sex, float(age_months), ba, float(tempo), size, unit, tuple(bones), centres)
