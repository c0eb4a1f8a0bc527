"""What the tags of a DICOM say of the child and the exposure. Names, numbers and dates of a patient never leave it."""

import math
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bonexage_utils.decoding import file_kind, no_film, quiet
from bonexage_utils.errors import BoneXageError

DAYS = {"D": 1, "W": 7, "M": 365.25 / 12, "Y": 365.25}  # of the units of an age (PS3.5, 6.2, AS)
# Defined terms of Modality (PS3.3, C.7.3.1.1.1) that are no film of a hand, by what such a picture is.
OTHER_MODALITIES = {
    "CT": "a CT slice", "MR": "an MR slice", "PT": "a PET slice", "NM": "a scintigram", "US": "an ultrasound picture",
    "IVUS": "an ultrasound picture", "PX": "a panoramic dental film", "IO": "a dental film",
    "BMD": "a densitometry", "XC": "a photograph", "GM": "a microscope's picture", "SM": "a microscope's picture",
    "ES": "an endoscope's picture", "OP": "a picture of an eye", "OPT": "a picture of an eye", "DOC": "a document",
}
# Words that these tags are made of. What has another may be free text, and so hold a name, a number or a date.
_MODALITIES = {*OTHER_MODALITIES, "AR", "CR", "DX", "HC", "IR", "MG", "OT", "RF", "RG", "SC", "XA"}
_VIEWS = {"AP", "PA", "LL", "RL", "LLD", "RLD", "LLO", "RLO", "LAT", "LATERAL", "OBL", "OBLIQUE", "AXIAL", "DP", "PD",
          "DV", "VD", "DORSAL", "PALMAR", "PLANTAR", "VOLAR", "DORSOPALMAR", "DORSOVOLAR", "TANGENTIAL"}
_SIDES = {"L", "R", "LT", "RT", "LEFT", "RIGHT", "BOTH", "BILATERAL", "UPPER", "LOWER", "AND"}
_BODY_PARTS = {"HAND", "HANDS", "LHAND", "RHAND", "WRIST", "WRISTS", "FINGER", "FINGERS", "THUMB", "CARPUS", "FOREARM",
               "RADIUS", "ULNA", "ELBOW", "ARM", "HUMERUS", "SHOULDER", "CLAVICLE", "SCAPULA", "EXTREMITY", "LIMB",
               "BONE", "AGE", "SKELETON", "WHOLEBODY", "FOOT", "FEET", "TOE", "HEEL", "CALCANEUS", "ANKLE", "LEG",
               "TIBIA", "FIBULA", "KNEE", "PATELLA", "FEMUR", "HIP", "PELVIS", "ABDOMEN", "CHEST", "RIB", "STERNUM",
               "BREAST", "SPINE", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "NECK", "JAW", "SKULL", "HEAD"}
_OLDEST = 120 * 12  # months; who is older was born on the day that stands for none, as 1900-01-01
_SEXES = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F"}
SECONDARY_CAPTURE = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.7(\.[1-4])?")  # the last: of several frames
_READ = ["SOPClassUID", "Modality", "PatientSex", "PatientAge", "PatientBirthDate", "AcquisitionDate",
         "ContentDate", "SeriesDate", "StudyDate", "BodyPartExamined", "ViewPosition", "Laterality", "ImageLaterality"]


@dataclass(frozen=True)
class Tags:
    """Of one film, empty or NaN where its header does not say. `sex` is "M" or "F", `side` "L", "R" or "B" (both),
    `age_months` the age when it was taken; `view`, `body_part` and `modality` are the standard's words.
    `is_secondary` where it is a secondary capture, and so not what the detector's own software showed. `refusal` says
    why what lies there is no film, or not one that is read here."""

    sex: str = ""
    side: str = ""
    age_months: float = math.nan
    view: str = ""
    body_part: str = ""
    modality: str = ""
    is_secondary: bool = False
    refusal: str = ""

    @property
    def columns(self) -> dict[str, str | float]:
        """Cells for a table, by the names of `COLUMNS`."""
        return {name: getattr(self, name.removeprefix("header_")) for name in COLUMNS}

    def against(self, sex: str, source: str) -> str:
        """What contradicts `sex` ("M", "F" or "") by `source`, or that this is a radiograph, in a line; else ""."""
        if self.modality in OTHER_MODALITIES:
            return f"{OTHER_MODALITIES[self.modality]} (Modality {self.modality}), no radiograph; give a hand film"
        if sex and self.sex and sex != self.sex:
            return f"sex {sex} by {source}, but {self.sex} by the film's PatientSex; mend the one that is wrong"
        return ""


COLUMNS = [f"header_{name}" for name in ("sex", "side", "age_months", "view", "body_part", "modality")]


def read_tags(path: Path | str) -> Tags:
    """The tags of a DICOM; empty ones for another film, for a file that cannot be opened, and for a damaged header."""
    kind = file_kind(path)
    if kind != "DICOM":
        return Tags(refusal=no_film(kind))
    try:
        from bonexage_utils.dicom import read_words  # here, because few need it and it takes a while

        with quiet:
            said = read_words(path, _READ)
    except BoneXageError as error:
        return Tags(refusal=str(error))
    except Exception:  # reading the film will say what is wrong
        return Tags()
    sides = {said[name] for name in ("ImageLaterality", "Laterality")} & {"L", "R", "B"}
    side = said["ImageLaterality"] or said["Laterality"]
    words = [_in_words(said[name], known) for name, known in (
        ("ViewPosition", _VIEWS | _SIDES), ("BodyPartExamined", _BODY_PARTS | _SIDES), ("Modality", _MODALITIES))]
    return Tags(_SEXES.get(said["PatientSex"], ""), side if sides == {side} else "", _age(said), *words,
                bool(SECONDARY_CAPTURE.fullmatch(said["SOPClassUID"])))


def _in_words(text: str, known: set[str]) -> str:
    return text if set(re.split(r"[ _]+", text)) <= known else ""


def _age(said: dict[str, str]) -> float:
    """Months from birth to the exposure by their dates, else by PatientAge, which counts whole years in most films.

    NaN where the two are more than two years apart (an archive writes made-up dates where it takes out the true ones)
    or nobody is so old.
    """
    born, taken = (_date(said, names) for names in (
        ["PatientBirthDate"], ["AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"]))
    found = re.fullmatch(r"([0-9]{1,3}) ?([DWMY])", said["PatientAge"])
    days = [(taken - born).days] if born and taken and taken >= born else []
    days += [int(found[1]) * DAYS[found[2]]] if found else []
    if not days or max(days) - min(days) > 2 * DAYS["Y"] or days[0] > _OLDEST * DAYS["M"]:
        return math.nan
    return round(days[0] / DAYS["M"], 1)


def _date(said: dict[str, str], names: Iterable[str]) -> datetime | None:
    for name in names:
        try:
            return datetime.strptime(said[name].replace(".", ""), "%Y%m%d")
        except ValueError:
            continue
    return None


def all_tags(paths: Iterable[str]) -> list[Tags]:
    """`read_tags` of each, in order, several at a time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(read_tags, paths))
