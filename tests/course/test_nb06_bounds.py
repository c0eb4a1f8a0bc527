"""What notebook 06 looks at: a slope with known answers, first steps as the course makes them, films of the tails."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.batches import FilmDataset
from bonexage_utils.course.frozen import BACKBONE, BATCH, LR, Maps, fit_head
from bonexage_utils.course.nb06 import bounds
from bonexage_utils.course.nb06.bounds import LOOK, MAX_AGE, PARTS, STEPS
from bonexage_utils.model import BoundedAge, Features, LinearAge

AGES = st.floats(1, 239)


@pytest.fixture(scope="module")
def toy_maps() -> Maps:
    """Maps whose brightest place tells the age: three batches of them."""
    rng = np.random.default_rng(0)
    months = rng.uniform(20, 220, 3 * BATCH).astype(np.float32)
    maps = rng.uniform(0, 0.2, (len(months), Features(BACKBONE).channels, 2, 2)).astype(np.float16)
    maps[:, 0, 0, 0] += (months / 100).astype(np.float16)
    return Maps(torch.from_numpy(maps), torch.zeros(len(months)).long(), torch.from_numpy(months))


# --- the curve and its slope ---


@pytest.mark.parametrize(("age", "slope"), [(3, 2.9625), (12, 11.4), (60, 45), (120, 60), (228, 11.4), (240, 0)])
def test_known_slopes(age: float, slope: float) -> None:
    assert bounds.months_per_step(age) == pytest.approx(slope)


@given(AGES)
def test_the_slope_is_that_of_the_package(age: float) -> None:
    output = BoundedAge(MAX_AGE).double()
    score = torch.tensor([bounds.score_of(age)], dtype=torch.float64, requires_grad=True)
    said = output(score)
    said.sum().backward()
    assert said.item() == pytest.approx(age)
    assert score.grad.item() == pytest.approx(float(bounds.months_per_step(age)))
    assert float(bounds.bounded(bounds.score_of(age))) == pytest.approx(age)


@given(AGES)
def test_both_walls_are_alike(age: float) -> None:
    assert bounds.months_per_step(age) == pytest.approx(float(bounds.months_per_step(MAX_AGE - age)))
    assert bounds.score_of(age) == pytest.approx(-bounds.score_of(MAX_AGE - age), abs=1e-9)


def test_figures_tell_the_slopes() -> None:
    twin = bounds.draw_tangents().alt
    for text in ("at 3 months, score -4.37, a step of one is worth 3.0 months", "at 12 months, score -2.94", "11.4",
                 "at 120 months, score 0.00, a step of one is worth 60.0 months"):
        assert text in twin
    told = bounds.draw_slopes(52.0).alt
    assert "3.0 at 3, 11.4 at 12, 60.0 at 120, 11.4 at 228" in told
    assert "52.0 at every age" in told
    assert "linear: says -15 months, and a step is worth 54.0" in bounds.draw_outputs(54.0).alt
    assert "clamped: says 0 months, and a step is worth 0.0" in bounds.draw_outputs(54.0).alt
    assert "bounded: says 18 months, and a step is worth 16.8" in bounds.draw_outputs(54.0).alt


@pytest.mark.parametrize("guess", [..., None, "30", True, -1, 241, float("nan"), [30]])
def test_a_guess_that_is_none_is_not_drawn(guess: object) -> None:
    assert "guess" not in bounds.draw_slopes(50.0, guess).alt
    assert "the guess for 12 months, 30." in bounds.draw_slopes(50.0, 30).alt


# --- the first steps ---


@pytest.mark.parametrize("said", [[-5.0, 0.5, 1.5, 120.0, 238.5, 239.5, 300.0]])
def test_who_is_at_the_wall(said: list[float]) -> None:
    assert bounds.at_the_wall(np.array(said)).tolist() == [True, True, False, False, False, True, True]


def test_first_steps_are_those_of_the_course(toy_maps: Maps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protected ones see the same films in the same order at the same rate as `fit_head`, and end in the same head."""
    heads = []
    really = bounds.head_only
    monkeypatch.setattr(bounds, "head_only", lambda *a, **k: heads.append(really(*a, **k)) or heads[-1])
    monkeypatch.setattr(bounds, "STEPS", 6)
    monkeypatch.setattr(bounds, "EPOCHS", 2)
    bounds.first_steps(BACKBONE, toy_maps, 3, LR, True)
    fitted = fit_head(BACKBONE, toy_maps, 3, epochs=2).state_dict()
    for name, value in heads[0].state_dict().items():
        torch.testing.assert_close(value, fitted[name], msg=name)


@pytest.mark.slow
def test_hot_starts_begin_at_the_mean(toy_maps: Maps) -> None:
    runs = bounds.hot_starts(BACKBONE, toy_maps, seeds=2)
    assert len(runs) == len(bounds.STARTS) * len(LOOK) * 2 * STEPS
    guess = (toy_maps.months - toy_maps.months.mean()).abs().mean().item()
    first = runs[runs["step"] == 1]
    np.testing.assert_allclose(first["mae"], guess, rtol=0.25)
    assert (first["wall"] == 0).all()
    assert runs["wall"].between(0, 1).all()
    # no bounded answer is further off than the scale is long
    assert (runs.loc[runs["head"] == "bounded", "mae"] <= MAX_AGE).all()
    pair = runs[runs["seed"] == 0].groupby(["start", "head"])["mae"].apply(list)
    assert pair["bare", "linear"] != pair["protected", "linear"]
    told = bounds.draw_hot_starts(runs, guess).alt
    assert f"A dotted line at {guess:.0f} months" in told
    assert told.count("the worst of all") == 4


# --- both ends of the scale ---


def test_tails_are_tails_and_the_same_each_time() -> None:
    films, again = bounds.draw_tails(48, 3), bounds.draw_tails(48, 2)
    assert films.films.shape == (6, 48, 48)
    assert films.films.dtype == np.uint8
    for part, place in (("under 2 years", slice(0, 3)), ("17 years and over", slice(3, 6))):
        low, high = PARTS[part]
        assert ((films.months[place] >= low) & (films.months[place] < high)).all()
    assert np.array_equal(films.films[[0, 1, 3, 4]], again.films)
    assert len(set(films.keys)) == 6


def test_inverted_films_are_the_same_films() -> None:
    table = pd.DataFrame({"id": list("abc"), "months": [12.0, 60, 120], "sex": list("FMF")})
    array = np.arange(4 * 4, dtype=np.uint8).reshape(4, 2, 2)
    films = FilmDataset(array, np.array([3, 0, 1]), table)
    turned = bounds.inverted(films)
    for one, other in zip(films, turned, strict=True):
        assert torch.equal(255 - one["image"], other["image"])
        assert (one["months"], one["sex"], one["key"]) == (other["months"], other["sex"], other["key"])
    assert len(turned) == 3
    assert array[0, 0, 1] == 1  # the films themselves are untouched


def test_parts_hold_their_films_and_their_verdicts() -> None:
    months = np.r_[np.full(20, 12.0), np.full(30, 100.0), np.full(20, 204.0)]
    a = np.where(months == 12, 8.0, np.where(months == 100, -5.0, -6.0)) * np.ones((2, 1))
    b = np.where(months == 12, 5.0, np.where(months == 100, 5.0, -9.0)) * np.ones((2, 1))
    table = bounds.by_part({"bounded": a, "linear": b}, months)
    assert table["n"].tolist() == [20, 30, 20]
    assert table["lean of bounded"].tolist() == [8, -5, -6]
    assert table["difference"].tolist() == [3, 0, -3]
    assert table["verdict"].tolist() == ["linear is better", "no difference that these films can show",
                                         "bounded is better"]
    told = bounds.draw_by_part({"bounded": a, "linear": b}, months).alt
    assert "under 2 years +3.00 [3.00, 3.00], n 20" in told
    assert "linear 17 years and over 9.0" in told
    middle = bounds.by_part({"bounded": a[:, 1:60], "linear": b[:, 1:60]}, months[1:60])
    assert middle.index.tolist() == ["2 to 17 years"]


def test_the_package_starts_where_it_is_told() -> None:
    """What notebook 06 says of the first bias."""
    for mean in (30.0, 123.0, 210.0):
        assert BoundedAge(MAX_AGE).start(mean) == pytest.approx(bounds.score_of(mean), abs=1e-5)
        assert LinearAge(mean, 40.0).start(mean) == 0


def test_without_enough_films_no_part_speaks() -> None:
    errors = {"bounded": np.ones((2, 5)), "linear": np.zeros((2, 5))}
    few = np.array([12.0, 100, 100, 210, 220])
    table = bounds.by_part(errors, few)
    assert table.empty
    assert "verdict" in table.round(2).T.index
    assert "No part of the scale has 20 films" in bounds.draw_by_part(errors, few).alt
