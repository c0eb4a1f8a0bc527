"""From a grey film to a square: letterboxing, and the cache that reads and letterboxes only once."""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from platformdirs import user_cache_dir
from tqdm import tqdm

from bonexage_utils.decoding import MAX_BYTES, read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import StopRequest, atomic_file, atomic_folder, file_hash, only_writer

CACHE_VERSION = 5
AHEAD, AHEAD_BYTES = 64, 2**28  # films, and bytes of letterboxed films, read before they are needed
KEY_LENGTH = 24  # hexadecimal digits
TICK = 0.02  # seconds; file systems stamp by a clock that ticks every 4 to 10 ms, so a change after this shows
T = TypeVar("T")


def cores() -> int:
    """How many processor cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
               ahead: int | None = None, known: Callable[[int], T | None] = lambda place: None) -> Iterator[T | str]:
    """In order, what `make` makes of each film, uint8 (height, width), and its place in `paths`; for a film that cannot
    be read, the one-line reason. What `known` gives for a place, unless None, stands there, and the film is not read.

    `workers` threads read (OpenCV releases the interpreter's lock), None or 0 takes one per core; at most `ahead`
    films, or `AHEAD`, are read before they are taken.
    """
    def read(place: int) -> T | str:
        try:
            have = known(place)
            return make(read_gray(paths[place]), place) if have is None else have
        except BoneXageError as error:
            return str(error)

    with ThreadPoolExecutor(workers or cores()) as pool:
        waiting: deque[Future[T | str]] = deque()
        try:
            for place in range(len(paths)):
                waiting.append(pool.submit(read, place))
                if len(waiting) >= (ahead or AHEAD):
                    yield waiting.popleft().result()
            yield from (future.result() for future in waiting)
        finally:  # whoever stops taking does not wait for films that nobody wants
            pool.shutdown(wait=False, cancel_futures=True)


def films_ahead(size: int, batch_size: int = 1) -> int:
    """How many films, letterboxed to (size, size), may wait in memory: `AHEAD`, or two batches if that is more, but no
    more than `AHEAD_BYTES` hold."""
    return max(1, min(max(AHEAD, 2 * batch_size), AHEAD_BYTES // size**2))


def film_hash(path: Path | str) -> str | None:
    """SHA-256 of a film's bytes, as hexadecimal digits; None for what cannot be read, or is too large for a film."""
    try:
        about = os.stat(path)
        return file_hash(path) if stat.S_ISREG(about.st_mode) and about.st_size <= MAX_BYTES else None
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None


def film_hashes(paths: Iterable[str], workers: int | None = None) -> list[str]:
    """`film_hash` of each path, in order; "" where there is none. `workers` as for `read_films`."""
    with ThreadPoolExecutor(workers or cores()) as pool:
        return list(pool.map(lambda path: film_hash(path) or "", paths))


def film_stamp(path: Path | str) -> tuple[int | str | None, ...]:
    """What changes whenever a film does: its length, the times of its last change, and its inode; () if it is absent.

    The third is the system's own time, which no copying and no `touch` sets; on Windows, where that field says when
    the file was made, it is a hash of the content. The inode tells files apart that one moment made; some network
    mounts number anew at will, so it does not tell whether a file changed.
    """
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        return ()
    last = film_hash(path) if os.name == "nt" else about.st_ctime_ns
    return about.st_size, about.st_mtime_ns, last, about.st_ino


@dataclass(frozen=True)
class CachedImages:
    """Letterboxed films on disk: `array` is uint8 (n, size, size), memory-mapped, row i for path i.

    `failures` maps the row of each film that could not be read to the one-line reason; its array row is black and
    must not be used.
    """

    array: np.ndarray
    failures: dict[int, str]
    path: Path


class _Films:
    """The films of one cache as they are now: their paths, and stamps that tell whether one has changed since."""

    def __init__(self, paths: Sequence[str], size: int, workers: int | None) -> None:
        self.paths, self.size, self.workers = paths, size, workers
        self.stamps = self._stamps()

    def _stamps(self) -> list[tuple]:
        with ThreadPoolExecutor(self.workers or cores()) as pool:
            return list(pool.map(film_stamp, self.paths))

    def key(self) -> str:
        """Changes with the files (path and stamp), their order, the size and the rules here."""
        digest = hashlib.sha256(f"{CACHE_VERSION} {self.size}\n".encode())
        for path, stamp in zip(self.paths, self.stamps, strict=True):
            digest.update(os.fsencode(os.path.abspath(path)) + f" {stamp}\n".encode())
        return digest.hexdigest()[:KEY_LENGTH]

    def read(self, rows: Sequence[int], put: Callable[[int, np.ndarray], None]) -> dict[int, str]:
        """Hand each of the `rows` and its letterboxed film to `put`; returns the rows that cannot be read, and why.

        Raises BoneXageError when a film changed meanwhile, or when asked to stop by Ctrl-C or SIGTERM.
        """
        time.sleep(TICK)
        films = read_films([self.paths[row] for row in rows], lambda film, _: letterbox(film, self.size), self.workers,
                           films_ahead(self.size))
        bar = tqdm(films, total=len(rows), desc="reading films", unit="film", leave=False, mininterval=0.5)
        failures: dict[int, str] = {}
        with StopRequest() as stop:
            for row, film in zip(rows, bar, strict=True):
                if stop.asked:
                    raise BoneXageError("stopped while the films were read for the first time; start again")
                if isinstance(film, str):
                    failures[row] = film
                else:
                    put(row, film)
        pairs = zip(self.stamps, self._stamps(), strict=True)
        changed = [path for path, (old, new) in zip(self.paths, pairs, strict=True) if old[:3] != new[:3]]
        if changed:
            raise BoneXageError(f"{changed[0]}: changed while it was read ({len(changed):,} films did); start again "
                                "when nothing writes there")
        return failures


def cached_images(
    paths: list[str], size: int, cache_dir: Path | str | None = None, workers: int | None = None
) -> CachedImages:
    """Every film letterboxed to (size, size), decoded once and kept as one array of bytes.

    The cache lives in `cache_dir` (if None, in BONEXAGE_CACHE, else in the user's cache folder) under a name made from
    the files and the settings, so a changed film or another size makes a new one. It appears whole or not at all, and
    one that cannot be loaded is made again. A film that could not be read is tried again each time. `workers` as for
    `read_films`.

    Raises BoneXageError if the cache cannot be written, if a film changes while it is read, or when stopped.
    """
    given = os.path.expanduser(os.environ.get("BONEXAGE_CACHE", ""))
    place = Path(cache_dir or given or user_cache_dir("bonexage", appauthor=False))
    if str(place).startswith("~"):
        raise BoneXageError("no home folder for the image cache; set BONEXAGE_CACHE to a folder")
    films = _Films(paths, size, workers)
    folder = place / films.key()
    try:
        cache = _load(folder, films)
        if cache is not None:
            return _read_failed_again(cache, films) if cache.failures else cache
        _sweep(place)
        with only_writer(folder, wait=True):
            if _load(folder, films) is None:  # else another process made it while this one waited
                if folder.is_dir() and not folder.is_symlink():
                    shutil.rmtree(folder)
                else:
                    folder.unlink(missing_ok=True)
                with atomic_folder(folder) as temporary:
                    _write_cache(temporary, films)
        cache = _load(folder, films)
        if cache is None:
            raise OSError(errno.ENOENT, "removed while it was made")
        return cache
    except OSError as error:
        need = math.ceil(len(paths) * size * size / 2**20)
        raise BoneXageError(f"{place}: cannot write the image cache ({error.strerror or error}); it needs {need:,} "
                            "MiB: free them, or set BONEXAGE_CACHE to another folder") from None


def _sweep(place: Path) -> None:
    """Remove what killed writers left half done in `place`: gigabytes, and their key may never come again."""
    for part in place.glob(f".{'[0-9a-f]' * KEY_LENGTH}.????????.part"):
        with suppress(BoneXageError), only_writer(place / part.name[1 : KEY_LENGTH + 1]):  # which sweeps; not if in use
            pass


def _load(folder: Path, films: _Films) -> CachedImages | None:
    """The cache in `folder`; None if there is none, or not a whole one."""
    try:
        array = np.lib.format.open_memmap(folder / "images.npy", mode="r")
        rows = list(json.loads((folder / "rows.json").read_text(encoding="utf-8")))
    except Exception:  # a damaged header raises what its parser raises
        return None
    shape = (len(films.paths), films.size, films.size)
    if array.shape != shape or array.dtype != np.uint8 or not array.flags.c_contiguous or len(rows) != len(films.paths):
        return None
    failures = {row: value for row, value in enumerate(rows) if isinstance(value, str) and value}
    with ThreadPoolExecutor(films.workers or cores()) as pool:
        whole = all(pool.map(lambda row: row in failures or zlib.crc32(array[row]) == rows[row], range(len(rows))))
    return CachedImages(array, failures, folder) if whole else None


def _write_cache(folder: Path, films: _Films) -> None:
    shape = (len(films.paths), films.size, films.size)
    array = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a full disk is an error here; at a write to mapped memory it kills Python
        with open(folder / "images.npy", "rb+") as handle:
            os.posix_fallocate(handle.fileno(), 0, os.fstat(handle.fileno()).st_size)
    failures = films.read(range(len(films.paths)), array.__setitem__)
    array.flush()
    (folder / "rows.json").write_text(_rows(array, failures), encoding="utf-8")


def _rows(array: np.ndarray, failures: dict[int, str]) -> str:
    """What is known of each row, as JSON: a checksum of its film, or why there is none."""
    return json.dumps([failures.get(row) or zlib.crc32(film) for row, film in enumerate(array)])


def _read_failed_again(cache: CachedImages, films: _Films) -> CachedImages:
    """A failure never lasts: a share comes back, or a decoder is installed, and no file has changed by that.

    Several processes may do this at once: they write the same bytes, to rows that nobody uses yet.
    """
    def put(row: int, film: np.ndarray) -> None:
        array = np.lib.format.open_memmap(cache.path / "images.npy", mode="r+")
        array[row] = film
        array.flush()

    failures = films.read(sorted(cache.failures), put)
    if failures.keys() != cache.failures.keys():
        with atomic_file(cache.path / "rows.json") as temporary:  # last: killed in between, they are read again
            temporary.write_text(_rows(cache.array, failures), encoding="utf-8")
    return CachedImages(cache.array, failures, cache.path)


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
