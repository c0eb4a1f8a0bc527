"""Reading, letterboxing and the cache."""

import json
import os
import shutil
import signal
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonexage_utils import images
from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import only_writer
from bonexage_utils.images import (
    cached_images,
    cores,
    film_hash,
    film_hashes,
    films_ahead,
    letterbox,
    measure_intensity,
    read_films,
)


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
    assert not list(tmp_path.glob("cache/*"))


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(BoneXageError, match="cannot write the image cache"):
        cached_images(films(tmp_path / "films"), 32, blocked)


def replace_in_silence(path: str, film: np.ndarray, in_place: bool) -> None:
    """Another film at equal length and time of change, as a restored backup or a careful script leaves it."""
    before = os.stat(path)
    other = Path(f"{path}.png")
    cv2.imwrite(str(other), film)
    other.write_bytes(other.read_bytes().ljust(before.st_size, b"\0"))  # a decoder stops at the end of the picture
    assert other.stat().st_size == before.st_size
    if in_place:
        Path(path).write_bytes(other.read_bytes())
        other.unlink()
    else:
        os.replace(other, path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("windows", [True, False])
def test_a_film_replaced_at_equal_size_and_time_is_read_anew(tmp_path: Path, in_place: bool, windows: bool,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    if windows:  # where no file system says when a file last changed
        monkeypatch.setattr(images, "film_stamp", lambda path: (images.film_hash(path),))
    paths = films(tmp_path / "films")
    cached_images(paths, 32, tmp_path / "cache")
    replace_in_silence(paths[3], np.full((40, 30), 7, np.uint8), in_place)
    assert cached_images(paths, 32, tmp_path / "cache").array[3].max() == 7


def test_two_films_that_change_places_are_read_anew(tmp_path: Path) -> None:
    """Files of one length, made at one moment: only their inodes differ."""
    for name, level in (("a", 10), ("b", 20)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "film.png"), np.full((40, 30), level, np.uint8))
        os.utime(tmp_path / name / "film.png", ns=(1, 1))
    path = str(tmp_path / "site" / "film.png")
    for name, level in (("a", 10), ("b", 20), ("a", 10)):
        (tmp_path / "site").unlink(missing_ok=True)
        (tmp_path / "site").symlink_to(tmp_path / name)
        assert cached_images([path], 32, tmp_path / "cache").array.max() == level


def test_a_film_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = films(tmp_path / "films")
    read = images.read_gray

    def racing(path: str) -> np.ndarray:
        film = read(path)
        if path == paths[5]:  # replaced just after it was read
            replace_in_silence(paths[5], np.full((40, 30), 7, np.uint8), in_place=True)
        return film

    monkeypatch.setattr(images, "read_gray", racing)
    with pytest.raises(BoneXageError, match="changed while it was read") as caught:
        cached_images(paths, 32, tmp_path / "cache", workers=1)
    assert paths[5] in str(caught.value)
    monkeypatch.setattr(images, "read_gray", read)
    assert cached_images(paths, 32, tmp_path / "cache").array[5].max() == 7


def refusing(monkeypatch: pytest.MonkeyPatch, refused: set[str]) -> None:
    """From now on these paths cannot be read, whatever is in them: a share that is away, a decoder not installed."""
    read = read_gray

    def refuse(path: str) -> np.ndarray:
        if path in refused:
            raise BoneXageError(f"{path}: refused; wait")
        return read(path)

    monkeypatch.setattr(images, "read_gray", refuse)


@pytest.mark.slow
@given(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
@settings(max_examples=25)
def test_a_failure_lasts_no_longer_than_its_cause(tmp_path_factory: pytest.TempPathFactory, first: set[int],
                                                  second: set[int], third: set[int]) -> None:
    """What could be read once is kept; what could not is read as soon as it can be, and no file has changed."""
    folder = tmp_path_factory.mktemp("failures")
    paths = films(folder / "films", 6)
    ever_read: set[int] = set()
    for refused in (first, second, third):
        with pytest.MonkeyPatch.context() as patch:
            refusing(patch, {paths[row] for row in refused})
            cache = cached_images(paths, 32, folder / "cache")
        ever_read |= set(range(6)) - refused
        assert set(cache.failures) == set(range(6)) - ever_read
        for row in ever_read:
            np.testing.assert_array_equal(cache.array[row], letterbox(read_gray(paths[row]), 32))


def test_the_reason_of_a_failure_is_todays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = films(tmp_path / "films", 3)
    refusing(monkeypatch, {paths[1]})
    cached_images(paths, 32, tmp_path / "cache")
    monkeypatch.setattr(images, "read_gray", lambda path: (_ for _ in ()).throw(BoneXageError("another reason")))
    assert cached_images(paths, 32, tmp_path / "cache").failures == {1: "another reason"}


def _overwrite(path: Path, part: slice, value: int) -> None:
    content = np.fromfile(path, np.uint8)
    content[part] = value
    content.tofile(path)


DAMAGE = {
    "images.npy cut": lambda folder: os.truncate(folder / "images.npy", 5000),
    "images.npy empty": lambda folder: os.truncate(folder / "images.npy", 0),
    "images.npy gone": lambda folder: (folder / "images.npy").unlink(),
    "images.npy junk": lambda folder: (folder / "images.npy").write_bytes(b"junk" * 5000),
    "images.npy a folder": lambda folder: ((folder / "images.npy").unlink(), (folder / "images.npy").mkdir()),
    "images.npy of another shape": lambda folder: np.save(folder / "images.npy", np.zeros((12, 16, 16), np.uint8)),
    "images.npy of another kind": lambda folder: np.save(folder / "images.npy", np.zeros((12, 32, 32))),
    "images.npy of objects": lambda folder: np.save(folder / "images.npy", np.full((12, 32, 32), None)),
    "images.npy in another order": lambda folder: np.save(folder / "images.npy", np.asfortranarray(
        np.zeros((12, 32, 32), np.uint8))),
    "header": lambda folder: (folder / "images.npy").write_bytes(
        (folder / "images.npy").read_bytes().replace(b")", b" ")),
    "shape beyond all numbers": lambda folder: (folder / "images.npy").write_bytes(
        (folder / "images.npy").read_bytes().replace(b"32, 32)", b"32e999)")),
    "a file in its place": lambda folder: (shutil.rmtree(folder), folder.write_text("mine")),
    "a link to nothing in its place": lambda folder: (shutil.rmtree(folder), folder.symlink_to("nowhere")),
    "images.npy of zeros": lambda folder: _overwrite(folder / "images.npy", slice(128, None), 0),
    "images.npy with a page of zeros": lambda folder: _overwrite(folder / "images.npy", slice(4096, 8192), 0),
    "images.npy with one other byte": lambda folder: _overwrite(folder / "images.npy", slice(9000, 9001), 77),
    "rows.json gone": lambda folder: (folder / "rows.json").unlink(),
    **{f"rows.json {text[:40]!r}": lambda folder, text=text: (folder / "rows.json").write_bytes(text)
       for text in (b"", b"{", b"null", b"[]", b'"x"', b'"twelve signs"', b"5", b'{"a": "x"}', b"[1, 2]", b"\xff\xfe",
                    b"[" * 100_000, json.dumps([0] * 12).encode(), json.dumps([""] * 12).encode(),
                    json.dumps([None] * 12).encode(), json.dumps({str(row): 0 for row in range(12)}).encode())},
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_cache_that_cannot_be_loaded_is_made_again(tmp_path: Path, damage: str) -> None:
    paths = films(tmp_path / "films")
    whole = cached_images(paths, 32, tmp_path / "cache")
    expected = np.array(whole.array)
    DAMAGE[damage](whole.path)
    again = cached_images(paths, 32, tmp_path / "cache")
    np.testing.assert_array_equal(again.array, expected)
    assert again.failures == {}
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [whole.path.name]


def test_a_whole_cache_serves_from_a_disk_that_cannot_be_written(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    paths = films(tmp_path / "films")
    Path(paths[2]).write_bytes(b"junk")
    first = cached_images(paths, 32, tmp_path / "cache")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("only_writer", "atomic_folder", "atomic_file"):
        monkeypatch.setattr(images, name, read_only)
    assert cached_images(paths, 32, tmp_path / "cache").failures == first.failures
    with pytest.raises(BoneXageError, match=r"Read-only file system.*BONEXAGE_CACHE"):
        cached_images(paths, 48, tmp_path / "cache")


def test_where_the_cache_lies_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BONEXAGE_CACHE", str(tmp_path / "chosen"))
    assert cached_images(films(tmp_path / "films"), 32).path.parent == tmp_path / "chosen"


def test_without_a_home_the_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(images, "user_cache_dir", lambda *_, **__: "~/.cache/bonexage")  # as without HOME and account
    with pytest.raises(BoneXageError, match="BONEXAGE_CACHE"):
        cached_images(films(tmp_path / "films"), 32)
    assert [path.name for path in tmp_path.iterdir()] == ["films"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_while_the_cache_is_made_leaves_nothing(tmp_path: Path, number: int,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    paths = films(tmp_path / "films")
    read, before = images.read_gray, signal.getsignal(number)

    def stopping(path: str) -> np.ndarray:
        if path == paths[5]:
            os.kill(os.getpid(), number)
        return read(path)

    monkeypatch.setattr(images, "read_gray", stopping)
    monkeypatch.setattr(images, "AHEAD", 1)
    with pytest.raises(BoneXageError, match="stopped"):
        cached_images(paths, 32, tmp_path / "cache", workers=1)
    assert not list(tmp_path.glob("cache/*"))
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("size", "ahead"), [(64, 64), (512, 64), (2048, 64), (4096, 16), (16_000, 1), (10**6, 1)])
def test_films_that_wait_take_a_quarter_of_a_gibibyte_at_most(size: int, ahead: int) -> None:
    assert films_ahead(size) == ahead


def test_a_film_that_is_known_is_not_read(tmp_path: Path) -> None:
    paths = films(tmp_path / "films", 4)
    Path(paths[2]).unlink()
    known = {0: "first", 2: "third"}
    assert list(read_films(paths, lambda film, place: place, known=known.get)) == ["first", 1, "third", 3]


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "nul"])
def test_what_is_no_film_has_no_hash(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "film.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # would be waited for, for ever
    assert film_hash(f"{path}\0" if kind == "nul" else path) is None


def test_what_a_killed_writer_left_goes_though_its_films_never_come_again(tmp_path: Path) -> None:
    part, busy = (tmp_path / "cache" / f".{letter * 24}.01234567.part" for letter in "ab")
    other = tmp_path / "cache" / ".mine.part"
    for folder in (part, busy, other):
        folder.mkdir(parents=True)
        (folder / "images.npy").write_bytes(b"half")
    with only_writer(tmp_path / "cache" / ("b" * 24)):  # at work
        busy.mkdir()
        cached_images(films(tmp_path / "films"), 32, tmp_path / "cache")
        assert not part.exists()
        assert busy.exists()
        assert other.exists()


def test_the_cache_is_no_pickle(tmp_path: Path) -> None:
    cache = cached_images(films(tmp_path / "films"), 32, tmp_path / "cache")
    assert {p.name for p in cache.path.iterdir()} == {"images.npy", "rows.json"}
    assert json.loads((cache.path / "rows.json").read_text()) == [zlib.crc32(film) for film in cache.array]


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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_as_many_threads_read_as_cores_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of a machine, as a scheduler or a container gives it."""
    monkeypatch.setattr(images, "read_gray", lambda path: np.zeros((20, 20), np.uint8))
    for count in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=count: set(range(count)))
        for workers, wanted in ((None, count), (0, count), (2, 2)):
            meeting, together = threading.Barrier(wanted), []

            def make(film: np.ndarray, place: int, meeting=meeting, together=together) -> int:
                together.append(meeting.wait(10))  # broken unless so many threads are here at once
                return place

            assert list(read_films(["a"] * 2 * wanted, make, workers)) == list(range(2 * wanted))
            assert len(together) == 2 * wanted
        assert cores() == count


@given(st.integers(1, 5000), st.integers(1, 10**6))
def test_two_batches_are_read_ahead_as_far_as_memory_goes(size: int, batch_size: int) -> None:
    ahead = films_ahead(size, batch_size)
    assert 1 <= ahead <= max(64, 2 * batch_size)
    assert ahead * size**2 <= 2**28 or ahead == 1
    assert ahead >= 2 * batch_size or (ahead + 1) * size**2 > 2**28


def test_hashes_of_films_are_in_order_and_empty_where_there_is_none(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(9)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    paths[4].unlink()
    hashes = film_hashes(["", *map(str, paths)], 3)
    assert hashes[0] == hashes[5] == ""
    assert [value for value in hashes if value] == [film_hash(path) for path in paths if path.exists()]
