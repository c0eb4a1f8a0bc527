"""A report that opens without a network, says what was measured and leaves nothing of the checklists out."""

import copy
import json
import math
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from made_up import tables
from markdown_it import MarkdownIt

from bonexage_utils.calibration import Calibration, cross_validated
from bonexage_utils.cohort import UNKNOWN_SPLIT, Cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import evaluate, read_predictions, read_provenance, read_truth
from bonexage_utils.images import film_hash
from bonexage_utils.prediction import Predictor, predict_to_file
from bonexage_utils.report import figures
from bonexage_utils.report.page import headline, render, write_report
from bonexage_utils.report.tables import plain_markdown, stress_table, worst_table


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
    blocks = [[line for line in block.splitlines() if line.startswith("|")] for block in re.split(r"\n(?!\|)", card)]
    written = [lines for lines in blocks if lines]
    assert written
    for lines in written:
        assert len(lines) > 2, "a table without a row"
        assert len({line.count("|") for line in lines}) == 1, lines
    assert (tmp_path / "report" / "bland_altman.png").stat().st_size > 5_000


def test_the_report_warns_of_films_the_model_was_trained_on(tmp_path: Path) -> None:
    """Fault 15: the same split used to select the model and to report its error."""
    predictions, truth = tables()
    truth["split"] = ["train"] * 100 + ["train"] * 10 + ["selection"] * 20 + ["calibration"] * 70
    page = write_report(evaluate(predictions, truth), tmp_path, {})
    assert "10 of these films are in the training split and 20 in the selection split" in page.read_text("utf-8")
    assert "10 of these films are in the training split" in (tmp_path / "model_card.md").read_text("utf-8")


@pytest.mark.slow
def test_the_report_warns_of_films_of_unknown_split(tmp_path: Path) -> None:
    """The labels were a table alone: whether the model was trained on these films cannot be told."""
    predictions, truth = tables()
    for unknown in (100, 70, 0):  # of the last hundred, which have predictions
        splits = ["test"] * (200 - unknown) + [UNKNOWN_SPLIT] * unknown
        page = write_report(evaluate(predictions, truth.assign(split=splits)), tmp_path, {})
        for text in (page.read_text("utf-8"), (tmp_path / "model_card.md").read_text("utf-8")):
            text = " ".join(text.split())
            assert (f"Of {unknown} of these films the split is not known" in text) == (unknown > 0)
            assert ("may have been trained on them" in text) == (unknown > 0)
            assert "in the training split and" not in text
        assert ("Give the cohort's folder" in page.read_text("utf-8")) == (unknown > 0)


def test_figures_carry_their_alt_text() -> None:
    predictions, truth = tables()
    result = evaluate(predictions, truth)
    for picture in (figures.predicted_against_true(result.films), figures.bland_altman(result.films),
                    figures.error_against_age(result.films), figures.error_by_group(result)):
        data, metadata = picture._repr_mimebundle_()
        assert data["image/png"].startswith(b"\x89PNG")
        assert metadata == {"image/png": {"alt": picture.alt}}


def test_the_learning_curve_tells_its_numbers() -> None:
    log = pd.DataFrame({"epoch": [1, 2], "train_mae_months": [30, 20], "selection_mae_months": [31.0, 22.5]})
    assert "31.0 to 22.5" in figures.learning_curve(log, baseline=33.0).alt


@pytest.mark.slow
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
    with pytest.raises(BoneXageError, match=r"stress\.csv: .*another network"):
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
    assert "note" not in worst
    noted = predictions.assign(note=["turned" if place == 17 else "" for place in range(len(predictions))])
    assert worst_table(evaluate(noted, truth))["note"].tolist() == ["turned", *[""] * (len(worst) - 1)]


def test_the_worst_films_are_shown_where_they_are_at_hand(cohort: Cohort, tmp_path: Path) -> None:
    """By their labels' folder, or where they were predicted if they are the same still; never another film."""
    films = cohort.table.head(40)
    hashes = [film_hash(image) for image in films["image"]]
    predictions = films[["id", "image"]].assign(bone_age_months=60.0, sha256=hashes)
    replaced = worst_table(evaluate(predictions, films))["film"].iloc[0]
    alone = films.assign(image="")
    spoilt = tmp_path / "other.png"
    shutil.copy(cohort.table["image"][50], spoilt)
    moved = predictions.assign(image=predictions["image"].mask(predictions["id"] == replaced, str(spoilt)))
    for said, truth, shown, wanted in ((predictions, films, True, 10), (predictions, films, False, 0),
                                       (predictions, alone, True, 10), (moved, alone, True, 9),
                                       (predictions.assign(sha256=""), alone, True, 0)):
        page = write_report(evaluate(said, truth), tmp_path / "report", {}, films=shown)
        reader = Page()
        reader.feed(page.read_text("utf-8"))
        assert reader.loads == []
        alts = [alt for alt in reader.alts if alt.startswith("Film ")]
        assert len(alts) == wanted
        assert (f"Film {replaced}," in " ".join(alts)) == (wanted == 10)
        assert page.stat().st_size < 400_000 + 12_000 * wanted


def test_failures_are_counted_by_reason(tmp_path: Path) -> None:
    predictions, truth = tables()
    image = [f"/films/{film}.png" for film in predictions["id"]]
    predictions = predictions.assign(image=image, error="")
    kinds = {"truncated PNG; copy the image again": 5, "<b>no</b> | film; restore it": 2, "": 1}
    for place, reason in enumerate(reason for reason, count in kinds.items() for _ in range(count)):
        predictions.loc[place, "bone_age_months"] = float("nan")
        predictions.loc[place, "error"] = f"{image[place]}: {reason}" if reason else ""
    result = evaluate(predictions, truth)
    assert result.failures == {"truncated PNG": 5, "<b>no</b> | film": 2, "no reason given": 1}
    assert result.failed == 8
    page = write_report(result, tmp_path, {}).read_text("utf-8")
    card = (tmp_path / "model_card.md").read_text("utf-8")
    assert re.search(r"<td>truncated PNG</td>\s*<td>5</td>", page)
    assert "<b>no" not in page + card
    assert "| truncated PNG | 5 |" in card
    assert json.loads((tmp_path / "metrics.json").read_text())["failures"] == result.failures


def test_a_hub_reads_the_head_of_a_card(tmp_path: Path) -> None:
    """No result is claimed of films that the network learned from, or may have."""
    predictions, truth = tables()
    for split, claimed in (("calibration", True), ("test", True), ("selection", False), (UNKNOWN_SPLIT, False)):
        truth.loc[100:, "split"] = split
        result = evaluate(predictions, truth)
        write_report(result, tmp_path, {})
        head = ModelCard((tmp_path / "model_card.md").read_text("utf-8")).data
        assert head.library_name == "bonexage"
        assert bool(head.eval_results) == claimed
        if claimed:
            found = head.eval_results[0]
            assert (found.metric_type, found.metric_value) == ("mae", round(result.scores.mae.value, 2))
            assert f"{split} 100" in found.dataset_name


CLAIM = {str(number) for number in range(1, 45)}
PARTS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"}
TRIPOD = {f"{number}{part}" for number in range(1, 28) for part in PARTS.get(number, [""])}


@pytest.mark.slow
def test_every_item_of_the_checklists_is_answered_or_open(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    """CLAIM 2024 has 44 items, TRIPOD+AI 27; each stands in the card, with and without a known model."""
    predictor = Predictor(run / "model.safetensors", "cpu")
    predict_to_file(predictor, cohort.split("test")[["id", "image", "sex"]].assign(error=""), tmp_path / "p.csv")
    result = evaluate(read_predictions(tmp_path / "p.csv"), read_truth(cohort.root).table)
    for said_by in ({}, read_provenance(tmp_path / "p.csv")):
        write_report(result, tmp_path, said_by)
        lists = (tmp_path / "model_card.md").read_text("utf-8").split("## Reporting checklists")[1]
        rows = [[cell.strip() for cell in line.split("|")[2:5]] for line in lists.splitlines() if line.startswith("| ")]
        for place, items in enumerate((CLAIM, TRIPOD)):
            listed = [item for row in rows for item in re.findall(r"\d+[a-g]?", row[place])]
            assert sorted(set(listed)) == sorted(items)
        assert all(answer for *_, answer in rows)
        answers = {topic: answer for topic, answer in ((line.split("|")[1].strip(), line.split("|")[4].strip())
                                                       for line in lists.splitlines() if line.startswith("| "))}
        assert answers["ethics"] == answers["protocol"] == answers["robustness"] == "*not reported*"
        assert (answers["model"] == "*not reported*") == (not said_by)
        assert answers["performance"] == "sections Evaluation and By sex and age"


# A description may come from anywhere.
HOSTILE = ("x` <script>alert(1)</script>\n\n# A heading\n\n| a | b |\n|---|---|\n"
           "![a](http://example.org/a.png) [a](http://example.org) <img src=x onerror=alert(1)> \ud800 &lt;b&gt;")


@pytest.fixture
def told(run: Path, cohort: Cohort, tmp_path: Path) -> Path:
    """A table of predictions with its description beside it."""
    predictor = Predictor(run / "model.safetensors", "cpu")
    predict_to_file(predictor, cohort.split("test")[["id", "image", "sex"]].assign(error=""), tmp_path / "p.csv")
    return tmp_path / "p.csv"


def structure(markdown: str) -> list[str]:
    """The kinds of block and of words that a reader of Markdown makes of a text."""
    kinds = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        kinds += [token.type, *(child.type for child in token.children or ())]
    return [kind for kind in kinds if not kind.startswith("text")]


@pytest.mark.slow
def test_no_word_of_a_description_becomes_markup(told: Path) -> None:
    good = read_provenance(told)
    evil = copy.deepcopy(good)
    for table in (evil, evil["model"], evil["training"], evil["training"]["config"]):
        table |= {name: HOSTILE for name, value in table.items() if isinstance(value, str)}
    evil["training"]["label_hashes"] = {HOSTILE: HOSTILE}
    result = evaluate(*tables())
    cards = []
    for number, provenance in enumerate((good, evil)):
        page = write_report(result, told.parent / str(number), provenance)
        cards.append((page.parent / "model_card.md").read_text(encoding="utf-8"))
        reader = Page()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.loads == []
    assert "alert(1)" in cards[1]
    assert structure(cards[1]) == structure(cards[0])
    assert not {"html_inline", "html_block", "image", "link_open"} & set(structure(cards[1]))


@given(st.text(st.sampled_from("<>[]()!`|\\\n\r#*_~&;:/-= aб\x00\u2028"), max_size=30))
def test_plain_markdown_makes_no_html_link_picture_or_block(text: str) -> None:
    kinds = structure(f"Words {plain_markdown(text)} and words, `{plain_markdown(text)}`.")
    assert not {"html_inline", "html_block", "image", "link_open", "softbreak", "hardbreak"} & set(kinds)
    assert [kind for kind in kinds if kind.startswith("paragraph")] == ["paragraph_open", "paragraph_close"]


@pytest.mark.parametrize("change", [
    lambda d: d.pop("model"), lambda d: d.pop("training"), lambda d: d["training"].pop("config"),
    lambda d: d["training"].pop("epoch"), lambda d: d["training"]["config"].pop("lr"), lambda d: d.pop("tta"),
    lambda d: d.update(network_sha256=5), lambda d: d.update(sha256="<b>"), lambda d: d.update(training=[1]),
    lambda d: d.update(network_sha256=int("1" * 64)),
    lambda d: d["training"].update(median_months_by_sex={"F": "<b>", "M": 100.0}), lambda d: d.update(tta="yes"),
    lambda d: d["training"].update(median_months_by_sex={"F": math.nan, "M": 100.0}),
    lambda d: d["training"].update(selection_mae_months="good"), lambda d: d["model"].update(backbone="<script>"),
    lambda d: d["model"].update(max_age=-240), lambda d: d["preprocessing"].update(std=0),
    lambda d: d.update(calibration={"half_width": math.nan}), lambda d: d.update(sex_coding={"F": 1, "M": 0}),
])
def test_a_description_that_is_none_is_refused_before_a_report(told: Path, change: Callable[[dict], object]) -> None:
    path = told.with_suffix(".json")
    description = read_provenance(told)
    path.write_text(json.dumps({**description, "more": [1]}))  # what else a later version tells
    assert read_provenance(told)["more"] == [1]
    change(description)
    path.write_text(json.dumps(description))
    with pytest.raises(BoneXageError, match=r"p\.json: not usable") as caught:
        read_provenance(told)
    assert "\n" not in str(caught.value)


HEADER = "perturbation,strength,n,mae_change,low,high,share_significant\n"


@pytest.mark.parametrize("row", [
    "rotation,inf,100,1,0,2,0.2", "rotation,15,-3,1,0,2,0.2", "rotation,15,0,1,0,2,0.2", "rotation,15,100,nan,0,2,0.2",
    "rotation,15,100,,0,2,0.2", "rotation,15,100,1,-inf,2,0.2", "rotation,15,100,1,0,1e999,0.2",
    "rotation,15,100,1,0,2,1.5", "rotation,15,100,1,0,2,-0.1", "rotation,15,100,1,,,0.2",
    "rotation,15,100,True,0,2,0.2",
    "rotation,15,100,many,0,2,0.2", "rotation,x,100,1,0,2,0.2", "rotation,15,100,1,0,2,",
    f"rotation,15,{'9' * 400},1,0,2,0.2", "", "rotation,15,100,1,NA,2,0.2", "rotation,15,1,1,x,x,0.2",
    "rotation,15", "rotation,15,100,1,3,2,0.2", "rotation,15,9.5,1,0,2,0.2", "rotation,15,100,1,0,2,\u0663",
])
def test_a_stress_table_of_no_numbers_is_refused(tmp_path: Path, row: str) -> None:
    good = "rotation,15,100,-1.234,-2,-0.5,0.25\nflip,1.0,100,1.234,0.5,2,0\n"
    (tmp_path / "stress.csv").write_text(HEADER + good + "rotation,0.5,1,3.0,,,0.0\n")
    cell = "change of the MAE, months [95 % interval]"
    assert stress_table(tmp_path)[cell].tolist() == ["-1.23 [-2.00, -0.50]", "+1.23 [+0.50, +2.00]", "+3.00 [–]"]
    assert stress_table(tmp_path)["strength"].tolist() == ["15", "1", "0.5"]
    (tmp_path / "stress.csv").write_text(HEADER + (good + row if row else ""), encoding="utf-8")
    with pytest.raises(BoneXageError, match=r"stress\.csv: not usable .*; make it with") as caught:
        stress_table(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]", "3", "null", "{}",
                                  '{"network_sha256": 1' + "0" * 9999 + "}"])
def test_a_description_of_a_stress_test_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "stress.csv").write_text(HEADER + "rotation,15,100,1.234,0.5,2.0,0.25\n")
    (tmp_path / "stress.json").write_text(text)
    with pytest.raises(BoneXageError, match=r"stress\.csv: not usable") as caught:
        stress_table(tmp_path, "one")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one film", "constant labels", "constant predictions"])
def test_a_number_that_is_none_is_null_and_a_dash(tmp_path: Path, kind: str) -> None:
    """JSON has no NaN: other readers refuse the whole file."""
    predictions, truth = tables()
    if kind == "one film":
        predictions = predictions.head(1)
    elif kind == "constant labels":
        truth = truth.assign(months=60.0)
    else:
        predictions = predictions.assign(bone_age_months=60.0)
    result = evaluate(predictions, truth)
    page = write_report(result, tmp_path, {})

    def no_number(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"), parse_constant=no_number)
    assert metrics["scores"]["mae"]["value"] == pytest.approx(result.scores.mae.value)
    assert (metrics["scores"]["mae"]["low"] is None) == (kind == "one film")
    assert (metrics["scores"]["r2"] is None) == (kind != "constant predictions")
    assert (metrics["calibration_slope"]["value"] is None) == (kind != "constant labels")
    assert ("–" in headline(result)) == (kind == "one film")
    for text in (headline(result), re.sub("data:image[^\"]*", "", page.read_text("utf-8")),
                 (tmp_path / "model_card.md").read_text("utf-8")):
        assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_a_template_that_was_not_installed_is_named() -> None:
    with pytest.raises(BoneXageError, match=r"no_such\.html.*install bonexage again"):
        render("no_such.html", {})


def test_the_coverage_of_an_earlier_evaluation_goes(tmp_path: Path) -> None:
    result = evaluate(*tables())
    write_report(result, tmp_path, {}, cross_validated(result.films, Calibration.fit(result.films)))
    kept = {"coverage.csv", "coverage.png"}
    assert kept <= {path.name for path in tmp_path.iterdir()}
    write_report(result, tmp_path, {})
    assert not kept & {path.name for path in tmp_path.iterdir()}


def test_films_predicted_without_a_sex_are_counted(tmp_path: Path) -> None:
    predictions, truth = tables()
    sexes = truth["sex"].iloc[100:].tolist()
    for unknown in (0, 1, 100):
        result = evaluate(predictions.assign(sex=[""] * unknown + sexes[unknown:]), truth)
        assert result.of_unknown_sex == unknown
        page = write_report(result, tmp_path, {})
        for text in (page.read_text("utf-8"), (tmp_path / "model_card.md").read_text("utf-8")):
            assert (f"{unknown} of these films were predicted without their sex" in text) == (unknown > 0)
