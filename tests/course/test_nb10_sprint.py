"""Notebook 10's sprint: a folder as it is sent, the commands as typed, the figures of a run, one page for a board."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY

from bonexage_utils.checks.stress import CONDITIONS
from bonexage_utils.cohort import Cohort
from bonexage_utils.course.nb10 import exercises, hospital, sprint
from bonexage_utils.course.nb10.board import board_report, is_open
from bonexage_utils.course.start import PROFILES, Course
from bonexage_utils.errors import BoneXageError
from bonexage_utils.phantom.anatomy import GP_STANDARDS
from bonexage_utils.tables import read_table
from bonexage_utils.training import train


@pytest.fixture(scope="module")
def course(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("course").resolve()
    return Course(PROFILES["fast"], torch.device("cpu"), cohort, True, 0, folder)


# --- the hospital ---

def test_ages_come_back_from_both_ways_of_typing() -> None:
    for months in range(1, 229):
        assert hospital.to_months(hospital.in_years(months)) == hospital.to_months(str(months)) == months


def test_the_table_is_typed_in_two_ways() -> None:
    ids = [str(1000 + row) for row in range(40)]
    labels = pd.DataFrame({"id": ids, "boneage": "82", "male": ["True", "False"] * 20})
    typed = hospital.as_typed(labels)
    assert typed["age"].tolist() == ["6y 10m"] * 20 + ["82"] * 20
    assert typed["sex"].tolist() == ["0", "1"] * 20
    assert typed.loc[typed["film"] == ""].index.tolist() == [hospital.NAMELESS]


@pytest.mark.slow
def test_the_folder_is_refused_until_it_is_mended(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook's way: three refusals, a table that loads, findings of every kind, a copy without faults."""
    monkeypatch.setitem(hospital.FILMS, "fast", 200)
    folder, bonexage = hospital.sent(course), sprint.Terminal(course)
    assert {path.name for path in (course.folder / folder).iterdir()} == {
        hospital.TABLE, hospital.LETTER, hospital.FILM_FOLDER}
    columns = ["--labels", hospital.TABLE, "--columns", "id=film,months=age,sex=sex"]
    for more, said in ((), "not a cohort"), (columns[:2], "no film id column"), (columns, "no film id at line 19"):
        heard = bonexage.said("check", folder, *more)
        assert said in heard
        assert heard.endswith("(exit status 2)")

    sent = read_table(course.folder / folder / hospital.TABLE)
    months = sent["age"].map(hospital.to_months)
    assert months.between(1, 228).all()
    for sex, other in ("FM", "MF"):  # what the exercise on the codes rests on
        named = sent.loc[months.isin(set(GP_STANDARDS[sex]) - set(GP_STANDARDS[other])), "sex"]
        assert len(named) > 10
        assert (named == hospital.CODES[sex]).mean() > 0.9

    named = sent["film"] != ""
    codes = {code: sex for sex, code in hospital.CODES.items()}
    ages = pd.DataFrame({"id": sent["film"], "bone age (months)": months, "sex": sent["sex"].map(codes)})[named]
    place = sprint.workplace(course)
    ages.to_csv(course.folder / place / "ages.csv", index=False)
    heard = bonexage.said("check", folder, "--labels", place / "ages.csv", "--out", place / "findings")
    assert heard.endswith("(exit status 1)")
    findings = pd.read_csv(course.folder / place / "findings" / "findings.csv", dtype=str)
    assert set(exercises.KINDS.values()) <= set(findings["finding"])

    goes = [exercises.KINDS[letter] for letter in exercises.OUT]
    bad = set(findings.loc[findings["finding"].isin(goes), "id"])
    kept = ages[~ages["id"].isin(bad)]
    (course.folder / place / "films").mkdir()
    for film in kept["id"]:
        name = f"{film}.png"
        data = (course.folder / folder / hospital.FILM_FOLDER / name).read_bytes()
        (course.folder / place / "films" / name).write_bytes(data)
    kept.to_csv(course.folder / place / "films" / "labels.csv", index=False)
    heard = bonexage.said("check", place / "films")
    assert "0 faults" in heard
    assert "exit status" not in heard
    before = (course.folder / folder / hospital.TABLE).stat().st_mtime_ns
    assert hospital.sent(course) == folder
    assert (course.folder / folder / hospital.TABLE).stat().st_mtime_ns == before


# --- the commands ---

def test_a_command_is_heard_without_bars(course: Course, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    def command(line: list[str], standalone_mode: bool) -> int:
        print("\rbar 1 of 2\rbar 2 of 2\r          \rone word", end="\n")
        raise BoneXageError("and why")

    monkeypatch.setattr("bonexage_utils.__main__.app", command)
    bonexage = sprint.Terminal(course)
    assert bonexage.said("check", Path("films")).splitlines() == [
        "$ bonexage check films", "one word", "bonexage: and why", "(exit status 1)"]
    assert not capsys.readouterr().out
    bonexage("check", "films")
    shown = capsys.readouterr()
    assert shown.out.startswith("$ bonexage check films\n")
    assert not shown.err


def test_what_the_notebook_makes_begins_anew_and_a_learners_runs_stay(course: Course, tmp_path: Path) -> None:
    here = replace(course, folder=tmp_path)
    place = tmp_path / sprint.workplace(here)
    for name in (*sprint.MADE, "larger"):
        (place / name).mkdir()
    assert sprint.workplace(here) == place.relative_to(tmp_path)
    assert [path.name for path in place.iterdir()] == ["larger"]


def test_recipes(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    small = sprint.recipe(replace(course, profile=PROFILES["cpu"]))
    assert (small["backbone"], small["weights"], small["image-size"]) == ("convnext_atto_ols", "phantom", 128)
    monkeypatch.setattr(sprint, "frozen_backbone", lambda profile: ("convnext_tiny", "imagenet", 256))
    large = sprint.recipe(replace(course, profile=PROFILES["gpu"]))
    assert (large["image-size"], large["lr"]) == (256, 2e-4)


def test_every_try_is_in_the_figure(tmp_path: Path) -> None:
    for name, last in (("first", 9.0), ("larger", 8.0)):
        (tmp_path / name).mkdir()
        pd.DataFrame({"epoch": [1, 2], "selection_mae_months": [20.0, last]}).to_csv(tmp_path / name / "log.csv")
    logs = sprint.tries(tmp_path)
    assert list(logs) == ["first", "larger"]
    assert "first goes from 20.0 to 9.0, its best is 9.0; larger goes from 20.0 to 8.0" in sprint.draw_tries(logs).alt


# --- the figures of a report ---

def test_margins_are_told_and_small_groups_are_silent() -> None:
    groups = pd.DataFrame({"sex": ["girls", "girls", "boys", "all", "all"], "n": [10, 30, 18, 19, 48],
                           "age": ["0–5 y", "all", "all", "0–5 y", "all"], "mae": [np.nan, 8, np.nan, np.nan, 7],
                           "low": [np.nan, 6, np.nan, np.nan, 5], "high": [np.nan, 9, np.nan, np.nan, 8]})
    told = sprint.draw_margins(groups).alt
    assert "all: 7.0 [5.0, 8.0] on 48 films; 0–5 years: 19 films, too few to speak; boys: 18 films" in told
    assert "girls: 8.0 [6.0, 9.0] on 30 films" in told


def test_the_worst_group_has_enough_films() -> None:
    groups = pd.DataFrame({"sex": ["girls", "boys", "boys", "all"], "age": ["0–5 y", "0–5 y", "5–10 y", "all"],
                           "n": [3, 20, 25, 48], "mae": [np.nan, 5, 9, 7]})
    assert sprint.speaking_groups(groups) == (
        "2 of 3 groups of sex and age have 20 films or more; the worst of them: boys, 5–10 y, 9.0 months")
    assert sprint.speaking_groups(groups[:1]) == "0 of 1 groups of sex and age have 20 films or more"


def test_usual_changes_are_among_those_that_are_measured() -> None:
    assert set(sprint.USUAL.items()) <= set(CONDITIONS)
    rows = [(name, strength, 1.0 + place, 0.0, 2.0, 0.25) for place, (name, strength) in enumerate(CONDITIONS)]
    table = pd.DataFrame(rows, columns=["perturbation", "strength", "mae_change", "low", "high", "share_significant"])
    usual = sprint.usual_changes(table)
    assert dict(usual["strength"]) == sprint.USUAL
    assert usual.loc["rotation"].tolist() == [10.0, 2.0, "[0.00, 2.00]", "25%"]


def test_what_the_mean_hides() -> None:
    rows = [("rotation", 5.0, -1, 1, 0.1), ("resolution", 1.0, -1, 2, 0.4), ("inversion", 1.0, 3, 9, 0.9)]
    table = pd.DataFrame(rows, columns=["perturbation", "strength", "low", "high", "share_significant"])
    table = table.assign(mae_change=(table["low"] + table["high"]) / 2, unit="of something")
    assert sprint.hidden_moves(table) == (
        "resolution 1 (of something): MAE +0.50 [-1.00, 2.00] months, and 40% of the answers moved by more than a year")
    assert sprint.hidden_moves(table[2:]) == "no condition leaves the MAE as it was"


# --- the page ---

@pytest.fixture(scope="module")
def done(course: Course, cohort: Cohort) -> tuple[Path, Path]:
    """The folder of a small run and that of its report."""
    run = course.folder / "checkpoints" / "small"
    train(cohort, run, TINY)
    bonexage = sprint.Terminal(course)
    bonexage.said("predict", run / "model.safetensors", cohort.root, "--out", run / "all.csv")
    bonexage.said("evaluate", run / "all.csv", cohort.root, "--out", run / "report")
    return run, run / "report"


def test_a_question_is_open_until_it_is_answered() -> None:
    assert all(map(is_open, (..., None, "", "  ")))
    assert not is_open("No.")


def test_the_page_says_what_the_files_say(done: tuple[Path, Path]) -> None:
    words = {"What we recommend:": "No.", "For whom:": ...}
    text = board_report(*done, words, sent=90, tries=3).read_text(encoding="utf-8")
    metrics = json.loads((done[1] / "metrics.json").read_text())
    mae = metrics["scores"]["mae"]
    for wanted in ("**Not a medical device.**", f"{mae['value']:.2f} [{mae['low']:.2f}", "| films sent | 90 |",
                   "| tries (the selection films chose among them) | 3 |", "| when the film looks otherwise | – |",
                   "test_convnext, weights none, 64 px, 2 epochs", "| intervals | – (",
                   "| films that are no hand | not recognised (it takes 99 calibration films) |",
                   "| a second reader on the same films | – |", "| wrong sex typed | – |",
                   "**What we recommend:** No.\n", "**For whom:** ✎\n"):
        assert wanted in text, wanted
    assert "{" not in text
    assert len(text.splitlines()) < 50  # one page


def test_the_page_names_the_groups_that_are_too_small(done: tuple[Path, Path]) -> None:
    groups = pd.read_csv(done[1] / "groups.csv")
    cells = groups[(groups["sex"] != "all") & (groups["age"] != "all")]
    text = board_report(*done, {}, sent=1, tries=1).read_text(encoding="utf-8")
    for row in cells.itertuples():
        assert (f"{row.sex} {row.age} ({row.n})" in text) == (row.n < 20)


def test_the_page_shows_the_worst_and_refuses_anothers(done: tuple[Path, Path]) -> None:
    run, report = done
    network = json.loads((run / "all.json").read_text())["network_sha256"]
    rows = [{"perturbation": "rotation", "strength": float(k), "n": 9, "mae_change": k, "low": k - 1, "high": k + 1,
             "share_significant": 0.1} for k in range(8)]
    pd.DataFrame(rows).to_csv(report / "stress.csv", index=False)
    (report / "stress.json").write_text(json.dumps({"network_sha256": network}))
    text = board_report(*done, {}, 1, 1).read_text(encoding="utf-8")
    assert "| rotation 7 | MAE +7.0 [+6.0, +8.0] months |" in text
    assert "| rotation 4 |" not in text
    (report / "stress.json").write_text(json.dumps({"network_sha256": "another"}))
    with pytest.raises(BoneXageError, match="of another network"):
        board_report(*done, {}, 1, 1)
    for name in ("stress.csv", "stress.json"):
        (report / name).unlink()


def test_a_page_needs_a_report(done: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BoneXageError, match=r"metrics\.json: .*evaluate"):
        board_report(done[0], tmp_path, {}, 1, 1)
