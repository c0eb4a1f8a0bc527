"""How mature one child is: a bone age from age and tempo, and from that the state of every ossification centre.

A child has one tempo for the whole skeleton and, on top, small shifts of single centres, drawn once for life. So
every event of a life is known without drawing a film (`Clock`), and a film only looks up where each clock stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from bonexage_utils.phantom import anatomy

Sex = Literal["M", "F"]

CENTRES = tuple(anatomy.APPEARANCE)
TEMPO_LIMIT = 2.5  # SDs; a wider tail would make children whose centres appear out of any clinical order
SHIFT_LIMIT = 2.0
LATE_EVENT_SD = 4.0  # months: fusion scatters by 10-13 at a given age (recalled), of which tempo explains about 11
CARPAL_SHARE = 0.7  # of a carpal's own scatter, common to all of them (Johnston 1968: triquetrum before lunate, 87 %)
ROW_SHARE, HAND_SHARE = 0.3, 0.25  # of an epiphysis' own scatter, common to its row, and to all epiphyses
EMR_AT_APPEARANCE = 0.14  # a nodule of 1-1.5 mm
EMR_FULL_GROWN = 1.08  # the epiphysis slightly overhangs before it fuses (1.05-1.10)
WIDENING = 2.0  # from half to full width quick at first, as films show; 1 would be a straight line
CAPPING_MONTHS = 18.0  # over which the horns grow; the table gives the middle
CARPAL_AT_APPEARANCE = 0.10


@dataclass(frozen=True)
class Centre:
    """Maturity of one ossification centre, named after its bone.

    `emr` is the epiphysis width over the metaphysis width, 0 when absent, up to 1.08; for carpals and the sesamoid,
    which have no metaphysis, it is the share of their adult size, 0 to 1. `cap` runs from 0 to 1 as the horns grip
    the metaphysis, `fusion` from 0 (open) to 1 (complete), `scar` from 1 at fusion back to 0 as the white line
    fades; all three stay 0 where they do not apply. `gap_mm` is the open growth plate (before the centre shows: the
    one it will have), 0 without one. `detail` (0 to 1) is how far the adult shape has come: facets of carpals,
    styloids of radius and ulna, the notched base of MC2.
    """

    name: str
    present: bool
    emr: float
    cap: float = 0.0
    gap_mm: float = 0.0
    fusion: float = 0.0
    scar: float = 0.0
    detail: float = 0.0


class Clock(NamedTuple):
    """Bone ages (months) of the events of one centre's life; `caps` is infinite for centres without horns."""

    appears: float
    emr_half: float
    emr_one: float
    caps: float
    fusion_begins: float
    fusion_complete: float


def brush(sex: Sex, age_months: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean bone age and its SD (months) at a chronological age; from the first row back to birth both run to zero."""
    age, mean, sd = np.array(anatomy.BRUSH[sex]).T
    beyond = np.maximum(np.asarray(age_months) - age[-1], 0)
    return (np.interp(age_months, np.r_[0, age], np.r_[0, mean]) + beyond,
            np.interp(age_months, np.r_[0, age], np.r_[0, sd]))


def bone_age(sex: Sex, age_months: float, tempo: float) -> float:
    """Bone age (months) of a child `tempo` SDs from the Brush mean, within 1 month and the atlas's last plate."""
    mean, sd = brush(sex, age_months)
    return float(np.clip(mean + sd * tempo, 1.0, anatomy.GP_STANDARDS[sex][-1]))


def group(name: str) -> str:
    """Key of `anatomy.MILESTONES` for an epiphysis."""
    return name if name in ("radius", "ulna", "MC1", "PP1", "DP1") else f"{name[:2]}2-5"


def milestones(name: str, sex: Sex) -> anatomy.Milestones:
    """The table's milestones of one epiphysis, with its exceptions."""
    return anatomy.MILESTONES[sex][group(name)]._replace(**anatomy.MILESTONE_EXCEPTIONS[sex].get(name, {}))


def draw_shifts(rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Each centre's own (early, late) shift in SDs: neighbours shift together, as carpals and rows of bones do."""
    own = rng.standard_normal((len(CENTRES), 2))
    hand, rows = rng.standard_normal(2), {row: rng.standard_normal(2) for row in ("MC", "PP", "MP", "DP", "carpal")}
    shifts = {}
    for name, z in zip(CENTRES, own, strict=True):
        if name in anatomy.ROUND_BONES and name != "sesamoid":
            z = np.sqrt(CARPAL_SHARE) * rows["carpal"] + np.sqrt(1 - CARPAL_SHARE) * z
        elif name[:2] in rows:
            z = (np.sqrt(ROW_SHARE) * rows[name[:2]] + np.sqrt(HAND_SHARE) * hand
                 + np.sqrt(1 - ROW_SHARE - HAND_SHARE) * z)  # fmt: skip
        early, late = np.clip(z, -SHIFT_LIMIT, SHIFT_LIMIT)
        shifts[name] = (float(early), float(late))
    return shifts


def clock(name: str, sex: Sex, early: float = 0.0, late: float = 0.0) -> Clock:
    """The events of centre `name`, its appearance shifted by `early` SDs and all that follows by `late` SDs."""
    table = anatomy.APPEARANCE[name][sex]
    # the table is on the calendar: what an average child of that age has as bone age
    appears = max(1.0, float(brush(sex, table.median)[0]) + early * table.specific_sd)
    if name in anatomy.ROUND_BONES:
        return Clock(appears, *(float("inf"),) * 5)
    stones, shift = milestones(name, sex), late * LATE_EVENT_SD
    half = max(stones.emr_half + shift, appears + 8.0)  # a centre that came late still needs months to grow
    one = max(stones.emr_one + shift, half + 12.0)
    begins = max(stones.fusion_begins + shift, one + 6.0)
    complete = max(stones.fusion_complete + shift, begins + 4.0)
    return Clock(appears, half, one, float("inf") if stones.caps is None else stones.caps + shift, begins, complete)


def state(name: str, sex: Sex, bone_age_months: float, events: Clock) -> Centre:
    """Where centre `name` stands at a bone age."""
    ba = bone_age_months
    if ba < events.appears:
        return Centre(name, False, 0.0, gap_mm=0.0 if name in anatomy.ROUND_BONES else physis_gap(name, ba))
    start, end = anatomy.SHAPES.get(name, anatomy.SHAPES["carpal"])[sex]
    detail = float(np.clip((ba - start) / (end - start), 0, 1))
    if name in anatomy.ROUND_BONES:
        # mm growth D_adult (0.1 + 0.9 x^0.5), taken relative to the hand a child of this bone age usually has
        x = np.clip((ba - events.appears) / max(anatomy.CARPALS_ADULT[sex] - events.appears, 24.0), 0.0, 1.0)
        share = CARPAL_AT_APPEARANCE + (1 - CARPAL_AT_APPEARANCE) * x**0.5
        hand = mc2_length(sex, ba) / anatomy.MC2_LENGTH_MM[sex][-1]
        return Centre(name, True, float(min(1.0, share / hand)), detail=detail)
    full_grown = max(events.emr_one + 12, min(events.caps, events.fusion_begins))
    emr = np.interp(ba, [events.appears, events.emr_half, events.emr_one, full_grown],
                    [EMR_AT_APPEARANCE, 0.5, 1.0, EMR_FULL_GROWN])  # fmt: skip
    if 0.5 < emr < 1:
        emr = 1 - 0.5 * (2 - 2 * emr) ** WIDENING
    fusion = float(np.interp(ba, [events.fusion_begins, events.fusion_complete], [0.0, 1.0]))
    row = name if name == "radius" else name[:2]
    fades = anatomy.SCAR_MONTHS.get(row, anatomy.SCAR_MONTHS["other"])
    return Centre(
        name, True, float(emr),
        cap=float(np.clip((ba - events.caps) / CAPPING_MONTHS + 0.5, 0.0, 1.0)),
        gap_mm=physis_gap(name, ba) * (1 - fusion),
        fusion=fusion,
        scar=float(np.clip(1 - (ba - events.fusion_complete) / fades, 0.0, 1.0)) if fusion == 1 else 0.0,
        detail=detail if name in anatomy.SHAPES else 0.0,
    )  # fmt: skip


def physis_gap(name: str, age_months: float) -> float:
    """Width (mm) of the open growth plate of bone `name`, before bone size is looked at."""
    row = name if name in anatomy.PHYSIS_GAP_MM else "MC" if name[:2] == "MC" else "phalanx"
    return float(np.interp(age_months / 12, anatomy.GAP_AGE_YEARS, anatomy.PHYSIS_GAP_MM[row]))


def mc2_length(sex: Sex, age_months: float) -> float:
    """Mean length (mm) of the second metacarpal."""
    return float(np.interp(age_months / 12, anatomy.MC2_AGE_YEARS, anatomy.MC2_LENGTH_MM[sex]))
