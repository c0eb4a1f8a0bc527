"""Conformal intervals: the promise they make, whom they are made from, and whom they are given to."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bonexage_utils.calibration import (
    ENOUGH,
    Calibration,
    Coverage,
    coverage_by_sex_and_age,
    cross_validated,
    fit_calibration,
    half_width,
    measured,
)
from bonexage_utils.cohort import UNKNOWN_SPLIT
from bonexage_utils.errors import BoneXageError

SAID_BY = {"network_sha256": "n", "tta": False, "model": {"max_age": 240.0},
           "training": {"label_hashes": {"labels.csv": "a"}}}


def films(n: int, seed: int = 0, spread: float | None = None) -> pd.DataFrame:
    """Films whose error grows with the predicted age, 2 months at 0 and 20 at 240, or is `spread` everywhere."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(0, 240, n)
    sigma = 2 + 18 * predicted / 240 if spread is None else spread
    return pd.DataFrame({"id": [f"{seed}-{i}" for i in range(n)], "sex": rng.choice(["F", "M"], n),
                         "predicted": predicted, "months": predicted + rng.normal(0, sigma, n),
                         "split": "calibration"}).assign(given_sex=lambda table: table["sex"])


@pytest.mark.parametrize(("errors", "coverage", "expected"), [
    (range(1, 10), 0.9, 9), (range(1, 9), 0.9, math.inf), (range(-19, 0), 0.9, 18), (range(1, 20), 0.95, 19),
    (range(1, 100), 0.5, 50), ([], 0.5, math.inf), (range(1, 10), 1e-12, 1), ([], 1e-12, math.inf),
])
def test_half_widths_by_hand(errors: list[int], coverage: float, expected: float) -> None:
    assert half_width(np.array(errors, float), coverage) == expected


def test_coverage_is_spread_as_theory_says() -> None:
    """Over calibrations of n films, coverage of new films is Beta(k, n + 1 − k): Vovk 2012, "Conditional validity of
    inductive conformal predictors", ACML. With normal errors the coverage of each is known, 2Φ(width) − 1."""
    n, wanted, splits = 50, 0.9, 200
    rank = math.ceil((n + 1) * wanted)
    theory = stats.beta(rank, n + 1 - rank)
    errors = np.random.default_rng(5).normal(size=(splits, n))
    coverage = 2 * stats.norm.cdf([half_width(row, wanted) for row in errors]) - 1
    band = 4 * theory.std() / np.sqrt(splits)
    assert abs(coverage.mean() - theory.mean()) < band
    assert stats.kstest(coverage, theory.cdf).pvalue > 0.01
    assert ((theory.ppf(0.025) < coverage) & (coverage < theory.ppf(0.975))).mean() == pytest.approx(0.95, abs=0.06)
    # Without the "+ 1" it would cover too little, and this test would see it.
    plain = 2 * stats.norm.cdf(np.sort(np.abs(errors))[:, math.ceil(n * wanted) - 1]) - 1
    assert abs(plain.mean() - theory.mean()) > band


def test_what_enough_films_buy() -> None:
    """The number in the comment at `ENOUGH`."""
    rank = math.ceil((ENOUGH + 1) * 0.9)
    assert stats.beta.cdf(0.8, rank, ENOUGH + 1 - rank) < 0.05


def test_groups_get_the_width_they_need() -> None:
    calibration, new = Calibration.fit(films(3000)), films(20_000, seed=1)
    for sex in "FM":
        assert calibration.groups[sex] == sorted(calibration.groups[sex])
    alone = replace(calibration, groups={sex: [None] * 4 for sex in "FM"})
    for fitted, worst in ((calibration, 0.05), (alone, 0.15)):
        ends = fitted.intervals(new["sex"], new["predicted"])
        inside = new["months"].clip(0, 240).between(ends["low_months"], ends["high_months"])
        off = [abs(inside[new["predicted"].between(low, low + 60)].mean() - 0.9) for low in range(0, 240, 60)]
        assert inside.mean() == pytest.approx(0.9, abs=0.02)
        assert max(off) < worst
    assert max(off) > 0.07, "one width for all covers the young too often and the old too seldom"


def test_a_small_group_takes_the_width_of_all() -> None:
    few = films(400).query("not (sex == 'M' and predicted < 60)")
    lone = pd.concat([few, films(200, seed=2).query("sex == 'M' and predicted < 60").head(ENOUGH - 1)])
    calibration = Calibration.fit(lone)
    assert calibration.groups["M"][0] is None
    assert calibration.groups["F"][0] is not None
    ends = calibration.intervals(pd.Series(["M", "F"]), pd.Series([50.0, 50.0]))
    half = (ends["high_months"] - ends["low_months"]) / 2
    assert half[0] == pytest.approx(calibration.half_width, abs=0.01)
    assert half[1] == pytest.approx(calibration.groups["F"][0], abs=0.01)


def test_no_sex_or_no_prediction_no_interval() -> None:
    ends = Calibration.fit(films(100)).intervals(pd.Series(["F", "", None, "M"]), pd.Series([100.0, 100, 100, np.nan]))
    assert ends["low_months"].notna().tolist() == ends["high_months"].notna().tolist() == [True, False, False, False]


@given(st.lists(st.floats(0, 240), min_size=1, max_size=30), st.sampled_from("FM"))
@settings(max_examples=30)
def test_an_interval_holds_its_prediction_and_stays_in_range(months: list[float], sex: str) -> None:
    predicted = pd.Series(months).round(2)
    ends = Calibration.fit(films(60), max_age=228).intervals(pd.Series([sex] * len(months)), predicted)
    assert (ends["low_months"] >= 0).all()
    assert (ends["high_months"] <= 228).all()
    assert (ends["low_months"] <= predicted).all()
    assert (ends["high_months"] >= predicted.clip(upper=228)).all()


def test_a_calibration_survives_its_file() -> None:
    calibration = Calibration.fit(films(100))
    written = json.loads(json.dumps({"calibration": asdict(calibration)}))
    assert Calibration.from_description(written) == calibration
    assert Calibration.from_description({"calibration": None}) is None
    with pytest.raises(BoneXageError, match="another version"):
        Calibration.from_description({"calibration": {"low": 1}})


@pytest.mark.parametrize(("change", "said_by", "coverage", "words"), [
    ({"split": "train"}, SAID_BY, 0.9, "40 of these"), ({"split": "selection"}, SAID_BY, 0.9, "40 of these"),
    ({"given_sex": "F"}, SAID_BY, 0.9, "another sex"), ({"given_sex": None}, SAID_BY, 0.9, "another sex"),
    ({"split": UNKNOWN_SPLIT}, SAID_BY, 0.9, "cohort's folder"),
    ({}, {}, 0.9, "predictions.json"), ({}, SAID_BY, 0.99, "takes 99"), ({}, SAID_BY, 1.0, "--coverage"),
    *(({}, SAID_BY, coverage, "--coverage") for coverage in (0.0, -1.0, 2.0, float("nan"), float("inf"))),
    ({}, {**SAID_BY, "training": {"label_hashes": {"labels.csv": "a", "validation.csv": "b"}}}, 0.9, "as it was"),
])
def test_films_that_would_flatter_are_refused(change: dict, said_by: dict, coverage: float, words: str) -> None:
    assert fit_calibration(films(40), SAID_BY, {"labels.csv": "a"}).films == 40
    assert fit_calibration(films(40), SAID_BY, {"labels.csv": "of another hospital"}).films == 40
    with pytest.raises(BoneXageError, match=words) as caught:
        fit_calibration(films(40).assign(**change), said_by, {"labels.csv": "a"}, coverage)
    assert "\n" not in str(caught.value)


def test_films_of_unknown_split_neither_calibrate_nor_measure() -> None:
    with pytest.raises(BoneXageError, match="cohort's folder") as caught:
        fit_calibration(films(40).assign(split=["calibration"] * 39 + [UNKNOWN_SPLIT]), SAID_BY, {"labels.csv": "a"})
    assert "\n" not in str(caught.value)
    calibration = Calibration.fit(films(300))
    new = films(400, seed=1)
    new = new.assign(**calibration.intervals(new["sex"], new["predicted"]), split=UNKNOWN_SPLIT)
    assert measured(new, calibration) is None
    mixed = new.assign(split=[UNKNOWN_SPLIT] * 150 + ["test"] * 250)
    assert measured(mixed, calibration).table.iloc[-1]["n"] == 250


def test_coverage_by_hand() -> None:
    table = pd.DataFrame({"sex": ["F"] * 20 + ["M"] * 19, "months": 30.0, "low_months": 20.0, "high_months": 50.0})
    table.loc[:1, "low_months"] = 40.0
    found = coverage_by_sex_and_age(table).set_index(["sex", "age"])
    girls = found.loc[("girls", "0–5 y")]
    # Wilson 1927 for 18 of 20, by hand: (p + z²/2n ± z√(p(1 − p)/n + z²/4n²)) / (1 + z²/n)
    assert girls[["n", "coverage", "low", "high"]].tolist() == pytest.approx([20, 0.9, 0.6990, 0.9721], abs=1e-4)
    assert girls["width"] == pytest.approx((18 * 30 + 2 * 10) / 20)
    assert found.loc[("boys", "0–5 y"), "n"] == 19
    assert np.isnan(found.loc[("boys", "0–5 y"), "coverage"])
    assert Coverage(0.98, coverage_by_sex_and_age(table), "").short == ["girls 0–5 y", "girls all"]
    assert Coverage(0.95, coverage_by_sex_and_age(table), "").short == []


def test_cross_validation_covers_what_is_wanted_in_any_order() -> None:
    table = films(1500)
    calibration = Calibration.fit(table, 0.8)
    held = cross_validated(table, calibration)
    whole = held.table.iloc[-1]
    assert whole["n"] == 1500
    assert whole["low"] < 0.8 < whole["high"]
    again = cross_validated(table.sample(frac=1, random_state=3), calibration)
    pd.testing.assert_frame_equal(again.table, held.table)
    assert cross_validated(films(9), Calibration.fit(films(9))) is None


def test_coverage_is_measured_on_films_that_taught_nothing() -> None:
    calibration = Calibration.fit(films(300))
    new = films(400, seed=1)
    new = new.assign(**calibration.intervals(new["sex"], new["predicted"]),
                     split=["test"] * 100 + ["calibration"] * 100 + ["train"] * 100 + ["selection"] * 100)
    assert measured(new, calibration).table.iloc[-1]["n"] == 100
    assert measured(new.assign(split="calibration"), calibration) is None
    assert measured(new.assign(split=UNKNOWN_SPLIT), calibration) is None
    assert measured(new.assign(low_months=np.nan), calibration) is None
    assert measured(new, None) is None
