"""Small encoders of what Pillow does not write: JPEG Lossless and 12-bit JPEG (ITU T.81), JPEG-LS (ITU T.87)."""

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


_J = [*(k // 4 for k in range(16)), 4, 4, 5, 5, 6, 6, 7, 7, *range(8, 16)]  # A.2.1
RESET = 64


class _Bits:
    """Bits to bytes; after 0xFF a 0 is stuffed (A.1)."""

    def __init__(self) -> None:
        self.bytes, self.byte, self.free = bytearray(), 0, 8

    def put(self, value: int, count: int) -> None:
        for place in reversed(range(count)):
            self.free -= 1
            self.byte |= (value >> place & 1) << self.free
            if not self.free:
                self.bytes.append(self.byte)
                self.byte, self.free = 0, 7 if self.byte == 255 else 8

    def golomb(self, value: int, k: int, limit: int, bits: int) -> None:  # A.5.3
        zeros = value >> k
        if zeros < limit - bits - 1:
            self.put(1, zeros + 1)
            self.put(value, k)
        else:
            self.put(1, limit - bits)
            self.put(value - 1, bits)


def jpeg_ls(pixels: np.ndarray, bits: int) -> bytes:
    """Lossless, with the standard's own parameters. uint (height, width), of 8 bits or more."""
    half, limit = 2 ** (bits - 1), 2 * (bits + max(8, bits))
    factor = (min(2**bits - 1, 4095) + 128) // 256
    steps = (factor + 2, 4 * factor + 3, 17 * factor + 4)
    a, b, c, n = [max(2, (2**bits + 32) // 64)] * 367, [0] * 367, [0] * 365, [1] * 367
    run_index, out = 0, _Bits()

    def quantised(d: int) -> int:
        size = sum(abs(d) >= step for step in steps) + 1 if d else 0
        return -size if d < 0 else size

    def parameter(context: int, about: int) -> int:
        k = 0
        while n[context] << k < about:
            k += 1
        return k

    def wrapped(error: int) -> int:
        return (error + half) % (2 * half) - half

    def halve(context: int) -> None:
        if n[context] == RESET:
            a[context], b[context], n[context] = a[context] >> 1, b[context] >> 1, n[context] >> 1
        n[context] += 1

    width = pixels.shape[1]
    above = [0] * (width + 2)
    for row in pixels.tolist():
        line = [above[1], *row, 0]
        above[-1] = above[-2]
        x = 1
        while x <= width:
            left, up, corner, right = line[x - 1], above[x], above[x - 1], above[x + 1]
            q = [quantised(d) for d in (right - up, up - corner, corner - left)]
            if any(q):
                number = 81 * q[0] + 9 * q[1] + q[2]
                sign, context = (-1, -number) if number < 0 else (1, number)
                guess = (min(left, up) if corner >= max(left, up) else max(left, up) if corner <= min(left, up)
                         else left + up - corner)
                guess = min(max(guess + sign * c[context], 0), 2 * half - 1)
                error = wrapped(sign * (line[x] - guess))
                k = parameter(context, a[context])
                turned = k == 0 and 2 * b[context] <= -n[context]
                out.golomb((2 * error + turned if error >= 0 else -2 * (error + 1) + (not turned)), k, limit, bits)
                b[context] += error
                a[context] += abs(error)
                halve(context)
                if b[context] <= -n[context]:
                    b[context], c[context] = max(b[context] + n[context], 1 - n[context]), max(c[context] - 1, -128)
                elif b[context] > 0:
                    b[context], c[context] = min(b[context] - n[context], 0), min(c[context] + 1, 127)
                x += 1
                continue
            run = 0
            while x <= width and line[x] == left:
                run, x = run + 1, x + 1
            while run >= 1 << _J[run_index]:
                out.put(1, 1)
                run -= 1 << _J[run_index]
                run_index = min(run_index + 1, 31)
            if x > width:
                out.put(1, int(run > 0))
                break
            out.put(run, _J[run_index] + 1)  # a 0, then how far the run went
            same = int(left == above[x])
            context, error = 365 + same, line[x] - above[x]
            error = wrapped(-error if not same and left > above[x] else error)
            k = parameter(context, a[context] + (n[context] >> 1) * same)
            often = 2 * b[context] >= n[context]  # here b counts errors below 0
            mapped = int((k == 0 and error > 0 and not often) or (error < 0 and (often or k > 0)))
            value = 2 * abs(error) - same - mapped
            out.golomb(value, k, limit - _J[run_index] - 1, bits)
            b[context] += error < 0
            a[context] += (value + 1 - same) >> 1
            halve(context)
            run_index = max(run_index - 1, 0)
            x += 1
        above = [line[0], *line[1:-1], 0]
    if out.free < 8:
        out.put(0, out.free)
    return b"".join([b"\xff\xd8", _frame(0xF7, pixels.shape, bits), _segment(0xDA, bytes([1, 1, 0, 0, 0, 0])),
                     bytes(out.bytes), b"\xff\xd9"])


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
