"""What each attribute of a DICOM says about the stored numbers, one at a time (PS3.3, C.7.6.3, C.8.11, C.11)."""

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_films import deep, dicom, film, pillow, rgb
from pydicom import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError

GREY = film()
TWELVE = deep(GREY, 12)


def read(path: Path, data: bytes) -> np.ndarray:
    (path / "film").write_bytes(data)
    return read_gray(path / "film").astype(int)


def table(values: np.ndarray, first: int = 0, bits: int = 16) -> pydicom.Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(values) % 65536, first, bits]
    item["LUTData"] = DataElement(0x00283006, "OW", values.astype(np.uint16).tobytes())
    item["LUTDescriptor"].VR = "US" if first >= 0 else "SS"
    return pydicom.Sequence([item])


def overlay_in(bit: int) -> DataElement:
    return DataElement(0x60000102, "US", bit)


def with_padding(value: int, columns: int = 6) -> np.ndarray:
    padded = TWELVE.copy()
    padded[:, :columns] = value
    return padded


BLACK_EDGE = np.where(np.arange(GREY.shape[1]) < 6, 0, GREY)
ACROSS = np.arange(4096)  # every 12-bit number
BITS = (TWELVE.astype(np.uint16) << 4) | np.random.default_rng(0).integers(0, 16, TWELVE.shape).astype(np.uint16)
HIGH = (TWELVE | (np.random.default_rng(0).integers(0, 16, TWELVE.shape) << 12)).astype(np.uint16)
OFF = {"WindowCenter": 20_000, "WindowWidth": 100}


def inverted_lut(bits: int) -> pydicom.Sequence:
    return table(np.arange(2**bits)[::-1], bits=bits)


# name: the file, the picture it has to give (GREY if None)
SAYS = {
    "PhotometricInterpretation MONOCHROME1": (dicom(4095 - TWELVE, 12, PhotometricInterpretation="MONOCHROME1"), None),
    "PresentationLUTShape INVERSE": (dicom(4095 - TWELVE, 12, PresentationLUTShape="INVERSE"), None),
    "PresentationLUTShape INVERSE, 8 bits": (dicom(255 - GREY, PresentationLUTShape="INVERSE"), None),
    "PresentationLUTShape INVERSE says MONOCHROME1 again": (
        dicom(4095 - TWELVE, 12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"), None),
    "PresentationLUTShape IDENTITY": (dicom(TWELVE, 12, PresentationLUTShape="IDENTITY"), None),
    "PresentationLUTShape empty": (dicom(TWELVE, 12, PresentationLUTShape=""), None),
    "PresentationIntentType FOR PRESENTATION": (dicom(TWELVE, 12, PresentationIntentType="FOR PRESENTATION"), None),
    "HighBit 15 of 12": (dicom(TWELVE << 4, 12, HighBit=15), None),
    "HighBit 13 of 12": (dicom(TWELVE << 2, 12, HighBit=13), None),
    "HighBit 15, an overlay in the low bits": (dicom(BITS, 12, HighBit=15, overlay=overlay_in(0)), None),
    "HighBit 11, an overlay in the high bits": (dicom(HIGH, 12, overlay=overlay_in(12)), None),
    "HighBit 15 of 12, RLE": (dicom(TWELVE << 4, 12, HighBit=15, syntax=RLELossless), None),
    "HighBit 15 of 12, signed": (
        dicom(((TWELVE.astype(np.int32) - 2048) << 4).astype(np.int16), 12, HighBit=15), None),
    "PixelRepresentation 1, 12 bits without their sign carried on": (
        dicom(((TWELVE.astype(np.int32) - 2048) & 4095).astype(np.int16), 12), None),
    "PixelRepresentation 1, 12 bits": (dicom((TWELVE.astype(np.int32) - 2048).astype(np.int16), 12), None),
    "PixelRepresentation 1, 8 bits": (dicom((GREY.astype(int) - 128).astype(np.int8)), None),
    "BitsStored 6 of 8": (dicom(GREY >> 2, 6), (GREY >> 2) * (255 / 63)),
    "BitsStored 4 of 16": (dicom((GREY >> 4).astype(np.uint16), 4), (GREY >> 4) * 17),
    "BitsStored 8 of 16": (dicom(GREY.astype(np.uint16), 8), None),
    "BitsStored 8 of 16, a flat film": (dicom(GREY.astype(np.uint16) // 4 + 60, 8), GREY // 4 + 60),
    "BitsAllocated 1": (dicom(GREY, 1, BitsAllocated=1, PixelData=np.packbits(GREY > 127, bitorder="little").tobytes()),
                        (GREY > 127) * 255),
    "BitsAllocated 32": (dicom(deep(GREY).astype(np.uint32) * 65536), None),
    "PixelPaddingValue far above": (dicom(with_padding(4095) | (with_padding(65535) & 0xF000), 16,
                                          PixelPaddingValue=65535), BLACK_EDGE),
    "PixelPaddingValue far below": (
        dicom(with_padding(0).astype(np.int16) + np.where(np.arange(36) < 6, -32000, 0).astype(np.int16),
              PixelPaddingValue=-32000), BLACK_EDGE),
    "PixelPaddingValue far above, MONOCHROME1": (
        dicom(np.where(np.arange(36) < 6, 65535, 4095 - TWELVE).astype(np.uint16),
              PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=65535), BLACK_EDGE),
    "PixelPaddingValue on most of the film": (
        dicom(with_padding(65535, 30), PixelPaddingValue=65535),
        np.where(np.arange(36) < 30, 0, (GREY - GREY[:, 30:].min()) * 255.0 / np.ptp(GREY[:, 30:]))),
    "PixelPaddingValue that nothing has": (dicom(TWELVE, PixelPaddingValue=65535), None),
    "PixelPaddingRangeLimit above": (
        dicom(np.where(np.arange(36) < 6, 60_000 + np.arange(36) * 900, TWELVE).astype(np.uint16),
              PixelPaddingValue=60_000, PixelPaddingRangeLimit=65535), BLACK_EDGE),
    "PixelPaddingRangeLimit below": (
        dicom(np.where(np.arange(36) < 6, 60_000 + np.arange(36) * 900, TWELVE).astype(np.uint16),
              PixelPaddingValue=65535, PixelPaddingRangeLimit=60_000, syntax=ImplicitVRLittleEndian), BLACK_EDGE),
    "RescaleSlope below 0": (dicom(4095 - TWELVE, 12, RescaleSlope=-1, RescaleIntercept=4095), None),
    "RescaleSlope below 0, 8 bits": (dicom(255 - GREY, RescaleSlope=-1, RescaleIntercept=255), None),
    "RescaleSlope, 8 bits": (dicom(GREY // 2, RescaleSlope=4, RescaleIntercept=-1000), GREY // 2),
    "RescaleSlope empty": (dicom(TWELVE, 12, RescaleSlope="", RescaleIntercept=""), None),
    "RescaleIntercept without slope": (
        dicom(TWELVE, 12, RescaleIntercept=-1000, WindowCenter=1048, WindowWidth=4096), None),
    "ModalityLUTSequence": (dicom(4095 - TWELVE, 12, ModalityLUTSequence=inverted_lut(12)), None),
    "ModalityLUTSequence, 8 bits": (dicom(255 - GREY, ModalityLUTSequence=inverted_lut(8)), None),
    "ModalityLUTSequence, then a window": (
        dicom(TWELVE, 12, ModalityLUTSequence=table(ACROSS * 16), WindowCenter=32768, WindowWidth=65536), None),
    "ModalityLUTSequence that begins at 1,000": (
        dicom(TWELVE // 4 + 1000, 12, ModalityLUTSequence=table(np.arange(1024) * 64, first=1000)), None),
    "VOILUTSequence": (dicom(4095 - TWELVE, 12, VOILUTSequence=inverted_lut(12)), None),
    "VOILUTSequence, 8 bits": (dicom(255 - GREY, VOILUTSequence=inverted_lut(8)), None),
    "VOILUTSequence before a window": (dicom(4095 - TWELVE, 12, VOILUTSequence=inverted_lut(12), WindowCenter=100,
                                             WindowWidth=200), None),
    "VOILUTSequence without data": (dicom(TWELVE, 12, VOILUTSequence=pydicom.Sequence([Dataset()])), None),
    "VOILUTSequence that shows nothing": (dicom(TWELVE, 12, VOILUTSequence=table(np.zeros(4096), bits=12)), None),
    "WindowWidth full": (dicom(TWELVE, 12, WindowCenter=2048, WindowWidth=4096), None),
    "WindowWidth full, 8 bits": (dicom(GREY // 4 + 60, WindowCenter=127, WindowWidth=255), GREY // 4 + 60),
    "WindowWidth half, 8 bits": (dicom(GREY // 4 + 60, WindowCenter=92, WindowWidth=128), (GREY // 4 + 60 - 28) * 2),
    "WindowWidth 0": (dicom(TWELVE, 12, WindowCenter=2048, WindowWidth=0), None),
    "WindowWidth 1": (dicom(TWELVE, 12, WindowCenter=2048, WindowWidth=1), None),
    "WindowWidth below 0": (dicom(TWELVE, 12, WindowCenter=2048, WindowWidth=-100), None),
    "WindowWidth empty": (dicom(TWELVE, 12, WindowCenter="", WindowWidth=""), None),
    "WindowWidth missing": (dicom(TWELVE, 12, WindowCenter=2048), None),
    "WindowCenter beside all pixels": (dicom(TWELVE, 12, **OFF), None),
    "WindowCenter beside all pixels, 8 bits": (dicom(GREY, **OFF), None),
    "WindowCenter: the second shows something": (
        dicom(TWELVE, 12, WindowCenter=[20_000, 1024], WindowWidth=[100, 2048]), np.minimum(GREY * 2.0, 255)),
    "WindowCenter: the first of two": (
        dicom(TWELVE, 12, WindowCenter=[1024, 2048], WindowWidth=[2048, 4096]), np.minimum(GREY * 2.0, 255)),
    "VOILUTFunction empty": (dicom(TWELVE, 12, WindowCenter=2048, WindowWidth=4096, VOILUTFunction=""), None),
    "VOILUTFunction LINEAR_EXACT": (
        dicom(TWELVE, 12, WindowCenter=1023.75, WindowWidth=2047.5, VOILUTFunction="LINEAR_EXACT"),
        np.minimum(GREY * 2.0, 255)),
    "VOILUTFunction LINEAR_EXACT narrower than 1": (
        dicom(TWELVE, 12, RescaleSlope=1 / 4095, RescaleIntercept=0, WindowCenter=0.25, WindowWidth=0.5,
              VOILUTFunction="LINEAR_EXACT"), np.minimum(GREY * 2.0, 255)),
    "VOILUTFunction SIGMOID, 8 bits": (
        dicom(GREY, WindowCenter=128, WindowWidth=100, VOILUTFunction="SIGMOID"),
        255 / (1 + np.exp(-4 * (GREY - 128.0) / 100))),
    "SmallestImagePixelValue, wrong": (dicom(TWELVE, 12, SmallestImagePixelValue=7, LargestImagePixelValue=9), None),
    "PixelIntensityRelationshipSign": (dicom(TWELVE, 12, PixelIntensityRelationship="LOG",
                                             PixelIntensityRelationshipSign=-1), None),
    "BurnedInAnnotation": (dicom(TWELVE, 12, BurnedInAnnotation="YES", LossyImageCompression="01"), None),
    "PatientOrientation": (dicom(TWELVE, 12, PatientOrientation=["R", "H"]), None),
    "an overlay of its own": (dicom(TWELVE, 12, overlay=DataElement(0x60003000, "OW", b"\xff" * 216)), None),
    "PlanarConfiguration missing": (dicom(rgb(GREY), PlanarConfiguration=None), None),
    "PlanarConfiguration 1": (
        dicom(rgb(GREY), PlanarConfiguration=1, PixelData=np.stack([GREY] * 3).tobytes()), None),
    "ICCProfile": (dicom(rgb(GREY), ICCProfile=b"no profile"), None),
    "RGB 16": (dicom(rgb(deep(GREY))), None),
    "ShutterShape RECTANGULAR": (
        dicom(with_padding(65535), 16, ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=7,
              ShutterRightVerticalEdge=36, ShutterUpperHorizontalEdge=1, ShutterLowerHorizontalEdge=48), BLACK_EDGE),
    "ShutterShape POLYGONAL": (
        dicom(with_padding(65535), 16, ShutterShape="POLYGONAL",
              VerticesOfThePolygonalShutter=[1, 7, 1, 36, 48, 36, 48, 7]), BLACK_EDGE),
    "JPEG": (dicom(GREY, syntax=JPEGBaseline8Bit, PixelData=pydicom.encaps.encapsulate(
        [pillow(GREY, "JPEG", quality=100)])), None),
    "JPEG 2000, 12 bits": (dicom(TWELVE, 16, syntax=JPEG2000Lossless, PixelData=pydicom.encaps.encapsulate(
        [pillow(TWELVE, "JPEG2000", no_jp2=True)])), None),
}


@pytest.mark.parametrize("name", SAYS)
def test_what_an_attribute_says(tmp_path: Path, name: str) -> None:
    data, expected = SAYS[name]
    expected = GREY if expected is None else expected
    np.testing.assert_allclose(read(tmp_path, data), expected, atol=1.01 if "JPEG" != name else 3)
