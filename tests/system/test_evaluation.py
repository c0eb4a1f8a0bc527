"""Predictions against labels: hand-worked scores, groups, the baseline, and comparisons film by film."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import tables

from bonexage_utils.cohort import SPLITS, UNKNOWN_SPLIT, Cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import by_group, compare, evaluate, median_by_sex, read_predictions, read_truth, score
from bonexage_utils.statistics import SMALLEST_GROUP, Interval

months = st.lists(st.floats(0, 240), min_size=2, max_size=40)


def test_scores_by_hand() -> None:
    scores = score(np.array([10.0, 20.0, 30.0, 70.0]), np.array([12.0, 20.0, 38.0, 40.0]))
    # errors −2, 0, −8, 30
    assert scores.mae.value == pytest.approx(10.0)
    assert scores.bias.value == pytest.approx(5.0)
    assert scores.rmse == pytest.approx(np.sqrt((4 + 0 + 64 + 900) / 4))
    assert scores.median == pytest.approx(5.0)
    assert scores.within == {6: 0.5, 12: 0.75, 24: 0.75}
    # labels 12, 20, 38, 40 have mean 27.5 and squares about it of 240.25 + 56.25 + 110.25 + 156.25
    assert scores.r2 == pytest.approx(1 - 968 / 563)


@given(months)
@settings(max_examples=30, deadline=None)
def test_a_perfect_reader_makes_no_error(truth: list[float]) -> None:
    scores = score(np.array(truth), np.array(truth))
    assert scores.mae == Interval(0.0, 0.0, 0.0)
    assert scores.within == {6: 1.0, 12: 1.0, 24: 1.0}


@given(months, st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_a_constant_shift_is_all_bias(truth: list[float], shift: float) -> None:
    scores = score(np.array(truth) + shift, np.array(truth))
    assert scores.bias.value == pytest.approx(shift, abs=1e-6)
    assert scores.mae.value == pytest.approx(abs(shift), abs=1e-6)


def test_small_groups_do_not_speak() -> None:
    table = pd.DataFrame({"sex": ["F"] * SMALLEST_GROUP + ["M"] * (SMALLEST_GROUP - 1), "months": 30.0})
    table["predicted"] = table["months"] + np.where(table["sex"] == "F", 4.0, -8.0)
    groups = by_group(table).set_index(["sex", "age"])
    assert groups.loc[("girls", "0–5 y"), "mae"] == pytest.approx(4.0)
    assert np.isnan(groups.loc[("boys", "0–5 y"), "mae"])
    assert groups.loc[("boys", "0–5 y"), "n"] == SMALLEST_GROUP - 1
    assert groups.loc[("all", "all"), "n"] == 2 * SMALLEST_GROUP - 1


@given(st.lists(st.tuples(st.sampled_from("FM"), st.integers(0, 240)), min_size=1, max_size=80))
@settings(max_examples=20, deadline=None)
def test_groups_add_up(films: list[tuple[str, int]]) -> None:
    table = pd.DataFrame(films, columns=["sex", "months"]).assign(predicted=100.0)
    groups = by_group(table)
    inner = groups[(groups["sex"] != "all") & (groups["age"] != "all")]
    assert inner["n"].sum() == len(films)


def test_films_are_joined_by_id_whatever_their_order() -> None:
    predictions, truth = tables()
    first = evaluate(predictions, truth)
    second = evaluate(predictions.sample(frac=1, random_state=1), truth.sample(frac=1, random_state=2))
    assert second.scores.n == 100
    assert second.scores.mae.value == pytest.approx(first.scores.mae.value)


def test_the_baseline_is_the_training_median_on_the_same_films() -> None:
    predictions, truth = tables()
    result = evaluate(predictions, truth)
    medians = median_by_sex(truth[truth["split"] == "train"])
    part = truth[truth["split"] == "calibration"]
    expected = (part["sex"].map(medians) - part["months"]).abs().mean()
    assert result.baseline.mae.value == pytest.approx(expected)
    assert result.splits == {"calibration": 100}


def test_films_without_prediction_or_label_are_counted_not_lost() -> None:
    predictions, truth = tables()
    predictions.loc[:4, "bone_age_months"] = np.nan
    predictions.loc[5:6, "id"] = ["unknown-a", "unknown-b"]
    result = evaluate(predictions, truth)
    assert (result.failed, result.unlabelled, result.scores.n) == (5, 2, 93)
    with pytest.raises(BoneXageError, match="ids"):
        evaluate(predictions.assign(id="elsewhere"), truth)


def test_labels_of_a_table_without_training_films_give_no_baseline(tmp_path: Path) -> None:
    predictions, truth = tables()
    assert evaluate(predictions, truth[truth["split"] != "train"]).baseline is None


def test_a_label_table_alone_tells_no_splits(phantom_folder: Path, cohort: Cohort) -> None:
    """Its folder may hold an official test set, and then the films that the hash gives to the test have trained."""
    table = phantom_folder / "boneage-training-dataset.csv"
    truth = read_truth(table)
    assert set(cohort.table["split"]) == set(SPLITS)
    assert set(truth.table["split"]) == {UNKNOWN_SPLIT}
    assert truth.table.set_index("id")["months"].to_dict() == cohort.table.set_index("id")["months"].to_dict()
    assert truth.label_hashes == cohort.label_hashes
    predictions = cohort.table[["id", "months"]].rename(columns={"months": "bone_age_months"})
    result = evaluate(predictions, truth.table)
    assert result.splits == {UNKNOWN_SPLIT: len(cohort)}
    assert result.baseline is None, "a median of films that may be the test's is no training median"
    of_the_folder = evaluate(predictions, read_truth(phantom_folder).table)
    assert of_the_folder.splits == cohort.table["split"].value_counts().to_dict()


def test_the_median_by_sex_of_the_real_labels(radiographs: Path) -> None:
    """Known answer: about 31.9 months on RSNA's own validation films; our selection split is of the training films."""
    truth = read_truth(radiographs / "rsna100").table
    part = truth[truth["split"] == "calibration"].rename(columns={"months": "bone_age_months"})
    result = evaluate(part[["id", "bone_age_months"]], truth)
    assert result.scores.mae.value == 0.0
    assert 29 < result.baseline.mae.value < 35


@pytest.mark.parametrize(("text", "words"), [("", "predict"), ("id\n1\n", "bone_age_months"),
                                             ("id,bone_age_months\n1,5\n1,6\n", "twice")])
def test_tables_that_are_no_predictions_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text(text)
    with pytest.raises(BoneXageError, match=words) as caught:
        read_predictions(path)
    assert "\n" not in str(caught.value)


def test_regression_to_the_mean_and_calibration_are_told_apart() -> None:
    """A model that tells four fifths of every departure from the mean, and the best regression on a noisy sign."""
    months = np.random.default_rng(0).normal(120, 40, 4000)
    truth = pd.DataFrame({"id": [str(i) for i in range(4000)], "months": months, "sex": "F", "split": "test"})
    shrunk = evaluate(pd.DataFrame({"id": truth["id"], "bone_age_months": 120 + 0.8 * (months - 120)}), truth)
    assert shrunk.error_slope.value == pytest.approx(-0.2 * 12)
    assert shrunk.calibration_slope.value == pytest.approx(1.25)
    sign = months + np.random.default_rng(1).normal(0, 20, 4000)
    best = 120 + 0.8 * (sign - 120)  # 40² / (40² + 20²) = 0.8
    fair = evaluate(pd.DataFrame({"id": truth["id"], "bone_age_months": best}), truth)
    assert fair.calibration_slope.low < 1 < fair.calibration_slope.high
    assert fair.error_slope.high < 0, "against the label even the best regression falls"
    assert fair.error_slope.value == pytest.approx(12 * (fair.scores.r2 - 1), abs=0.1)


def test_two_models_are_compared_film_by_film() -> None:
    predictions, truth = tables()
    better = predictions.assign(bone_age_months=truth["months"].iloc[100:].to_numpy() + 2.0)
    better = better.sample(frac=1, random_state=0)
    first, second = evaluate(predictions, truth), evaluate(better.head(60), truth)
    found = compare(first, second)
    assert found.n == 60
    mine = first.films.set_index("id").loc[better["id"].head(60)]
    assert found.difference.value == pytest.approx((mine["predicted"] - mine["months"]).abs().mean() - 2.0)
    with pytest.raises(BoneXageError, match="in common"):
        compare(first, evaluate(truth.head(5).rename(columns={"months": "bone_age_months"}), truth))


def test_the_median_is_shown_beside_every_group_and_without_training_films() -> None:
    predictions, truth = tables()
    part = truth[truth["split"] != "train"]
    result = evaluate(predictions, part, medians={"F": 100.0, "M": 130.0})
    guess = part["sex"].map({"F": 100, "M": 130})
    assert result.baseline.mae.value == pytest.approx((guess - part["months"]).abs().mean())
    girls, groups = part[part["sex"] == "F"], result.groups.set_index(["sex", "age"])
    assert groups.loc[("girls", "all"), "median"] == pytest.approx((girls["months"] - 100).abs().mean())
    assert np.isnan(evaluate(predictions, part).groups["median"]).all()
