"""Intervals as notebook 09 learns and tries them, and its exercises: known answers, and the package's own."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.calibration import Calibration, coverage_by_sex_and_age, cross_validated, half_width
from bonexage_utils.cohort import Cohort
from bonexage_utils.course.nb09 import exercises as nb09
from bonexage_utils.course.nb09 import uncertainty
from bonexage_utils.course.start import PROFILES, Course
from bonexage_utils.images import Preprocessing


def films_of(n: int, seed: int = 0, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    months = rng.uniform(12, 216, n)
    return pd.DataFrame({"id": [f"{k:05}" for k in rng.permutation(n)], "sex": rng.choice(["F", "M"], n),
                         "months": months, "predicted": np.clip(months + shift + rng.normal(0, 8, n), 0, 240),
                         "split": "calibration"})


# --- learning and trying ---


def test_tenfold_is_that_of_the_package() -> None:
    films = films_of(400)
    mine = uncertainty.tenfold(films, lambda part: Calibration.fit(part, 0.8))
    package = cross_validated(films, Calibration.fit(films, 0.8))
    pd.testing.assert_frame_equal(coverage_by_sex_and_age(mine), package.table)


def test_one_width_is_one_width() -> None:
    films = films_of(500)
    calibration = uncertainty.one_width(Calibration.fit(films))
    found = uncertainty.with_intervals(films.iloc[::-1], calibration)
    assert found.index.tolist() == films.index.tolist()[::-1]
    half = half_width(films["predicted"] - films["months"], 0.9)
    whole = found[found["predicted"].between(half, 240 - half)]
    np.testing.assert_allclose(whole["high_months"] - whole["low_months"], 2 * half, atol=0.02)
    np.testing.assert_allclose((whole["high_months"] + whole["low_months"]) / 2, whole["predicted"], atol=0.02)


def test_new_films_alike_are_held_and_others_are_not() -> None:
    calibration = Calibration.fit(films_of(2000))
    held = uncertainty.held(uncertainty.with_intervals(films_of(4000, 1), calibration))
    assert held.mean() == pytest.approx(0.9, abs=0.03)
    moved = uncertainty.held(uncertainty.with_intervals(films_of(4000, 1, shift=15), calibration))
    assert moved.mean() < 0.5


def test_who_gains_from_widths_of_their_own() -> None:
    # a hundred girls of 2 years, all inside before and after; boys of 16, of whom 60 are inside, then 80
    before = pd.DataFrame({"id": [str(k) for k in range(200)], "sex": ["F"] * 100 + ["M"] * 100,
                           "months": [24.0] * 100 + [192.0] * 100})
    before["low_months"] = [10.0] * 100 + [180.0] * 60 + [193.0] * 40
    before["high_months"] = before["low_months"] + 30
    after = before.assign(low_months=[20.0] * 100 + [160.0] * 80 + [193.0] * 20)
    after["high_months"] = after["low_months"] + np.r_[[10.0] * 100, [40.0] * 100]
    table, words = uncertainty.who_gains(before, after, 0.9)
    assert table.index.tolist() == ["girls 0–5 y", "boys 15–20 y"]
    assert table.loc["boys 15–20 y", ["before", "after", "change"]].tolist() == pytest.approx([0.6, 0.8, 0.2])
    assert table["width after"].tolist() == [10, 40]
    assert words == "of 1 groups below 90%, 1 rose, 1 of them clearly; 1 of 2 groups became narrower"
    with pytest.raises(ValueError, match="not the same films"):
        uncertainty.who_gains(before, after.iloc[::-1], 0.9)


def test_a_group_of_few_films_has_no_width_of_its_own() -> None:
    films = films_of(400)
    few = films[(films["sex"] == "F") | (films["predicted"] >= 60)]
    toddler = pd.DataFrame({"id": ["a", "b"], "sex": ["M", "M"], "months": [30.0, 90], "predicted": [30.0, 90]})
    assert uncertainty.with_intervals(toddler, Calibration.fit(few))["own"].tolist() == [False, True]


def test_shares_and_their_verdicts() -> None:
    found = uncertainty.share(np.arange(100) < 90)  # Wilson's interval of 90 in 100
    assert (found.value, round(found.low, 4), round(found.high, 4)) == (0.9, 0.8256, 0.9448)
    for inside, expected in ((0.8, "less"), (0.97, "more"), (0.9, "as promised")):
        assert uncertainty.coverage_verdict(inside, (0.85, 0.95)).startswith(expected)
    films = pd.DataFrame({"months": [10.0] * 90 + [50.0] * 10, "low_months": 0.0, "high_months": 20.0})
    table = uncertainty.compare_coverage({"these": (films, 200), "too many": (pd.concat([films] * 3), 20_000)}, 0.95)
    assert table.loc["these", ["n", "inside", "width"]].tolist() == [100, 0.9, 20]
    assert table["verdict"].str.split(" ").str[0].tolist() == ["as", "less"]  # 200 films may calibrate that badly
    assert f"these 90% [83%, 94%], luck {table['luck from'].iloc[0]:.0%}" in uncertainty.draw_coverage(table, 0.95).alt


@pytest.mark.slow
def test_the_range_of_one_calibration() -> None:
    low, high = uncertainty.chance_range(9, 0.9)  # Beta(9, 1): its quantile q is q^(1/9)
    assert (low, high) == pytest.approx((0.025 ** (1 / 9), 0.975 ** (1 / 9)))
    with pytest.raises(ValueError, match="8 films are too few for 90%"):
        uncertainty.chance_range(8, 0.9)
    rng = np.random.default_rng(0)  # errors spread evenly from 0 to 1: the half-width *is* the true coverage
    true = np.array([half_width(rng.uniform(size=60), 0.9) for _ in range(4000)])
    low, high = uncertainty.chance_range(60, 0.9)
    assert ((true >= low) & (true <= high)).mean() == pytest.approx(0.95, abs=0.015)
    low, high = uncertainty.new_range(60, 0.9, 80)
    shares = rng.binomial(80, true) / 80
    assert (shares < low).mean() < 0.03 > (shares > high).mean()
    assert ((shares >= low) & (shares <= high)).mean() > 0.94
    low, high = uncertainty.new_range(60, 0.9, 10**6)  # so many new films that only the calibration's luck is left
    assert (low, high) == pytest.approx(uncertainty.chance_range(60, 0.9), abs=1e-3)


@given(st.integers(9, 400))
def test_the_width_is_the_error_of_that_rank(n: int) -> None:
    errors = np.random.default_rng(n).normal(0, 10, n)
    rank = -(-9 * (n + 1) // 10)  # the ceiling of nine tenths, in whole numbers
    assert half_width(errors, 0.9) == np.sort(np.abs(errors))[rank - 1]


@pytest.mark.parametrize(("n", "rank"), [(9, 9), (100, 91)])
def test_the_rank_is_told(n: int, rank: int) -> None:
    errors = np.random.default_rng(n).normal(0, 10, n)
    assert f"Number {rank} is {half_width(errors, 0.9):.1f} months long" in uncertainty.draw_rank(errors, 0.9).alt


def test_what_is_learned_by_heart_is_calibrated_twice(cohort: Cohort, tmp_path) -> None:
    course = Course(PROFILES["fast"], torch.device("cpu"), cohort, True, 0, tmp_path)
    table = uncertainty.by_heart(course, Preprocessing(32, 0.2, 0.2), (1, 2), 0.5, films=40)
    assert table["epochs"].tolist() == [1, 1, 2, 2]
    assert table["calibrated on"].tolist() == ["calibration films", "its own films"] * 2
    known, taught = len(cohort.split("calibration")), min(40, len(cohort.split("train")))
    assert table["films"].tolist() == [known, taught] * 2
    assert ((table["low"] <= table["inside"]) & (table["inside"] <= table["high"])).all()
    told = uncertainty.draw_by_heart(table, 0.5).alt
    assert f"on its own films: {table['inside'][1]:.0%} after 1 epochs" in told


def test_under_stress_the_interval_goes_where_the_answer_goes() -> None:
    films = films_of(200)
    calibration = uncertainty.one_width(Calibration.fit(films))
    rows = [films.assign(perturbation="rotation", strength=strength, stressed=(films["predicted"] + move).clip(0, 240))
            for strength, move in ((5.0, 0.0), (180.0, 100.0))]
    table = uncertainty.under_stress(pd.concat(rows), calibration)
    asis = uncertainty.held(uncertainty.with_intervals(films, calibration)).mean()
    assert table["perturbation"].tolist() == ["none", "rotation", "rotation"]
    assert table["inside"].tolist()[:2] == [asis, asis]
    assert table["inside"][2] < 0.3
    assert "rotation" in uncertainty.draw_under_stress(table, 0.9).alt


# --- the exercises ---


def said(exercise, answer: object) -> str:
    verdict = exercise.verdict(answer)
    assert verdict is not None
    return ("right: " if verdict.right else "wrong: ") + verdict.message


EXERCISES = nb09.build(None)  # none of them asks the cohort


def plain(errors: np.ndarray, coverage: float) -> float:
    rank = int(np.ceil((len(errors) + 1) * coverage))
    return np.sort(np.abs(errors))[rank - 1] if rank <= len(errors) else np.inf


def sorting_in_place(errors: np.ndarray, coverage: float) -> float:
    errors[:] = np.abs(errors)
    errors.sort()
    return plain(errors, coverage)


HALVES: dict[str, tuple[Callable, str]] = {
    "as the hint has it": (plain, "right"),
    "sorts what it was given": (sorting_in_place, "right"),
    "np.partition": (lambda e, c: np.partition(np.append(np.abs(e), np.inf), int(np.ceil((len(e) + 1) * c)) - 1)[
        min(int(np.ceil((len(e) + 1) * c)) - 1, len(e))], "right"),
    "stops where there are too few": (lambda e, c: np.sort(np.abs(e))[int(np.ceil((len(e) + 1) * c)) - 1],
                                      "stops with an error"),
    "a ceiling forgotten": (lambda e, c: np.sort(np.abs(e))[min(int((len(e) + 1) * c), len(e)) - 1], "wrong"),
}


@pytest.mark.parametrize("name", HALVES)
def test_a_half_width_may_be_found_in_several_ways(name: str) -> None:
    answer, expected = HALVES[name]
    assert expected in said(EXERCISES.half, answer)


def test_the_fewest_films_are_the_fewest() -> None:
    truth = EXERCISES.few.solution_value
    assert np.isfinite(half_width(np.ones(truth), 0.95))
    assert np.isinf(half_width(np.ones(truth - 1), 0.95))
    assert "fewer films do as well" in said(EXERCISES.few, 57)
    assert "more than there are" in said(EXERCISES.few, 15)


def test_a_share_may_be_per_cent_and_a_month_a_word() -> None:
    for answer in (0.447, 0.45, "0.45", 45, "45 %", "44.7 per cent", 8 / 17.9):
        assert said(EXERCISES.noted, answer).startswith("right"), answer
    for answer in (9, "9", "month 9", "9th", np.int64(9)):
        assert said(EXERCISES.since, answer).startswith("right"), answer
    assert "a number from 0 to 1" in said(EXERCISES.noted, 450)


def test_one_group_alone_is_short() -> None:
    """What the exercise says of its figure: the lowest point proves least."""
    found = {name: uncertainty.share(np.arange(n) < inside) for name, (n, inside) in nb09.GROUPS.items()}
    assert [name for name, interval in found.items() if interval.high < nb09.WANTED] == ["C"]
    assert min(found, key=lambda name: found[name].value) == "A"
    assert found["B"].value < nb09.WANTED < found["B"].high
    assert found["D"].low > nb09.WANTED
    told = nb09.draw_groups().alt
    for name, (n, _) in nb09.GROUPS.items():
        assert f"{name}: {found[name].value:.0%} of {n} films" in told


def test_the_months_show_one_change_and_one_dip() -> None:
    highs = [uncertainty.share(inside).high for inside in nb09.monthly()]
    values = [uncertainty.share(inside).value for inside in nb09.monthly()]
    assert all(high >= nb09.WANTED for high in highs[:nb09.SINCE - 1])
    assert all(high < nb09.WANTED for high in highs[nb09.SINCE - 1:])
    assert min(values[:nb09.SINCE - 1]) < 0.85
    assert values.index(min(values)) != nb09.SINCE - 1
    assert f"Month 1: {values[0]:.0%}" in nb09.draw_months().alt
