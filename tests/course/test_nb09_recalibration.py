"""What n local films are worth in notebook 09: hospitals whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from bonexage_utils.course.nb09 import exercises
from bonexage_utils.course.nb09.recalibration import (
    HARM,
    draw_recalibrated,
    recalibrate,
    said_of,
    tell_recalibrated,
)
from bonexage_utils.statistics import bootstrap_mean


def hospital(n: int, seed: int, bias: float = 0.0, slope: float = 1.0) -> pd.DataFrame:
    """Labels that follow from the predictions by a line, and 8 months of noise."""
    rng = np.random.default_rng(seed)
    predicted = rng.uniform(20, 200, n)
    return pd.DataFrame({"sex": rng.choice(["F", "M"], n), "predicted": predicted,
                         "months": bias + slope * predicted + rng.normal(0, 8, n)})


def shifted(local: pd.DataFrame, films: pd.DataFrame) -> pd.Series:
    return films["predicted"] + (local["months"] - local["predicted"]).mean()


def lined(local: pd.DataFrame, films: pd.DataFrame) -> pd.Series:
    mended = films["predicted"].copy()
    for sex, part in local.groupby("sex"):
        slope, intercept = np.polyfit(part["predicted"], part["months"], 1)
        mended = mended.where(films["sex"] != sex, intercept + slope * films["predicted"])
    return mended


WAYS = {"shift": shifted, "line by sex": lined}


def test_a_bias_is_mended_and_a_line_takes_more_films() -> None:
    table = recalibrate(hospital(400, 0, bias=10), hospital(300, 1, bias=10), WAYS, [20, 200], hospitals=60)
    assert table.index.tolist() == [("shift", 20), ("line by sex", 20), ("shift", 200), ("line by sex", 200)]
    assert [said_of(row) for _, row in table.iterrows()] == ["smaller"] * 4
    assert float(table.loc[("line by sex", 20), "minus shift"].split(" [")[1].split(",")[0]) > 0
    assert table.loc[("shift", 200), "MAE"] == pytest.approx(8 * np.sqrt(2 / np.pi), abs=0.6)  # noise alone is left
    np.testing.assert_allclose(table["MAE"] - table["as it is"], table["change"])


def test_where_nothing_is_wrong_a_line_harms() -> None:
    table = recalibrate(hospital(400, 2), hospital(300, 3), WAYS, [20], hospitals=60)
    assert said_of(table.loc[("line by sex", 20)]) == "larger"
    told = tell_recalibrated({"home": table})
    assert "- home, 20 films, line by sex: MAE changes by +" in told
    assert f"months: larger; for {table.loc[('line by sex', 20), 'harmed']:.0%} of hospitals it grew by more" in told


def test_a_hospital_is_harmed_by_more_than_half_a_month() -> None:
    """Every label is met; a shift by 0.4 months harms nobody, one by 0.6 months everybody."""
    films = hospital(60, 6).assign(months=lambda table: table["predicted"])
    ways = {f"{far}": lambda local, films, far=far: films["predicted"] + far for far in (0.4, 0.6)}
    table = recalibrate(films, films, ways, [20], hospitals=5)
    assert HARM == 0.5
    assert table["harmed"].tolist() == [0.0, 1.0]
    np.testing.assert_allclose(table["MAE"], [0.4, 0.6])


def test_a_slope_is_mended_by_a_line_alone() -> None:
    table = recalibrate(hospital(400, 4, 27, 0.75), hospital(300, 5, 27, 0.75), WAYS, [200], hospitals=20)
    assert said_of(table.loc[("line by sex", 200)]) == "smaller"
    assert table.loc[("line by sex", 200), "MAE"] < table.loc[("shift", 200), "MAE"] - 1
    told = draw_recalibrated({"B": table}).alt
    assert f"line by sex {table.loc[('line by sex', 200), 'MAE']:.1f} with 200 films" in told


def test_twenty_films_leave_it_open() -> None:
    """What the exercise says of its figure."""
    films = exercises.twenty_films()
    bias = bootstrap_mean(films["predicted"] - films["months"])
    assert len(films) == 20
    assert bias.low < -6
    assert bias.high > 0
    assert f"bias is {bias}" in exercises.draw_twenty().alt
