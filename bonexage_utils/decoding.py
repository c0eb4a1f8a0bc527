"""From a radiograph in a file (PNG, JPEG, TIFF or DICOM) to an 8-bit grey array, and never to half a film."""

import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from bonexage_utils.errors import BoneXageError

# Where files are looked for by name; what a file is, its content decides.
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")

# A hand film scanned at 50 µm has 60 megapixels and 8,600 px a side. More is a mistake, or a decompression bomb.
MAX_PIXELS, MAX_SIDE, MIN_SIDE = 100_000_000, 16_000, 16
MAX_BYTES = 2**30

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIGNATURES = {PNG_SIGNATURE: "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF",
               b"MM\0+": "TIFF"}

# OpenCV would report each damaged TIFF on the terminal, beside our one line.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_gray(path: Path | str) -> np.ndarray:
    """Read a radiograph as 8-bit grey, shape (height, width), values 0–255.

    PNG, JPEG, TIFF and DICOM, recognised by content. Colour is turned into luminance and an alpha channel is ignored;
    EXIF and TIFF orientation are applied; what the file declares as white-is-zero (DICOM MONOCHROME1, TIFF) is
    inverted, so that bones are bright; DICOM goes through its rescale and its first window. A film of more than
    8 bits is then stretched from its own darkest to its own brightest pixel, because 12 bits in a 16-bit file would
    otherwise come out black.

    Raises BoneXageError, in one line, for a file that is missing, empty, truncated, damaged, of another kind, or
    compressed in a way nothing here decodes; for several pages or frames in one file; and, before decoding, for a
    side under 16 px or over 16,000 px, or more than 100 megapixels.
    """
    path = Path(path)
    data = _read_bytes(path)
    kind = next((name for start, name in _SIGNATURES.items() if data.startswith(start)), None)
    if data[128:132] == b"DICM":  # whatever stands before: a DICOM may begin like a TIFF (PS3.10, 7.1)
        kind = "DICOM"
    if kind is None:
        raise BoneXageError(f"{path}: not a readable image; give PNG, JPEG, TIFF or DICOM")
    try:
        return _to_8_bits(_DECODERS[kind](data))
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
    if not data:
        raise BoneXageError(f"{path}: zero bytes; copy the image again")
    return data


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise BoneXageError(f"{width} × {height} px is too small for a film; export it at full size")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise BoneXageError(f"{width:,} × {height:,} px is over the limit of {MAX_SIDE:,} px a side and "
                            f"{MAX_PIXELS // 10**6} megapixels; scale it down")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep a library's warnings about odd tags from the terminal. Filters are per process, hence the lock."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


_quiet_lock = threading.Lock()


def _opencv(data: bytes) -> np.ndarray:
    # From bytes, not from a path: OpenCV cannot open accented paths on Windows.
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2GRAY if pixels.shape[2] == 4 else cv2.COLOR_BGR2GRAY)
    return pixels


def _decode_png(data: bytes) -> np.ndarray:
    """Checks every chunk (RFC 2083, section 3) first: decoders fill in what a truncated file lacks."""
    name, *size = struct.unpack(">4sII", data[12:24])
    if name != b"IHDR":
        raise BoneXageError("damaged PNG; copy the image again")
    _check_size(*size)
    view, place, critical = memoryview(data), 8, [PNG_SIGNATURE]
    while name != b"IEND":
        length = int.from_bytes(view[place : place + 4])
        chunk = view[place : place + length + 12]
        if len(chunk) < length + 12:
            raise BoneXageError("truncated PNG; copy the image again")
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
            raise BoneXageError("damaged PNG (a checksum fails); copy the image again")
        name, place = bytes(chunk[4:8]), place + length + 12
        if name[:1].isupper():  # what makes the picture; libpng complains aloud about harmless faults in the rest
            critical.append(chunk)
    return _opencv(b"".join(critical))


def _decode_jpeg(data: bytes) -> np.ndarray:
    # No end marker after the last scan: cut off, or padded with zeros. (Inside a scan, 0xFF is always stuffed.)
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise BoneXageError("truncated JPEG; copy the image again")
    with _quiet():
        image = JpegImageFile(BytesIO(data))
        _check_size(*image.size)
        image.draft("L", image.size)  # luminance alone: half the work
    image.load()
    with _quiet():
        image = ImageOps.exif_transpose(image)
    return np.array(image.convert("L"))


def _decode_tiff(data: bytes) -> np.ndarray:
    with _quiet():
        tags = ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])  # 43: BigTIFF
        file = BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        width, height, photometric = (tags[tag] for tag in (256, 257, 262))
        bits = tags.get(258, (1,))
    _check_size(width, height)
    if tags.next:
        raise BoneXageError("more than one page in the TIFF; save one film per file")
    if max(bits) <= 8:  # Pillow, because OpenCV leaves damaged strips of 8 bits black; it orients by itself
        with _quiet():
            return np.array(TiffImageFile(BytesIO(data)).convert("L"))
    pixels = _opencv(data)  # OpenCV, because Pillow clips deep colour and turns no deep white-is-zero (0) round
    return pixels.max() - pixels if photometric == 0 else pixels


def _decode_dicom(data: bytes) -> np.ndarray:
    if b"1.2.840.10008.1.2.1.99" in data[:2048]:  # a zip bomb could hide there, its header in it
        raise BoneXageError("a deflated DICOM; export it uncompressed")
    import pydicom  # here, because few need it and it takes a while
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    with _quiet():
        film = pydicom.dcmread(BytesIO(data))
        if not any(name in film for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise BoneXageError("a DICOM without pixels; export the image object")
        _check_size(film.Columns, film.Rows)
        if int(film.get("NumberOfFrames") or 1) > 1:
            raise BoneXageError("more than one frame in the DICOM; export one film per file")
        colours = film.PhotometricInterpretation
        if colours not in ("MONOCHROME1", "MONOCHROME2", "RGB") and not colours.startswith("YBR"):
            raise BoneXageError(f"a DICOM in {colours!r}; export it as MONOCHROME2")
        syntax = film.file_meta.TransferSyntaxUID
        try:
            stored = film.pixel_array
        except Exception:
            if not syntax.is_compressed:
                raise
            raise BoneXageError(f"compressed as {syntax.name}, which nothing installed here decodes, or damaged; "
                                "pip install 'pylibjpeg[all]', or export it uncompressed") from None
        if stored.ndim == 3:
            return cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY)
        shown = apply_voi_lut(apply_modality_lut(stored, film), film)
    if stored.dtype == np.uint8 and np.abs(shown - stored.astype(float)).max() < 0.5:
        shown = stored  # rescale and window change nothing, as is common: 8 bits stay 8 bits
    if colours == "MONOCHROME1":
        shown = (255 if shown.dtype == np.uint8 else shown.max()) - shown
    return shown


_DECODERS = {"PNG": _decode_png, "JPEG": _decode_jpeg, "TIFF": _decode_tiff, "DICOM": _decode_dicom}


def _to_8_bits(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite([low, high]).all():
        raise BoneXageError("pixels that are not numbers; export it as 8 or 16 bits")
    scaled = (pixels.astype(np.float32) - low) * (255.0 / max(high - low, 1e-6))
    return np.rint(scaled).astype(np.uint8)
