"""From stored numbers to the grey levels 0–255, and from oblong pixels to square ones."""

import math

import cv2
import numpy as np

from bonexage_utils.errors import BoneXageError
from bonexage_utils.headers import check_size

FEW = 16  # levels: a film that reading leaves with fewer has lost its bones


def used_levels(grey: np.ndarray) -> int:
    """How many of the 256 levels a picture, uint8 (height, width), uses."""
    return np.count_nonzero(cv2.calcHist([grey], [0], None, [256], (0, 256)))


def thin_out(pixels: np.ndarray) -> np.ndarray:
    """Every nth row and column, n such that at most about a million pixels remain."""
    step = math.ceil(math.sqrt(pixels.size / 1e6))
    return pixels[::step, ::step]


def _film_range(pixels: np.ndarray, image: np.ndarray | None) -> tuple[float, float]:
    """Darkest and brightest pixel that belong to the film, by the rule of a box plot's whiskers.

    Between the 1st and the 99th percentile lies the body. What lies further from it than half its range is no film: a
    dead pixel, a burnt-in or lead mark, a bare edge. Tried on 12 radiographs in 12 bits: marks of up to 1 % of the
    area, half as bright again as the film or more, moved the other pixels by 1.5 levels in the mean (from 1.5 % of
    the area on, the mark is taken for film); a stretch to the extremes by 23 to 54.
    """
    sample = thin_out(pixels) if image is None else thin_out(pixels)[thin_out(image)]
    if not sample.size:  # what little there is fell between the rows taken
        sample = pixels[image]
    low, high = np.percentile(sample, (1, 99))
    reach = (high - low) / 2 or math.inf
    film = (pixels >= low - reach) & (pixels <= high + reach)
    if image is not None:
        film &= image
    return float(pixels.min(where=film, initial=sample.max())), float(pixels.max(where=film, initial=sample.min()))


def to_8_bits(pixels: np.ndarray, limits: tuple[float, float] | None = None,
              image: np.ndarray | None = None) -> np.ndarray:
    """Map numbers (height, width) to grey levels, uint8: linearly from `limits` to 0–255, or else stretched.

    Without `limits` they are the darkest and the brightest pixel of the film itself, lone marks aside; `image`, bool
    (height, width), says where the film is, everywhere if None. 12 bits lose 15 of 16 levels so, 16 bits 255 of 256.

    Raises BoneXageError for pixels that are no numbers, and if fewer than 16 levels remain of a film that has more.
    """
    if pixels.dtype == np.uint8 and limits == (0, 255):
        return pixels
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise BoneXageError("pixels that are not numbers; export it as 8 or 16 bits")
    low, high = limits or _film_range(pixels, image)
    grey = np.subtract(pixels, low, dtype=np.float32 if pixels.dtype.itemsize <= 2 else np.float64)
    grey *= 255 / ((high - low) or 1)
    grey = np.rint(np.clip(grey, 0, 255, out=grey), out=grey).astype(np.uint8)
    if limits is None and (used := used_levels(grey)) < min(FEW, np.unique(thin_out(pixels)).size):
        raise BoneXageError(f"only {used} grey levels are left of the film, beside pixels far brighter or darker; "
                            "export it with a window, or without its marks")
    return grey


def square_pixels(grey: np.ndarray, aspect: float) -> np.ndarray:
    """Make a picture, uint8 (height, width), one of square pixels; `aspect` is a stored pixel's height over its width.

    The finer axis is shrunk to the coarser one by averaging areas, so nothing is invented and nothing grows. Below 1 %
    it is left alone.
    """
    height, width = grey.shape
    if abs(math.log(aspect)) < 0.01:
        return grey
    width, height = (round(width / aspect), height) if aspect > 1 else (width, round(height * aspect))
    check_size(width, height)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
