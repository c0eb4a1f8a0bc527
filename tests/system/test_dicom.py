"""What each attribute of a DICOM says about the stored numbers, one at a time (PS3.3, C.7.6.3, C.8.11, C.11)."""

import re
import struct
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from encoders import jpeg_12, jpeg_lossless, jpeg_ls
from hypothesis import assume, given
from hypothesis import strategies as st
from made_up_films import deep, dicom, film, pillow, rgb
from pydicom import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError

GREY = film()
TWELVE = deep(GREY, 12)


def read(path: Path, data: bytes) -> np.ndarray:
    (path / "film").write_bytes(data)
    return read_gray(path / "film").astype(int)


def table(values: np.ndarray, first: int = 0, bits: int = 16, kind: str = "<u2") -> pydicom.Sequence:
    """Of words in that order; bytes ("u1") stand two in a word."""
    item = Dataset()
    item.LUTDescriptor = [len(values) % 65536, first, bits]
    item["LUTData"] = DataElement(0x00283006, "OW", values.astype(kind).tobytes())
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


def of_float(dtype: type, value: float, **tags: object) -> bytes:
    """Numbers from 0 to 1, the first six columns padded."""
    name = {np.float32: "FloatPixelData", np.float64: "DoubleFloatPixelData"}[dtype]
    pixels = np.where(np.arange(36) < 6, value, GREY / 255).astype(dtype)
    element = DataElement(name, "OF" if dtype == np.float32 else "OD", pixels.tobytes())
    return dicom(pixels, PixelData=None, BitsStored=None, HighBit=None, PixelRepresentation=None, element=element,
                 **tags)


def grouped(name: str, macro: str, **tags: object) -> dict[str, object]:
    """Tags as an enhanced object of one frame has them, in a group of their own."""
    inner, group = Dataset(), Dataset()
    for tag, value in tags.items():
        setattr(inner, tag, value)
    setattr(group, macro, pydicom.Sequence([inner]))
    return {f"{name}FunctionalGroupsSequence": pydicom.Sequence([group]), "NumberOfFrames": 1}


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
    "VOILUTSequence in big endian": (
        dicom(TWELVE.byteswap(), 12, ExplicitVRBigEndian,
              VOILUTSequence=table(np.arange(4096)[::-1] * 16 + 5, kind=">u2")), 255 - GREY),
    "ModalityLUTSequence in big endian": (
        dicom(TWELVE.byteswap(), 12, ExplicitVRBigEndian,
              ModalityLUTSequence=table(np.arange(4096)[::-1], bits=12, kind=">u2")), 255 - GREY),
    "VOILUTSequence in big endian, two entries in a word": (
        dicom(GREY.reshape(-1, 2)[:, ::-1].reshape(GREY.shape), 8, ExplicitVRBigEndian, VOILUTSequence=table(
            np.arange(256)[::-1].reshape(-1, 2)[:, ::-1].ravel(), bits=8, kind="u1")), 255 - GREY),
    "VOILUTSequence, two entries in a word": (
        dicom(GREY, VOILUTSequence=table(np.arange(256)[::-1], bits=8, kind="u1")), 255 - GREY),
    "VOILUTSequence of 16 bits filled for 12, 8 bits": (
        dicom(GREY, VOILUTSequence=table(np.arange(256) * 16)), None),
    "ModalityLUTSequence of 16 bits filled for 12, 8 bits": (
        dicom(GREY, ModalityLUTSequence=table(np.arange(256) * 16)), None),
    "ModalityLUTSequence of 16 bits filled for 12, a flat film of 8 bits": (
        dicom(GREY // 4 + 60, ModalityLUTSequence=table(np.arange(256) * 16)), GREY // 4 + 60),
    "ModalityLUTSequence of 4,096 entries, 8 bits": (dicom(GREY, ModalityLUTSequence=table(ACROSS, bits=12)), None),
    "ModalityLUTSequence, then VOILUTSequence, 8 bits": (
        dicom(GREY, ModalityLUTSequence=table(np.arange(256) * 16), VOILUTSequence=table(ACROSS[::-1])), 255 - GREY),
    "ModalityLUTSequence of an empty item": (
        dicom(TWELVE, 12, ModalityLUTSequence=pydicom.Sequence([Dataset()])), None),
    "FloatPixelData": (of_float(np.float32, 0), BLACK_EDGE),
    **{f"{name} of {value}": (of_float(dtype, value, **{name: value}), BLACK_EDGE)
       for dtype, name in [(np.float32, "FloatPixelPaddingValue"), (np.float64, "DoubleFloatPixelPaddingValue")]
       for value in (-1000.0, -0.5, -9999.5, 1e30, 2.0)},
    "FloatPixelPaddingRangeLimit": (
        of_float(np.float32, -5.0, FloatPixelPaddingValue=-9.0, FloatPixelPaddingRangeLimit=-2.0), BLACK_EDGE),
    "DoubleFloatPixelPaddingRangeLimit": (
        of_float(np.float64, 5.0, DoubleFloatPixelPaddingValue=9.0, DoubleFloatPixelPaddingRangeLimit=2.0), BLACK_EDGE),
    **{f"{name}FunctionalGroupsSequence, rescale": (
        dicom(4095 - TWELVE, 12, **grouped(name, "PixelValueTransformationSequence", RescaleSlope=-1,
                                           RescaleIntercept=4095)), None) for name in ("Shared", "PerFrame")},
    **{f"{name}FunctionalGroupsSequence, window": (
        dicom(TWELVE, 12, **grouped(name, "FrameVOILUTSequence", WindowCenter=1024, WindowWidth=2048)),
        np.minimum(GREY * 2.0, 255)) for name in ("Shared", "PerFrame")},
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
    np.testing.assert_allclose(read(tmp_path, data), expected, atol=1.01 if name != "JPEG" else 3)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("name", ["Shared", "PerFrame"])
def test_the_spacing_of_an_enhanced_object_makes_square_pixels(tmp_path: Path, name: str, syntax: str) -> None:
    oblong = GREY.repeat(2, axis=1)
    data = dicom(oblong, 8, syntax, **grouped(name, "PixelMeasuresSequence", PixelSpacing=[0.2, 0.1]))
    np.testing.assert_allclose(read(tmp_path, data), GREY, atol=1)


def frame_of(size: tuple[int, int], kind: str, **settings: object) -> bytes:
    return pydicom.encaps.encapsulate([pillow(np.zeros(size, np.uint8), kind, **settings)])


def packed(runs: int) -> bytes:
    """A frame of one run-length segment that unpacks to 128 bytes for every 2."""
    return pydicom.encaps.encapsulate([struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x07" * runs])


REFUSED = {
    "MONOCHROME1, PresentationLUTShape IDENTITY": (
        dicom(TWELVE, 12, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY"), "not clear"),
    "PresentationLUTShape unknown": (dicom(TWELVE, 12, PresentationLUTShape="LIN OD"), "LIN OD"),
    "PresentationLUTSequence": (dicom(TWELVE, 12, PresentationLUTSequence=inverted_lut(12)), "presentation LUT"),
    "PresentationIntentType FOR PROCESSING": (dicom(TWELVE, 12, PresentationIntentType="FOR PROCESSING"), "detector"),
    "PhotometricInterpretation missing": (dicom(TWELVE, 12, PhotometricInterpretation=None), "damaged DICOM"),
    "PixelRepresentation missing": (dicom(TWELVE, 12, PixelRepresentation=None), "no PixelRepresentation"),
    "PhotometricInterpretation YBR_PARTIAL_422": (
        dicom(rgb(GREY), PhotometricInterpretation="YBR_PARTIAL_422"), "YBR_PARTIAL_422"),
    "HighBit 7 of 12": (dicom(TWELVE, 12, HighBit=7), "high bit of 7"),
    "HighBit 16 of 12": (dicom(TWELVE, 12, HighBit=16), "high bit of 16"),
    "BitsStored 12 of 13": (dicom(TWELVE * 2, 12), "more than the 12 bits"),
    "BitsStored 0": (dicom(TWELVE, 12, BitsStored=0), "0 of 16 bits"),
    "BitsAllocated 12": (dicom(TWELVE, 12, BitsAllocated=12), "12 of 12 bits"),
    "PixelPaddingValue of all": (dicom(np.full((40, 40), 7, np.uint16), PixelPaddingValue=7), "nothing but padding"),
    "PixelData of two films": (dicom(GREY, PixelData=np.stack([GREY] * 2).tobytes()), "more pixels than its rows"),
    "Rows of half a film": (dicom(GREY, Rows=24), "more pixels than its rows"),
    "RescaleSlope 0": (dicom(TWELVE, 12, RescaleSlope=0, RescaleIntercept=0), "slope of 0"),
    "VOILUTFunction unknown": (dicom(TWELVE, 12, WindowCenter=5, WindowWidth=9, VOILUTFunction="CUBIC"), "CUBIC"),
    "WindowCenter no number": (
        dicom(TWELVE, 12, WindowCenter=20481, WindowWidth=4096).replace(b"20481.0", b"2o481.0"), "WindowCenter is no"),
    "ModalityLUTSequence cut": (dicom(TWELVE, 12, ModalityLUTSequence=table(ACROSS[:9])).replace(
        struct.pack("<HHH", 9, 0, 16), struct.pack("<HHH", 900, 0, 16)), "shorter than it says"),
    "ModalityLUTSequence that makes one level of all": (
        dicom(GREY, ModalityLUTSequence=table(np.full(256, 7))), "one grey level"),
    "ShutterShape without edges": (dicom(TWELVE, 12, ShutterShape="CIRCULAR"), "without its edges"),
    "ShutterShape that hides all": (
        dicom(TWELVE, 12, ShutterShape="CIRCULAR", CenterOfCircularShutter=[900, 900], RadiusOfCircularShutter=3),
        "behind the shutter"),
    "TransferSyntaxUID private": (
        dicom(TWELVE, 12).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0"), "not of the standard"),
    "TransferSyntaxUID of no transfer": (
        dicom(TWELVE, 12).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.1\0\0\0"), "not of the standard"),
    "JPEG of another size": (
        dicom(GREY, syntax=JPEGBaseline8Bit, PixelData=frame_of((96, 36), "JPEG")), "of another size"),
    "JPEG 2000 of another size": (
        dicom(GREY, syntax=JPEG2000Lossless, PixelData=frame_of((48, 72), "JPEG2000", no_jp2=True)), "of another size"),
    "RLE of another size": (dicom(GREY, syntax=RLELossless, PixelData=packed(100)), "larger than its rows"),
    "20,000 items": (dicom(GREY, ReferencedImageSequence=pydicom.Sequence([Dataset()] * 20_000)), "10,000 items"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shown_rightly_is_refused_in_a_line(tmp_path: Path, name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(BoneXageError, match=words) as caught:
        read(tmp_path, data)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("empty", [False, True])
def test_a_missing_transfer_syntax_is_told_from_the_file(tmp_path: Path, syntax: str, empty: bool) -> None:
    """Signed padding too, of which the type hangs on another attribute (implicit VR names none)."""
    pixels = np.where(np.arange(36) < 6, -2000, TWELVE.astype(np.int16))
    data = bytearray(dicom(pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")),
                           PixelPaddingValue=-2000, syntax=syntax))
    place = data.index(b"\x02\0\x10\0UI")
    length = data[place + 6]
    if empty:
        data[place + 6] = 0
        del data[place + 8 : place + 8 + length]
    else:
        del data[place : place + 8 + length]
    np.testing.assert_allclose(read(tmp_path, bytes(data)), BLACK_EDGE, atol=1.01)


def test_compressed_pixels_without_a_transfer_syntax_are_refused(tmp_path: Path) -> None:
    data = dicom(GREY, syntax=JPEGBaseline8Bit, PixelData=frame_of((48, 36), "JPEG"))
    place = data.index(b"\x02\0\x10\0UI")
    data = data[:place] + data[place + 8 + data[place + 6] :]
    with pytest.raises(BoneXageError, match="no transfer syntax"):
        read(tmp_path, data)


@given(st.integers(1, 16), st.data())
def test_any_place_of_the_stored_bits(tmp_path_factory: pytest.TempPathFactory, bits: int, data: st.DataObject) -> None:
    """BitsStored, HighBit, sign and polarity in any combination give the same picture."""
    high = data.draw(st.integers(bits - 1, 15))
    signed, negative = data.draw(st.booleans()), data.draw(st.booleans())
    levels = np.rint(GREY / 255 * (2**bits - 1)).astype(np.int64)
    shown = np.rint(levels / (2**bits - 1) * 255)
    levels = (2**bits - 1 - levels) if negative else levels
    stored = ((levels - 2 ** (bits - 1) * signed) << (high + 1 - bits)) & 0xFFFF
    if data.draw(st.booleans()):  # the sign not carried on
        stored &= (2 ** (high + 1) - 1)
    pixels = stored.astype(np.uint16).view(np.int16 if signed else np.uint16)
    file = dicom(pixels, bits, HighBit=high, PhotometricInterpretation=f"MONOCHROME{1 if negative else 2}")
    np.testing.assert_allclose(read(tmp_path_factory.getbasetemp(), file), shown, atol=1)


@given(st.floats(-3000, 6000), st.floats(0, 9000), st.floats(0.01, 50), st.floats(-5000, 5000))
def test_any_window_shows_the_film_or_counts_for_nothing(tmp_path_factory: pytest.TempPathFactory, center: float,
                                                         width: float, slope: float, intercept: float) -> None:
    """Never all black, never all white, never turned round; and within the window as bright as the formula says."""
    center, width = round(center * slope + intercept, 3), round(width * slope, 3)
    grey = read(tmp_path_factory.getbasetemp(), dicom(TWELVE, 12, WindowCenter=f"{center}", WindowWidth=f"{width}",
                                                      RescaleSlope=f"{slope:.6f}", RescaleIntercept=f"{intercept:.3f}"))
    assert len(np.unique(grey)) >= 16
    order = np.argsort(TWELVE, axis=None)
    assert (np.diff(grey.ravel()[order]) >= 0).all()
    values = TWELVE * float(f"{slope:.6f}") + float(f"{intercept:.3f}")
    shown = np.clip((values - center + 0.5) / (width - 1) + 0.5, 0, 1) if width > 1 else np.zeros(values.shape)
    shown = (shown - shown.min()) / (np.ptp(shown) or 1) * 255
    levels = len(np.unique(np.rint(shown)))
    assume(levels not in (15, 16))  # where rounding decides
    np.testing.assert_allclose(grey, shown if levels > 16 else GREY, atol=1.01)


def real(name: str) -> Path:
    """A scanner's file that comes with pydicom."""
    return Path(pydicom.data.get_testdata_file(name, download=False))


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm",
                                  "MR_small_jp2klossless.dcm", "MR_small_padded.dcm"])
def test_one_real_picture_in_every_encoding(name: str) -> None:
    expected = read_gray(real("MR_small.dcm"))
    assert len(np.unique(expected)) > 100
    np.testing.assert_array_equal(read_gray(real(name)), expected)


def compressed(frame: bytes, syntax: str, pixels: np.ndarray, bits: int = 0, **tags: object) -> bytes:
    return dicom(pixels, bits, syntax, PixelData=pydicom.encaps.encapsulate([frame]), **tags)


# name: the file, and whether it takes the extra `dicom`
COMPRESSED = {
    "JPEG Baseline": (compressed(pillow(GREY, "JPEG", quality=100), JPEGBaseline8Bit, GREY), False),
    "JPEG Extended, 8 bits": (compressed(pillow(GREY, "JPEG", quality=100), JPEGExtended12Bit, GREY), False),
    "JPEG Extended, 12 bits": (compressed(jpeg_12(TWELVE), JPEGExtended12Bit, TWELVE, 12), True),
    "JPEG Lossless, 8 bits": (compressed(jpeg_lossless(GREY, 8), JPEGLosslessSV1, GREY), True),
    "JPEG Lossless, 12 bits": (compressed(jpeg_lossless(TWELVE, 12), JPEGLosslessSV1, TWELVE, 12), True),
    "JPEG Lossless, 16 bits": (compressed(jpeg_lossless(deep(GREY), 16), JPEGLossless, deep(GREY)), True),
    "JPEG Lossless MONOCHROME1": (compressed(jpeg_lossless(4095 - TWELVE, 12), JPEGLosslessSV1, TWELVE, 12,
                                             PhotometricInterpretation="MONOCHROME1"), True),
    "JPEG Lossless, 12 bits in the high ones": (
        compressed(jpeg_lossless(TWELVE << 4, 16), JPEGLosslessSV1, TWELVE, 12, HighBit=15), True),
    "JPEG Lossless, 12 bits in the high ones by a header from before": (
        compressed(jpeg_lossless(TWELVE, 12), JPEGLosslessSV1, TWELVE, 12, HighBit=15), True),
    "JPEG Lossless, 12 bits in a frame of 16": (
        compressed(jpeg_lossless(TWELVE, 16), JPEGLosslessSV1, TWELVE, 12), True),
    "JPEG Lossless, 8 of 16 bits": (compressed(jpeg_lossless(GREY, 8), JPEGLosslessSV1, deep(GREY), 8), True),
    "JPEG-LS Lossless, 12 bits": (compressed(jpeg_ls(TWELVE, 12), JPEGLSLossless, TWELVE, 12), True),
    "JPEG-LS Lossless, 8 of 16 bits": (compressed(jpeg_ls(GREY, 8), JPEGLSLossless, deep(GREY), 8), True),
    "JPEG Baseline, 8 of 16 bits": (
        compressed(pillow(GREY, "JPEG", quality=100), JPEGBaseline8Bit, deep(GREY), 8), False),
    "JPEG 2000, 12 bits in the high ones": (compressed(
        pillow(TWELVE << 4, "JPEG2000", no_jp2=True), JPEG2000Lossless, TWELVE, 12, HighBit=15), False),
    "JPEG 2000": (compressed(pillow(TWELVE, "JPEG2000", no_jp2=True), JPEG2000Lossless, TWELVE, 16), False),
}
with_decoders = pytest.mark.skipif(find_spec("libjpeg") is None, reason="the extra dicom is not installed")


@pytest.mark.parametrize("name", COMPRESSED)
def test_without_the_extra_what_takes_it_says_so(tmp_path: Path, core_alone: None, name: str) -> None:
    data, takes_it = COMPRESSED[name]
    if takes_it:
        kind = re.escape(name.split(",")[0].removesuffix(" MONOCHROME1"))
        with pytest.raises(BoneXageError, match=rf"film: compressed as {kind}; install bonexage\[dicom\], or"):
            read(tmp_path, data)
    else:
        np.testing.assert_allclose(read(tmp_path, data), GREY, atol=3)


@with_decoders
@pytest.mark.parametrize("name", COMPRESSED)
def test_with_the_extra_all_is_read(tmp_path: Path, name: str) -> None:
    np.testing.assert_allclose(read(tmp_path, COMPRESSED[name][0]), GREY, atol=3 if "JPEG " in name else 1)


@with_decoders
@pytest.mark.parametrize("name", [name for name, (_, takes_it) in COMPRESSED.items() if not takes_it])
def test_a_film_is_the_same_with_the_extra_and_without(tmp_path: Path, name: str,
                                                       request: pytest.FixtureRequest) -> None:
    with_it = read(tmp_path, COMPRESSED[name][0])
    request.getfixturevalue("core_alone")
    np.testing.assert_array_equal(read(tmp_path, COMPRESSED[name][0]), with_it)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", [pytest.param(name, marks=with_decoders if takes_it else ())
                                  for name, (_, takes_it) in COMPRESSED.items()])
def test_a_frame_that_is_cut_is_never_filled_in(tmp_path: Path, name: str, share: float) -> None:
    film = pydicom.dcmread(BytesIO(COMPRESSED[name][0]))
    frame = pydicom.encaps.get_frame(film.PixelData, 0, number_of_frames=1).rstrip(b"\0")
    film.PixelData = pydicom.encaps.encapsulate([frame[: int(len(frame) * share)]])
    film.save_as(tmp_path / "film")
    with pytest.raises(BoneXageError, match=r"truncated|cannot be decoded|another size"):
        read_gray(tmp_path / "film")


@with_decoders
@pytest.mark.parametrize("name", ["JPEG Extended, 12 bits", "JPEG Lossless, 12 bits"])
@pytest.mark.parametrize(("place", "value"), [(1, struct.pack(">HH", 15_000, 15_000)), (5, b"\x04")])
def test_a_frame_that_claims_more_than_its_header_is_not_decoded(
        tmp_path: Path, name: str, place: int, value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(COMPRESSED[name][0])
    start = data.index(b"\xff\xc1" if "Extended" in name else b"\xff\xc3") + 4 + place
    data[start : start + len(value)] = value
    monkeypatch.delattr(Dataset, "pixel_array")
    with pytest.raises(BoneXageError, match="another size"):
        read(tmp_path, bytes(data))


@with_decoders
def test_a_hierarchy_of_frames_larger_than_the_header_is_not_decoded(tmp_path: Path) -> None:
    """DHP says the size of the whole (T.81, B.3.2), before the first frame, which may be small."""
    frame = jpeg_lossless(TWELVE, 12)
    hierarchy = b"\xff\xde" + struct.pack(">HBHHB", 11, 12, 60_000, 60_000, 1) + b"\1\x11\0"
    with pytest.raises(BoneXageError, match="another size"):
        read(tmp_path, compressed(frame[:2] + hierarchy + frame[2:], JPEGLosslessSV1, TWELVE, 12))


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jls_lossy_line.dcm"])
def test_a_compression_that_needs_a_decoder_is_named_rather_than_called_cut(name: str, core_alone: None) -> None:
    """JPEG-LS looks like JPEG but for the bytes of its scans."""
    with pytest.raises(BoneXageError, match=r"compressed as JPEG-LS.*install bonexage"):
        read_gray(real(name))


@with_decoders
def test_real_jpeg_ls_is_read() -> None:
    np.testing.assert_array_equal(read_gray(real("MR_small_jpeg_ls_lossless.dcm")), read_gray(real("MR_small.dcm")))


def test_a_syntax_that_nothing_decodes_says_so(tmp_path: Path) -> None:
    with pytest.raises(BoneXageError, match=r"compressed as MPEG2 Main Profile.*nothing decodes here"):
        read(tmp_path, compressed(b"x" * 40, "1.2.840.10008.1.2.4.100", GREY))
