"""Growth, size and attenuation tables behind the phantom, as plain data.

Ages are in months, lengths in mm, linear attenuation in 1/cm. Sex is "M" or "F". Bones are named MC
(metacarpal), PP, MP and DP (proximal, middle and distal phalanx) with the ray's number, 1 = thumb.
Several tables are recalled from classical sources that could not be reopened; each says how sure it is. They
make a plausible teaching phantom and are not a clinical reference.
"""

from __future__ import annotations

from typing import NamedTuple


class Appearance(NamedTuple):
    """When a centre first shows: median age and the scatter left once the common tempo is removed (months)."""

    median: float
    specific_sd: float


class Milestones(NamedTuple):
    """Bone ages (months) an epiphysis passes after it has appeared. EMR: epiphysis width / metaphysis width."""

    emr_half: float
    emr_one: float
    fusion_begins: float
    fusion_complete: float


# Median: Garn, Rohmann & Silverman 1967, Med Radiogr Photogr 43:45-66 (Fels, Ohio), recalled and cross-checked
# against the Greulich-Pyle standards. specific_sd = sqrt(SD^2 - SD_Brush^2), floored at 0.4 SD: derived.
# Pisiform is not in Garn's list: intermediate of several public sources, +-6 months; its specific_sd is estimated.
APPEARANCE: dict[str, dict[str, Appearance]] = {
    "capitate": {"M": Appearance(3, 2.3), "F": Appearance(2, 3.0)},
    "hamate": {"M": Appearance(4, 2.9), "F": Appearance(2, 3.0)},
    "radius": {"M": Appearance(13, 6.3), "F": Appearance(10, 4.3)},
    "PP3": {"M": Appearance(16, 4.2), "F": Appearance(10, 4.0)},
    "PP2": {"M": Appearance(17, 4.0), "F": Appearance(10, 4.3)},
    "PP4": {"M": Appearance(18, 4.6), "F": Appearance(11, 4.3)},
    "DP1": {"M": Appearance(18, 6.0), "F": Appearance(12, 4.5)},
    "MC2": {"M": Appearance(19, 6.0), "F": Appearance(13, 3.0)},
    "MC3": {"M": Appearance(21, 6.6), "F": Appearance(14, 3.9)},
    "PP5": {"M": Appearance(22, 5.5), "F": Appearance(14, 4.6)},
    "MC4": {"M": Appearance(24, 8.2), "F": Appearance(15, 4.4)},
    "MP3": {"M": Appearance(24, 7.6), "F": Appearance(15, 5.5)},
    "MP4": {"M": Appearance(25, 7.2), "F": Appearance(15, 5.8)},
    "MC5": {"M": Appearance(26, 8.5), "F": Appearance(16, 4.6)},
    "MP2": {"M": Appearance(26, 6.0), "F": Appearance(16, 6.0)},
    "DP3": {"M": Appearance(29, 7.6), "F": Appearance(18, 6.1)},
    "DP4": {"M": Appearance(29, 7.6), "F": Appearance(18, 6.7)},
    "triquetrum": {"M": Appearance(29, 17.7), "F": Appearance(21, 12.1)},
    "MC1": {"M": Appearance(31, 9.6), "F": Appearance(19, 5.2)},
    "PP1": {"M": Appearance(36, 8.6), "F": Appearance(21, 5.7)},
    "DP5": {"M": Appearance(39, 9.3), "F": Appearance(24, 7.5)},
    "MP5": {"M": Appearance(41, 13.2), "F": Appearance(24, 8.2)},
    "DP2": {"M": Appearance(38, 10.3), "F": Appearance(30, 5.8)},
    "lunate": {"M": Appearance(49, 17.8), "F": Appearance(31, 15.8)},
    "scaphoid": {"M": Appearance(68, 12.6), "F": Appearance(49, 9.6)},
    "trapezium": {"M": Appearance(70, 17.9), "F": Appearance(49, 13.2)},
    "trapezoid": {"M": Appearance(75, 17.5), "F": Appearance(50, 8.9)},
    "ulna": {"M": Appearance(85, 10.8), "F": Appearance(64, 11.6)},
    "pisiform": {"M": Appearance(126, 8.0), "F": Appearance(108, 8.0)},
    "sesamoid": {"M": Appearance(153, 7.9), "F": Appearance(129, 8.5)},
}

# Greulich & Pyle standards as restated in the public notes of dfnr2/bone-age-app; one representative number per
# group, some cells interpolated. On the bone-age scale.
MILESTONES: dict[str, dict[str, Milestones]] = {
    "F": {
        "DP1": Milestones(26, 60, 156, 162),
        "DP2-5": Milestones(36, 60, 158, 162),
        "PP2-5": Milestones(24, 106, 162, 176),
        "MP2-5": Milestones(36, 106, 164, 178),
        "PP1": Milestones(30, 96, 164, 176),
        "MC1": Milestones(36, 120, 162, 168),
        "MC2-5": Milestones(30, 132, 165, 180),
        "radius": Milestones(24, 132, 177, 204),
        "ulna": Milestones(90, 144, 174, 200),
    },
    "M": {
        "DP1": Milestones(30, 96, 171, 186),
        "DP2-5": Milestones(54, 96, 177, 186),
        "PP2-5": Milestones(32, 147, 186, 202),
        "MP2-5": Milestones(42, 145, 187, 203),
        "PP1": Milestones(54, 120, 186, 200),
        "MC1": Milestones(54, 150, 176, 186),
        "MC2-5": Milestones(45, 156, 189, 204),
        "radius": Milestones(36, 156, 206, 228),
        "ulna": Milestones(108, 180, 204, 216),
    },
}

# Greulich & Pyle 1959, Brush Foundation series: (chronological age, mean skeletal age, SD), months. Three public
# transcriptions agree digit for digit.
BRUSH: dict[str, tuple[tuple[float, float, float], ...]] = {
    "M": (
        (3, 3.01, 0.69), (6, 6.09, 1.13), (9, 9.56, 1.43), (12, 12.74, 1.97), (18, 19.36, 3.52),
        (24, 25.97, 3.92), (30, 32.4, 4.52), (36, 38.21, 5.08), (42, 43.89, 5.4), (48, 49.04, 6.66),
        (54, 56.0, 8.36), (60, 62.43, 8.79), (72, 75.46, 9.17), (84, 88.2, 8.91), (96, 101.38, 9.1),
        (108, 113.9, 9.0), (120, 125.68, 9.79), (132, 137.32, 10.09), (144, 148.82, 10.38),
        (156, 158.39, 10.44), (168, 170.02, 10.72), (180, 182.72, 11.32), (192, 195.32, 12.86),
        (204, 206.21, 13.05),
    ),
    "F": (
        (3, 3.02, 0.72), (6, 6.04, 1.16), (9, 9.05, 1.36), (12, 12.04, 1.77), (18, 18.22, 3.49),
        (24, 24.16, 4.64), (30, 30.96, 5.37), (36, 36.63, 5.97), (42, 43.5, 7.48), (48, 50.14, 8.98),
        (54, 60.06, 10.73), (60, 66.21, 11.65), (72, 78.5, 10.23), (84, 89.3, 9.64), (96, 100.66, 10.23),
        (108, 113.86, 10.74), (120, 125.66, 11.73), (132, 137.86, 11.94), (144, 149.62, 10.24),
        (156, 162.28, 10.67), (168, 174.25, 11.3), (180, 183.62, 9.23), (192, 189.44, 7.31),
    ),
}  # fmt: skip

# Plates of the Greulich-Pyle atlas (months): what a rater can answer.
GP_STANDARDS: dict[str, tuple[int, ...]] = {
    "M": (0, 3, 6, 9, 12, 15, 18, 24, 32, 36, 42, 48, 54, 60, 72, 84, 96, 108, 120, 132, 138, 150, 156, 162, 168,
          180, 186, 192, 204, 216, 228),
    "F": (0, 3, 6, 9, 12, 15, 18, 24, 30, 36, 42, 50, 60, 69, 82, 94, 106, 120, 132, 144, 156, 162, 168, 180, 192,
          204, 216),
}  # fmt: skip

# Length of MC2 (mm) by age (years): Garn, Hertzog, Poznanski & Nagy 1972, Radiology 105:375-381, recalled, +-4 %
# (toddlers +-15 %).
MC2_AGE_YEARS = (0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18)
MC2_LENGTH_MM: dict[str, tuple[float, ...]] = {
    "M": (18.5, 26.8, 32.0, 39.3, 45.2, 50.4, 55.2, 60.0, 66.3, 70.0, 71.0),
    "F": (18.0, 26.5, 31.8, 39.2, 45.3, 50.6, 55.8, 61.8, 65.0, 65.5, 65.5),
}

# Midshaft width of MC2 (mm) and metacarpal index 2T/W by age (years): Garn 1970, recalled.
MC2_WIDTH_AGE_YEARS = (1, 2, 4, 6, 8, 10, 12, 14, 16, 18)
MC2_WIDTH_MM: dict[str, tuple[float, ...]] = {
    "M": (4.4, 4.8, 5.5, 6.1, 6.7, 7.2, 7.7, 8.4, 8.9, 9.2),
    "F": (4.2, 4.6, 5.3, 5.8, 6.3, 6.8, 7.3, 7.7, 7.9, 8.0),
}
METACARPAL_INDEX: dict[str, tuple[float, ...]] = {
    "M": (0.32, 0.37, 0.42, 0.44, 0.45, 0.46, 0.47, 0.50, 0.55, 0.58),
    "F": (0.33, 0.39, 0.43, 0.45, 0.46, 0.48, 0.53, 0.57, 0.59, 0.61),
}

# Bone length / MC2 length for rays 1-5: Buryanov & Kotiuk 2010, Int J Morphol 28:755; near-constant after 2 years.
# The thumb has no middle phalanx.
ROW_RATIO: dict[str, tuple[float, ...]] = {
    "MC": (0.68, 1.0, 0.955, 0.855, 0.79),
    "PP": (0.465, 0.60, 0.665, 0.615, 0.48),
    "MP": (0.0, 0.335, 0.39, 0.375, 0.265),
    "DP": (0.32, 0.235, 0.255, 0.255, 0.235),
}

# Neutral layout: origin at the distal radius epiphysis, +y to the third MCP joint, +x to the thumb, unit S =
# |radius -> MCP3|. Medians at >= 120 months of 327 films annotated by Koitka et al.
# (razorx89/rsna-boneage-ossification-roi-detection, MIT); metacarpal bases and carpals are estimates, +-0.02 S.
LAYOUT: dict[str, tuple[float, float]] = {
    "ulna": (-0.247, -0.014),
    "MCP1": (0.511, 0.643), "MCP2": (0.239, 0.995), "MCP3": (0.0, 1.0), "MCP4": (-0.198, 0.938),
    "MCP5": (-0.384, 0.841), "IP1": (0.711, 0.891), "PIP2": (0.342, 1.405), "PIP3": (0.029, 1.475),
    "PIP4": (-0.258, 1.368), "PIP5": (-0.528, 1.141), "DIP2": (0.398, 1.633), "DIP3": (0.044, 1.752),
    "DIP4": (-0.289, 1.629), "DIP5": (-0.606, 1.314),
    "MC1": (0.215, 0.30), "MC2": (0.085, 0.35), "MC3": (0.0, 0.365), "MC4": (-0.085, 0.385),
    "MC5": (-0.165, 0.37),
    "scaphoid": (0.075, 0.14), "lunate": (-0.055, 0.115), "triquetrum": (-0.165, 0.17),
    "pisiform": (-0.175, 0.16), "trapezium": (0.17, 0.255), "trapezoid": (0.085, 0.275),
    "capitate": (-0.015, 0.245), "hamate": (-0.12, 0.25),
}  # fmt: skip

# Adult male carpals and sesamoid on a PA view: long axis mm, short axis mm, tilt of the long axis from +y towards
# the thumb (degrees). Sizes recalled, tilts estimated by eye.
ROUND_BONES: dict[str, tuple[float, float, float]] = {
    "capitate": (23, 15, 0), "hamate": (21, 18, -15), "triquetrum": (17, 13, -40), "lunate": (18, 15, 80),
    "scaphoid": (26, 14, 45), "trapezium": (18, 17, 30), "trapezoid": (14, 12, 20), "pisiform": (12, 9, 0),
    "sesamoid": (5, 4, 30),
}  # fmt: skip
# Carpals have their adult outline at this bone age (Greulich & Pyle notes).
CARPALS_ADULT: dict[str, float] = {"M": 180.0, "F": 156.0}

# Radiographic physis and joint gaps (mm) by age (years): engineering estimates anchored to ultrasound of the
# radial physis (Ng et al.: 3.2 +- 0.9 mm at 6 years). The toddler's MCP gap is drawn below the estimated 4-5 mm,
# which left the fingers visibly apart from the palm.
GAP_AGE_YEARS = (2, 6, 10, 14)
PHYSIS_GAP_MM: dict[str, tuple[float, ...]] = {
    "radius": (3.0, 2.5, 2.0, 1.2), "ulna": (3.0, 3.0, 2.2, 1.3), "MC": (2.5, 1.8, 1.3, 0.9),
    "phalanx": (2.0, 1.3, 1.0, 0.7),
}  # fmt: skip
JOINT_GAP_MM: dict[str, tuple[float, ...]] = {"MCP": (3.5, 3.0, 2.2, 1.6), "IP": (2.5, 1.8, 1.3, 1.0)}

# Soft tissue along the beam and skin beyond bone (mm) by age (years): engineering estimates.
SOFT_AGE_YEARS = (2, 8, 18)
SOFT_THICKNESS_MM: dict[str, tuple[float, float, float]] = {
    "finger": (9, 12, 16), "palm": (15, 21, 28), "wrist": (24, 31, 40), "margin": (2.5, 4.0, 5.0),
}  # fmt: skip

# Linear attenuation (1/cm) at 33 keV, the mean energy of a 48-55 kVp hand film: NIST XAAMDI, ICRU-44 tissues,
# log-log interpolated. Spongiosa: bone volume fraction 0.20.
MU_PER_CM_33KEV: dict[str, float] = {"soft": 0.359, "cortical": 2.031, "spongiosa": 0.657}
