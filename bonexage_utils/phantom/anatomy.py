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
    """Bone ages (months) an epiphysis passes after it has appeared. EMR: epiphysis width / metaphysis width.

    `caps` is when it grips the metaphysis with horns on both sides; None for those that only come to lie in line.
    """

    emr_half: float
    emr_one: float
    caps: float | None
    fusion_begins: float
    fusion_complete: float


# Median, on the calendar: Garn, Rohmann & Silverman 1967, Med Radiogr Photogr 43:45-66 (Fels, Ohio), recalled and
# cross-checked against the Greulich-Pyle standards. specific_sd = sqrt(SD^2 - SD_Brush^2), floored at 0.4 SD: derived.
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
        "DP1": Milestones(26, 60, 132, 156, 162),
        "DP2-5": Milestones(36, 60, 132, 158, 162),
        "PP2-5": Milestones(24, 106, 132, 162, 176),
        "MP2-5": Milestones(36, 106, 132, 164, 178),
        "PP1": Milestones(30, 96, 132, 164, 176),
        "MC1": Milestones(36, 120, 156, 162, 168),
        "MC2-5": Milestones(30, 132, None, 165, 180),
        "radius": Milestones(24, 132, 144, 177, 204),
        "ulna": Milestones(90, 144, None, 174, 200),
    },
    "M": {
        "DP1": Milestones(30, 96, 165, 171, 186),
        "DP2-5": Milestones(54, 96, 168, 177, 186),
        "PP2-5": Milestones(32, 150, 162, 186, 202),
        "MP2-5": Milestones(42, 140, 168, 187, 203),
        "PP1": Milestones(54, 120, 162, 186, 200),
        "MC1": Milestones(54, 150, 168, 176, 186),
        "MC2-5": Milestones(45, 156, None, 189, 204),
        "radius": Milestones(36, 156, 180, 206, 228),
        "ulna": Milestones(108, 180, None, 204, 216),
    },
}
# Single bones that leave their group (same notes).
MILESTONE_EXCEPTIONS: dict[str, dict[str, dict[str, float]]] = {
    "F": {"DP2": {"emr_one": 66}, "PP5": {"emr_one": 120, "fusion_complete": 170}, "MP5": {"emr_one": 120},
          "MP2": {"fusion_complete": 172}},
    "M": {"PP2": {"emr_one": 132}, "MP5": {"emr_one": 156}},
}  # fmt: skip

# Bone ages (months) between which a shape goes from its childish to its adult form (Greulich & Pyle notes; the ends
# of several are interpolated). Carpals are round before and faceted after.
SHAPES: dict[str, dict[str, tuple[float, float]]] = {
    "radius": {"M": (72, 180), "F": (66, 150)},  # styloid
    "ulna": {"M": (108, 186), "F": (106, 162)},  # styloid
    "MC2": {"M": (72, 132), "F": (82, 120)},  # notch of the base for the trapezoid
    "capitate": {"M": (60, 180), "F": (50, 156)}, "hamate": {"M": (60, 180), "F": (50, 156)},
    "carpal": {"M": (84, 180), "F": (69, 156)},
}  # fmt: skip
# Months the white line of a closed growth plate takes to fade ("one to three years"; radius and MP longest).
SCAR_MONTHS: dict[str, float] = {"radius": 48.0, "MP": 36.0, "other": 20.0}

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
# The thumb has no middle phalanx. Proximal and middle phalanges are drawn LONGER_FINGERS times as long: so they fit
# the joints of the layout below.
ROW_RATIO: dict[str, tuple[float, ...]] = {
    "MC": (0.68, 1.0, 0.955, 0.855, 0.79),
    "PP": (0.465, 0.60, 0.665, 0.615, 0.48),
    "MP": (0.0, 0.335, 0.39, 0.375, 0.265),
    "DP": (0.32, 0.235, 0.255, 0.255, 0.235),
}

LONGER_FINGERS = 1.04
# Cortex of a bone over that of a metacarpal of its width: estimates by eye from public films.
CORTEX_SHARE: dict[str, float] = {"MC": 0.9, "PP": 0.7, "MP": 0.65, "DP": 0.5, "forearm": 0.75}

# Neutral layout: origin at the distal radius epiphysis, +y to the third MCP joint, +x to the thumb, unit S =
# |radius -> MCP3|. Medians below 60, at 60-120 and from 120 months of 327 films annotated by Koitka et al.
# (razorx89/rsna-boneage-ossification-roi-detection, MIT).
LAYOUT_AGE_MONTHS = (36, 90, 156)
LAYOUT: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "ulna": ((-0.271, -0.023), (-0.253, -0.026), (-0.247, -0.014)),
    "carpus": ((-0.042, 0.288), (-0.012, 0.258), (-0.016, 0.236)),
    "MCP1": ((0.488, 0.642), (0.528, 0.642), (0.511, 0.643)),
    "MCP2": ((0.253, 0.991), (0.241, 0.988), (0.239, 0.995)),
    "MCP3": ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
    "MCP4": ((-0.226, 0.954), (-0.205, 0.940), (-0.198, 0.938)),
    "MCP5": ((-0.419, 0.857), (-0.396, 0.835), (-0.384, 0.841)),
    "IP1": ((0.700, 0.884), (0.703, 0.873), (0.711, 0.891)),
    "PIP2": ((0.351, 1.392), (0.342, 1.380), (0.342, 1.405)),
    "PIP3": ((0.038, 1.459), (0.024, 1.463), (0.029, 1.475)),
    "PIP4": ((-0.292, 1.372), (-0.274, 1.359), (-0.258, 1.368)),
    "PIP5": ((-0.557, 1.148), (-0.556, 1.121), (-0.528, 1.141)),
    "DIP2": ((0.395, 1.606), (0.394, 1.609), (0.398, 1.633)),
    "DIP3": ((0.056, 1.740), (0.029, 1.738), (0.044, 1.752)),
    "DIP4": ((-0.335, 1.629), (-0.303, 1.616), (-0.289, 1.629)),
    "DIP5": ((-0.610, 1.319), (-0.632, 1.287), (-0.606, 1.314)),
}
# Adult landmarks in the same frame, estimates, +-0.02 S: metacarpal bases (only their direction is used) and carpals.
LANDMARK: dict[str, tuple[float, float]] = {
    "MC1": (0.225, 0.30), "MC2": (0.105, 0.35), "MC3": (-0.01, 0.365), "MC4": (-0.115, 0.385), "MC5": (-0.21, 0.37),
    "scaphoid": (0.06, 0.106), "lunate": (-0.090, 0.090), "triquetrum": (-0.21, 0.158),
    "pisiform": (-0.215, 0.135), "trapezium": (0.162, 0.238), "trapezoid": (0.102, 0.272),
    "capitate": (-0.025, 0.237), "hamate": (-0.145, 0.262),
}  # fmt: skip

# Adult male carpals and sesamoid on a PA view of a left hand: corners in mm from the centre, +x to the thumb, +y to
# the fingertips. Length and width recalled (capitate 23 x 15, hamate 21 x 18, triquetrum 17 x 13, lunate 18 x 15,
# scaphoid 26 x 14, trapezium 18 x 17, trapezoid 14 x 12, pisiform 12 x 9, sesamoid 5 x 4), corners drawn by eye.
ROUND_BONES: dict[str, tuple[tuple[float, float], ...]] = {
    "capitate": ((-6.8, 11), (6, 11.5), (7.4, 6), (6, 0.5), (6.6, -5), (4.6, -9.5), (0, -11.5), (-4.6, -10),
                 (-6.8, -5), (-6.8, 3)),
    "hamate": ((-8.5, 9.5), (-1, 11), (6.5, 10.5), (6.8, 4), (5.8, -3), (4.8, -9.5), (2, -10.5), (-2, -7), (-7, -1),
               (-9.5, 4)),
    "triquetrum": ((-6.5, 5), (-1, 7), (5, 5), (7, -1), (6, -6), (0, -7), (-5.5, -4), (-8, 1)),
    "lunate": ((-8.5, 2.5), (-4, 6.8), (1, 5), (6.5, 6.8), (8.5, 1), (7, -4.5), (1, -7.2), (-5.5, -5.5)),
    "scaphoid": ((-8, -2), (-7, -8), (-1, -9), (5, -5), (9, 2), (11, 8), (8, 11.5), (3, 10), (-1, 4.5), (-5, 2)),
    "trapezium": ((-7, -4), (-2, -8.5), (5, -6.5), (9, 0), (6.5, 7.5), (0, 8.5), (-6, 6.5), (-8, 1)),
    "trapezoid": ((-5, -5), (3.5, -6.5), (6, -1), (5.5, 6), (-1, 7), (-6, 5.5), (-6.3, 0)),
    "pisiform": ((-4.5, 3), (-2, 6), (2, 6), (4.5, 3), (4.5, -3), (2, -6), (-2, -6), (-4.5, -3)),
    "sesamoid": ((-1.8, 1.2), (-0.8, 2.5), (0.8, 2.5), (1.8, 1.2), (1.8, -1.2), (0.8, -2.5), (-0.8, -2.5),
                 (-1.8, -1.2)),
}
FEMALE_CARPALS = 0.90  # of the male's size
# Carpals have their adult outline at this bone age (Greulich & Pyle notes).
CARPALS_ADULT: dict[str, float] = {"M": 180.0, "F": 156.0}

# Radiographic physis and joint gaps (mm) by age (years): engineering estimates anchored to ultrasound of the
# radial physis (Ng et al.: 3.2 +- 0.9 mm at 6 years). Drawn at half of that, and in the
# fingers at less: on public films the dark line is thin, and the edges drawn fade out.
GAP_AGE_YEARS = (2, 6, 10, 14)
PHYSIS_GAP_MM: dict[str, tuple[float, ...]] = {
    "radius": (2.0, 1.5, 1.1, 0.8), "ulna": (2.0, 1.6, 1.2, 0.8), "MC": (1.2, 0.7, 0.5, 0.4),
    "phalanx": (0.9, 0.5, 0.4, 0.35),
}  # fmt: skip
JOINT_GAP_MM: dict[str, tuple[float, ...]] = {"MCP": (2.6, 1.8, 1.2, 0.9), "IP": (1.6, 1.2, 0.8, 0.6)}

# Soft tissue along the beam and skin beyond bone (mm) by age (years): engineering estimates. The margin was
# fitted to the silhouettes of 2,150 public films, whose fingers are as thick for their palm at every age.
SOFT_AGE_YEARS = (2, 8, 18)
SOFT_THICKNESS_MM: dict[str, tuple[float, float, float]] = {
    "finger": (10.5, 12.5, 16), "palm": (17.5, 22, 28), "wrist": (26, 31, 40), "margin": (2.4, 3.4, 4.7),
}  # fmt: skip

# Linear attenuation (1/cm) at 33 keV, the mean energy of a 48-55 kVp hand film: NIST XAAMDI, ICRU-44 tissues,
# log-log interpolated. Bone gains mineral while it grows: cortex from 1.5 to 1.92 g/cm3 (1.75 on the way), spongiosa
# from a bone volume fraction of 0.08 to one of 0.35, thin shells from 0.16 to 0.80 mm; ends of these ranges estimated
# by eye from public films, with a network that was trained on such films as second reader (see README.md).
MU_PER_CM_33KEV: dict[str, float] = {"soft": 0.359, "fat": 0.268}
MINERAL_AGE_YEARS = (2, 10, 17)
MU_BONE_PER_CM_33KEV: dict[str, tuple[float, float, float]] = {
    "cortical": (1.59, 1.80, 2.03), "spongiosa": (0.45, 0.64, 0.92),
}  # fmt: skip
SHELL_MM = (0.16, 0.40, 0.80)
