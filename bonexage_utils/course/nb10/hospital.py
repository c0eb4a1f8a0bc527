"""Notebook 10's hospital: a folder of films and a table as somebody sends them, with the faults that folders have."""

from pathlib import Path

import pandas as pd

from bonexage_utils.course.start import Course
from bonexage_utils.errors import BoneXageError
from bonexage_utils.labels import parse_age
from bonexage_utils.phantom import write_cohort
from bonexage_utils.phantom.dataset import COHORT_FILE, IMAGE_FOLDER, LABEL_FILE, TRUTH_FILE, VERSION
from bonexage_utils.phantom.faults import PLANTED_FILE, plant_faults

SEED, FAULTS = 10, 24  # children who are in no cohort of the course; each kind of fault twice
FILMS = {"fast": 240, "cpu": 1000, "gpu": 2400}
FILM_FOLDER, TABLE, LETTER = "films", "bone_ages.csv", "LETTER.txt"
CODES = {"M": "0", "F": "1"}  # not as RSNA's `male`, and the letter does not say it
NAMELESS = 17  # the row whose film id is missing
TEXT = """\
Dear colleagues,

here are the {n:,} films that you asked for, and their bone ages as we read them. In the first half of the
table they stand in years and months; since the new system they stand in months. The sex is coded as in that
system. Whoever knew the codes has left, and tidied up the folder on his last day.

Our board meets today. May your program read bone ages here, yes or no? One page, please.

Children's Hospital, Department of Radiology
"""


def sent(course: Course) -> Path:
    """The hospital's folder, relative to the course's; drawn once. It holds `TABLE`, `LETTER` and `FILM_FOLDER`, and
    nothing that tells the truth."""
    films = FILMS[course.profile.name]
    folder = course.folder / "data" / f"phantom-hospital-{films}-v{VERSION}"
    if not folder.is_dir():
        try:
            write_cohort(folder, films, SEED, finish=_as_sent)
        except (BoneXageError, OSError):
            if not folder.is_dir():  # else another notebook was quicker, and its folder is the same
                raise
    return folder.relative_to(course.folder)


def _as_sent(folder: Path) -> None:
    plant_faults(folder, FAULTS, SEED)
    labels = pd.read_csv(folder / LABEL_FILE, dtype=str)
    as_typed(labels).to_csv(folder / TABLE, sep=";", index=False, lineterminator="\n")
    (folder / LETTER).write_text(TEXT.format(n=len(labels)), encoding="utf-8")
    (folder / IMAGE_FOLDER).rename(folder / FILM_FOLDER)
    for name in (LABEL_FILE, TRUTH_FILE, PLANTED_FILE, COHORT_FILE):
        (folder / name).unlink()


def as_typed(labels: pd.DataFrame) -> pd.DataFrame:
    """A label table (`id`, `boneage` in months, `male`; all text) as the hospital typed it: `film`, `age` and `sex`."""
    months = labels["boneage"].astype(int)
    new = months.index >= len(labels) // 2
    films = labels["id"].where(labels.index != NAMELESS, "")
    ages = months.map(in_years).where(~new, months.astype(str))
    sexes = labels["male"].map({"True": CODES["M"], "False": CODES["F"]})
    return pd.DataFrame({"film": films, "age": ages, "sex": sexes})


def in_years(months: int) -> str:
    """Such as "6y 10m", "7y" or "9m"."""
    years, rest = divmod(months, 12)
    return " ".join(f"{number}{unit}" for number, unit in ((years, "y"), (rest, "m")) if number)


def to_months(text: str) -> float:
    """An age of the hospital's table in months: "6y 10m" is 82, and so is "82". NaN for what is neither."""
    found = parse_age(text) if any(unit in text for unit in "ym") else float(text)
    return float("nan") if found is None else found
