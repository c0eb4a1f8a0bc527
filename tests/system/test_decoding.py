"""Any film, in any format, becomes the same grey picture; what is no whole film is refused in one line."""

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import PIL
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_films import deep, dicom, film, opencv, pillow, rgb
from packaging.version import Version
from PIL import Image, ImageCms
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from bonexage_utils import decoding
from bonexage_utils.decoding import quiet, read_gray
from bonexage_utils.errors import BoneXageError


def white_is_zero(tiff: bytes) -> bytes:
    """The same little-endian TIFF with its photometric interpretation (tag 262) set to 0."""
    place = tiff.index(b"\x06\x01\x03\0\x01\0\0\0")
    return tiff[: place + 8] + b"\0\0" + tiff[place + 10 :]


def directory_first(pixels: np.ndarray, rows_per_strip: int = 8) -> bytes:
    """A deflated TIFF whose directory stands before its strips, so that a cut leaves the directory whole."""
    strips = [zlib.compress(pixels[top : top + rows_per_strip].tobytes())
              for top in range(0, len(pixels), rows_per_strip)]
    count = len(strips)
    lists = 8 + 2 + 9 * 12 + 4  # after header and directory: the strips' places, then their lengths
    places = np.cumsum([lists + 8 * count, *map(len, strips[:-1])])
    tags = [(256, 4, 1, pixels.shape[1]), (257, 4, 1, pixels.shape[0]), (258, 4, 1, pixels.dtype.itemsize * 8),
            (259, 4, 1, 8), (262, 4, 1, 1), (273, 4, count, lists), (277, 4, 1, 1), (278, 4, 1, rows_per_strip),
            (279, 4, count, lists + 4 * count)]
    return (b"II*\0" + struct.pack("<IH", 8, 9) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
            + struct.pack(f"<{count}I", *places) + struct.pack(f"<{count}I", *map(len, strips)) + b"".join(strips))


# Signed, rescaled: the picture is 0.5 · stored − 100, of which the window shows 100 to 1,123 (PS3.3 C.11.2.1.2).
def windowed(grey: np.ndarray) -> bytes:
    shown = 100 + grey.astype(np.float64) / 255 * 1023
    return dicom(np.rint((shown + 100) * 2).astype(np.int16), 16, RescaleSlope=0.5, RescaleIntercept=-100,
                 WindowCenter=[612, 40], WindowWidth=[1024, 80])


# Each makes a file of a grey picture; all must read as that picture.
FORMATS: dict[str, Callable[[np.ndarray], bytes]] = {
    "PNG 8": lambda g: opencv(".png", g),
    "PNG 8 RGB": lambda g: opencv(".png", rgb(g)),
    "PNG 8 RGBA": lambda g: opencv(".png", rgb(g, 4)),
    "PNG 8 grey and alpha": lambda g: pillow(Image.merge("LA", [Image.fromarray(g)] * 2), "PNG"),
    "PNG palette": lambda g: pillow(Image.fromarray(g).convert("P"), "PNG"),
    "PNG palette with transparency": lambda g: pillow(Image.fromarray(g).convert("P"), "PNG", transparency=0),
    "PNG interlaced": lambda g: pillow(g, "PNG", interlace=1),
    "PNG 16": lambda g: opencv(".png", deep(g)),
    "PNG 12 in 16": lambda g: opencv(".png", deep(g, 12)),
    "PNG 16 RGB": lambda g: opencv(".png", rgb(deep(g))),
    "PNG 16 RGBA": lambda g: opencv(".png", rgb(deep(g), 4)),
    "JPEG": lambda g: pillow(g, "JPEG", quality=95),
    "JPEG RGB": lambda g: pillow(rgb(g), "JPEG", quality=95),
    "JPEG progressive": lambda g: pillow(g, "JPEG", quality=95, progressive=True),
    "JPEG CMYK": lambda g: pillow(Image.fromarray(rgb(g)).convert("CMYK"), "JPEG", quality=95),
    "TIFF 8": lambda g: pillow(g, "TIFF"),
    "TIFF 8 RGB": lambda g: pillow(rgb(g), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF 8 palette": lambda g: pillow(Image.fromarray(g).convert("P"), "TIFF"),
    "TIFF 8 white is zero": lambda g: white_is_zero(pillow(255 - g, "TIFF")),
    "TIFF 8 white is zero, LZW": lambda g: white_is_zero(pillow(255 - g, "TIFF", compression="tiff_lzw")),
    "TIFF 8, directory first": directory_first,
    "TIFF 16, directory first": lambda g: directory_first(deep(g)),
    "TIFF 16": lambda g: pillow(deep(g), "TIFF"),
    "TIFF 16 LZW": lambda g: pillow(deep(g, 12), "TIFF", compression="tiff_lzw"),
    "TIFF 16 RGB": lambda g: opencv(".tif", rgb(deep(g))),
    "TIFF 16 white is zero": lambda g: white_is_zero(pillow(65535 - deep(g), "TIFF")),
    "TIFF float": lambda g: opencv(".tif", g.astype(np.float32) / 255),
    "BigTIFF": lambda g: pillow(deep(g), "TIFF", big_tiff=True),
    "DICOM 8": lambda g: dicom(g),
    "DICOM 8, a window that changes nothing": lambda g: dicom(g, RescaleSlope=1, RescaleIntercept=0,
                                                              WindowCenter=128, WindowWidth=256),
    "DICOM 8 MONOCHROME1": lambda g: dicom(255 - g, PhotometricInterpretation="MONOCHROME1"),
    "DICOM 8 RGB": lambda g: dicom(rgb(g)),
    "DICOM 12": lambda g: dicom(deep(g, 12), 12),
    "DICOM 16": lambda g: dicom(deep(g)),
    "DICOM 16 implicit": lambda g: dicom(deep(g), syntax=ImplicitVRLittleEndian),
    "DICOM 14 MONOCHROME1": lambda g: dicom(2**14 - 1 - deep(g, 14), 14, PhotometricInterpretation="MONOCHROME1"),
    "DICOM 16 signed, rescale and window": windowed,
    "DICOM 16 that begins like a TIFF": lambda g: b"II*\0" + dicom(deep(g))[4:],
    "DICOM 16 RLE": lambda g: dicom(deep(g), syntax=RLELossless),
}
JPEGS = [name for name in FORMATS if name.startswith("JPEG")]


@given(st.sampled_from(sorted(FORMATS)), st.integers(16, 90), st.integers(16, 90), st.integers(0, 2**31))
def test_every_format_gives_the_same_picture(tmp_path_factory: pytest.TempPathFactory, name: str, height: int,
                                             width: int, seed: int) -> None:
    """Within one grey level, JPEG (quality 95) within six."""
    grey = film(height, width, seed)
    path = tmp_path_factory.getbasetemp() / "film"  # no ending: the content decides
    path.write_bytes(FORMATS[name](grey))
    read = read_gray(path)
    assert read.dtype == np.uint8
    np.testing.assert_allclose(read.astype(int), grey.astype(int), atol=6 if name in JPEGS else 1)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_each_format_at_least_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "1377.PNG").write_bytes(FORMATS[name](film()))
    read = read_gray(tmp_path / "1377.PNG").astype(int)
    np.testing.assert_allclose(read, film().astype(int), atol=6 if name in JPEGS else 1)
    assert len(np.unique(read)) > 200


def test_8_bits_stay_as_they_are(tmp_path: Path) -> None:
    """Only deep films are stretched: a flat film of 8 bits keeps its levels, in every format."""
    flat = film() // 4 + 60
    for name in FORMATS:
        if " 8" in name:
            (tmp_path / "a").write_bytes(FORMATS[name](flat))
            np.testing.assert_allclose(read_gray(tmp_path / "a").astype(int), flat.astype(int), atol=1, err_msg=name)


def test_what_a_dicom_window_leaves_out_is_clipped(tmp_path: Path) -> None:
    stored = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))
    (tmp_path / "a.dcm").write_bytes(dicom(stored, 12, WindowCenter=2048, WindowWidth=1024))
    read = read_gray(tmp_path / "a.dcm")
    assert (read[stored < 1500] == 0).all()
    assert (read[stored > 2600] == 255).all()
    assert ((read > 0) & (read < 255)).any()


def turned(grey: np.ndarray, orientation: int) -> np.ndarray:
    """As it is stored under that orientation (TIFF 6.0, section 8: where first row and column lie in the picture)."""
    return np.ascontiguousarray({
        1: grey, 2: grey[:, ::-1], 3: grey[::-1, ::-1], 4: grey[::-1], 5: grey.T, 6: np.rot90(grey),
        7: grey[::-1, ::-1].T, 8: np.rot90(grey, -1)}[orientation])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG 16", "TIFF", "TIFF 16"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    grey = film(40, 60)
    stored = turned(grey, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "JPEG":
        data = pillow(np.ascontiguousarray(stored), "JPEG", quality=95, exif=exif)
    elif kind.startswith("PNG"):
        data = pillow(stored if kind == "PNG" else deep(stored), "PNG", exif=exif)
    else:
        pixels = np.ascontiguousarray(stored if kind == "TIFF" else deep(stored))
        data = pillow(pixels, "TIFF", tiffinfo={0x0112: orientation})
    (tmp_path / "a").write_bytes(data)
    np.testing.assert_allclose(read_gray(tmp_path / "a").astype(int), grey.astype(int), atol=6 if kind == "JPEG" else 1)


def squeezed(height: float, width: float) -> np.ndarray:
    """The film of 240 × 180 px as stored with pixels of that height and width: so many fewer rows and columns."""
    return cv2.resize(film(240, 180), (round(180 / width), round(240 / height)), interpolation=cv2.INTER_AREA)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_chunk(png: bytes, name: bytes, content: bytes) -> bytes:
    return png[:33] + png_chunk(name, content) + png[33:]


def densities(height: float, width: float, orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x011B], exif[0x0128] = orientation, 300 / width, 300 / height, 2
    return exif


def with_jfif(jpeg: bytes, unit: int, x: int, y: int) -> bytes:
    place = jpeg.index(b"JFIF\0")
    return jpeg[: place + 7] + struct.pack(">BHH", unit, x, y) + jpeg[place + 12 :]


def in_dicom(height: float, width: float, name: str, bits: int = 8) -> bytes:
    pixels = squeezed(height, width)
    values = [round(height * 100), round(width * 100)] if name == "PixelAspectRatio" else [height / 7, width / 7]
    return dicom(pixels if bits == 8 else deep(pixels), **{name: values})


OBLONG = {
    "PNG pHYs": lambda h, w: with_chunk(opencv(".png", squeezed(h, w)), b"pHYs",
                                        struct.pack(">IIB", round(9000 / w), round(9000 / h), 0)),
    "PNG 16 pHYs": lambda h, w: with_chunk(opencv(".png", deep(squeezed(h, w))), b"pHYs",
                                           struct.pack(">IIB", round(9000 / w), round(9000 / h), 1)),
    "PNG eXIf": lambda h, w: pillow(squeezed(h, w), "PNG", exif=densities(h, w)),
    "JPEG JFIF, a ratio": lambda h, w: with_jfif(pillow(squeezed(h, w), "JPEG", quality=95), 0, round(9000 / w),
                                                 round(9000 / h)),
    "JPEG JFIF, per inch": lambda h, w: with_jfif(pillow(squeezed(h, w), "JPEG", quality=95), 1, round(9000 / w),
                                                  round(9000 / h)),
    "JPEG EXIF": lambda h, w: pillow(squeezed(h, w), "JPEG", quality=95, exif=densities(h, w)),
    "TIFF": lambda h, w: pillow(squeezed(h, w), "TIFF", x_resolution=300 / w, y_resolution=300 / h),
    "TIFF 16": lambda h, w: pillow(deep(squeezed(h, w)), "TIFF", x_resolution=300 / w, y_resolution=300 / h),
    "BigTIFF": lambda h, w: pillow(squeezed(h, w), "TIFF", big_tiff=True, x_resolution=300 / w, y_resolution=300 / h),
    **{f"DICOM {name}": lambda h, w, name=name: in_dicom(h, w, name) for name in
       ["PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"]},
    "DICOM 16 PixelSpacing": lambda h, w: in_dicom(h, w, "PixelSpacing", 16),
}


@pytest.mark.parametrize("name", OBLONG)
@pytest.mark.parametrize(("height", "width"), [(2, 1), (1, 2), (1, 3.5), (1.25, 1), (1, 1)])
def test_oblong_pixels_become_square(tmp_path: Path, name: str, height: float, width: float) -> None:
    """The finer axis shrinks to the coarser one, so the picture is that of square pixels of the larger side."""
    (tmp_path / "a").write_bytes(OBLONG[name](height, width))
    read = read_gray(tmp_path / "a")
    side = max(height, width)
    expected = cv2.resize(film(240, 180), (round(180 / side), round(240 / side)), interpolation=cv2.INTER_AREA)
    assert read.shape == expected.shape
    stretched = np.interp(expected, [expected.min(), expected.max()], [read.min(), read.max()])  # 16 bits: to the ends
    assert np.abs(read - (stretched if "16" in name else expected.astype(float))).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "TIFF 16"])
def test_oblong_pixels_of_a_turned_picture(tmp_path: Path, orientation: int, kind: str) -> None:
    """Densities are along stored rows and columns, whichever way these come to lie."""
    upright, turn = squeezed(1, 2), orientation >= 5
    stored = turned(deep(upright) if "16" in kind else upright, orientation)
    exif = densities(*((2, 1) if turn else (1, 2)), orientation)
    (tmp_path / "a").write_bytes(pillow(stored, kind.split()[0], **(
        {"tiffinfo": {0x0112: orientation}, "x_resolution": exif[0x011A], "y_resolution": exif[0x011B]}
        if "TIFF" in kind else {"exif": exif})))
    read = read_gray(tmp_path / "a")
    assert read.shape == (120, 90)
    np.testing.assert_allclose(read, cv2.resize(upright, (90, 120), interpolation=cv2.INTER_AREA), atol=9)


def exif_block(*fields: tuple[int, int, int, tuple[int, ...]]) -> bytes:
    """EXIF of these tags: number, type (3 of 16 bits, 5 a fraction), count, values."""
    directory, more = struct.pack("<H", len(fields)), b""
    for tag, kind, count, values in fields:
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'L'}", *values).ljust(4, b"\0")
        if len(packed) > 4:
            packed, more = struct.pack("<L", 8 + 2 + 12 * len(fields) + 4 + len(more)), more + packed
        directory += struct.pack("<HHL", tag, kind, count) + packed
    return b"Exif\0\0II*\0\x08\0\0\0" + directory + b"\0" * 4 + more


@pytest.mark.parametrize("data", [
    with_chunk(opencv(".png", film()), b"pHYs", struct.pack(">IIB", 2835, 2840, 1)),
    with_chunk(opencv(".png", film()), b"pHYs", struct.pack(">IIB", 0, 0, 1)),
    pillow(film(), "PNG", dpi=(300, 300)), pillow(film(), "JPEG", dpi=(72, 72)), pillow(film(), "TIFF", dpi=(72, 72)),
    with_jfif(pillow(film(), "JPEG"), 0, 0, 0),
    dicom(film(), PixelSpacing=[0.143, 0.143]), dicom(film(), PixelSpacing="", PixelAspectRatio=[1, 1]),
    # a value missing, 0 or endless on one axis declares nothing
    with_chunk(opencv(".png", film()), b"pHYs", struct.pack(">IIB", 300, 0, 1)),
    with_chunk(opencv(".png", film()), b"pHYs", struct.pack(">IIB", 0, 300, 1)),
    with_jfif(pillow(film(), "JPEG"), 1, 300, 0), with_jfif(pillow(film(), "JPEG"), 0, 0, 1),
    dicom(film(), PixelSpacing=[0.1]), dicom(film(), PixelSpacing=[0.1, 0], PixelAspectRatio=[1, 1]),
    *(pillow(film(), "JPEG", exif=exif_block(*fields)) for fields in [
        [(282, 5, 1, (72, 1))], [(282, 5, 1, (72, 0)), (283, 5, 1, (72, 1))], [(282, 5, 1, (72, 1)), (283, 5, 0, ())],
        [(282, 5, 2, (72, 1, 72, 1)), (283, 5, 1, (72, 1))], [(282, 5, 1, (0, 1)), (283, 5, 1, (72, 1))]]),
])
def test_square_pixels_are_left_alone(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert read_gray(tmp_path / "a").shape == (48, 36)


TURNED = struct.pack("<4sLHHHLLL", b"II*\0", 8, 1, 0x0112, 3, 1, 6, 0)
XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'


def as_text(profile: bytes, key: str) -> bytes:
    """As ImageMagick writes EXIF into a PNG."""
    return f"\n{key}\n{len(profile):8}\n".encode() + b"\n".join(
        profile.hex().encode()[place : place + 72] for place in range(0, 2 * len(profile), 72)) + b"\n"


@pytest.mark.parametrize(("name", "content"), [
    (b"eXIf", TURNED), (b"eXIf", b"Exif\0\0" + TURNED),
    (b"tEXt", b"Raw profile type exif\0" + as_text(b"Exif\0\0" + TURNED, "exif")),
    (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(as_text(b"Exif\0\0" + TURNED, "exif"))),
    (b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(as_text(b"Exif\0\0" + TURNED, "generic profile"))),
])
def test_orientation_in_any_chunk_of_a_png(tmp_path: Path, name: bytes, content: bytes) -> None:
    (tmp_path / "a").write_bytes(with_chunk(opencv(".png", turned(film(40, 60), 6)), name, content))
    np.testing.assert_array_equal(read_gray(tmp_path / "a"), film(40, 60))


@pytest.mark.parametrize("data", [
    pillow(film(), "TIFF", tiffinfo={700: XMP}), pillow(deep(film()), "TIFF", tiffinfo={700: XMP}),
    with_chunk(opencv(".png", film()), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    pillow(film(), "PNG", exif=exif_block((274, 3, 0, ()))), pillow(film(), "PNG", exif=exif_block((274, 3, 1, (99,)))),
])
def test_an_orientation_elsewhere_or_of_no_value_counts_for_nothing(tmp_path: Path, data: bytes) -> None:
    """XMP repeats what EXIF says, and stays when a program turns the picture."""
    (tmp_path / "a").write_bytes(data)
    np.testing.assert_array_equal(read_gray(tmp_path / "a"), film())


@pytest.mark.parametrize(("data", "words"), [
    (with_chunk(opencv(".png", film()), b"pHYs", struct.pack(">IIB", 300, 1, 1)), "pHYs 300 and 1 is no shape"),
    (with_chunk(opencv(".png", film()), b"pHYs", struct.pack(">IIB", 1, 2835, 1)), "no shape of a pixel"),
    (with_jfif(pillow(film(), "JPEG"), 1, 72, 7200), "JFIF 72 and 7200"),
    (pillow(film(), "TIFF", x_resolution=300, y_resolution=1), "no shape of a pixel"),
    (dicom(film(), PixelSpacing=[0.1, 0.01]), "PixelSpacing 0.1 and 0.01 is no shape"),
    (dicom(film(), PixelAspectRatio=[-1, -1]), "no shape of a pixel"),
    (dicom(film(), PixelAspectRatio=[1, 5]), "no shape of a pixel"),
    (dicom(film(), PixelAspectRatio=[2, 1], PixelSpacing=[0.1, 0.1]), "disagree on the shape"),
    (with_jfif(pillow(film(), "JPEG", exif=densities(1, 2)), 1, 300, 300), "disagree on the shape"),
    (dicom(film(20, 200), PixelAspectRatio=[1, 2]), "too small"),
])
def test_an_absurd_shape_of_pixels_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a").write_bytes(data)
    refused(tmp_path / "a", words)


def refused(path: Path, words: str | None = None) -> str:
    with pytest.raises(BoneXageError, match=words) as caught:
        read_gray(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert ";" in message  # what is wrong; what to do
    return message


def outcome(path: Path) -> np.ndarray | str:
    """The film, or the line that refuses it; anything else is raised."""
    try:
        return read_gray(path)
    except BoneXageError as error:
        return str(error)


def png_header(width: int, height: int, bits: int = 8, colours: int = 0) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + png_chunk(b"IEND", b"")


def tiff_header(width: int, height: int) -> bytes:
    small = pillow(film(), "TIFF")
    return small.replace(struct.pack("<HHII", 256, 4, 1, 36), struct.pack("<HHII", 256, 4, 1, width)).replace(
        struct.pack("<HHII", 257, 4, 1, 48), struct.pack("<HHII", 257, 4, 1, height))


def jpeg_header(width: int, height: int) -> bytes:
    small = pillow(film(), "JPEG")
    return small.replace(struct.pack(">HH", 48, 36), struct.pack(">HH", height, width))


SIZED = {"PNG": png_header, "TIFF": tiff_header, "JPEG": jpeg_header,
         "DICOM": lambda w, h: dicom(film(), Rows=h, Columns=w)}


@pytest.mark.parametrize(("data", "bits"), [
    (lambda: png_header(9_000, 9_000, 16, 6), 64), (lambda: png_header(9_000, 9_000, 16, 4), 64),
    (lambda: tiff(rgb(film() / 255, 4), t256=9_000, t257=9_000), 256),
    (lambda: tiff(film() / 255, t256=9_000, t257=9_000), 64),
    (lambda: dicom(rgb(deep(film())), Rows=9_000, Columns=9_000), 48),
    (lambda: dicom(film().astype(np.uint32), Rows=11_000, Columns=9_090, BitsAllocated=64), 64),
])
def test_numbers_of_over_400_mb_are_refused(tmp_path: Path, data: Callable[[], bytes], bits: int) -> None:
    (tmp_path / "a").write_bytes(data())
    refused(tmp_path / "a", f"px of {bits} bits are over the limit of 400 MB")


@pytest.mark.parametrize("kind", SIZED)
@pytest.mark.parametrize(("width", "height", "words"), [
    (20_000, 20_000, "20,000 × 20,000 px is over the limit"), (16_001, 20, "limit"), (20, 16_001, "limit"),
    (12_000, 12_000, "100 megapixels"), (1, 1, "too small"), (15, 400, "too small"), (400, 15, "too small"),
])
def test_the_size_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, width: int,
                                             height: int, words: str) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoded a picture of a size that its header gives away")

    monkeypatch.setattr(decoding.cv2, "imdecode", decoded)
    monkeypatch.setattr(decoding.JpegImageFile, "load", decoded)
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(decoded))
    (tmp_path / "bomb").write_bytes(SIZED[kind](width, height))
    refused(tmp_path / "bomb", words)


def fifo(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo(path)


NO_FILMS = {
    "missing": (lambda p: None, "no such file"),
    "directory": (lambda p: p.mkdir(), "directory"),
    "pipe": (fifo, "not a file"),  # reading it would wait for ever
    "zero bytes": (lambda p: p.write_bytes(b""), "zero bytes"),
    "text": (lambda p: p.write_text("I am not a picture"), "not a readable image"),
    "zeros": (lambda p: p.write_bytes(b"\0" * 5000), "not a readable image"),
    "GIF": (lambda p: p.write_bytes(pillow(film(), "GIF")), "give PNG, JPEG, TIFF or DICOM"),
    "only a signature": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n"), "PNG"),
    "PNG cut": (lambda p: p.write_bytes(opencv(".png", film())[:-40]), "truncated PNG"),
    "PNG half zeros": (lambda p: p.write_bytes(opencv(".png", film())[:900] + b"\0" * 900), "PNG"),
    "JPEG cut": (lambda p: p.write_bytes(pillow(film(), "JPEG")[:-40]), "truncated JPEG"),
    "JPEG half zeros": (lambda p: p.write_bytes(pillow(film(), "JPEG")[:-100] + b"\0" * 100), "truncated JPEG"),
    "JPEG cut, its thumbnail whole": (lambda p: p.write_bytes(thumbnailed()[:-40]), "truncated JPEG"),
    "PNG of two frames": (lambda p: p.write_bytes(
        pillow(film(), "PNG", save_all=True, append_images=[Image.fromarray(film(seed=1))])), "more than one frame"),
    "TIFF of a short palette": (lambda p: p.write_bytes(tiff(film(), t262=3, t320=[9] * 300)), "a palette of another"),
    "TIFF of a long palette": (lambda p: p.write_bytes(tiff(film(), t262=3, t320=[9] * 999)), "a palette of another"),
    "JPEG of 12 bits": (lambda p: p.write_bytes(
        pillow(film(), "JPEG").replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc0\0\x0b\x0c")), "a JPEG of 12 bits"),
    "PNG of many chunks": (lambda p: p.write_bytes(
        with_chunk(opencv(".png", film()), b"IDAT", b"").replace(png_chunk(b"IDAT", b""),
                                                                 png_chunk(b"IDAT", b"") * 200_000)), "200,000 parts"),
    "JPEG of many segments": (lambda p: p.write_bytes(
        jpeg()[:2] + segment(0xDD, b"\0\0") * 200_000 + jpeg()[2:]), "200,000 parts"),
    "DICOM without preamble": (lambda p: p.write_bytes(dicom(film())[128:]), "DICOM without the preamble"),
    "DICOM without preamble and mark": (lambda p: p.write_bytes(dicom(film())[132:]), "DICOM without the preamble"),
    "DICOM of bare elements, implicit": (lambda p: p.write_bytes(
        b"\x08\0\x16\0\x1a\0\0\0" + b"1.2.840.10008.5.1.4.1.1.7\0" + b"\0" * 99), "DICOM without the preamble"),
    "TIFF of two pages": (lambda p: p.write_bytes(
        pillow(film(), "TIFF", save_all=True, append_images=[Image.fromarray(film())])), "more than one page"),
    "TIFF of not-a-number": (lambda p: p.write_bytes(
        opencv(".tif", np.full((40, 40), np.nan, np.float32))), "not numbers"),
    "TIFF with a damaged strip": (lambda p: p.write_bytes(
        directory_first(film())[:-300] + b"\xff" * 300), "truncated or damaged TIFF"),
    "DICOM without pixels": (lambda p: p.write_bytes(dicom(film(), PixelData=None)), "without pixels"),
    "DICOM of three frames": (lambda p: p.write_bytes(dicom(film(), NumberOfFrames=3)), "more than one frame"),
    "DICOM too short for its rows": (lambda p: p.write_bytes(dicom(film(), Rows=300)), "truncated or damaged DICOM"),
    "DICOM without rows": (lambda p: p.write_bytes(dicom(film(), Rows=None)), "damaged DICOM"),
    "DICOM in a palette": (lambda p: p.write_bytes(dicom(film(), PhotometricInterpretation="PALETTE COLOR")),
                           "export it as MONOCHROME2"),
    "DICOM deflated": (lambda p: p.write_bytes(dicom(film(), syntax=DeflatedExplicitVRLittleEndian)), "deflated"),
}


def thumbnailed() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "thumbnail"
    data = pillow(film(), "JPEG", exif=exif)
    small = pillow(film(16, 16), "JPEG")  # whole, in a segment of its own before the picture
    return data[:2] + b"\xff\xe2" + struct.pack(">H", len(small) + 2) + small + data[2:]


@pytest.mark.parametrize("name", NO_FILMS)
def test_what_is_no_film_is_refused_by_name(tmp_path: Path, name: str) -> None:
    make, words = NO_FILMS[name]
    make(tmp_path / "1377.png")
    refused(tmp_path / "1377.png", words)


def test_a_jpeg_with_a_thumbnail_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(thumbnailed())
    assert read_gray(tmp_path / "a.jpg").shape == (48, 36)


def test_a_dicom_that_nothing_decodes_names_the_remedy(tmp_path: Path, core_alone: None) -> None:
    data = dicom(film(), syntax=JPEGLosslessSV1, PixelData=pydicom.encaps.encapsulate([b"no JPEG"]))
    (tmp_path / "a.dcm").write_bytes(data)
    assert "install bonexage[dicom]" in refused(tmp_path / "a.dcm", "JPEG Lossless")


@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_a_cut_file_is_refused_or_whole(tmp_path_factory: pytest.TempPathFactory, name: str,
                                        data: st.DataObject) -> None:
    """Never the part that arrived, with the rest of it black or grey."""
    whole = FORMATS[name](film())
    near_the_end = st.integers(max(0, len(whole) - 60), len(whole) - 1)
    cut = data.draw(st.integers(0, len(whole) - 1) | near_the_end)
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(whole)
    expected = read_gray(path)
    path.write_bytes(whole[:cut])
    read = outcome(path)
    if isinstance(read, str):
        assert str(path) in read
        assert "\n" not in read
    else:
        np.testing.assert_array_equal(read, expected)


@given(st.sampled_from([name for name in sorted(FORMATS) if name.startswith("PNG")]), st.data())
def test_one_wrong_byte_in_a_png_is_refused(tmp_path_factory: pytest.TempPathFactory, name: str,
                                            data: st.DataObject) -> None:
    damaged = bytearray(FORMATS[name](film()))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(damaged)
    refused(path)


@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_damage_never_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, name: str,
                                          data: st.DataObject) -> None:
    damaged = bytearray(FORMATS[name](film()))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1) | st.integers(0, 400), min_size=1, max_size=8)):
        damaged[min(place, len(damaged) - 1)] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(damaged)
    read = outcome(path)
    assert "\n" not in read if isinstance(read, str) else (read.ndim, read.dtype) == (2, np.uint8)


@given(st.binary(max_size=400), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*",
                                                 b"\0" * 128 + b"DICM"]))
def test_junk_is_refused(tmp_path_factory: pytest.TempPathFactory, junk: bytes, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.png"
    path.write_bytes(start + junk)
    refused(path)


DEEP = {
    "PNG": lambda pixels: opencv(".png", pixels), "TIFF": lambda pixels: pillow(pixels, "TIFF"),
    "TIFF float": lambda pixels: opencv(".tif", pixels.astype(np.float32)), "DICOM": dicom,
    "DICOM with a full window": lambda pixels: dicom(pixels, WindowCenter=32768, WindowWidth=65536),
    "DICOM MONOCHROME1": lambda pixels: dicom(65535 - pixels, PhotometricInterpretation="MONOCHROME1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DEEP)
@given(side=st.integers(1, 29), top=st.integers(0, 211), left=st.integers(0, 151),
       value=st.sampled_from([0, 2_000, 9_500, 12_000, 20_000, 65_535]))
def test_a_mark_darkens_no_other_pixel(tmp_path_factory: pytest.TempPathFactory, name: str, side: int, top: int,
                                       left: int, value: int) -> None:
    """From one dead pixel to a burnt-in mark of 2 % of the area, below or above a film of 4,000 to 8,095."""
    grey = film(240, 180)
    pixels = deep(grey, 12) + np.uint16(4000)
    inside = np.zeros(grey.shape, bool)
    inside[top : top + side, left : left + side] = True
    pixels[inside] = value
    path = tmp_path_factory.getbasetemp() / "marked"
    path.write_bytes(DEEP[name](pixels))
    read = read_gray(path).astype(int)
    rest = grey[~inside].astype(float)
    np.testing.assert_allclose(read[~inside], (rest - rest.min()) / np.ptp(rest) * 255, atol=1)
    assert (read[inside] == (0 if value < 4000 else 255)).all()


def test_a_mark_of_a_real_film_darkens_no_other_pixel(tmp_path: Path, radiographs: Path) -> None:
    folder = radiographs / "native" / "boneage-training-dataset"
    for path in sorted(folder.glob("*.png"))[:6]:
        grey = cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), None, fx=0.5, fy=0.5,
                          interpolation=cv2.INTER_AREA)
        marked = deep(grey, 12)
        (tmp_path / "clean").write_bytes(opencv(".png", marked))
        side = int(np.sqrt(0.006 * grey.size))
        marked[5 : 5 + side, 5 : 5 + side] = 20_000
        (tmp_path / "marked").write_bytes(opencv(".png", marked))
        change = np.abs(read_gray(tmp_path / "marked").astype(int) - read_gray(tmp_path / "clean"))
        change[5 : 5 + side, 5 : 5 + side] = 0
        assert change.mean() < 3, path.name


def test_a_deep_film_of_which_too_few_levels_are_left_is_refused(tmp_path: Path) -> None:
    pixels = deep(film(), 12) // 16
    pixels[:9] = 65535  # a fifth of the area
    (tmp_path / "a").write_bytes(opencv(".png", pixels))
    refused(tmp_path / "a", "only . grey levels are left")


def test_levels_of_a_deep_film_are_kept_as_far_as_256_go(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(opencv(".png", np.arange(4096, dtype=np.uint16).reshape(64, 64)))
    np.testing.assert_array_equal(np.unique(read_gray(tmp_path / "a"), return_counts=True)[0], np.arange(256))


def jpeg() -> bytes:
    return pillow(film(), "JPEG", quality=95)


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def motion_photo() -> bytes:
    """The picture, then a film that holds bytes like a JPEG's start, scan and end."""
    film_bytes = np.random.default_rng(3).bytes(5000)
    return b"\0\0\0\x18ftypmp42" + film_bytes + b"\xff\xd8\xff\xda" + film_bytes + b"\xff\xd9\xff\xda\0\x08"


def multi_picture() -> bytes:
    """As cameras write it: two whole JPEGs, the first with an index of both (CIPA DC-007)."""
    data = io.BytesIO()
    Image.fromarray(film()).save(data, "MPO", save_all=True, append_images=[Image.fromarray(film(30, 30))], quality=95)
    return data.getvalue()


WHOLE_JPEGS = {
    "then a film": lambda: jpeg() + motion_photo(),
    "then a film that only scans": lambda: jpeg() + b"\xff\xda" * 9,
    "then zeros": lambda: jpeg() + b"\0" * 999,
    "then another JPEG": lambda: jpeg() + pillow(film(20, 20), "JPEG"),
    "then a JPEG that is cut": lambda: jpeg() + pillow(film(20, 20), "JPEG")[:-40],
    "multi-picture": multi_picture,
    "two starts": lambda: b"\xff\xd8" + jpeg(),
    "a thumbnail": lambda: jpeg()[:2] + segment(0xE2, pillow(film(16, 16), "JPEG")) + jpeg()[2:],
    "marks within a comment": lambda: jpeg()[:2] + segment(0xFE, b"\xff\xd9\xff\xda") + jpeg()[2:],
    "filled markers": lambda: jpeg()[:-2] + b"\xff\xff\xff\xd9",
    "restarts": lambda: pillow(film(), "JPEG", quality=95, restart_marker_blocks=1),
    "progressive, then a film": lambda: pillow(film(), "JPEG", quality=95, progressive=True) + motion_photo(),
    "an Adobe segment": lambda: jpeg()[:2] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\0") + jpeg()[2:],
    "broken EXIF": lambda: jpeg()[:2] + segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff") + jpeg()[2:],
    "many profiles": lambda: jpeg()[:2] + segment(0xE2, b"ICC_PROFILE\0\1\1" + b"\0" * 999) * 99 + jpeg()[2:],
}


@pytest.mark.parametrize("name", WHOLE_JPEGS)
def test_a_whole_jpeg_is_read_whatever_follows_or_precedes_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(WHOLE_JPEGS[name]())
    np.testing.assert_allclose(read_gray(tmp_path / "a.jpg").astype(int), film().astype(int), atol=6)


@given(st.integers(0, 2**31), st.data())
def test_what_follows_a_jpeg_changes_nothing_and_heals_no_cut(tmp_path_factory: pytest.TempPathFactory, seed: int,
                                                              data: st.DataObject) -> None:
    picture = pillow(film(40, 30, seed), "JPEG")
    rest = data.draw(st.binary(max_size=50) | st.sampled_from([b"\xff\xd9", b"\xff\xda", b"\xff\xd8\xff\xe0"]))
    path = tmp_path_factory.getbasetemp() / "a.jpg"
    path.write_bytes(picture)
    whole = read_gray(path)
    path.write_bytes(picture + rest)
    np.testing.assert_array_equal(read_gray(path), whole)
    path.write_bytes(picture[: data.draw(st.integers(4, len(picture) - 1))])
    refused(path)


def tiff(pixels: np.ndarray, **tags: int | list[int] | None) -> bytes:
    """An uncompressed little-endian TIFF of one strip, with numbers of the array's type; `tags` replace, add, or, of
    None, take out."""
    pixels = np.atleast_3d(pixels)
    count = pixels.shape[2]
    fields = {256: pixels.shape[1], 257: pixels.shape[0], 258: [pixels.dtype.itemsize * 8] * count, 259: 1,
              262: 1 if count == 1 else 2, 273: 8, 277: count, 278: pixels.shape[0], 279: pixels.nbytes,
              339: [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]] * count}
    fields |= {int(tag[1:]): value for tag, value in tags.items()}
    directory, more = b"", b""
    fields = {tag: value for tag, value in fields.items() if value is not None}
    start = 8 + pixels.nbytes + 2 + 12 * len(fields) + 4
    for tag, value in sorted(fields.items()):
        values = value if isinstance(value, list) else [value]
        packed = struct.pack(f"<{len(values)}L", *values).ljust(4, b"\0")
        if len(packed) > 4:
            packed, more = struct.pack("<L", start + len(more)), more + packed
        directory += struct.pack("<HHL", tag, 4, len(values)) + packed
    return (b"II*\0" + struct.pack("<L", 8 + pixels.nbytes) + pixels.tobytes() + struct.pack("<H", len(fields))
            + directory + b"\0" * 4 + more)


def lab(grey: np.ndarray) -> bytes:
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    return pillow(ImageCms.profileToProfile(Image.fromarray(rgb(grey)), *profiles, outputMode="LAB"), "TIFF")


NUMBERS = {
    "8 signed": lambda g: tiff((g.astype(int) - 128).astype(np.int8)),
    "16 signed": lambda g: tiff((deep(g).astype(int) - 32768).astype(np.int16)),
    "16 signed, white is zero": lambda g: tiff((32767 - deep(g).astype(int)).astype(np.int16), t262=0),
    "32": lambda g: tiff(deep(g).astype(np.uint32) * 65537),
    "32 signed": lambda g: tiff((deep(g).astype(np.int64) * 65536 - 2**31).astype(np.int32)),
    "double": lambda g: tiff(g / 255.0),
    "float, white is zero": lambda g: tiff((1 - g / 255).astype(np.float32), t262=0),
    "8 and alpha": lambda g: tiff(np.dstack([g, np.full_like(g, 128)]), t262=1, t338=2),
    "8 and alpha that is multiplied in": lambda g: tiff(np.dstack([g, np.full_like(g, 255)]), t262=1, t338=1),
    "orientation without a value": lambda g: tiff(g, t274=[]),
    "16, orientation without a value": lambda g: tiff(deep(g), t274=[]),
    "palette": lambda g: tiff(g, t262=3, t320=[number * 257 for number in range(256)] * 3),
    "palette in 8 bits and alpha": lambda g: tiff(np.dstack([g, 255 - g]), t262=3, t338=2, t320=list(range(256)) * 3),
    "palette in 8 bits": lambda g: tiff(g, t262=3, t320=list(range(256)) * 3),
    "strips": lambda g: tiff(g, **in_strips(g, 7)),
    "16, strips": lambda g: tiff(deep(g), **in_strips(deep(g), 7)),
    "strips, one row each": lambda g: tiff(g, **in_strips(g, 1)),
    "a strip of more rows than the picture": lambda g: tiff(g, t278=2**32 - 1),
    "no length of the one strip": lambda g: tiff(deep(g), t279=None),
    "16 RGB and alpha": lambda g: tiff(rgb(deep(g), 4), t338=2),
    "LAB": lab,
    "CMYK": lambda g: pillow(Image.fromarray(rgb(g)).convert("CMYK"), "TIFF"),
    "YCbCr": lambda g: pillow(Image.fromarray(rgb(g)).convert("YCbCr"), "TIFF"),
}


# What only the newer decoders read or write: OpenCV 5, Pillow 13. With older ones such a film is refused.
OLD = Version(cv2.__version__) < Version("5") or Version(PIL.__version__) < Version("13")
NEW_IN_DECODERS = {"32", "8 and alpha that is multiplied in", "YCbCr", "16 zstd"}


def skip_if_new_in_decoders(name: str) -> None:
    if OLD and name in NEW_IN_DECODERS:
        pytest.skip(f"OpenCV {cv2.__version__} with Pillow {PIL.__version__} does not know a TIFF of {name}")


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_and_colours_of_a_tiff(tmp_path: Path, name: str) -> None:
    skip_if_new_in_decoders(name)
    (tmp_path / "a.tif").write_bytes(NUMBERS[name](film()))
    np.testing.assert_allclose(read_gray(tmp_path / "a.tif").astype(int), film().astype(int), atol=1)


def in_strips(pixels: np.ndarray, rows: int) -> dict[str, int | list[int]]:
    """Tags of a TIFF that has its rows, one after the other, in strips of so many."""
    row, tops = pixels[0].nbytes, range(0, len(pixels), rows)
    return {"t278": rows, "t273": [8 + top * row for top in tops],
            "t279": [min(rows, len(pixels) - top) * row for top in tops]}


def tiled(pixels: np.ndarray, **tags: list[int]) -> bytes:
    """A TIFF of a film of 48 × 32 px in six tiles."""
    tiles = np.concatenate([part for band in np.split(pixels, 3) for part in np.split(band, 2, axis=1)])
    size = 256 * pixels.itemsize
    return tiff(tiles, **{"t256": 32, "t257": 48, "t322": 16, "t323": 16, "t273": None, "t278": None, "t279": None,
                          "t324": [8 + size * tile for tile in range(6)], "t325": [size] * 6} | tags)


# What is wrong with the places and lengths of the strips (or tiles): they go in right, and come out wrong.
WRONG_STRIPS: dict[str, Callable[[list[int], list[int]], tuple[list[int], list[int]]]] = {
    "one fewer": lambda places, lengths: (places[:-1], lengths[:-1]),
    "the first two": lambda places, lengths: (places[:2], lengths[:2]),
    "one more": lambda places, lengths: (places + places[-1:], lengths + lengths[-1:]),
    "a place fewer": lambda places, lengths: (places[:-1], lengths),
    "no place": lambda places, lengths: (places[:-1] + [0], lengths),
    "no places but one": lambda places, lengths: (places[:1] + [0] * (len(places) - 1), lengths),
    "no bytes": lambda places, lengths: (places, lengths[:-1] + [0]),
    "a byte fewer": lambda places, lengths: (places, lengths[:-1] + [lengths[-1] - 1]),
    "one place for all": lambda places, lengths: (places[:1] * len(places), lengths),
    "one place for two": lambda places, lengths: (places[:1] + places[:1] + places[2:], lengths),
    "half a strip further up": lambda places, lengths: (
        places[:2] + [places[2] - lengths[1] // 2] + places[3:], lengths),
    "beyond the file": lambda places, lengths: (places[:-1] + [places[-1] + 9_000], lengths),
}


@given(st.sampled_from(sorted(WRONG_STRIPS)), st.sampled_from([1, 3, 7, 10]), st.sampled_from([8, 16, 32]))
def test_a_tiff_without_all_its_strips_is_refused(tmp_path_factory: pytest.TempPathFactory, name: str, rows: int,
                                                  bits: int) -> None:
    """And with all of them it is read: uncompressed, nothing else would show what is missing."""
    pixels = {8: film(), 16: deep(film()), 32: (film() / 255).astype(np.float32)}[bits]
    path = tmp_path_factory.getbasetemp() / "strips.tif"
    tags = in_strips(pixels, rows)
    path.write_bytes(tiff(pixels, **tags))
    np.testing.assert_array_equal(read_gray(path), film())
    tags["t273"], tags["t279"] = WRONG_STRIPS[name](tags["t273"], tags["t279"])
    path.write_bytes(tiff(pixels, **tags))
    refused(path, "do not hold the whole picture")


@pytest.mark.parametrize("name", WRONG_STRIPS)
@pytest.mark.parametrize("make", [np.asarray, deep])
def test_a_tiff_without_all_its_tiles_is_refused(tmp_path: Path, name: str, make: Callable) -> None:
    pixels = make(film(48, 32))
    (tmp_path / "a.tif").write_bytes(tiled(pixels))
    np.testing.assert_array_equal(read_gray(tmp_path / "a.tif"), film(48, 32))
    size = 256 * pixels.itemsize
    places, lengths = WRONG_STRIPS[name]([8 + size * tile for tile in range(6)], [size] * 6)
    (tmp_path / "a.tif").write_bytes(tiled(pixels, t324=places, t325=lengths))
    refused(tmp_path / "a.tif", "do not hold the whole picture")


def test_a_film_that_becomes_one_grey_level_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(film(), t262=3, t320=[0] * 768))
    refused(tmp_path / "a.tif", "one grey level")


UNREAD = {
    "half floats": lambda: tiff((film() / 255).astype(np.float16)),
    "8 signed, white is zero": lambda: tiff(film().view(np.int8), t262=0),
    "16 CMYK": lambda: tiff(rgb(deep(film()), 4), t262=5),
    "YCbCr, colour for four pixels": lambda: tiff(rgb(film()), t262=6, t530=[2, 2]),
    "16 palette": lambda: tiff(deep(film()), t262=3, t320=[0] * 3 * 65536),
    "16 LAB": lambda: tiff(rgb(deep(film())), t262=8),
    "16 RGB and two more": lambda: tiff(rgb(deep(film()), 5), t338=[0, 0]),
    "12 in 16 and alpha": lambda: tiff(np.dstack([deep(film(), 12)] * 2), t262=1, t338=2),  # OpenCV keeps 16 levels
    "float and alpha": lambda: tiff(np.dstack([film() / np.float32(255)] * 2), t262=1, t338=2),
    "double RGB and alpha": lambda: tiff(rgb(film() / 255, 4), t338=2),
    "32 RGB": lambda: tiff(rgb(deep(film()).astype(np.uint32))),
    "16 signed RGB": lambda: tiff(rgb(film().astype(np.int16))),
    "8 of no kind": lambda: tiff(film(), t339=4),
    "16 RGB in planes": lambda: tiff(rgb(deep(film())), t284=2, t273=[8] * 3, t279=[48 * 36 * 2] * 3),
    "16 zstd": lambda: pillow(deep(film()), "TIFF", compression="zstd"),
    "a camera's own colours": lambda: tiff(deep(film()), t262=32803),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_tiff_that_nothing_reads_is_not_called_damaged(tmp_path: Path, name: str) -> None:
    skip_if_new_in_decoders(name)
    (tmp_path / "a.tif").write_bytes(UNREAD[name]())
    assert "damaged" not in refused(tmp_path / "a.tif", "save it as grey")


def encapsulated(syntax: str, frame: bytes) -> bytes:
    return dicom(film(), syntax=syntax, PixelData=pydicom.encaps.encapsulate([frame]))


def deflated_dicom() -> bytes:
    """200 MB of zeros in 200 kB, the syntax behind 4,000 bytes of another element."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(struct.pack("<HH2sHL", 9, 16, b"OB", 0, 200_000_000))
    packed += b"".join(packer.compress(bytes(1_000_000)) for _ in range(200)) + packer.flush()
    return (b"\0" * 128 + b"DICM" + struct.pack("<HH2sHL", 2, 0x102, b"OB", 0, 4000) + b"\0" * 4000
            + struct.pack("<HH2sH", 2, 16, b"UI", 22) + b"1.2.840.10008.1.2.1.99" + packed)


def long_list() -> bytes:
    """A window centre of 500,000 numbers, in implicit VR, which allows for the length."""
    data = dicom(film(), syntax=ImplicitVRLittleEndian)
    place = data.index(struct.pack("<HHL", 0x28, 0x103, 2)) + 10
    return data[:place] + struct.pack("<HHL", 0x28, 0x1050, 1_000_000) + b"1\\" * 500_000 + data[place:]


def many_items() -> bytes:
    data = dicom(film())
    place = data.index(struct.pack("<HH2s", 0x28, 2, b"US"))
    items = struct.pack("<HH2sHL", 8, 0x1140, b"SQ", 0, 2**32 - 1) + b"\xfe\xff\x00\xe0\0\0\0\0" * 300_000
    return data[:place] + items + b"\xfe\xff\xdd\xe0\0\0\0\0" + data[place:]


def many_elements(length: int) -> bytes:
    """A table's sequence with an item of 1,500,000 elements, in bytes of its own or up to an end mark."""
    data = dicom(film())
    place = data.index(struct.pack("<HH2s", 0x7FE0, 16, b"OW"))
    elements = np.zeros(1_500_000, [("group", "<u2"), ("element", "<u2"), ("vr", "S2"), ("length", "<u2")])
    number = np.arange(len(elements))
    elements["group"], elements["element"], elements["vr"] = 0x31 + (number >> 16), number & 0xFFFF, b"US"
    item = elements.tobytes()
    if length:
        head = struct.pack("<HH2sHLHHL", 0x28, 0x3010, b"SQ", 0, len(item) + 8, 0xFFFE, 0xE000, len(item))
        return data[:place] + head + item + data[place:]
    head = struct.pack("<HH2sHLHHL", 0x28, 0x3010, b"SQ", 0, 2**32 - 1, 0xFFFE, 0xE000, 2**32 - 1)
    end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return data[:place] + head + item + end + data[place:]


BOMBS = {
    "DICOM deflated": deflated_dicom,
    "DICOM JPEG": lambda: encapsulated(JPEGBaseline8Bit, pillow(np.zeros((9000, 9000), np.uint8), "JPEG")),
    "DICOM JPEG 2000": lambda: encapsulated(
        JPEG2000Lossless, pillow(np.zeros((9000, 9000), np.uint8), "JPEG2000", no_jp2=True)),
    "DICOM RLE": lambda: encapsulated(
        RLELossless, struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x07" * 1_500_000),
    "DICOM of a long list": long_list,
    "DICOM of many items": many_items,
    "DICOM of many elements": lambda: many_elements(0),
    "DICOM of many elements, with a length": lambda: many_elements(1),
    "PNG of many chunks": lambda: opencv(".png", film())[:33] + png_chunk(b"IDAT", b"") * 1_500_000,
    "JPEG of many segments": lambda: jpeg()[:2] + segment(0xDD, b"\0\0") * 3_000_000 + jpeg()[2:],
    "TIFF of doubles in colour": lambda: tiff(rgb(film() / 255, 4), t256=9_000, t257=9_000, t259=8),
    "PNG text": lambda: with_chunk(opencv(".png", film()), b"zTXt", b"k\0\0" + zlib.compress(bytes(200_000_000))),
    "PNG profile": lambda: with_chunk(opencv(".png", film()), b"iCCP", b"k\0\0" + zlib.compress(bytes(200_000_000))),
    "TIFF tags that share bytes": lambda: tiff(film()[:, :16].repeat(4000, axis=0), **{
        f"t{tag}": [1] * 3 for tag in range(40_000, 40_040)}).replace(b"\4\0\3\0\0\0", b"\4\0\0\0\1\0"),
    "TIFF of a long list": lambda: tiff(film(), t258=[8] * 2_000_000),
    "TIFF of a large tile": lambda: tiff(film(), t322=15_000, t323=15_000, t324=8, t325=48 * 36),
    "TIFF of many strips": lambda: tiff(film(), t278=1, t273=[8] * 1_000_000, t279=[36] * 1_000_000),
    "TIFF JPEG": lambda: tiff(np.frombuffer(pillow(np.zeros((9000, 9000), np.uint8), "JPEG"), np.uint8)[None],
                              t256=64, t257=64, t259=7),
    "JPEG of a long head": lambda: jpeg()[:2] + segment(0xE3, bytes(65_000)) * 300 + jpeg()[2:],
    "JPEG of EXIF tags that share bytes": lambda: jpeg()[:2] + segment(0xE1, b"".join([
        b"Exif\0\0II*\0\x08\0\0\0\x88\x13",
        *(struct.pack("<HHLL", tag, 7, 60_000, 8) for tag in range(40_000, 45_000))])) + jpeg()[2:],
}


@pytest.mark.slow
@pytest.mark.parametrize(("length", "words"), [(0, "more elements than any film's"), (1, "of 12,000,008 bytes")])
def test_a_dicom_of_more_elements_than_any_films_is_refused(tmp_path: Path, length: int, words: str) -> None:
    (tmp_path / "a.dcm").write_bytes(many_elements(length))
    refused(tmp_path / "a.dcm", words)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of a process's memory from /proc")
def test_no_small_file_takes_much_memory(tmp_path: Path) -> None:
    """One process reads them all; its peak may grow by 100 MB and by three times the largest file."""
    for name, make in BOMBS.items():
        (tmp_path / name).write_bytes(make())
    largest = max(path.stat().st_size for path in tmp_path.iterdir()) / 2**20
    code = """if True:
        import sys
        from bonexage_utils import dicom
        from bonexage_utils.decoding import read_gray
        from bonexage_utils.errors import BoneXageError
        def peak():
            return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
        for path in sys.argv[1:]:
            before = peak()
            try:
                read_gray(path)
            except BoneXageError:
                pass
            print(round(peak() - before), path)"""
    done = subprocess.run([sys.executable, "-c", code, *map(str, sorted(tmp_path.iterdir()))], capture_output=True,
                          text=True, check=True)
    grown = {line.split(" ", 1)[1]: int(line.split(" ", 1)[0]) for line in done.stdout.splitlines()}
    assert len(grown) == len(BOMBS)
    assert max(grown.values()) < 100 + 3 * largest, grown


@pytest.mark.filterwarnings("error")
def test_films_are_decoded_quietly_several_at_a_time() -> None:
    """Each thread waits inside for the other; the one that leaves first does not let the other's warnings out."""
    together, left = threading.Barrier(2, timeout=30), threading.Event()
    before = list(warnings.filters)

    def first() -> None:
        with quiet:
            together.wait()
        left.set()

    def second() -> None:
        with quiet:
            together.wait()
            assert left.wait(30)
            warnings.warn("an odd tag", stacklevel=1)  # an error, if it came through

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result()
    assert warnings.filters == before


def test_odd_tags_leave_the_terminal_quiet(tmp_path: Path) -> None:
    """Libraries warn of broken EXIF, colour profiles and DICOM values from Python and from C; the user sees nothing."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\0" + b"\x12\x01\x03\0" * 9
    header = png_header(36, 48)[8:33]
    profile = b"iCCPbad\0\0" + zlib.compress(b"x" * 40)
    profile = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    png = opencv(".png", film())
    files = {
        "exif.jpg": pillow(film(), "JPEG", exif=exif),
        "profile.png": png[:8] + header + profile + png[33:],
        "value.dcm": dicom(film(), BodyPartExamined="HAND").replace(b"HAND", b"h\xffn\n"),
        "excess.dcm": dicom(film(), PixelData=film().tobytes() + b"\0" * 100),
        "cut.tif": pillow(film(), "TIFF", compression="tiff_lzw")[:700],
        "strip.tif": directory_first(deep(film()))[:-9],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    code = """if True:
        import sys
        from bonexage_utils.decoding import read_gray
        from bonexage_utils.errors import BoneXageError
        for path in sys.argv[1:]:
            try:
                print(read_gray(path).shape)
            except BoneXageError:
                print("refused")"""
    done = subprocess.run([sys.executable, "-W", "always", "-c", code, *(str(tmp_path / name) for name in files)],
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(48, 36)"] * 4 + ["refused"] * 2
    assert done.stderr == ""


def test_accents_and_spaces_in_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "Hände à côté"
    folder.mkdir()
    (folder / "é 1.PNG").write_bytes(opencv(".png", film()))
    np.testing.assert_array_equal(read_gray(folder / "é 1.PNG"), film())


def test_native_radiographs_read_at_their_size(radiographs: Path) -> None:
    folder = radiographs / "native" / "boneage-training-dataset"
    paths = sorted(folder.glob("*.png"))[:3]
    assert len(paths) == 3
    for path in paths:
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_gray(path), np.array(image))
