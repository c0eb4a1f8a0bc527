"""Reading, letterboxing and the cache."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonexage_utils import images
from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.images import cached_images, letterbox, measure_intensity, read_films


def ramp(height: int = 40, width: int = 30) -> np.ndarray:
    return np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 128))
@settings(deadline=None)
def test_a_letterbox_keeps_the_proportions(height: int, width: int, size: int) -> None:
    """Fault 4: squashing every radiograph to a square loses the proportions of the bones."""
    square = letterbox(np.full((height, width), 200, np.uint8), size)
    assert square.shape == (size, size)
    rows, columns = (np.flatnonzero(square.max(axis) > 0) for axis in (1, 0))
    scale = size / max(height, width)
    assert abs(len(rows) - max(1, height * scale)) <= 1
    assert abs(len(columns) - max(1, width * scale)) <= 1
    assert abs(rows[0] - (size - 1 - rows[-1])) <= 1  # centred
    assert (square[np.ix_(rows, columns)] == 200).all()


def test_a_circle_stays_a_circle() -> None:
    film = np.zeros((300, 200), np.uint8)
    cv2.circle(film, (100, 150), 60, 255, -1)
    seen = letterbox(film, 100) > 127
    height, width = (np.ptp(np.flatnonzero(seen.any(axis))) for axis in (1, 0))
    assert abs(int(height) - int(width)) <= 1


def test_shrinking_averages_instead_of_picking() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (128, 64))
    shrunk = letterbox(stripes, 64)
    assert abs(shrunk.mean() - 127.5) < 2
    assert shrunk.std() < 5


def films(folder: Path, count: int = 12) -> list[str]:
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(count):
        paths.append(str(folder / f"{i}.png"))
        cv2.imwrite(paths[-1], np.roll(ramp(), i, 0))
    return paths


def test_the_cache_holds_every_film_in_order(tmp_path: Path) -> None:
    paths = films(tmp_path / "films")
    cache = cached_images(paths, 32, tmp_path / "cache")
    assert cache.array.shape == (12, 32, 32)
    assert cache.array.dtype == np.uint8
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(cache.array[row], letterbox(read_gray(path), 32))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_change_nothing(tmp_path: Path, workers: int) -> None:
    paths = films(tmp_path / "films")
    one = cached_images(paths, 32, tmp_path / "one", workers=1)
    many = cached_images(paths, 32, tmp_path / "many", workers=workers)
    np.testing.assert_array_equal(one.array, many.array)


def test_the_cache_is_read_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = films(tmp_path / "films")
    first = cached_images(paths, 32, tmp_path / "cache")

    def fail(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(images, "read_gray", fail)
    np.testing.assert_array_equal(cached_images(paths, 32, tmp_path / "cache").array, first.array)


def test_a_changed_film_or_size_makes_a_new_cache(tmp_path: Path) -> None:
    paths = films(tmp_path / "films")
    first = cached_images(paths, 32, tmp_path / "cache")
    assert cached_images(paths, 48, tmp_path / "cache").path != first.path
    cv2.imwrite(paths[3], np.full((40, 30), 7, np.uint8))
    os.utime(paths[3], ns=(1, 1))
    second = cached_images(paths, 32, tmp_path / "cache")
    assert second.path != first.path
    assert second.array[3].max() == 7


def test_failures_are_named_not_blackened_in_silence(tmp_path: Path) -> None:
    """Fault 2: missing images silently replaced by black ones with their labels."""
    paths = films(tmp_path / "films")
    Path(paths[2]).unlink()
    Path(paths[5]).write_bytes(b"")
    cache = cached_images(paths, 32, tmp_path / "cache")
    assert set(cache.failures) == {2, 5}
    assert "no such file" in cache.failures[2]
    assert paths[5] in cache.failures[5]


def test_an_interrupted_cache_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = films(tmp_path / "films")
    whole = images.letterbox

    def stop(image: np.ndarray, size: int) -> np.ndarray:
        if image[0, 0] != ramp()[0, 0]:
            raise KeyboardInterrupt
        return whole(image, size)

    monkeypatch.setattr(images, "letterbox", stop)
    with pytest.raises(KeyboardInterrupt):
        cached_images(paths, 32, tmp_path / "cache", workers=1)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(BoneXageError, match="cannot write the image cache"):
        cached_images(films(tmp_path / "films"), 32, blocked)


def test_the_cache_is_no_pickle(tmp_path: Path) -> None:
    cache = cached_images(films(tmp_path / "films"), 32, tmp_path / "cache")
    assert {p.name for p in cache.path.iterdir()} == {"images.npy", "failures.json"}
    assert json.loads((cache.path / "failures.json").read_text()) == {}


def test_intensity_is_of_the_named_rows_only() -> None:
    array = np.zeros((4, 8, 8), np.uint8)
    array[2:] = 255
    assert measure_intensity(array, np.array([2, 3]))[0] == pytest.approx(1.0)
    mean, std = measure_intensity(array, np.array([1, 2]))
    assert (mean, std) == (pytest.approx(0.5), pytest.approx(0.5))


@given(st.integers(1, 5), st.integers(16, 40), st.integers(0, 2**32 - 1))
def test_intensity_is_that_of_all_pixels(films: int, side: int, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 256, (films + 2, side, side), np.uint8)
    rows = np.arange(films) + 1  # neither the first nor the last
    mean, std = measure_intensity(array, rows)
    pixels = array[1:-1] / 255.0
    assert mean == pytest.approx(pixels.mean(), abs=1e-9)
    assert std == pytest.approx(pixels.std(), abs=1e-9)


def test_no_film_is_left_out_of_the_intensity() -> None:
    """Of 3,999 films one is bright: the mean moves by its share, which a sample would miss or double."""
    array = np.zeros((3999, 16, 16), np.uint8)
    array[3998] = 255
    assert measure_intensity(array, np.arange(3999))[0] == pytest.approx(1 / 3999)


def test_films_are_read_in_order_and_not_far_ahead(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(12)]
    for number, path in enumerate(paths):
        cv2.imwrite(path, np.full((20, 20), number, np.uint8))
    Path(paths[5]).write_bytes(b"no film")
    made: list[int] = []

    def make(film: np.ndarray, place: int) -> int:
        made.append(place)
        return int(film[0, 0])

    films = read_films(paths, make, workers=2, ahead=3)
    assert next(films) == 0
    assert len(made) <= 3
    rest = list(films)
    assert [film for film in rest if not isinstance(film, str)] == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert rest[4].startswith(f"{paths[5]}: ")
    assert sorted(made) == [place for place in range(12) if place != 5]
