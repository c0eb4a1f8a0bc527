"""From a DICOM file to grey levels, by what its attributes say of the stored numbers (PS3.3, C.7.6.3 and C.11)."""

import re
import struct
from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader, BytesIO, FileIO
from itertools import pairwise, takewhile
from pathlib import Path

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    RLELossless,
)

from bonexage_utils.errors import DECODERS, BoneXageError
from bonexage_utils.headers import check_size, jpeg_segments, pixel_aspect
from bonexage_utils.levels import FEW, check_levels, film_range, thin_out, to_8_bits, used_levels

_NEEDED = ["Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"]
_PIXELS = ["PixelData", "FloatPixelData", "DoubleFloatPixelData"]
_KINDS = ["", "Float", "DoubleFloat"]  # of pixels, and of their padding
# In the order of precedence that PS3.3, C.7.6.3.1.7 gives them.
_SHAPES = ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"]
# One of them holds all that a frame has of its own, or of all frames, in an enhanced object (C.7.6.16).
_GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
_SHUTTER = ["ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge",
            "ShutterLowerHorizontalEdge", "CenterOfCircularShutter", "RadiusOfCircularShutter",
            "VerticesOfThePolygonalShutter"]
_OVERLAY_BITS = [(group << 16) + 0x0102 for group in range(0x6000, 0x6020, 2)]
# Nothing else is kept: an odd value elsewhere cannot hurt, nor a header that is mostly something else.
_READ = [*map(tag_for_keyword, [
    *_NEEDED, *_PIXELS, *_SHAPES, *_GROUPS, *_SHUTTER, "ShutterShape", "NumberOfFrames", "PlanarConfiguration",
    *(f"{kind}PixelPadding{end}" for kind in _KINDS for end in ("Value", "RangeLimit")),
    "BitsStored", "HighBit", "PixelRepresentation", "PresentationIntentType",
    "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "PresentationLUTShape", "PresentationLUTSequence"]), *_OVERLAY_BITS]
_SEQUENCES = [*_GROUPS, "ModalityLUTSequence", "VOILUTSequence", "PresentationLUTSequence"]
_LONGEST = dict.fromkeys([*_READ, tag_for_keyword("SpecificCharacterSet")], 2**14)
_LONGEST |= dict.fromkeys(map(tag_for_keyword, _SEQUENCES), 2**21)  # tables of 2**17 bytes each
for _name in _PIXELS:
    del _LONGEST[tag_for_keyword(_name)]
_COLOURS = ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"]


def decode_dicom(data: bytes) -> tuple[np.ndarray, float]:
    """Grey levels, uint8 (height, width), bones bright, and a pixel's height over its width.

    In the standard's order: the stored bits, the modality LUT or rescale, the first VOI LUT or window that shows at
    least 16 levels (none does: the full range), the stretch of films deeper than 8 bits, the polarity. Padding and
    what a shutter hides are black and count for nothing. What an enhanced object says in its groups counts as said of
    the one frame. Overlays, colour profiles and the patient's orientation are left alone.

    Raises BoneXageError for what cannot be shown rightly; and anything, as pydicom does, for a damaged file.
    """
    if data.count(b"\xfe\xff\x00\xe0") > 10_000:  # items of sequences, each an object of 2 KB made from 8 bytes
        raise BoneXageError("a DICOM of more than 10,000 items; export the image alone")
    film = _read(_InPieces(BytesIO(data)), _READ, _refuse_long)
    if not any(name in film for name in _PIXELS):
        raise BoneXageError("a DICOM without pixels; export the image object")
    needed = _NEEDED + (["BitsStored", "PixelRepresentation"] if "PixelData" in film else [])
    if missing := [name for name in needed if film.get(name) is None]:
        raise BoneXageError(f"damaged DICOM (no {missing[0]}); export the image again")
    check_size(film.Columns, film.Rows, film.SamplesPerPixel * max(8, film.BitsAllocated))
    if int(film.get("NumberOfFrames") or 1) > 1:
        raise BoneXageError(f"more than one frame in the DICOM (multi-frame, {film.NumberOfFrames}); export one film "
                            "per file")
    _ungroup(film)
    aspect = pixel_aspect({name: _numbers(film, name) for name in _SHAPES})
    negative = _is_negative(film)
    stored = _stored_numbers(film)
    deep = stored.dtype.kind == "f" or film.BitsStored > 8
    if stored.ndim == 3:
        if stored.dtype not in (np.uint8, np.uint16):
            raise BoneXageError(f"a DICOM in colours of {film.BitsAllocated} bits; export it as MONOCHROME2")
        grey = cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY)
        return to_8_bits(grey, None if deep else (0, 2**film.BitsStored - 1)), aspect
    image = _image_area(film, stored)
    grey = _through_luts(film, stored, image, deep)
    check_levels(grey if image is None else grey[image], stored if image is None else stored[image])
    if negative:
        grey = 255 - grey
    return (grey if image is None else np.where(image, grey, 0).astype(np.uint8)), aspect


def read_words(path: Path | str, keywords: list[str]) -> dict[str, str]:
    """What the attributes of these keywords say, as it stands, in capitals and without the spaces around; "" where one
    is absent. Reads no further than the last of them, or than one that is longer than 64 bytes, and so no word.

    Raises BoneXageError for a syntax that is not read here; and anything, as pydicom does, for a damaged file.
    """
    tags = dict(zip(map(tag_for_keyword, keywords), keywords, strict=True))
    last = max(tags)
    with _InPieces(FileIO(path)) as file:
        header = _read(file, [*tags], lambda tag, vr, length: tag > last or (tag in tags and length > 64))
    found = {tag: header.get_item(tag) for tag in tags}
    return {tags[tag]: raw.value.decode("latin-1").strip(" \0").upper() if raw and isinstance(raw.value, bytes) else ""
            for tag, raw in found.items()}


class _InPieces(BufferedReader):
    """Read in at most 200,000 pieces, of which an element takes up to three and becomes an object of 300 bytes."""

    pieces = 0

    def read(self, size: int | None = -1) -> bytes:
        self.pieces += 1
        if self.pieces > 200_000:
            raise BoneXageError("a DICOM of more elements than any film's; export the image alone")
        return super().read(size)


def _read(file: BufferedReader, wanted: list[int], stop_when: Callable[[int, str | None, int], bool]) -> Dataset:
    """The `wanted` attributes. Not by dcmread, which inflates a deflated file, a zip bomb or not, before one asks."""
    if not file.read(132).endswith(b"DICM"):
        raise BoneXageError("a DICOM without the preamble that a file begins with; export the image again")
    meta = FileMetaDataset(read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2))
    syntax = meta.get("TransferSyntaxUID")
    stated = bool(syntax)
    if not stated:  # what it has to be, the first element shows
        group, vr = struct.unpack("<H2x2s", file.peek(6)[:6])
        syntax = (ImplicitVRLittleEndian if not vr.isalpha() or not vr.isupper() else
                  ExplicitVRBigEndian if group >= 1024 else ExplicitVRLittleEndian)
    syntax = UID(syntax)
    if not syntax.is_transfer_syntax or syntax.is_private:
        raise BoneXageError(f"transfer syntax {str(syntax)!r} is not of the standard; export it uncompressed")
    if syntax.is_deflated or "Deflate" in syntax.name:
        raise BoneXageError("a deflated DICOM; export it uncompressed")
    film = read_dataset(file, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=stop_when,
                        specific_tags=wanted)
    meta.TransferSyntaxUID = syntax
    film.file_meta = meta
    if "PixelData" in film and not stated and film["PixelData"].is_undefined_length:
        raise BoneXageError("no transfer syntax in it, and its pixels are compressed; export it uncompressed")
    return film


def _refuse_long(tag: int, vr: str | None, length: int) -> bool:
    """Whether to stop reading: never, but a list of a million numbers or character sets is no list."""
    if length > _LONGEST.get(tag, 2**32) and length != 0xFFFFFFFF:
        raise BoneXageError(f"damaged DICOM (an attribute ({tag >> 16:04X},{tag & 0xFFFF:04X}) of {length:,} bytes); "
                            "export the image again")
    return False


def _ungroup(film: Dataset) -> None:
    """Put what an enhanced object of one frame says in its groups (spacing, rescale, window) where others say it."""
    for name in _GROUPS:
        for group in film.get(name) or []:
            for macro in group:
                for item in macro.value if macro.VR == "SQ" else []:
                    film.update({element.tag: element for element in item
                                 if element.tag in _READ and element.tag not in film})


def _numbers(film: Dataset, name: str) -> list[float]:
    """All values of an attribute that are no empty text; none if it is absent."""
    try:
        value = film.get(name)
        values = [value] if value is None or isinstance(value, str | int | float) else list(value)
        numbers = [float(value) for value in values if value not in (None, "")]
    except (TypeError, ValueError):
        raise BoneXageError(f"{name} is no number; mend the tag, or export the film again") from None
    if not np.isfinite(numbers).all():
        raise BoneXageError(f"{name} is no finite number; mend the tag, or export the film again")
    return numbers


def _is_negative(film: Dataset) -> bool:
    """Whether the shown picture has to be turned round for 0 to be black (C.7.6.3.1.2, C.8.11.3.1.2, C.11.6)."""
    colours, shape = (str(film.get(name) or "").strip().upper()
                      for name in ("PhotometricInterpretation", "PresentationLUTShape"))
    if colours not in ("MONOCHROME1", "MONOCHROME2", *_COLOURS):
        raise BoneXageError(f"a DICOM in {colours!r}; export it as MONOCHROME2")
    if film.get("PresentationIntentType") == "FOR PROCESSING":
        raise BoneXageError("raw numbers of a detector (FOR PROCESSING); export the film FOR PRESENTATION")
    if film.get("PresentationLUTSequence"):
        raise BoneXageError("a DICOM with a presentation LUT; export the film with it applied")
    if shape not in ("", "IDENTITY", "INVERSE") or (colours, shape) == ("MONOCHROME1", "IDENTITY"):
        raise BoneXageError(f"{colours} with PresentationLUTShape {shape}: what is bright is not clear; export it as "
                            "MONOCHROME2")
    return colours == "MONOCHROME1" or shape == "INVERSE"


def _stored_numbers(film: Dataset) -> np.ndarray:
    """The stored numbers without the bits around them: (height, width), or RGB (height, width, 3)."""
    syntax = film.file_meta.TransferSyntaxUID
    if film.SamplesPerPixel > 1 and film.get("PlanarConfiguration") is None:
        film.PlanarConfiguration = 0  # colour by pixel, as nearly all are
    if "PixelData" not in film:
        return film.pixel_array
    bits, allocated = film.BitsStored, film.BitsAllocated
    if allocated not in (1, 8, 16, 32) or not 1 <= bits <= allocated:
        raise BoneXageError(f"{bits} of {allocated} bits a pixel; export it as 8 or 16 bits")
    if syntax.is_compressed:
        decoders = _decoders(film)
        if decoders is None:
            raise BoneXageError(f"compressed as {_short(syntax)}, which nothing decodes here; export it uncompressed")
        if not decoders:
            raise BoneXageError(f"compressed as {_short(syntax)}; install {DECODERS}, or export it uncompressed")
        if "pillow" in decoders:  # so that a film is the same whether or not the extra is installed
            film.pixel_array_options(decoding_plugin="pillow")
        precision = _check_frame(film, syntax)
        if bits <= precision <= 8 < allocated:  # one byte for each in the frame, whatever the header allots
            film.BitsAllocated = allocated = 8
    elif len(film.PixelData) > 1.1 * get_expected_length(film) + 2:
        raise BoneXageError("a DICOM of more pixels than its rows and columns; export the image again")
    # Whether bits lie as the header says. In a frame that has no more of them it says nothing.
    natural = (not syntax.is_compressed or syntax == RLELossless or
               (precision > bits and film.get("HighBit") != bits - 1))
    if natural:
        film.BitsStored = allocated  # else pydicom cuts off the high bits
    try:
        stored = film.pixel_array
    except Exception:
        if not syntax.is_compressed:
            raise
        raise BoneXageError(f"damaged DICOM (its {_short(syntax)} cannot be decoded); export the image again") from None
    film.BitsStored = bits
    return _without_other_bits(film, stored) if natural and allocated > bits else stored


def _decoders(film: Dataset) -> set[str] | None:
    """Which of pydicom's decoders that are installed can decode these pixels; None where there is none anywhere."""
    syntax, bits = film.file_meta.TransferSyntaxUID, film.BitsStored
    try:
        plugins = set(get_decoder(syntax).available_plugins)
    except NotImplementedError:
        return None
    if bits > 8 and syntax == JPEGExtended12Bit:
        return plugins - {"pillow", "gdcm"}
    return plugins - {"pillow"} if bits > (8 if film.SamplesPerPixel > 1 else 16) else plugins


def _short(syntax: UID) -> str:
    """Such as "JPEG Lossless": what stands before the details in the standard's name."""
    return re.split(r" Image Compression| \(|, ", syntax.name)[0]


def _without_other_bits(film: Dataset, raw: np.ndarray) -> np.ndarray:
    """From HighBit down BitsStored bits, the sign carried on (PS3.5, 8.1.1)."""
    bits, allocated, high = film.BitsStored, film.BitsAllocated, film.get("HighBit")
    high = bits - 1 if high is None else high
    if not bits <= high + 1 <= allocated:
        raise BoneXageError(f"a high bit of {high} for {bits} of {allocated} bits; export the image again")
    stored = (raw << (allocated - 1 - high)) >> (allocated - bits)
    back = stored << (high + 1 - bits)
    field = np.array((2**bits - 1) << (high + 1 - bits), np.uint32).astype(raw.dtype)
    if not (np.array_equal(back, raw) or np.array_equal(back & field, raw) or
            any(film.get_item(tag) is not None for tag in _OVERLAY_BITS)):
        raise BoneXageError(f"numbers of more than the {bits} bits that are said to be stored; export the image again")
    return stored


def _check_frame(film: Dataset, syntax: UID) -> int:
    """Bits of a sample by its JPEG or JPEG 2000 frame, else 0.

    A frame says its own size, and decoders believe it: it has to be the header's, or memory is not bounded.
    """
    frame = get_frame(film.PixelData, 0, number_of_frames=1)
    if syntax == RLELossless:
        pixels = film.Rows * film.Columns
        starts = struct.unpack("<16L", frame[:64])
        starts = [*starts[1 : min(starts[0], 15) + 1], len(frame)]
        if any(_unpacked(frame[start:end], pixels) > 1.1 * pixels + 2
               for start, end in pairwise(starts)):
            raise BoneXageError("damaged DICOM (a frame larger than its rows and columns); export the image again")
        return 0
    if frame.startswith(b"\xff\xd8"):  # JPEG and JPEG-LS: the start of a frame (T.81, B.2.2)
        # JPEG-LS stuffs its scans otherwise, but in neither can the end mark stand in one; without it decoders fill in.
        if b"\xff\xd9" not in frame[max(frame.rfind(b"\xff\xda"), 0) :]:
            raise BoneXageError("truncated JPEG in the DICOM; export the image again")
        head = takewhile(lambda segment: segment[0] != 0xDA, jpeg_segments(frame))
        sizes = [(*struct.unpack(">HHB", content[1:6]), content[0]) for marker, content, _ in head
                 if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker in (0xDE, 0xF7)]
    else:  # JPEG 2000 (T.800, A.5.1): ends less offsets
        sizes = [(high - top, wide - left, samples, signed % 128 + 1) for wide, high, left, top, samples, signed in
                 (struct.unpack(">4L16xHB", found[1]) for found in
                  re.finditer(rb"\xff\x4f\xff\x51....(.{35})", frame, re.DOTALL))]
    if not sizes or any(size[:3] != (film.Rows, film.Columns, film.SamplesPerPixel) for size in sizes):
        raise BoneXageError("damaged DICOM (a frame of another size than its rows and columns); export it again")
    return sizes[0][3]


def _unpacked(packed: bytes, most: int) -> int:
    """Length of a run-length segment once unpacked (PS3.5, G.3.1); stops counting well after `most`."""
    place = length = 0
    while place < len(packed) and length <= 2 * most:
        head = packed[place]
        length += head + 1 if head < 128 else 257 - head if head > 128 else 0
        place += head + 2 if head < 128 else 2 if head > 128 else 1
    return length


def _image_area(film: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where the film is: neither padding (C.7.5.1.1.2) nor behind a shutter (C.7.6.11); None is everywhere."""
    image = None
    kind = next(kind for kind, name in zip(_KINDS, _PIXELS, strict=True) if name in film)
    if padding := _numbers(film, f"{kind}PixelPaddingValue"):
        ends = np.array(padding[:1] + _numbers(film, f"{kind}PixelPaddingRangeLimit")[:1])
        ends = ends.astype(stored.dtype) if kind else ends.astype(np.int64).astype(stored.dtype)
        image = (stored < ends.min()) | (stored > ends.max())
    if shapes := film.get("ShutterShape"):
        inside = _shutter(film, [shapes] if isinstance(shapes, str) else shapes, stored.shape)
        image = inside if image is None else image & inside
    if image is not None and not image.any():
        raise BoneXageError("nothing but padding, or all of it behind the shutter; export the image again")
    return None if image is None or image.all() else image


def _shutter(film: Dataset, shapes: list[str], size: tuple[int, int]) -> np.ndarray:
    """Where, bool (height, width), all `shapes` leave the film open. Rows and columns count from 1."""
    values = {name: [round(number) for number in _numbers(film, name)] for name in _SHUTTER}
    inside = np.ones(size, np.uint8)
    for shape in shapes:
        opening = np.zeros(size, np.uint8)
        try:
            if shape == "RECTANGULAR":
                left, right, top, bottom = (values[name][0] for name in _SHUTTER[:4])
                opening[max(top - 1, 0) : max(bottom, 0), max(left - 1, 0) : max(right, 0)] = 1
            elif shape == "CIRCULAR":
                (row, column), (radius,) = values[_SHUTTER[4]], values[_SHUTTER[5]]
                cv2.circle(opening, (column - 1, row - 1), radius, 1, -1)
            elif shape == "POLYGONAL":
                corners = np.array(values[_SHUTTER[6]]).reshape(-1, 2)[:, ::-1] - 1
                cv2.fillPoly(opening, [corners.astype(np.int32)], 1)
            else:
                opening[:] = 1
        except (IndexError, ValueError, cv2.error):
            raise BoneXageError(f"a {str(shape).lower()} shutter without its edges; export the image again") from None
        inside &= opening
    return inside.astype(bool)


def _through_luts(film: Dataset, stored: np.ndarray, image: np.ndarray | None, deep: bool) -> np.ndarray:
    of_modality: Table = np.asarray
    slope, intercept = (*_numbers(film, "RescaleSlope"), 1.0)[0], (*_numbers(film, "RescaleIntercept"), 0.0)[0]
    if tables := _tables(film, "ModalityLUTSequence"):
        of_modality = tables[0]
    elif slope == 0:
        raise BoneXageError("a rescale slope of 0, which makes one grey of all; export the image again")
    elif (slope, intercept) != (1, 0):
        of_modality = partial(_rescaled, slope, intercept)
    values, storable = of_modality(stored), None
    if not deep:
        least = -(2 ** (film.BitsStored - 1)) if film.PixelRepresentation == 1 else 0
        storable = of_modality(np.arange(least, least + 2**film.BitsStored))
    for show, its_limits in _views(film):
        shown = show(values)
        if deep:  # of its scale, what the film takes
            sample, (low, high) = thin_out(values), film_range(values, image)
            its_limits = _ends(show(sample[(sample >= low) & (sample <= high)]))
        grey = to_8_bits(shown, its_limits or _ends(show(storable)))
        if used_levels(grey) >= min(FEW, np.unique(thin_out(stored)).size):
            return grey
    return to_8_bits(values, None if deep else _ends(storable), image)


Table = Callable[[np.ndarray], np.ndarray]


def _ends(numbers: np.ndarray) -> tuple[float, float]:
    return float(numbers.min()), float(numbers.max())


def _rescaled(slope: float, intercept: float, stored: np.ndarray) -> np.ndarray:
    return stored.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64) * slope + intercept


def _views(film: Dataset) -> Iterator[tuple[Table, tuple[float, float] | None]]:
    """Each VOI LUT, then each window (C.11.2), as a function and the ends of its scale. Invalid ones are none.

    A table's own scale is none: many say 16 bits and are filled for 12, so what it makes of the film's numbers counts.
    """
    yield from ((table, None) for table in _tables(film, "VOILUTSequence"))
    function = str(film.get("VOILUTFunction") or "LINEAR").strip().upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise BoneXageError(f"a VOI LUT function {function!r}, which the standard does not know; export it again")
    for center, width in zip(_numbers(film, "WindowCenter"), _numbers(film, "WindowWidth"), strict=False):
        if function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width > 0:
            yield partial(_sigmoid if function == "SIGMOID" else _linear, center, width), (0, 1)


def _linear(center: float, width: float, values: np.ndarray) -> np.ndarray:
    return np.clip((values - center) / width + 0.5, 0, 1)


def _sigmoid(center: float, width: float, values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -50, 50)))


def _tables(film: Dataset, name: str) -> list[Table]:
    order = "<u2" if film.file_meta.TransferSyntaxUID.is_little_endian else ">u2"
    return [_table(item, order) for item in film.get(name) or []
            if item.get("LUTDescriptor") is not None and item.get("LUTData") is not None]


def _table(item: Dataset, order: str) -> Table:
    """The table in `item` as a function (C.11.1.1.1); as bytes it has 16-bit words in the file's byte order."""
    if any(len(element.value or b"") > 2**18 for element in item.elements()):
        raise BoneXageError("a look-up table longer than any can be; export the image with it applied")
    entries, first, bits = (int(number) for number in item.LUTDescriptor)
    entries = entries or 2**16
    words = item.LUTData
    words = np.frombuffer(words, order) if isinstance(words, bytes) else np.atleast_1d(words)
    words = words.astype("<u2")
    table = words.view(np.uint8) if bits <= 8 and len(words) < entries else words  # two entries in a word
    if len(table) < entries or not 1 <= bits <= 16:
        raise BoneXageError("a look-up table shorter than it says; export the image with it applied")
    return lambda values: table[np.clip(np.rint(values).astype(np.int64) - first, 0, entries - 1)]
