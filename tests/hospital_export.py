"""An export as a hospital's archive writes it, 44 files out of one film: nested, without endings, in every syntax.

    python tests/hospital_export.py OUT FILM      # FILM: any radiograph; prints what each file is
"""

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from encoders import jpeg_12, jpeg_lossless, jpeg_ls
from made_up_films import deep, dicom, pillow, rgb
from pydicom import Dataset, Sequence
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from bonexage_utils.decoding import read_gray

SOP = "1.2.840.10008.5.1.4.1.1."
DX, CR, SECONDARY, MULTI_FRAME = f"{SOP}1.1", f"{SOP}1", f"{SOP}7", f"{SOP}7.2"
READ, EXTRA = "read", "extra"


@dataclass(frozen=True)
class Exported:
    """A file of the export; `expected` is READ, EXTRA (read with the extra `dicom`), the kind of what is passed over in
    a folder after "skipped: ", or words of the reason why it is refused."""

    path: Path
    what: str
    sex: str
    expected: str


def _films(grey: np.ndarray) -> Iterator[tuple[str, str, bytes, str]]:
    """What it is, what is expected, the file, and the sex that it says."""
    twelve, sixteen = deep(grey, 12), deep(grey)
    common = {"SOPClassUID": DX, "Modality": "DX", "BodyPartExamined": "HAND", "ViewPosition": "PA",
              "PatientName": "Doe^Jane", "PatientID": "4711", "PatientBirthDate": "20100515", "StudyDate": "20201115",
              "PatientAge": "010Y", "ImageLaterality": "L"}
    count = 0

    def film(what: str, expected: str, pixels: np.ndarray = twelve, bits: int = 12,
             syntax: str = ExplicitVRLittleEndian, frame: bytes | None = None, sex: str | None = None,
             **tags: object) -> tuple[str, str, bytes, str]:
        nonlocal count
        count += 1
        sex = "FM"[count % 2] if sex is None else sex
        tags = {**common, "PatientSex": sex, **tags}
        if frame:
            tags["PixelData"] = encapsulate([frame])
        return what, expected, dicom(pixels, bits, syntax, **tags), sex

    yield film("Explicit VR Little Endian", READ)
    yield film("Implicit VR Little Endian", READ, syntax=ImplicitVRLittleEndian)
    yield film("Explicit VR Big Endian", READ, twelve.byteswap(), syntax=ExplicitVRBigEndian)
    yield film("Deflated", "a deflated DICOM", syntax=DeflatedExplicitVRLittleEndian)
    yield film("RLE", READ, syntax=RLELossless)
    yield film("JPEG Baseline", READ, grey, 8, JPEGBaseline8Bit, pillow(grey, "JPEG", quality=100))
    yield film("JPEG Extended, 8 bits", READ, grey, 8, JPEGExtended12Bit, pillow(grey, "JPEG", quality=100))
    yield film("JPEG Extended, 12 bits", EXTRA, syntax=JPEGExtended12Bit, frame=jpeg_12(twelve))
    yield film("JPEG Lossless, process 14", EXTRA, syntax=JPEGLossless, frame=jpeg_lossless(twelve, 12))
    yield film("JPEG Lossless, SV1", EXTRA, syntax=JPEGLosslessSV1, frame=jpeg_lossless(twelve, 12))
    yield film("JPEG Lossless, SV1, 16 bits", EXTRA, sixteen, 16, JPEGLosslessSV1, jpeg_lossless(sixteen, 16))
    yield film("JPEG Lossless, SV1, MONOCHROME1", EXTRA, syntax=JPEGLosslessSV1, frame=jpeg_lossless(4095 - twelve, 12),
               PhotometricInterpretation="MONOCHROME1")
    yield film("JPEG-LS", EXTRA, syntax=JPEGLSLossless, frame=jpeg_ls(twelve, 12))
    yield film("JPEG-LS, near-lossless", EXTRA, syntax=JPEGLSNearLossless, frame=jpeg_ls(twelve, 12))
    yield film("JPEG 2000, lossless", READ, sixteen, 16, JPEG2000Lossless, pillow(sixteen, "JPEG2000", no_jp2=True))
    yield film("JPEG 2000", READ, sixteen, 16, JPEG2000, pillow(sixteen, "JPEG2000", no_jp2=True))
    yield film("MPEG2", "nothing decodes here", syntax="1.2.840.10008.1.2.4.100", frame=b"\0\0\1\xb3" * 9)
    yield film("8 bits", READ, grey, 8)
    yield film("16 bits", READ, sixteen, 16)
    yield film("10 bits", READ, deep(grey, 10), 10)
    yield film("MONOCHROME1", READ, 4095 - twelve, PhotometricInterpretation="MONOCHROME1")
    yield film("signed, with a rescale", READ, (twelve.astype(np.int32) - 2048).astype(np.int16),
               RescaleSlope=1, RescaleIntercept=2048, WindowCenter=2048, WindowWidth=4096)
    yield film("12 bits in the high ones", READ, twelve << 4, HighBit=15)
    yield film("an inverse presentation LUT", READ, 4095 - twelve, PresentationLUTShape="INVERSE")
    yield film("CR", READ, SOPClassUID=CR, Modality="CR")
    yield film("raw numbers of a detector", "FOR PROCESSING", PresentationIntentType="FOR PROCESSING")
    yield film("secondary capture", READ, grey, 8, SOPClassUID=SECONDARY, Modality="OT", ConversionType="DF")
    yield film("secondary capture in colour", READ, rgb(grey), 8, SOPClassUID=SECONDARY, Modality="OT",
               ConversionType="WSD")
    yield film("multi-frame", "multi-frame, 3", PixelData=np.stack([twelve] * 3).tobytes(), NumberOfFrames=3,
               SOPClassUID=MULTI_FRAME)
    yield film("CT", "a CT slice (Modality CT)", SOPClassUID=f"{SOP}2", Modality="CT")
    yield film("MR", "an MR slice (Modality MR)", SOPClassUID=f"{SOP}4", Modality="MR")
    yield film("ultrasound", "an ultrasound picture", grey, 8, SOPClassUID=f"{SOP}6.1", Modality="US")
    yield film("an object without its pixels", "without pixels", PixelData=None)
    yield film("of a child whose sex is O", "sex unknown", sex="O")
    yield film("of a child whose sex is not said", "sex unknown", sex="")
    what, _, data, sex = film("cut", "truncated or damaged")
    yield what, "truncated or damaged", data[: len(data) // 2], sex
    what, _, data, sex = film("without preamble", "without the preamble", sex="")
    yield what, "without the preamble", data[132:], sex
    yield "empty", "skipped: empty file", b"", ""


def without_picture(sop_class: str, **tags: object) -> bytes:
    """A DICOM object of a class that has no picture."""
    data = Dataset()
    data.file_meta = Dataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UID(sop_class)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    for name, value in tags.items():
        setattr(data, name, value)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def directory(paths: list[Path]) -> bytes:
    """A DICOMDIR that lists these files, without the levels above them."""
    records = []
    for path in paths:
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", list(path.parts)
        records.append(record)
    return without_picture("1.2.840.10008.1.3.10", DirectoryRecordSequence=Sequence(records))


def write_export(out: Path, film: np.ndarray, height: int = 240) -> list[Exported]:
    """Write the export into the folder `out`: `film`, uint8 (height, width), shrunk, in every file that has pixels."""
    width = round(film.shape[1] * height / film.shape[0]) // 2 * 2
    grey = cv2.resize(film, (width, height), interpolation=cv2.INTER_AREA)
    grey = np.rint((grey.astype(float) - grey.min()) / np.ptp(grey) * 255).astype(np.uint8)
    written = []

    def write(path: str, data: bytes, *said: str) -> None:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(data)
        written.append(Exported(out / path, *said))

    for number, (what, expected, data, sex) in enumerate(_films(grey)):
        study = f"DICOM/PAT{number // 8:05d}/ST{number // 4 % 2:05d}/SE{number // 2 % 2:05d}"
        write(f"{study}/IM{number % 2 + 1:06d}", data, what, sex, expected)
    for number, (name, sop_class) in enumerate([
            ("structured report", f"{SOP}88.11"), ("encapsulated PDF", f"{SOP}104.1"),
            ("presentation state", f"{SOP}11.1"), ("key object selection", f"{SOP}88.59")]):
        write(f"DICOM/PAT00000/ST00000/OT{number:05d}", without_picture(sop_class), name, "", f"skipped: {name}")
    write("DICOMDIR", directory([one.path.relative_to(out) for one in written]), "DICOMDIR", "", "skipped: DICOMDIR")
    write("README.TXT", b"Viewer: run AUTORUN.EXE\r\n", "text", "", "skipped: text file")
    return written


if __name__ == "__main__":
    for one in write_export(Path(sys.argv[1]), read_gray(sys.argv[2])):
        print(f"{one.path}\t{one.what}\t{one.sex}\t{one.expected}")
