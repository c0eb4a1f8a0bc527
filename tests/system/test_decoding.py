"""Any film, in any format, becomes the same grey picture; what is no whole film is refused in one line."""

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_films import deep, dicom, film, opencv, pillow, rgb
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
)

from bonexage_utils import decoding
from bonexage_utils.decoding import read_gray
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


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "TIFF 16"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    """The tag (TIFF 6.0, section 8) says where the stored first row and first column lie in the picture."""
    grey = film(40, 60)
    stored = {1: grey, 2: grey[:, ::-1], 3: grey[::-1, ::-1], 4: grey[::-1], 5: grey.T, 6: np.rot90(grey),
              7: grey[::-1, ::-1].T, 8: np.rot90(grey, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "JPEG":
        data = pillow(np.ascontiguousarray(stored), "JPEG", quality=95, exif=exif)
    else:
        pixels = np.ascontiguousarray(stored if kind == "TIFF" else deep(stored))
        data = pillow(pixels, "TIFF", tiffinfo={0x0112: orientation})
    (tmp_path / "a").write_bytes(data)
    np.testing.assert_allclose(read_gray(tmp_path / "a").astype(int), grey.astype(int), atol=6 if kind == "JPEG" else 1)


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


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def tiff_header(width: int, height: int) -> bytes:
    small = pillow(film(), "TIFF")
    return small.replace(struct.pack("<HHII", 256, 4, 1, 36), struct.pack("<HHII", 256, 4, 1, width)).replace(
        struct.pack("<HHII", 257, 4, 1, 48), struct.pack("<HHII", 257, 4, 1, height))


def jpeg_header(width: int, height: int) -> bytes:
    small = pillow(film(), "JPEG")
    return small.replace(struct.pack(">HH", 48, 36), struct.pack(">HH", height, width))


SIZED = {"PNG": png_header, "TIFF": tiff_header, "JPEG": jpeg_header,
         "DICOM": lambda w, h: dicom(film(), Rows=h, Columns=w)}


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


def test_a_dicom_that_nothing_decodes_names_the_remedy(tmp_path: Path) -> None:
    data = dicom(film(), syntax=JPEGLosslessSV1, PixelData=pydicom.encaps.encapsulate([b"no JPEG"]))
    (tmp_path / "a.dcm").write_bytes(data)
    assert "pip install 'pylibjpeg" in refused(tmp_path / "a.dcm", "JPEG Lossless")


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
