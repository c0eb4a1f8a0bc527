"""The smallest encoders of what Pillow does not write: JPEG Lossless and 12-bit JPEG (ITU T.81)."""

import struct

import numpy as np
from scipy.fft import dctn


def jpeg_lossless(pixels: np.ndarray, bits: int) -> bytes:
    """Process 14, selection value 1: each pixel as its difference to the left one. uint (height, width)."""
    values = pixels.astype(np.int64)
    before = np.empty_like(values)  # to the left; in the first column above; in the corner half of the range (H.1.2.1)
    before[:, 1:], before[1:, 0], before[0, 0] = values[:, :-1], values[:-1, 0], 2 ** (bits - 1)
    differences = (values - before + 32768) % 65536 - 32768
    sizes = _sizes(differences)
    # Seventeen codes of five bits each: which size follows.
    words = _joined(sizes, differences, np.where(sizes == 16, 0, sizes), length=5)
    return b"".join([b"\xff\xd8", _frame(0xC3, pixels.shape, bits), _huffman(0, 5, range(17)),
                     _segment(0xDA, bytes([1, 1, 0, 1, 0, 0])), words, b"\xff\xd9"])


def jpeg_12(pixels: np.ndarray) -> bytes:
    """Extended sequential, 12 bits, every coefficient rounded to whole numbers. uint (height, width)."""
    height, width = pixels.shape
    padded = np.pad(pixels.astype(float) - 2048, ((0, -height % 8), (0, -width % 8)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    zigzag = sorted(range(64), key=lambda k: (k // 8 + k % 8, k // 8 if (k // 8 + k % 8) % 2 else k % 8))
    numbers = np.rint(dctn(blocks, axes=(1, 2), norm="ortho")).astype(np.int64).reshape(-1, 64)[:, zigzag]
    numbers[1:, 0] -= numbers[:-1, 0].copy()
    numbers = numbers.ravel()
    sizes = _sizes(numbers)
    # Codes of eight bits: which size follows, of the first number of a block; of the others also how many zeros do.
    symbols = [0, 0xF0, *(run * 16 + size for run in range(16) for size in range(1, 15))]
    code = {symbol: place for place, symbol in enumerate(symbols)}
    stream, zeros = [], 0
    for place, (number, size) in enumerate(zip(numbers.tolist(), sizes.tolist(), strict=True)):
        if place % 64 == 0:
            stream.append((size, number, size))
        elif number:
            stream += [(code[0xF0], 0, 0)] * (zeros // 16) + [(code[zeros % 16 * 16 + size], number, size)]
        zeros = zeros + 1 if place % 64 and not number else 0
        if place % 64 == 63 and zeros:
            stream.append((code[0], 0, 0))
            zeros = 0
    words = _joined(*(np.array(column) for column in zip(*stream, strict=True)), length=8)
    return b"".join([b"\xff\xd8", _segment(0xDB, b"\0" + b"\1" * 64), _frame(0xC1, pixels.shape, 12),
                     _huffman(0x00, 8, range(16)), _huffman(0x10, 8, symbols),
                     _segment(0xDA, bytes([1, 1, 0, 0, 63, 0])), words, b"\xff\xd9"])


def _sizes(numbers: np.ndarray) -> np.ndarray:
    """Bits that a number takes (F.1.2.1)."""
    return np.where(numbers == 0, 0, np.floor(np.log2(np.maximum(np.abs(numbers), 1))).astype(int) + 1)


def _joined(codes: np.ndarray, values: np.ndarray, sizes: np.ndarray, length: int) -> bytes:
    """Code after code, `length` bits each and followed by the `sizes` low bits of its value, 0xFF stuffed."""
    low = np.where(values < 0, values + (1 << sizes) - 1, values)
    text = "".join(f"{code:0{length}b}" + (f"{value:0{size}b}" if size else "") for code, value, size in zip(
        codes.ravel().tolist(), low.ravel().tolist(), sizes.ravel().tolist(), strict=True))
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8).replace(b"\xff", b"\xff\0")


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _frame(marker: int, size: tuple[int, int], bits: int) -> bytes:
    return _segment(marker, struct.pack(">BHHB", bits, *size, 1) + bytes([1, 0x11, 0]))


def _huffman(table: int, length: int, symbols: object) -> bytes:
    symbols = list(symbols)
    return _segment(0xC4, bytes([table, *(len(symbols) if bits == length else 0 for bits in range(1, 17)), *symbols]))
