"""From a child's true bone age to what stands in the label table: one reader, with a reader's noise and habits."""

from __future__ import annotations

import numpy as np

from bonexage_utils.phantom import anatomy
from bonexage_utils.phantom.maturity import Sex
from bonexage_utils.phantom.nuisances import SITES

# SD of one reading (months): LA Digital Hand Atlas, two readers 0.63 y apart (RMS), so 0.45 y each; Thodberg &
# Savendahl 2010. They were worst while epiphyses widen and best while plates fuse; an infant's film narrows the age to
# a season. So 5.4 on the whole, laid out over bone age (months).
RATER_SD_MONTHS = 5.5
RATER_SD: dict[str, tuple[tuple[float, float], ...]] = {
    "M": ((0, 1.5), (12, 2.5), (24, 4.0), (48, 5.5), (66, 5.5), (78, 7.0), (138, 7.0), (160, 4.5), (190, 4.5),
          (204, 5.5), (228, 6.0)),
    "F": ((0, 1.5), (12, 2.5), (24, 4.0), (48, 5.5), (94, 5.5), (106, 7.0), (138, 7.0), (152, 4.5), (170, 4.5),
          (186, 5.5), (216, 6.0)),
}  # fmt: skip
# What a reader does with an impression: names the nearest plate, or the nearest of plates and half-ways, or a month.
# Fitted to the public labels: at RSNA's ages 79 % multiples of six months and 59 % of twelve, there 81 % and 58 %.
HABITS = {"plate": 0.86, "half": 0.11, "month": 0.03}


def rater_sd(bone_age_months: float, sex: Sex) -> float:
    """SD (months) of one reading at a bone age."""
    return float(np.interp(bone_age_months, *np.array(RATER_SD[sex]).T))


def read_by_rater(bone_age_months: float, sex: Sex, rng: np.random.Generator, site: str = "A") -> int:
    """One reader's label (whole months, 1 to the atlas's last plate): truth plus noise, heaped as readers do."""
    place, plates = SITES[site], np.array(anatomy.GP_STANDARDS[sex], dtype=float)
    reading = bone_age_months + place.reader_bias + rng.normal(0.0, rater_sd(bone_age_months, sex))
    habit = str(rng.choice(list(HABITS), p=list(HABITS.values())))
    if place.reader_step:
        answer = place.reader_step * np.round(reading / place.reader_step)
    elif habit == "month":
        answer = reading
    else:
        answers = plates if habit == "plate" else np.r_[plates, (plates[1:] + plates[:-1]) / 2]
        answer = answers[np.argmin(np.abs(answers - reading))]
    return int(np.clip(np.floor(answer + 0.5), 1, plates[-1]))
