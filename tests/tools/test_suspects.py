"""Suspected label errors: planted ones rank first, and what is usual where a film lies is no suspicion."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.errors import BoneXageError
from tools.benchmarks.suspects import FEWEST, rank_suspects


def judged(n: int = 400, noise: float = 6.0, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    months = rng.uniform(12, 216, n)
    return pd.DataFrame({"id": [str(i) for i in range(n)], "sex": np.where(rng.random(n) < 0.5, "F", "M"),
                         "months": months, "predicted": months + rng.normal(0, noise, n)})


def test_z_by_hand() -> None:
    errors = np.repeat([-2.0, 0.0, 2.0], 20)
    films = pd.DataFrame({"id": range(61), "sex": "F", "months": 100.0, "predicted": 100 + np.r_[errors, 29.652]})
    ranked = rank_suspects(films)
    # median 0; of the 61 distances from it 20 are 0 and 40 are 2, so their median is 2 and the robust SD 2.9652
    assert ranked.loc[0, ["id", "error", "z"]].tolist() == [60, pytest.approx(29.652), pytest.approx(10.0)]
    assert ranked["z"].abs()[1:].tolist() == pytest.approx([2 / 2.9652] * 40 + [0.0] * 20)
    assert ranked["suspect"].tolist() == [True] + [False] * 60


def test_planted_errors_rank_first_and_the_median_of_the_sex_misses_them() -> None:
    films = judged()
    films.loc[::20, "months"] = np.where(films["months"] < 114, films["months"] + 60, films["months"] - 60)[::20]
    planted = set(films["id"][::20])
    ranked = rank_suspects(films)
    assert set(ranked["id"].head(20)) == planted
    assert planted <= set(ranked.loc[ranked["suspect"], "id"])
    assert ranked["suspect"].sum() <= 24
    away = (films["months"] - films.groupby("sex")["months"].transform("median")).abs()
    assert len(planted & set(films["id"][away.nlargest(20).index])) <= 5


def test_large_errors_are_no_suspicion_where_they_are_usual() -> None:
    films, rng = judged(600), np.random.default_rng(1)
    films["months"] = films["predicted"] - rng.normal(0, films["predicted"].clip(12) / 10)  # SD from 1 to 22 months
    young = films.index[films["predicted"].between(38, 42)][0]
    films.loc[young, "months"] = films.loc[young, "predicted"] - 30
    ranked = rank_suspects(films)
    assert ranked["id"][0] == films.loc[young, "id"]
    assert (ranked["error"].abs() > 30).sum() > 10


def test_what_is_usual_differs_by_sex() -> None:
    films = judged(600, noise=3.0)
    films.loc[films["sex"] == "F", "predicted"] += 24  # the network reads all girls too old
    assert not rank_suspects(films)["suspect"].head(6).all()
    assert rank_suspects(films)["suspect"].mean() < 0.02


@given(st.permutations(range(2 * FEWEST)))
def test_the_order_of_the_films_does_not_matter(order: list[int]) -> None:
    films = judged(2 * FEWEST, seed=3).assign(sex=["F", "M"] * FEWEST)
    one, other = (rank_suspects(table) for table in (films, films.iloc[order]))
    assert (one["z"].abs().diff()[1:] <= 0).all()
    pd.testing.assert_frame_equal(*(table.sort_values("id", ignore_index=True) for table in (one, other)))


def test_labels_the_network_was_trained_on_are_not_judged() -> None:
    films = judged().assign(split="calibration")
    assert len(rank_suspects(films)) == 400
    films.loc[7, "split"] = "train"
    with pytest.raises(BoneXageError, match=r"\b1 of these films.* training split"):
        rank_suspects(films)


def test_few_films_are_not_judged() -> None:
    films = judged().assign(sex="F")
    films.loc[: FEWEST - 2, "sex"] = "M"
    with pytest.raises(BoneXageError, match="39 films of sex M"):
        rank_suspects(films)
