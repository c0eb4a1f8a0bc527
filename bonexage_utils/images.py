"""From a grey film to a square: letterboxing, and the cache that reads and letterboxes only once."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from platformdirs import user_cache_dir
from tqdm import tqdm

from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_folder, only_writer

CACHE_VERSION = 3
AHEAD = 64  # films read before they are needed
T = TypeVar("T")


def letterbox(image: np.ndarray, size: int) -> np.ndarray:
    """Fit a grey image (height, width) into a black square (size, size) without changing its proportions.

    Shrinks by averaging areas, which does not alias; enlarges bilinearly. The film is centred.
    """
    height, width = image.shape
    scale = size / max(height, width)
    new_height, new_width = (max(1, round(side * scale)) for side in (height, width))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (new_width, new_height), interpolation=method)
    square = np.zeros((size, size), np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    square[top : top + new_height, left : left + new_width] = resized
    return square


def read_films(paths: Sequence[str], make: Callable[[np.ndarray, int], T], workers: int | None = None,
               ahead: int | None = None) -> Iterator[T | str]:
    """In order, what `make` makes of each film, uint8 (height, width), and its place in `paths`; for a film that cannot
    be read, the one-line reason.

    `workers` threads read (OpenCV releases the interpreter's lock), None takes one per core; at most `ahead` films, or
    `AHEAD`, are read before they are taken.
    """
    def read(place: int) -> T | str:
        try:
            return make(read_gray(paths[place]), place)
        except BoneXageError as error:
            return str(error)

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        waiting: deque[Future[T | str]] = deque()
        try:
            for place in range(len(paths)):
                waiting.append(pool.submit(read, place))
                if len(waiting) >= (ahead or AHEAD):
                    yield waiting.popleft().result()
            yield from (future.result() for future in waiting)
        finally:  # whoever stops taking does not wait for films that nobody wants
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class CachedImages:
    """Letterboxed films on disk: `array` is uint8 (n, size, size), memory-mapped, row i for path i.

    `failures` maps the row of each film that could not be read to the one-line reason; its array row is black and
    must not be used.
    """

    array: np.ndarray
    failures: dict[int, str]
    path: Path


def _cache_key(paths: list[str], size: int) -> str:
    """Changes with the files (path, length, time of last change), their order, the size and the rules here."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {size}\n".encode())
    for path in paths:
        try:
            stat = os.stat(path)
            stamp = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:
            stamp = "absent"
        digest.update(f"{os.path.abspath(path)} {stamp}\n".encode())
    return digest.hexdigest()[:24]


def cached_images(
    paths: list[str], size: int, cache_dir: Path | str | None = None, workers: int | None = None
) -> CachedImages:
    """Every film letterboxed to (size, size), decoded once and kept as one array of bytes.

    The cache lives in `cache_dir` (the user's cache folder if None) under a name made from the files and the
    settings, so a changed film or another size makes a new one. It appears whole or not at all. `workers` as for
    `read_films`.

    Raises BoneXageError if the cache cannot be written.
    """
    folder = Path(cache_dir or user_cache_dir("bonexage", appauthor=False)) / _cache_key(paths, size)
    try:
        if not folder.is_dir():
            with only_writer(folder, wait=True):
                if not folder.is_dir():  # else another process made it while this one waited
                    with atomic_folder(folder) as temporary:
                        _write_cache(temporary, paths, size, workers)
    except OSError as error:
        need = len(paths) * size * size / 2**30
        raise BoneXageError(
            f"{folder.parent}: cannot write the image cache ({error.strerror}); it needs {need:.1f} GiB"
        ) from None
    array = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    failures = json.loads((folder / "failures.json").read_text())
    return CachedImages(array, {int(row): reason for row, reason in failures.items()}, folder)


def _write_cache(folder: Path, paths: list[str], size: int, workers: int | None) -> None:
    array = np.lib.format.open_memmap(
        folder / "images.npy", mode="w+", dtype=np.uint8, shape=(len(paths), size, size)
    )
    if hasattr(os, "posix_fallocate"):  # a full disk is an error here; at a write to mapped memory it kills Python
        with open(folder / "images.npy", "rb+") as handle:
            os.posix_fallocate(handle.fileno(), 0, max(1, array.nbytes))
    films = read_films(paths, lambda film, _: letterbox(film, size), workers)
    failures: dict[int, str] = {}
    for row, film in enumerate(tqdm(films, total=len(paths), desc="reading films", unit="film", leave=False,
                                    mininterval=0.5)):
        if isinstance(film, str):
            failures[row] = film
        else:
            array[row] = film
    array.flush()
    (folder / "failures.json").write_text(json.dumps(failures))


@dataclass(frozen=True)
class Preprocessing:
    """Everything between a file and the network; saved in every checkpoint, so that prediction repeats it.

    `mean` and `std` are of the training films, on the 0–1 scale.
    """

    image_size: int
    mean: float
    std: float
    channels: int = 1
    letterbox: str = "centred, black, area average"
    intensity: str = "8-bit grey, bones bright; deeper films (DICOM: their window) stretched to the ends, marks clipped"


def measure_intensity(array: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, on the 0–1 scale, of all pixels of the films `rows` of `array`, uint8 (n, S, S)."""
    counts = np.zeros(256)
    for row in rows:  # a histogram needs no copy of the film as floats
        counts += cv2.calcHist([array[row]], [0], None, [256], (0, 256)).ravel()
    levels = np.arange(256) / 255.0
    mean = np.average(levels, weights=counts)
    return float(mean), float(max(np.sqrt(np.average((levels - mean) ** 2, weights=counts)), 1e-3))
