"""Predictions against labels: hand-worked scores, groups, the baseline, and comparisons film by film."""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import tables

from bonexage_utils.cohort import SPLITS, UNKNOWN_SPLIT, Cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import (
    by_group,
    compare,
    evaluate,
    median_by_sex,
    read_predictions,
    read_provenance,
    read_truth,
    score,
)
from bonexage_utils.files import file_hash
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
    with pytest.raises(BoneXageError, match=r"predicted: hand-105; the first labelled: 0\).*ids"):
        evaluate(predictions.assign(id="hand-" + truth["id"].iloc[100:].to_numpy()), truth)
    with pytest.raises(BoneXageError, match="none of the 100 films has a prediction"):
        evaluate(predictions.assign(bone_age_months=np.nan), truth)


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


HEADER = "id,image,sex,bone_age_months,bone_age,low_months,high_months,error"


@pytest.mark.parametrize("value", ["0", "64", "126.5", "126.50", "1.265e2", "5.", "-0.3", "-5", "244.1", " 64 "])
def test_a_number_of_months_is_read_as_it_is_written(tmp_path: Path, value: str) -> None:
    """A linear output may leave 0 to 240 by a little: an error to measure."""
    (tmp_path / "p.csv").write_text(f"{HEADER}\n1,1.png,M,{value},,,,\n2,2.png,F,,,,,unreadable\n")
    table = read_predictions(tmp_path / "p.csv")
    assert table["bone_age_months"][0] == float(value)
    assert np.isnan(table["bone_age_months"][1])
    assert table["error"].tolist() == ["", "unreadable"]


NO_NUMBERS = ["abc", "inf", "-inf", "Infinity", "nan", "NaN", "NA", "None", "1e400", "9999", "-999", "1,5", "64 months",
              "1 000", "1_0", "0x10", "１２", "٣", "−5", "--5", "1/2", "TRUE", "#VALUE!", "1.2.3", ".", "e5", "°"]


@pytest.mark.parametrize("column", ["bone_age_months", "low_months", "high_months"])
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_of_months_is_refused(tmp_path: Path, column: str, value: str) -> None:
    row = {"id": "2", "image": "2.png", "sex": "F", "bone_age_months": "70", "low_months": "60", "high_months": "80"}
    names = HEADER.split(",")
    cells = ['"' + (row | {column: value}).get(name, "") + '"' for name in names]
    (tmp_path / "p.csv").write_text(f"{HEADER}\n1,1.png,M,64,,,,\n{','.join(cells)}\n", encoding="utf-8")
    with pytest.raises(BoneXageError, match=f"p.csv: {column} '{re.escape(value)}' at line 3: .*; write") as caught:
        read_predictions(tmp_path / "p.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("low", "high"), [("80", "60"), ("", "80"), ("60", "")])
def test_what_is_no_interval_is_refused(tmp_path: Path, low: str, high: str) -> None:
    (tmp_path / "p.csv").write_text(f"{HEADER}\n1,1.png,M,70,,{low},{high},\n")
    with pytest.raises(BoneXageError, match=r"high_months .* at line 2: .*low_months; predict"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize(("cell", "sex"), [("M", "M"), ("f", "F"), ("", ""), ("Male", "M"), ("x", None), ("2", None),
                                           ("nan", None)])
def test_the_sex_of_a_prediction_is_one_or_none_or_refused(tmp_path: Path, cell: str, sex: str | None) -> None:
    (tmp_path / "p.csv").write_text(f"{HEADER}\n1,1.png,{cell},70,,,,\n")
    if sex is None:
        with pytest.raises(BoneXageError, match=f"sex '{cell}' at line 2"):
            read_predictions(tmp_path / "p.csv")
    else:
        assert read_predictions(tmp_path / "p.csv")["sex"].tolist() == [sex]


def test_words_that_mean_nothing_elsewhere_are_films(tmp_path: Path) -> None:
    """pandas takes them for missing values by itself: films vanish, and two of them "stand there twice"."""
    ids = ["NA", "null", "nan", "None", "N/A", "NaN", "#N/A", "NULL", "n/a", "<NA>", "-nan", "1e5", "007", "True"]
    labels = [film for film in ids if "/" not in film]
    (tmp_path / "p.csv").write_text(f"{HEADER}\n" + "".join(f"{film},a.png,M,{60 + i},,,,\n"
                                                            for i, film in enumerate(ids)))
    (tmp_path / "l.csv").write_text("id,boneage,male\n" + "".join(f"{film},60,True\n" for film in labels))
    predictions = read_predictions(tmp_path / "p.csv")
    assert predictions["id"].tolist() == ids
    result = evaluate(predictions, read_truth(tmp_path / "l.csv").table)
    assert (result.scores.n, result.failed, result.unlabelled) == (len(labels), 0, len(ids) - len(labels))
    assert result.films["id"].tolist() == labels


def test_a_row_without_a_film_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f"{HEADER}\n1,1.png,M,70,,,,\n ,2.png,M,70,,,,\n")
    with pytest.raises(BoneXageError, match=r"id '' at line 3: no film; give"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize(("predicted", "labelled"), [("1377.0", "1377"), ("777", "00777"), ("A7", "a7"),
                                                     ("films/777.png", "777"), ("777.png", "777")])
def test_a_film_with_a_label_in_another_spelling_says_so(tmp_path: Path, predicted: str, labelled: str) -> None:
    predictions, truth = tables()
    truth.loc[150, "id"] = labelled
    predictions.loc[50, "id"] = predicted
    with pytest.raises(BoneXageError, match=f"film {predicted} has no label, but {labelled}, in another spelling"):
        evaluate(predictions, truth)
    truth.loc[150, "months"] = np.nan
    assert evaluate(predictions, truth).unlabelled == 1, "there the label is missing too"


def test_numbers_for_ids_are_their_digits() -> None:
    predictions, truth = tables()
    assert evaluate(predictions.assign(id=predictions["id"].astype(int)), truth).scores.n == 100
    with pytest.raises(BoneXageError, match=r"film 100\.0 has no label, but 100, in another"):
        evaluate(predictions.assign(id=predictions["id"].astype(float)), truth)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_names_meet(tmp_path: Path, form: str) -> None:
    names = [unicodedata.normalize(name, "Zoé") for name in (form, {"NFC": "NFD", "NFD": "NFC"}[form])]
    (tmp_path / "p.csv").write_text(f"{HEADER}\n{names[0]},1.png,M,70,,,,\n", encoding="utf-8")
    (tmp_path / "l.csv").write_text(f"id,boneage,male\n{names[1]},60,True\n", encoding="utf-8")
    assert evaluate(read_predictions(tmp_path / "p.csv"), read_truth(tmp_path / "l.csv").table).scores.n == 1


@pytest.mark.parametrize(("encoding", "separator", "line_end", "comma", "words"), [
    ("utf-8", ",", "\n", False, None), ("utf-8-sig", ",", "\r\n", False, None), ("utf-8-sig", ";", "\r\n", False, None),
    ("utf-8", "\t", "\r", False, None), ("utf-8-sig", ";", "\r\n", True, "bone_age_months '70,5' at line 2"),
    ("utf-16", "\t", "\r\n", False, None), ("utf-16-le", "\t", "\r\n", False, "UTF-8"),
    ("latin-1", ";", "\r\n", False, "UTF-8"),
])
def test_a_table_that_a_spreadsheet_saved_means_the_same_or_says_why_not(
        tmp_path: Path, encoding: str, separator: str, line_end: str, comma: bool, words: str | None) -> None:
    text = line_end.join([HEADER, "é,1.png,M,70.5,5 years 10 months,60.25,80,", "2,2.png,F,,,,,unreadable", ""])
    text = text.replace(",", separator)
    (tmp_path / "p.csv").write_bytes((text.replace(".5", ",5").replace(".25", ",25") if comma else text)
                                     .encode(encoding))
    if words:
        with pytest.raises(BoneXageError, match=words):
            read_predictions(tmp_path / "p.csv")
    else:
        table = read_predictions(tmp_path / "p.csv")
        assert table["id"].tolist() == ["é", "2"]
        assert table.loc[0, ["bone_age_months", "low_months", "high_months"]].tolist() == [70.5, 60.25, 80.0]


@pytest.mark.parametrize("name", [".", "", "absent.csv", "x" * 300, "folder"])
def test_predictions_that_are_no_file_are_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert read_provenance(name) == {}
    with pytest.raises(BoneXageError, match=r"no such file; give a predictions\.csv"):
        read_predictions(name)
    with pytest.raises(BoneXageError, match="no such f"):
        read_truth("x" * 300)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, '{"table_sha256": NaN}', "\0"])
def test_a_description_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_text(f"{HEADER}\n")
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BoneXageError, match=r"p.json: not usable .*; predict again"):
        read_provenance(tmp_path / "p.csv")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_anything_at_all_is_a_table_of_predictions_or_a_line(tmp_path_factory: pytest.TempPathFactory,
                                                             data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.csv"
    path.write_bytes(b"id,sex,bone_age_months,low_months,high_months\n" + data)
    try:
        table = read_predictions(path)
    except BoneXageError as error:
        line = str(error)
    else:
        line = ""
        assert table["id"].is_unique
        assert (table["id"] != "").all()
        assert np.isfinite(table["bone_age_months"].dropna()).all()
    assert "\n" not in line


@pytest.mark.parametrize(("text", "words"), [("", "empty"), ("id\n1\n", "bone_age_months"),
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


def test_a_film_is_known_by_its_bytes_and_not_by_its_id_alone(tmp_path: Path) -> None:
    """Every simulated cohort counts from 1000: the labels of another one would fit by id. An absent film, and one whose
    hash was not kept, cannot be compared; one without a prediction is in no number."""
    predictions, truth = tables()
    for film in truth["id"]:
        (tmp_path / film).write_text(f"film {film}")
    truth = truth.assign(image=[str(tmp_path / film) for film in truth["id"]])
    said = predictions.assign(sha256=[file_hash(tmp_path / film) for film in predictions["id"]])
    assert evaluate(said, truth).scores == evaluate(predictions, truth).scores
    (tmp_path / "100").unlink()
    (tmp_path / "101").write_text("another")
    (tmp_path / "102").write_text("another")
    for harmless in (said.assign(sha256=""), said.assign(sha256=said["sha256"].where(said.index >= 3, "")),
                     said.assign(bone_age_months=said["bone_age_months"].where(said.index >= 3))):
        assert evaluate(harmless, truth).scores.n >= 97
    assert evaluate(said, truth.assign(image="")).scores.n == 100, "a label table alone has no films"
    with pytest.raises(BoneXageError, match=r"^2 of 100 films are others .*e\.g\. 101: .*predict this one again$"):
        evaluate(said, truth)


def test_two_models_are_compared_on_the_same_films_and_not_on_the_same_ids() -> None:
    predictions, truth = tables()
    said = predictions.assign(sha256=[f"hash {film}" for film in predictions["id"]])
    first = evaluate(said, truth)
    assert compare(first, evaluate(said.tail(30), truth)).n == 30
    assert compare(first, evaluate(predictions, truth)).n == 100, "not known"
    other = said.assign(sha256=said["sha256"].where(said.index != 7, "another"))
    for pair in ((first, evaluate(other, truth)), (evaluate(other, truth), first)):
        with pytest.raises(BoneXageError, match=r"^1 of 100 films are others of the same id, e\.g\. 107: predict the"):
            compare(*pair)


def test_films_that_strict_refused_are_told_by_their_notes() -> None:
    both = "turned; mirrored or a right hand"
    table = pd.DataFrame({
        "id": ["1", "2", "3"], "sex": "F", "bone_age_months": [100.0, np.nan, np.nan], "image": ["1.png", "2.png", ""],
        "error": ["", f"2.png: {both}; no age, for --strict", "sex unknown: give one; or not"],
        "note": ["", both, ""]})
    truth = pd.DataFrame({"id": ["1", "2", "3"], "sex": "F", "months": 100.0, "split": "test"})
    result = evaluate(table, truth)
    assert result.failures == {f"note: {both}": 1, "sex unknown: give one": 1}
    with pytest.raises(BoneXageError, match=f"none of the 2 films has a prediction .*note: {both}: 1.*column error"):
        evaluate(table[1:], truth)
