"""Statistics against hand-worked cases, and a report that opens without a network."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bonexage_utils.calibration import Calibration, cross_validated
from bonexage_utils.cohort import Cohort
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
from bonexage_utils.figures import Picture, new_figure
from bonexage_utils.phantom.dataset import read_noise_floor
from bonexage_utils.prediction import Predictor, predict_to_file
from bonexage_utils.report import figures
from bonexage_utils.report.page import write_report
from bonexage_utils.report.tables import stress_table, worst_table
from bonexage_utils.statistics import SMALLEST_GROUP, Interval, agreement, bootstrap_mean, paired_difference, slope

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


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"id": [str(i) for i in range(200)], "months": rng.uniform(1, 230, 200),
                          "sex": ["F", "M"] * 100, "split": ["train"] * 100 + ["calibration"] * 100})
    part = truth.iloc[100:]
    predictions = pd.DataFrame({"id": part["id"], "bone_age_months": part["months"] + rng.normal(0, 9, 100)})
    return predictions.reset_index(drop=True), truth


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


def test_the_noise_floor_is_read_where_it_is_known(phantom_folder: Path, tmp_path: Path) -> None:
    truth = pd.read_csv(phantom_folder / "ground_truth.csv")
    expected = (truth["bone_age_months"] - truth["label_months"]).abs().mean()
    assert read_noise_floor(phantom_folder) == pytest.approx(expected, abs=1e-3)
    assert read_noise_floor(tmp_path) is None
    assert read_noise_floor(phantom_folder / "boneage-training-dataset.csv") is None
    (tmp_path / "cohort.json").write_text('{"n": 3}')
    assert read_noise_floor(tmp_path) is None


class Page(HTMLParser):
    """Collects what a page would load, and the alt text of its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.alts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "link", "iframe"):
            self.loads.append(tag)
        if tag == "img":
            self.alts.append(values.get("alt") or "")
            if not (values.get("src") or "").startswith("data:"):
                self.loads.append(values.get("src") or "")


def test_the_report_stands_alone_and_says_what_was_measured(tmp_path: Path) -> None:
    predictions, truth = tables()
    result = evaluate(predictions, truth)
    page = write_report(result, tmp_path / "report", {})
    text = page.read_text(encoding="utf-8")
    reader = Page()
    reader.feed(text)
    assert reader.loads == []
    assert len(reader.alts) == 4
    assert all(len(alt) > 40 for alt in reader.alts)
    assert str(result.scores.mae) in text
    assert "Not a medical device" in text
    card = (tmp_path / "report" / "model_card.md").read_text(encoding="utf-8")
    assert str(result.scores.mae) in card
    assert str(result.baseline.mae) in card
    assert "Not recorded" in card
    # Tables are whole: every row of the score table has as many cells as its header.
    rows = [line for line in card.splitlines() if line.startswith("|")]
    blocks = re.split(r"\n(?!\|)", card)
    assert rows
    for block in blocks:
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, lines
    assert (tmp_path / "report" / "bland_altman.png").stat().st_size > 5_000


def test_the_report_warns_of_films_the_model_was_trained_on(tmp_path: Path) -> None:
    """Fault 15: the same split used to select the model and to report its error."""
    predictions, truth = tables()
    truth["split"] = ["train"] * 100 + ["train"] * 10 + ["selection"] * 20 + ["calibration"] * 70
    page = write_report(evaluate(predictions, truth), tmp_path, {})
    assert "10 of these films are in the training split and 20 in the selection split" in page.read_text("utf-8")
    assert "10 of these films are in the training split" in (tmp_path / "model_card.md").read_text("utf-8")


def test_figures_carry_their_alt_text() -> None:
    predictions, truth = tables()
    result = evaluate(predictions, truth)
    for picture in (figures.predicted_against_true(result.films), figures.bland_altman(result.films),
                    figures.error_against_age(result.films), figures.error_by_group(result)):
        data, metadata = picture._repr_mimebundle_()
        assert data["image/png"].startswith(b"\x89PNG")
        assert metadata == {"image/png": {"alt": picture.alt}}
    with pytest.raises(ValueError, match="alt"):
        Picture(new_figure()[0], " ")


def test_the_learning_curve_tells_its_numbers() -> None:
    log = pd.DataFrame({"epoch": [1, 2], "train_mae_months": [30, 20], "selection_mae_months": [31.0, 22.5]})
    assert "31.0 to 22.5" in figures.learning_curve(log, baseline=33.0).alt


def test_intervals_and_stress_enter_the_report_where_they_were_measured(tmp_path: Path) -> None:
    predictions, truth = tables()
    result = evaluate(predictions, truth)
    bare = write_report(result, tmp_path, {}).read_text("utf-8")
    assert "not calibrated" in bare
    assert "no <code>stress.csv</code>" in bare
    calibration = Calibration.fit(result.films)
    (tmp_path / "stress.csv").write_text("perturbation,strength,n,mae_change,low,high,share_significant\n"
                                         "rotation,15,100,1.234,0.5,2.0,0.25\n")
    coverage = cross_validated(result.films, calibration)
    page = write_report(result, tmp_path, {}, coverage, calibration).read_text("utf-8")
    card = (tmp_path / "model_card.md").read_text("utf-8")
    for text in (page, card):
        assert "+1.23 [+0.50, +2.00]" in text
        assert f"±{calibration.half_width:.1f}" in text
        assert "cross-validation" in text
    share = coverage.table["coverage"].iloc[-1]
    assert f"{share:.0%} [" in page
    assert pd.read_csv(tmp_path / "coverage.csv")["coverage"].iloc[-1] == pytest.approx(share)
    assert "30 (robustness)" not in card
    (tmp_path / "stress.json").write_text('{"network_sha256": "one"}')
    assert len(stress_table(tmp_path, "one")) == 1
    with pytest.raises(BoneXageError, match=r"stress\.csv: not usable \(of another network"):
        stress_table(tmp_path, "other")
    (tmp_path / "stress.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BoneXageError, match=r"stress\.csv") as caught:
        write_report(result, tmp_path, {})
    assert "\n" not in str(caught.value)


def test_the_worst_films_are_named() -> None:
    predictions, truth = tables()
    predictions.loc[17, "bone_age_months"] += 200
    worst = worst_table(evaluate(predictions, truth))
    assert worst["film"].iloc[0] == predictions["id"][17]
    assert worst["error"].str.removeprefix("+").astype(float).abs().is_monotonic_decreasing


def test_every_item_of_the_checklists_is_answered_or_open(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    """CLAIM 2024 has 44 items, TRIPOD+AI 27; each stands in the card, with and without a known model."""
    predictor = Predictor(run / "model.safetensors", "cpu")
    predict_to_file(predictor, cohort.split("test")[["id", "image", "sex"]].assign(error=""), tmp_path / "p.csv")
    result = evaluate(read_predictions(tmp_path / "p.csv"), read_truth(cohort.root).table)
    for said_by in ({}, read_provenance(tmp_path / "p.csv")):
        write_report(result, tmp_path, said_by)
        lists = (tmp_path / "model_card.md").read_text("utf-8").split("## Reporting checklists")[1]
        rows = [[cell.strip() for cell in line.split("|")[2:4]] for line in lists.splitlines() if line.startswith("| ")]
        still = lists.split("Open, to be answered")[1].split("TRIPOD+AI")
        for place, count in enumerate((44, 27)):
            text = " ".join(row[place] for row in rows) + " " + re.sub(r"\([^)]*\)", "", still[place])
            text = re.sub(r"(\d+)–(\d+)", lambda m: " ".join(map(str, range(int(m[1]), int(m[2]) + 1))), text)
            assert {int(number) for number in re.findall(r"\d+", text)} >= set(range(1, count + 1))
