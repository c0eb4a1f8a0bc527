"""From a radiograph in a file (PNG, JPEG, TIFF or DICOM) to an 8-bit grey array, and never to half a film."""

import os
import re
import stat
import struct
import threading
import warnings
import zlib
from contextlib import ExitStack, suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import ImagePalette
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from bonexage_utils.errors import BoneXageError
from bonexage_utils.headers import (
    ORIENTATION,
    PNG_SIGNATURE,
    X_RESOLUTION,
    Y_RESOLUTION,
    check_size,
    check_strips,
    jpeg_segments,
    pixel_aspect,
    png_chunks,
    tiff_directory,
)
from bonexage_utils.levels import check_levels, square_pixels, to_8_bits

# What these name is a film, or should be one; of other files the content decides.
DICOM_ENDINGS = (".dcm", ".dicom")
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", *DICOM_ENDINGS)
MAX_BYTES = 2**30

_SIGNATURES = {PNG_SIGNATURE: "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF",
               b"MM\0+": "TIFF"}
# What is read of a file to tell what it is.
HEAD = 1024  # bytes
UNREADABLE = "unreadable file"
FILMS = ("PNG", "JPEG", "TIFF", "DICOM")
_OTHERS = {b"GIF8": "GIF image", b"BM": "BMP image", b"PK\3\4": "ZIP archive", b"\x1f\x8b": "gzip archive",
           b"7z\xbc\xaf": "7z archive", b"Rar!": "RAR archive"}
# DICOM objects without a picture, by the beginning of their SOP class (PS3.4, B.5 and PS3.3, F).
OBJECTS = {
    "1.2.840.10008.1.3.10": "DICOMDIR", "1.2.840.10008.5.1.4.1.1.104.1": "encapsulated PDF",
    "1.2.840.10008.5.1.4.1.1.104": "encapsulated document", "1.2.840.10008.5.1.4.1.1.88.59": "key object selection",
    "1.2.840.10008.5.1.4.1.1.88": "structured report", "1.2.840.10008.5.1.4.1.1.11": "presentation state",
    "1.2.840.10008.5.1.4.1.1.9": "waveform", "1.2.840.10008.5.1.4.1.1.66.4": "segmentation",
    "1.2.840.10008.5.1.4.1.1.66": "raw data or registration", "1.2.840.10008.5.1.4.1.1.481": "radiotherapy object",
}
_SOP_CLASS = re.compile(rb"\x02\0\x02\0UI..([0-9.]+)", re.DOTALL)  # MediaStorageSOPClassUID
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1a]")  # no text has them
_BARE_DICOM = re.compile(rb"DICM|[\x02\x08]\0.\0(?:[A-Z]{2}|.\0\0\0)", re.DOTALL)
Tags = dict[int, tuple[float, ...]]  # of a TIFF directory or an EXIF block

# OpenCV would report each damaged TIFF on the terminal, beside our one line. 4 and 5 name the function differently.
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(0)  # 0: silent


def kind_of(head: bytes) -> str:
    """What a file is by its first `HEAD` bytes: one of `FILMS`, or in words what is no film, as "structured report"."""
    if head[128:132] == b"DICM":  # whatever stands before: a DICOM may begin like a TIFF (PS3.10, 7.1)
        sop_class = (found := _SOP_CLASS.search(head, 132)) and found[1].decode()
        return next((name for start, name in OBJECTS.items() if f"{sop_class}.".startswith(f"{start}.")), "DICOM")
    if _BARE_DICOM.match(head):
        return "DICOM"
    text = "empty file" if not head else "other file" if _BINARY.search(head) else "text file"
    if head.startswith(b"%PDF"):
        return "PDF"
    if head.startswith(b"PK\3\4") and re.search(rb"\[Content_Types\]|_rels/|docProps/|mimetypeapplication/", head):
        return "office document"
    names = _SIGNATURES if text == "text file" else _SIGNATURES | _OTHERS
    return next((name for start, name in names.items() if head.startswith(start)), text)


def no_film(kind: str) -> str:
    """Why a file of that kind is no film, and what to do; "" if it is one, or not known to be none."""
    if kind in (*FILMS, UNREADABLE):
        return ""
    return ("zero bytes; copy the image again" if kind == "empty file" else
            f"not a readable image ({kind}); unpack it" if kind.endswith("archive") else
            f"not a readable image ({kind}); give PNG, JPEG, TIFF or DICOM")


def file_kind(path: Path | str) -> str:
    """As `kind_of`, of what lies there; `UNREADABLE` for what is none or may not be opened."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for somebody to write
            return UNREADABLE
        with open(path, "rb") as file:
            return kind_of(file.read(HEAD))
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return UNREADABLE


def read_gray(path: Path | str) -> np.ndarray:
    """Read a radiograph as 8-bit grey, shape (height, width), values 0–255, with square pixels and bright bones.

    PNG, JPEG, TIFF and DICOM, recognised by content. Colour is turned into luminance and an alpha channel is ignored;
    EXIF and TIFF orientation are applied; what the file declares as white-is-zero (DICOM MONOCHROME1 or an inverse
    presentation, TIFF) is inverted; a DICOM goes through its rescale and the first of its windows that shows a film.

    Up to 8 bits are taken at their word: the darkest number that can be stored (or that a DICOM's table can make of
    one) becomes 0, the brightest 255. A deeper film is stretched, after its window, from its own darkest to its own
    brightest pixel, because 12 bits in a file for 16 would otherwise come out black; pixels far beside all others (a
    mark of up to 2 % of the area) do not count and are clipped. So 4,096 levels become 256 at most.

    Pixels that a file declares oblong (a DICOM's spacings and aspect ratio; densities along x and y in PNG, JPEG, TIFF
    and EXIF) become square, the finer axis being shrunk to the coarser one.

    Raises BoneXageError, in one line, for a file that is missing, empty, truncated, damaged, of another kind, or
    compressed in a way nothing here decodes; for several pages or frames in one file (an animation too); for fewer
    than 16 levels left of a deep film that has more, or one of any; for tags that contradict each other; and, before
    decoding, for a side under 16 px or over 16,000 px, more than 100 megapixels, or numbers of more than 400 MB.
    """
    path = Path(path)
    data = _read_bytes(path)
    kind = kind_of(data[:HEAD])
    if reason := no_film(kind):
        raise BoneXageError(f"{path}: {reason}")
    try:
        return square_pixels(*_DECODERS[kind](data))
    except BoneXageError as error:
        raise BoneXageError(f"{path}: {error}") from None
    except Exception:  # a damaged file can make a decoder raise anything
        raise BoneXageError(f"{path}: truncated or damaged {kind}; copy or export the image again") from None


def _read_bytes(path: Path) -> bytes:
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            raise BoneXageError(f"{path}: a directory, not an image; give the film itself")
        if not stat.S_ISREG(about.st_mode):
            raise BoneXageError(f"{path}: not a file; give the film itself")
        if about.st_size > MAX_BYTES:
            raise BoneXageError(f"{path}: {about.st_size / 2**30:.1f} GiB is no film; give the image alone")
        data = path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise BoneXageError(f"{path}: {reason}; restore the image or drop it from the table") from None
    except ValueError:  # a NUL in the path
        raise BoneXageError(f"{path!r}: no such file; give the path of an image") from None
    return data


class _Quiet:
    """Keeps libraries' warnings about odd tags from the terminal, in any number of threads at a time. Filters are per
    process: the first thread that comes sets them, the last one that leaves takes them back."""

    def __init__(self) -> None:
        self._lock, self._inside, self._filters = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.close()


quiet = _Quiet()


def _aspect(tags: Tags, **densities: tuple[float, ...]) -> float:
    """Of a pixel once upright, from the densities along x and y that a file declares, in EXIF's tags and elsewhere."""
    exif = tags.get(X_RESOLUTION, ())[:1] + tags.get(Y_RESOLUTION, ())[:1]
    aspect = pixel_aspect({**densities, "XResolution and YResolution": exif})
    return 1 / aspect if _orientation(tags) >= 5 else aspect  # from 5 on, stored rows are the picture's columns


def _orientation(tags: Tags) -> int:
    return (*tags.get(ORIENTATION, ()), 1)[0]


def _upright(pixels: np.ndarray, tags: Tags) -> np.ndarray:
    turned = {2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.T, 6: np.rot90(pixels, -1),
              7: pixels[::-1, ::-1].T, 8: np.rot90(pixels)}
    return np.ascontiguousarray(turned.get(_orientation(tags), pixels))


def _exif(block: bytes) -> Tags:
    """The tags before any damage: cameras write odd ones, and they are no part of the picture."""
    tags: Tags = {}
    with suppress(Exception):
        tiff_directory(block.removeprefix(b"Exif\0\0"), tags)
    return tags


def _profile(chunk: bytes) -> Tags:
    """EXIF as text in a PNG, as ImageMagick writes it: in lines a name, the length, and the block in hexadecimal."""
    with suppress(Exception):
        text = chunk[8:-4].split(b"\0", 1)[1]
        if chunk[4:5] == b"z":
            text = zlib.decompressobj().decompress(text[1:], 2**20)
        return _exif(bytes.fromhex(text.split(b"\n", 3)[3].decode()))
    return {}


def _opencv(data: bytes) -> np.ndarray:
    # From bytes, not from a path: OpenCV cannot open accented paths on Windows.
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2GRAY if pixels.shape[2] == 4 else cv2.COLOR_BGR2GRAY)
    return pixels


def _limits(pixels: np.ndarray) -> tuple[int, int] | None:
    return (0, 255) if pixels.dtype == np.uint8 else None


_PROFILES = (b"Raw profile type exif\0", b"Raw profile type APP1\0")


def _decode_png(data: bytes) -> tuple[np.ndarray, float]:
    """Checks every chunk first: decoders fill in what a truncated file lacks."""
    if data[12:16] != b"IHDR":
        raise BoneXageError("damaged PNG; copy the image again")
    depth, colours = data[24:26]
    samples = {0: 1, 4: 4, 6: 4}.get(colours, 3)  # OpenCV makes colour of grey and alpha
    check_size(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]), samples * max(8, depth))
    critical, tags, density = [PNG_SIGNATURE], {}, ()
    for name, chunk in png_chunks(data):
        if name[:1].isupper():  # what makes the picture; libpng complains aloud about harmless faults in the rest,
            critical.append(chunk)  # and would unpack text and profiles of any size
        elif name == b"eXIf":
            tags = _exif(bytes(chunk[8:-4]))
        elif name in (b"zTXt", b"tEXt") and chunk[8:34].tobytes().startswith(_PROFILES):
            tags = tags or _profile(bytes(chunk))
        elif name == b"acTL" and int.from_bytes(chunk[8:12]) > 1:
            raise BoneXageError("more than one frame in the PNG; save one film per file")
        elif name == b"pHYs":
            density = (int.from_bytes(chunk[8:12]), int.from_bytes(chunk[12:16]))
    pixels = _opencv(b"".join(critical))
    return _upright(to_8_bits(pixels, _limits(pixels)), tags), _aspect(tags, pHYs=density)


def _decode_jpeg(data: bytes) -> tuple[np.ndarray, float]:
    """Goes through the segments first: one cut off has no end mark, and what follows the end is no part of it."""
    kept, tags, density = {}, {}, ()
    picture = [b"\xff\xd8"]
    for marker, content, segment in jpeg_segments(data):
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            tags = tags or _exif(content)
        elif marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 12:
            kept.setdefault(marker, segment)
            unit, *density = struct.unpack(">BHH", content[7:12])
            if not unit and len({*density}) == 1:  # 1 : 1 of nothing is what encoders write that do not know
                density = ()
        elif marker == 0xEE and content.startswith(b"Adobe"):  # how colour is stored
            kept.setdefault(marker, segment)
        elif not 0xE0 <= marker <= 0xEF and marker != 0xFE:
            if marker in (0xC0, 0xC1, 0xC2, 0xC3) and content[0] != 8:  # the start of a frame (T.81, B.2.2)
                raise BoneXageError(f"a JPEG of {content[0]} bits, which nothing here reads; save it as PNG")
            picture.append(segment)
    with quiet:
        image = JpegImageFile(BytesIO(b"".join([picture[0], *kept.values(), *picture[1:]])))
        check_size(*image.size, 8 * len(image.getbands()))
        image.draft("L", image.size)  # luminance alone: half the work
    image.load()
    return _upright(np.array(image.convert("L")), tags), _aspect(tags, JFIF=density)


def _decode_tiff(data: bytes) -> tuple[np.ndarray, float]:
    tags: Tags = {}
    following = tiff_directory(data, tags)
    (width,), (height,), (photometric,) = (tags[tag] for tag in (256, 257, 262))
    bits, (numbers, *_), (samples, *_) = tags.get(258, (1,)), tags.get(339, (1,)), tags.get(277, (1,))
    check_size(width, height, samples * max(8, *bits))
    if 322 in tags:  # a tile is decoded whole, however little of it the picture takes
        check_size(*(max(16, side) for side in (*tags[322], *tags[323])), samples * max(8, *bits))
    if following:
        raise BoneXageError("more than one page in the TIFF; save one film per file")
    if photometric not in (0, 1, 2, 3, 5, 6, 8):
        raise BoneXageError(f"a TIFF in colours of kind {photometric}; save it as grey")
    aspect = _aspect(tags)
    (compression, *_), (planes, *_) = tags.get(259, (1,)), tags.get(284, (1,))
    unread = BoneXageError(f"a TIFF laid out as nothing here reads ({samples} × {max(bits)} bits, numbers of kind "
                           f"{numbers}, colours {photometric}, compression {compression}, planes {planes}); save it as "
                           "grey of 8 or 16 bits, uncompressed")
    if max(bits) <= 8:  # Pillow, because OpenCV leaves damaged strips of 8 bits black; it orients by itself
        if photometric == 6 and compression == 1 and {*tags.get(530, ())} - {1}:  # colour for a few pixels together
            raise unread
        with quiet:
            try:
                image = TiffImageFile(BytesIO(data))
            except SyntaxError:  # its word for a layout that it does not know
                raise unread from None
            check_strips(tags, len(data))
            image.info.pop("xmp", None)  # Pillow would look there for an orientation, for this format and depth alone
            if image.mode == "LAB":  # a and b are signed, in OpenCV they begin at 128
                colour = cv2.cvtColor(np.array(image) ^ np.uint8([0, 128, 128]), cv2.COLOR_LAB2RGB)
                return cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY), aspect
            if photometric == 3:
                colours = image.tag_v2[320]
                if len(colours) != 3 * 2 ** bits[0]:
                    raise BoneXageError("damaged TIFF (a palette of another length than its bits say); export it again")
                if max(colours) < 256:  # of 8 bits, where 16 have to be
                    image.palette = ImagePalette.raw("RGB;L", bytes(colours))
            # La, of an alpha that colour was multiplied by, becomes only LA
            pixels = np.array((image.convert("LA") if image.mode == "La" else image).convert("L"))
            if photometric == 3:
                check_levels(pixels, np.array(image.getchannel(0).getextrema()))
        return pixels ^ 128 if numbers == 2 else pixels, aspect  # 2: signed, of which Pillow knows nothing
    # OpenCV, because Pillow clips deep colour and turns no deep white-is-zero (0) round.
    grey = samples == 1 and photometric in (0, 1) and (numbers != 3 or max(bits) >= 32)
    colour = samples in (3, 4) and photometric == 2 and planes == 1 and (numbers, max(bits)) in ((1, 16), (3, 32))
    if compression not in (1, 5, 8, 32773, 32946) or not (grey or colour):
        raise unread
    check_strips(tags, len(data))
    pixels = _opencv(data)
    grey = to_8_bits(pixels)
    return 255 - grey if photometric == 0 else grey, aspect


def _decode_dicom(data: bytes) -> tuple[np.ndarray, float]:
    from bonexage_utils.dicom import decode_dicom  # here, because few need it and it takes a while

    with quiet:
        return decode_dicom(data)


_DECODERS = {"PNG": _decode_png, "JPEG": _decode_jpeg, "TIFF": _decode_tiff, "DICOM": _decode_dicom}
