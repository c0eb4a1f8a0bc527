"""What notebook 05 looks at: two tables that say who is first, errors that depend on the sex, a claim's two rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.course import records
from bonexage_utils.course.frozen import Maps, joined
from bonexage_utils.course.nb05 import fusion, same_hand
from bonexage_utils.phantom import anatomy
from bonexage_utils.statistics import SMALLEST_GROUP

FILMS = pd.DataFrame({"sex": list("FM") * 60, "months": np.repeat(np.linspace(14, 210, 60), 2).round()})

# --- the tables ---


def test_centres_come_from_the_tables() -> None:
    """Garn's medians on the calendar, here as bone ages of average children; fusions are as the tables have them."""
    ages = same_hand.centre_ages()
    assert len(ages) == 30
    assert ages.loc["radius", "fused"].tolist() == [204, 228]
    assert ages["fused"].notna().all(axis=1).sum() == 21
    assert ages.loc["sesamoid", ("appears", "M")] == pytest.approx(153, abs=4)
    assert (ages["appears", "M"] > ages["appears", "F"]).all()


def test_a_hand_matures_and_hers_is_never_behind() -> None:
    curves = same_hand.curves()
    for sex, last in (("F", 204), ("M", 228)):
        assert (np.diff(curves[sex]) >= -1e-9).all()
        assert curves[sex][last - 1] == pytest.approx(1.0)
        assert curves[sex][0] < 0.05
    assert (curves["F"] >= curves["M"]).all()


@given(st.floats(24, 190), st.sampled_from("FM"))
def test_there_and_back_is_the_same_age(months: float, sex: str) -> None:
    """Within half a month of where the curve climbs: it is tabled by the month."""
    other = float(same_hand.as_other_sex(sex, months))
    assert (other > months) == (sex == "F")
    assert float(same_hand.as_other_sex(same_hand.OTHER[sex], other)) == pytest.approx(months, abs=1)


def test_the_last_plate_is_the_end() -> None:
    assert same_hand.as_other_sex("F", 204.0) == same_hand.as_other_sex("F", 216.0) == anatomy.GP_STANDARDS["M"][-1]


def test_what_is_not_told_costs_half_the_distance() -> None:
    assert same_hand.error_without_sex("F", 120.0) == (same_hand.as_other_sex("F", 120.0) - 120) / 2 > 0
    assert same_hand.error_without_sex("M", 120.0) < 0
    off, band = same_hand.worst()
    bands = same_hand.error_without_sex_by_band()
    assert bands.index.tolist() == same_hand.YEARS
    assert bands.max() == bands[band] < off < 14
    # what notebook 05 says: from five years on nearly level, and about one SD at any age
    assert bands.iloc[1:].max() - bands.iloc[1:].min() < 1.5
    for sex in "FM":
        assert same_hand.in_spreads(sex, same_hand.ages_of(sex)[11:]).min() > 0.6


def test_figures_of_the_tables_tell_their_numbers() -> None:
    assert "the 21 that fuse do so" in same_hand.draw_centre_ages().alt
    assert f"5 to 10 years {same_hand.error_without_sex_by_band().iloc[1]:.0f}" in same_hand.draw_same_hand().alt
    assert f"girls {same_hand.in_spreads('F', 12.0):.1f} at 12" in same_hand.draw_in_spreads().alt


# --- what heads say ---


def test_maps_are_joined_in_order() -> None:
    one, two = (Maps(torch.full((n, 3, 2, 2), n), torch.ones(n).long(), torch.full((n,), n)) for n in (2, 5))
    both = joined(one, two)
    assert both.months.tolist() == [2, 2, 5, 5, 5, 5, 5]
    assert both.maps.shape == (7, 3, 2, 2)
    assert len(both.sex) == 7


def test_small_groups_do_not_speak() -> None:
    girls = pd.DataFrame({"sex": "F", "months": np.full(SMALLEST_GROUP, 100.0)})
    few = pd.concat([girls, FILMS[FILMS["sex"] == "M"].head(SMALLEST_GROUP)]).assign(error=4.0)
    told = fusion.draw_residuals(few).alt
    assert "girls 5 to 10 years +4.0" in told
    assert "boys 5 to 10" not in told
    assert "no group" in fusion.draw_residuals(few.head(3)).alt


def test_the_gain_by_band_is_that_of_its_films() -> None:
    months = np.r_[np.full(40, 30.0), np.full(9, 100.0), np.full(30, 150.0)]
    not_told = np.random.default_rng(0).normal(0, 1, (3, len(months))) + 20
    told = not_told - np.where(months == 30, 2.0, 5.0)
    table = fusion.gain_by_band(told, not_told, months)
    assert table["n"].tolist() == [40, 9, 30, 0]
    assert table["gain"].round(6).tolist()[::2] == [2.0, 5.0]
    assert table.loc["5 to 10", ["gain", "low", "high"]].isna().all()
    assert table.loc["15 to 20", ["gain", "low", "high"]].isna().all()
    films = pd.DataFrame({"sex": "F", "months": months})
    told_alt = fusion.draw_gains(table, fusion.within_reach(np.zeros_like(told), films)).alt
    assert "0 to 5 years 2.0 [2.0, 2.0], n 40" in told_alt
    assert "5 to 10 years" not in told_alt.split("A red dash")[0]
    assert f"errs as these heads: 0 to 5 {same_hand.error_without_sex('F', 30.0):.1f}, 10 to 15" in told_alt


def test_who_errs_anyway_has_less_to_gain() -> None:
    """Without slips it is the whole distance; with symmetric ones less; with slips far off it cancels."""
    films = pd.DataFrame({"sex": list("FM") * 50, "months": 150.0})
    whole = np.mean([abs(same_hand.error_without_sex(sex, 150.0)) for sex in "FM"])
    reach = {size: fusion.within_reach(np.full((2, 100), size) * np.repeat([[1.0], [-1.0]], 100, axis=1), films)
             for size in (0.0, 8.0, 100.0)}
    assert reach[0.0]["10 to 15"] == pytest.approx(whole)
    assert 0 < reach[8.0]["10 to 15"] < whole
    assert reach[100.0]["10 to 15"] == pytest.approx(0, abs=1e-9)


def test_switched_by_band_beside_the_tables() -> None:
    said = fusion.tables_reader(FILMS)
    table = fusion.switch_by_band(pd.concat([said, said.assign(girl=said["boy"])]))
    assert table["n"].sum() == 240
    spoken = table.dropna()
    assert (spoken["heads"] < spoken["tables"]).all()
    right = fusion.switch_by_band(said).dropna()
    assert len(right) >= 2
    assert (right["heads"] - right["tables"]).abs().max() < 1.5
    assert fusion.switch_by_band(said.head(4)).drop(columns="n").isna().all(axis=None)


def test_a_switch_is_told_with_its_share() -> None:
    said = fusion.tables_reader(FILMS)
    assert (said["boy"] >= said["girl"]).all()
    told = fusion.draw_switch(said).alt
    assert "for 120 films" in told
    assert "120 of them are older as boys" in told


def test_whoever_knows_the_sex_and_the_tables_is_right() -> None:
    """Guessing one sex leaves the other the whole distance, the mean half of it to each."""
    errors = fusion.policy_errors(fusion.tables_reader(FILMS))
    assert errors.loc["told the sex"].tolist() == [0, 0, 0]
    assert errors.loc["always girl", "girls"] == errors.loc["always boy", "boys"] == 0
    assert errors.loc["mean of both", "boys"] == pytest.approx(errors.loc["always girl", "boys"] / 2)
    assert errors.loc["mean of both", "girls"] == pytest.approx(errors.loc["always boy", "girls"] / 2)
    assert "always girl 0.0" in fusion.draw_policies({"tables": errors}).alt


@given(st.integers(0, 10_000))
def test_the_mean_of_both_is_no_worse_than_a_coin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = FILMS.assign(girl=FILMS["months"] + rng.normal(0, 20, 120), boy=FILMS["months"] + rng.normal(5, 20, 120))
    errors = fusion.policy_errors(said)["all"]
    assert errors["mean of both"] <= (errors["always girl"] + errors["always boy"]) / 2 + 1e-9


# --- a claim's two rows ---

ROW = {"claim": "sex improves accuracy", "films": "rsna100", "a": "with sex", "b": "without sex", "mae_a": 20.5,
       "mae_b": 22.0, "difference": -1.5, "low": -2.0, "high": -1.0, "verdict": "with sex is better",
       "trained_on": 1800, "measured_on": 190, "seeds": 5, "backbone": "resnet10t, frozen, phantom weights",
       "size_px": 160, "epochs": 20, "minutes": 3.2, "hardware": "two cores", "commit": "abc1234", "torch": "2.13",
       "date": "2026-01-01"}  # fmt: skip


def test_a_claim_that_is_not_recorded_says_so(tmp_path: Path) -> None:
    errors = {"with sex": np.full((2, 12), 8.0), "without sex": np.full((2, 12), 9.5)}
    table = records.two_rows(ROW["claim"], errors, 100, folder=tmp_path)
    assert table.loc["phantom, live", ["a minus b", "95 % interval", "verdict"]].tolist() == [
        "-1.50", "[-1.50, -1.50]", "with sex is better"]
    assert table.loc["rsna100, recorded", "verdict"] == "not yet measured"
    assert records.how_recorded(ROW["claim"], folder=tmp_path) == "rsna100: not yet measured."


def test_a_recorded_claim_is_read_from_its_table(tmp_path: Path) -> None:
    runs = tmp_path / "data" / "reference_runs"
    runs.mkdir(parents=True)
    other = {**ROW, "films": "phantom", "mae_a": 7.0}
    pd.DataFrame([other, ROW]).to_csv(runs / "claims.csv", index=False)
    errors = {"with sex": np.full((2, 12), 8.0), "without sex": np.full((2, 12), 8.0)}
    table = records.two_rows(ROW["claim"], errors, 100, folder=tmp_path)
    assert table.loc["phantom, live", "verdict"].startswith("no difference")
    assert table.loc["rsna100, recorded"].tolist() == [
        1800, 190, 5, "with sex", "20.50", "without sex", "22.00", "-1.50", "[-2.00, -1.00]", "with sex is better"]
    told = records.how_recorded(ROW["claim"], folder=tmp_path)
    assert "films at 160 px, 20 epochs, 3 minutes on two cores, commit abc1234, 2026-01-01" in told
    assert records.recorded_claim("another claim", folder=tmp_path) is None
