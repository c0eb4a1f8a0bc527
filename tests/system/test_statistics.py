"""Statistics against hand-worked cases, a published table and simulated truth."""

import numpy as np
import pytest
from scipy import stats

from bonexage_utils.statistics import (
    SMALLEST_GROUP,
    Interval,
    agreement,
    bootstrap_mean,
    paired_difference,
    paired_over_seeds,
    slope,
    verdict,
)


def test_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = bootstrap_mean(rng.exponential(10.0, 100), seed=trial)
        hits += interval.low <= 10.0 <= interval.high
    # the percentile interval of a skewed mean at n = 100 covers a little under 95 %; 200 trials: ± 4 standard errors
    assert 0.87 <= hits / 200 <= 0.99


def test_bootstrap_width_is_that_of_the_standard_error() -> None:
    values = np.random.default_rng(1).normal(10, 5, 400)
    interval = bootstrap_mean(values)
    assert (interval.high - interval.low) / (2 * 1.96 * values.std() / 20) == pytest.approx(1.0, abs=0.1)
    assert interval.low < interval.value < interval.high


def test_too_few_values_have_no_interval() -> None:
    assert np.isnan(bootstrap_mean(np.array([3.0])).low)
    assert np.isnan(bootstrap_mean(np.array([])).value)


def test_a_paired_difference_is_found_where_an_unpaired_one_drowns() -> None:
    rng = np.random.default_rng(2)
    film = rng.normal(0, 15, 400)  # what makes a film hard is shared by both models
    a, b = np.abs(film) + 1.0, np.abs(film) + 2.0 + rng.normal(0, 0.5, 400)
    difference = paired_difference(a, b)
    assert difference.value == pytest.approx(-1.0, abs=0.1)
    assert difference.high < 0
    assert bootstrap_mean(a).high > bootstrap_mean(b).low  # the two intervals overlap
    with pytest.raises(ValueError, match="same films"):
        paired_difference(a, b[:-1])


def test_no_difference_is_not_found() -> None:
    errors = np.random.default_rng(3).normal(0, 10, 300)
    other = np.random.default_rng(4).permutation(errors)
    difference = paired_difference(errors, other)
    assert difference.low < 0 < difference.high


@pytest.mark.parametrize(("n", "least", "most"), [(283, 0.68, 0.92), (30, 0.05, 0.30)])
def test_half_a_month_is_found_where_it_can_be(n: int, least: float, most: float) -> None:
    """Two models half a month apart, film by film with a standard deviation of 3 months. The power of a 95 % interval
    is Φ(0.5·√n/3 − 1.96): 0.80 at n = 283, 0.15 at n = 30. 120 trials: ± four standard errors."""
    assert least < stats.norm.cdf(0.5 * np.sqrt(n) / 3 - 1.96) < most
    rng = np.random.default_rng(0)
    found = 0
    for trial in range(120):
        film = 30 + rng.normal(0, 5, n)
        a, b = film + rng.normal(0, 3 / np.sqrt(2), n), film + 0.5 + rng.normal(0, 3 / np.sqrt(2), n)
        found += paired_difference(a, b, seed=trial).high < 0
    assert least < found / 120 < most


def test_the_interval_over_seeds_holds_a_known_spread() -> None:
    """Seeds one month apart (SD) and films two: the mean of 10 seeds and 100 films has SD √(1/10 + 4/100) = 0.37."""
    rng = np.random.default_rng(0)
    widths, held = [], 0
    for k in range(60):
        apart = -0.5 + rng.normal(0, 1, (10, 1)) + rng.normal(0, 2, (1, 100))
        found = paired_over_seeds(apart, np.zeros_like(apart), seed=k)
        widths.append(found.high - found.low)
        held += found.low <= -0.5 <= found.high
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.374, rel=0.1)
    assert 50 <= held <= 60


@pytest.mark.parametrize(("low", "high", "words"), [
    (-2.0, -0.1, "GeM is better"), (-1.0, 0.2, "no difference that these films can show"), (0.1, 1.0, "max is better"),
])
def test_a_verdict_says_no_more_than_its_interval(low: float, high: float, words: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), "GeM", "max") == words


# Bland & Altman 1986, Lancet 327:307, table 1: peak flow of 17 people by two meters, l/min
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def test_agreement_is_that_of_the_paper() -> None:
    found = agreement(np.array(WRIGHT), np.array(MINI))
    assert [round(x, 1) for x in (found.bias.value, found.bias.low, found.bias.high)] == [-2.1, -22.0, 17.8]
    spread = (found.upper.value - found.lower.value) / 2 / 1.96
    assert spread == pytest.approx(38.8, abs=0.05)
    # by hand: standard error of a limit 38.77·√(1/17 + 1.96²/32) = 16.40, t(16) = 2.120
    assert found.upper.value == pytest.approx(-2.12 + 1.96 * 38.77, abs=0.05)
    assert found.upper.high - found.upper.value == pytest.approx(2.120 * 16.40, abs=0.05)
    assert found.lower.value - found.lower.low == pytest.approx(2.120 * 16.40, abs=0.05)
    assert found.outside == pytest.approx(1 / 17)  # the difference of −81


def test_intervals_of_the_limits_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    found = [agreement(rng.normal(1, 10, 80), np.zeros(80)) for _ in range(600)]
    upper = np.mean([each.upper.low < 1 + 19.6 < each.upper.high for each in found])
    assert upper == pytest.approx(0.95, abs=0.036)  # four standard errors
    assert np.mean([each.outside for each in found]) == pytest.approx(0.05, abs=0.01)


def test_a_slope_is_least_squares_and_knows_its_doubt() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, 300)
    y = 3 - 0.5 * x + rng.normal(0, 1, 300)
    found, reference = slope(x, y), stats.linregress(x, y)
    assert found.value == pytest.approx(reference.slope)
    assert (found.high - found.low) / (2 * 1.96 * reference.stderr) == pytest.approx(1.0, abs=0.1)
    assert np.isnan(slope(x[: SMALLEST_GROUP - 1], y[: SMALLEST_GROUP - 1]).value)
    assert np.isnan(slope(np.ones(300), y).value)
