"""What notebook 00 draws: the growing hand, the centres' ages, the guessing game."""

import base64
import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from bonexage_utils.course import sliders
from bonexage_utils.course.nb00 import figures
from bonexage_utils.phantom import Nuisances, anatomy, render


def test_same_age_same_picture_and_beyond_the_ends_it_stays_inside() -> None:
    assert figures.draw_hands(12).png == figures.draw_hands(12).png == figures.draw_hands(-5).png
    assert figures.draw_hands(216).png == figures.draw_hands(1000).png


def test_alt_text_counts_what_is_drawn() -> None:
    for age in (12, 120, 216):
        girl, boy = (figures.centres_present(sex, age) for sex in "FM")
        assert f"girl shows {girl} of 30" in figures.draw_hands(age).alt
        assert f"the boy {boy}" in figures.draw_hands(age).alt
    assert figures.centres_present("F", 216) == len(anatomy.APPEARANCE) == figures.CENTRES


def test_girls_are_never_behind() -> None:
    """What notebook 00 says of its curves."""
    counts = np.array([[figures.centres_present(sex, age) for age in range(12, 217)] for sex in "FM"])
    assert (counts[0] >= counts[1]).all()
    assert (np.diff(counts) >= 0).all()
    assert [12 + int(np.argmax(row == 30)) for row in counts] == [129, 153]
    assert counts[:, 0].tolist() == [7, 2]


def test_the_bar_in_the_corner_is_two_centimetres_long() -> None:
    """It shrinks on the film while the hand grows, and both hands of one age have nearly the same."""
    bars = []
    for age in (12, 108, 216):
        film = figures.draw_hands(age).figure.axes[0].images[0].get_array()  # the girl's
        row = film[-figures.BAR_PLACE_PX, figures.BAR_PLACE_PX:]
        bars.append(int(np.argmin(row == 255)))
        _, facts = render(sliders.average_child("F", age), np.random.default_rng(0), figures.FILM_HEIGHT, Nuisances())
        assert bars[-1] * facts["mm_per_px"] == pytest.approx(20, abs=facts["mm_per_px"] / 2)
    assert bars == sorted(bars, reverse=True)


def test_the_cover_is_the_first_figure_of_both_hands() -> None:
    """`make notebooks` draws it; its alt text is in the README."""
    notebook = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))
    stored = [base64.b64decode("".join(output["data"]["image/png"])) for cell in notebook["cells"]
              for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert (ROOT / "notebooks" / "cover.png").read_bytes() in stored
    counts = figures.draw_growth().alt.split("on them: ")[1].split(".")[0]
    assert counts in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("guess", [..., None, "girl", ("girl", ...), ("dog", 3), ("girl", -1), 12])
def test_a_guess_that_is_none_is_not_drawn(guess: object) -> None:
    assert "guess" not in figures.draw_centres(guess).alt


def test_a_guess_is_drawn() -> None:
    assert "the boy first, by 3 months" in figures.draw_centres(("boy", 3)).alt


@pytest.mark.parametrize("guesses", [..., None, [...] * 6, [None] * 6])
def test_no_guess_is_no_mistake(guesses: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert np.isnan(figures.tidy_guesses(guesses, 6)).all()
    assert not capsys.readouterr().out


@pytest.mark.parametrize("guess", [True, "2", -1, 21, 126, float("nan")])
def test_a_guess_that_is_no_age_is_left_out_and_named(guess: object, capsys: pytest.CaptureFixture[str]) -> None:
    months = figures.tidy_guesses([4, guess, ...], 3)
    assert months[0] == 48
    assert np.isnan(months[1:]).all()
    told = capsys.readouterr().out
    assert told.startswith(f"Film B: {guess!r} is no age in years")
    assert ("months?" in told) == (guess in (21, 126))


@pytest.mark.parametrize(("guesses", "kept"), [(7, []), ("seven", []), ([1, 2, 3], [12, 24])])
def test_guesses_that_are_no_list_of_that_length(
    guesses: object, kept: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert figures.tidy_guesses(guesses, 2)[:len(kept)].tolist() == kept
    assert "a list of 2 guesses" in capsys.readouterr().out


def test_game_shows_who_played() -> None:
    films = pd.DataFrame({"sex": list("FM"), "months": [24.0, 180.0], "median": 120.0, "model": [30.0, 170.0]})
    played = figures.draw_game(films.assign(you=figures.tidy_guesses([2, ...], 2))).alt
    assert played.count("you") == 1
    assert "label 2.0, median 10.0, model 2.5, you 2.0" in played
    assert "you" not in figures.draw_game(films.assign(you=np.nan)).alt
