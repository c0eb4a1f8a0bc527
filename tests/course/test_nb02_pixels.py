"""What notebook 02 looks at: a ruler with known answers, bones whose shape survives or not, changes of known size."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.course.nb02 import pixels
from bonexage_utils.decoding import read_gray


def bar(length: int, width: int, turn: float = 0.0, shape: tuple[int, int] = (400, 400)) -> np.ndarray:
    """A white rectangle in the middle, its long side upright before the turn (degrees)."""
    film = np.zeros(shape, np.uint8)
    middle = (shape[1] // 2, shape[0] // 2)
    top, left = middle[1] - length // 2, middle[0] - width // 2
    film[top : top + length, left : left + width] = 255
    return cv2.warpAffine(film, cv2.getRotationMatrix2D(middle, turn, 1.0), shape[::-1])


@given(st.integers(100, 200), st.integers(20, 60), st.floats(0, 180))
def test_the_ruler_tells_a_rectangles_sides_however_it_lies(length: int, width: int, turn: float) -> None:
    assert pixels.slimness(bar(length, width, turn)) == pytest.approx(length / width, rel=0.02)


@given(st.integers(240, 500))
def test_a_letterbox_keeps_a_bones_shape_and_squashing_multiplies_it_by_the_films(width: int) -> None:
    measured = pixels.slimness_by_way(bar(120, 24, shape=(400, width)))
    assert measured["letterboxed"] == pytest.approx(measured["film"], rel=0.04)
    assert measured["squashed"] == pytest.approx(measured["film"] * width / 400, rel=0.04)


@pytest.mark.slow
def test_only_squashed_bones_depend_on_the_film() -> None:
    """What notebook 02 says of its two panels."""
    table = pixels.bones()
    assert (table["letterboxed"] / table["film"] - 1).abs().max() < 0.03
    bent = table["squashed"] / table["letterboxed"]
    assert bent.corr(table["aspect"], method="spearman") > 0.8  # not 1: bones lie askew
    ranks = {way: table[way].corr(table["months"], method="spearman") for way in pixels.WAYS}
    assert (ranks["letterboxed"], ranks["squashed"]) == (pytest.approx(0.66, abs=0.006), pytest.approx(0.43, abs=0.006))
    assert f"letterboxed, rank correlation {ranks['letterboxed']:.2f}" in pixels.draw_bones(table).alt


def test_a_narrow_film_takes_years_from_a_girl_of_ten() -> None:
    """The answer to notebook 02's prediction: by the twenty nearest bones she looks about eight, squashed under two."""
    table, (_, bone) = pixels.bones(), pixels.film_and_bone(width=65)
    looks = {way: table.loc[(table["film"] - shape).abs().nsmallest(20).index, "months"].median() / 12
             for way, shape in pixels.slimness_by_way(bone).items()}
    assert looks["letterboxed"] == pytest.approx(8, abs=0.75)
    assert looks["squashed"] < 2.25


def test_the_three_squares_tell_what_they_show() -> None:
    alt = pixels.draw_squares((60, 125)).alt
    for width in (60, 125):
        measured = pixels.slimness_by_way(pixels.film_and_bone(width)[1])
        assert f"{measured['film']:.1f} on the film, {measured['squashed']:.1f} squashed" in alt


def test_pixels_per_millimetre_are_those_of_the_film() -> None:
    assert pixels.px_per_mm(512) == pytest.approx(8 * pixels.px_per_mm(64))
    tall = pixels.film_and_bone(78)[0].shape[0]
    # at the film's own height nothing is scaled; a hand of about 15 cm from wrist to fingertip fills most of it
    assert 100 < 0.6 * tall / pixels.px_per_mm(tall) < 200
    assert f"64 px 1 mm = {pixels.px_per_mm(64):.1f} px" in pixels.draw_sides().alt


def test_a_rate_counts_every_pass() -> None:
    loaded: list[int] = []
    assert pixels.best_rate(loaded.append, 3, passes=2) > 0
    assert loaded == [0, 1, 2, 0, 1, 2]


def test_rates_are_of_three_places(phantom_folder: Path) -> None:
    paths = sorted(map(str, phantom_folder.glob("boneage-training-dataset/*.png")))[:2]
    measured = pixels.rates(paths, 32)
    assert list(measured) == ["file of RSNA's size", "file of the phantom", "row of the cache"]
    assert all(np.isfinite(rate) and rate > 0 for rate in measured.values())
    alt = pixels.draw_rates(dict(zip(measured, (5.0, 50.0, 2000.0), strict=True))).alt
    assert "size 1; file of the phantom 10; row of the cache 400." in alt


def test_a_deep_film_comes_back_as_it_was(tmp_path: Path) -> None:
    film = np.arange(256, dtype=np.uint8).repeat(16).reshape(64, 64)
    deep = pixels.deep_film(film)
    assert (deep.dtype, deep.min(), deep.max()) == (np.uint16, 0, 4095)
    (tmp_path / "deep.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    np.testing.assert_array_equal(read_gray(tmp_path / "deep.png"), film)


def test_the_changes_that_destroy_do_so() -> None:
    """What the exercise says of C and F."""
    films, left, gap = pixels.six_changes()
    assert list(films) == list(pixels.CHANGES)
    assert left < 0.75
    assert 0 < gap < pixels.BLUR_MM
    for first in "ABCDEF":
        for second in "ABCDEF"[:"ABCDEF".index(first)]:
            assert not np.array_equal(films[first], films[second]), first + second


def test_stand_ins_do_what_they_are_said_to() -> None:
    stand_ins = pixels.stand_ins()
    assert {changes for _, changes in stand_ins.values()} == {True, False}
    for name, (films, changes) in stand_ins.items():
        assert len(films) > 0, name
        moved = [not np.array_equal(films[row], films[row]) for row in range(len(films))]
        assert any(moved) == changes, name
        assert len(list(films)) == len(films)
