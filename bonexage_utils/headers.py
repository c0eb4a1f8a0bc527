"""What the headers of PNG, JPEG and TIFF declare, read without any library and before anything is decoded."""

import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence

from bonexage_utils.errors import BoneXageError

# A hand film scanned at 50 µm has 60 megapixels and 8,600 px a side. More is a mistake, or a decompression bomb.
MAX_PIXELS, MAX_SIDE, MIN_SIDE = 100_000_000, 16_000, 16
MAX_ASPECT = 4  # a fax has pixels twice as high as wide; more is a wrong tag
MAX_DECODED = 400_000_000  # bytes; 100 megapixels of RGBA, or 66 of RGB in 16 bits
MAX_NUMBERS = 500_000  # in a list of a TIFF; 100 megapixels in tiles of 16 × 16 are 390,625
MAX_PARTS = 200_000  # chunks or segments; 1 GiB in pieces of 8 KiB, as PNG is written, are 131,072
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

ORIENTATION, X_RESOLUTION, Y_RESOLUTION = 274, 282, 283  # TIFF 6.0 and EXIF


def check_size(width: int, height: int, bits: int = 8) -> None:
    """Raise BoneXageError for a side under 16 px or over 16,000 px, or more than 100 megapixels.

    Also if the numbers, of `bits` bits in all a pixel, would take more than 400 MB.
    """
    if min(width, height) < MIN_SIDE:
        raise BoneXageError(f"{width} × {height} px is too small for a film; export it at full size")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise BoneXageError(f"{width:,} × {height:,} px is over the limit of {MAX_SIDE:,} px a side and "
                            f"{MAX_PIXELS // 10**6} megapixels; scale it down")
    if width * height * bits > MAX_DECODED * 8:
        raise BoneXageError(f"{width:,} × {height:,} px of {bits} bits are over the limit of {MAX_DECODED // 10**6} "
                            "MB; save it as grey of 8 or 16 bits")


def pixel_aspect(declared: dict[str, Sequence[float]]) -> float:
    """Height of a stored pixel over its width; 1 if nothing is declared.

    `declared` maps a tag's name to two numbers, of which the ratio counts: the pixel's height and width, or, the same
    ratio, the pixels per length along x and along y. Any other count, 0 or infinity declares nothing.

    Raises BoneXageError for a ratio beyond 4 or below 0, and for two tags that differ by more than 1 %.
    """
    ratios = {}
    for name, numbers in declared.items():
        if len(numbers) == 2 and all(numbers) and all(map(math.isfinite, numbers)):
            if min(numbers) < 0 or not 1 / MAX_ASPECT <= numbers[0] / numbers[1] <= MAX_ASPECT:
                raise BoneXageError(f"{name} {' and '.join(f'{number:g}' for number in numbers)} is no shape of a "
                                    "pixel; mend the tag, or export the film with square pixels")
            ratios[name] = numbers[0] / numbers[1]
    if ratios and math.log(max(ratios.values()) / min(ratios.values())) > 0.01:
        raise BoneXageError(f"{' and '.join(ratios)} disagree on the shape of a pixel; mend the wrong one, or export "
                            "the film with square pixels")
    return next(iter(ratios.values()), 1.0)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and bytes of every chunk, from length to checksum (RFC 2083, section 3), to IEND.

    Raises BoneXageError where one is cut off or damaged, and for more than 200,000 of them.
    """
    view, place, name, count = memoryview(data), len(PNG_SIGNATURE), b"", 0
    while name != b"IEND":
        count += 1
        _check_parts(count)
        length = int.from_bytes(view[place : place + 4])
        chunk = view[place : place + length + 12]
        if len(chunk) < length + 12:
            raise BoneXageError("truncated PNG; copy the image again")
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
            raise BoneXageError("damaged PNG (a checksum fails); copy the image again")
        name, place = bytes(chunk[4:8]), place + length + 12
        yield name, chunk


# Inside a scan 0xFF is stuffed (0xFF00) or a restart (D0–D7); 0xFF may fill in front of any marker.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, content, and all bytes to the next marker, of every segment from the first to the end mark (0xD9).

    What follows the end is no part of the picture: a motion photo's film, a second picture. (ITU T.81, B.1.)

    Raises BoneXageError if the end mark is not reached, and for more than 200,000 segments.
    """
    place, count = 2, 0
    while found := _JPEG_MARKER.search(data, place):
        count += 1
        _check_parts(count)
        marker, start, place = found[1][0], found.start(), found.end()
        if marker == 0xD9:
            yield marker, b"", data[start:place]
            return
        if marker == 0xD8:  # a second start, of nothing
            continue
        end = place + int.from_bytes(data[place : place + 2])
        following = _JPEG_MARKER.search(data, max(end, place + 2))
        yield marker, data[place + 2 : end], data[start : following.start() if following else len(data)]
        place = max(end, place + 2)
    raise BoneXageError("truncated JPEG; copy the image again")


def _check_parts(count: int) -> None:
    if count > MAX_PARTS:
        raise BoneXageError(f"more than {MAX_PARTS:,} parts in the file, each an object in memory; save it anew")


# Where the strips or tiles of a TIFF lie, and how many bytes each has.
STRIPS, STRIP_BYTES, TILES, TILE_BYTES = 273, 279, 324, 325
_TYPES = {1: "B", 3: "H", 4: "L", 5: "LL", 6: "b", 8: "h", 9: "l", 10: "ll", 13: "L", 16: "Q"}
_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def tiff_directory(data: bytes, tags: dict[int, tuple[float, ...]]) -> int:
    """Put the numbers of the first directory of a TIFF, BigTIFF or EXIF block into `tags`.

    These are lists of up to 16 numbers, and of any length the places and sizes of strips and tiles. Returns the place
    of the next directory, 0 if there is none. On damage `tags` holds what came before it.

    Raises BoneXageError if the values are longer than the file (several tags share bytes) or a list has more numbers
    than a film has tiles: a library that reads them all would fill the memory. Raises struct.error if the directory
    is cut off.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    number, entry, inline = ("Q", "HHQ", 8) if big else ("L", "HHL", 4)
    (place,) = struct.unpack_from(order + number, data, inline)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, place)
    place += 8 if big else 2
    total = 0
    for _ in range(entries):
        tag, kind, count = struct.unpack_from(order + entry, data, place)
        place += struct.calcsize(order + entry)
        size = count * _BYTES.get(kind, 1)
        total += size
        if total > len(data) or (kind in _TYPES and kind > 1 and count > MAX_NUMBERS):
            raise BoneXageError("damaged TIFF (tags longer than any film's); copy or export the image again")
        start = place if size <= inline else struct.unpack_from(order + number, data, place)[0]
        place += inline
        if kind in _TYPES and (count <= 16 or tag in (STRIPS, STRIP_BYTES, TILES, TILE_BYTES)):
            numbers = struct.unpack_from(order + _TYPES[kind] * count, data, start)
            if kind in (5, 10):  # fractions
                numbers = tuple(over / under if under else math.inf * over if over else 0
                                for over, under in zip(numbers[::2], numbers[1::2], strict=True))
            tags.setdefault(tag, numbers)
    return struct.unpack_from(order + number, data, place)[0]


def check_strips(tags: dict[int, tuple[float, ...]], length: int) -> None:
    """Raise BoneXageError unless a TIFF of `length` bytes holds the whole picture that its directory describes.

    Strips or tiles have to be as many as the picture takes (TIFF 6.0, sections 3 and 15), each with bytes of its own
    within the file; uncompressed ones with as many as their rows take. Decoders fill the rest with black or noise.
    """
    width, height = tags[256][0], tags[257][0]
    bits, samples, planes = max(tags.get(258, (1,))), tags.get(277, (1,))[0], tags.get(284, (1,))[0]
    if 322 in tags:
        across, down, places, sizes = tags[322][0], tags[323][0], tags.get(TILES, ()), tags.get(TILE_BYTES, ())
        rows = [down] * (-(-width // across) * -(-height // down))
    else:
        across, down, places, sizes = width, tags.get(278, (height,))[0], tags.get(STRIPS, ()), tags.get(STRIP_BYTES)
        rows = [min(down, height - top) for top in range(0, height, down)]
    rows, samples = (rows * samples, 1) if planes == 2 else (rows, samples)
    needed = [count * -(-across * bits * samples // 8) for count in rows]
    raw = tags.get(259, (1,))[0] == 1
    sizes = needed if raw and sizes is None else sizes or ()
    end = 0
    if len(places) == len(sizes) == len(rows):
        for place, size, least in sorted(zip(places, sizes, needed, strict=True)):
            size = (least if size >= least else 0) if raw else size  # the last strip may say a full one's
            if size <= 0 or place <= 0 or place < end or place + size > length:
                break
            end = place + size
        else:
            return
    raise BoneXageError("damaged TIFF (its strips or tiles do not hold the whole picture); export the image again")
