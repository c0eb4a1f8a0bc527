"""Recorded runs: one reader for every table, and every row says how it was made."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from bonexage_utils.course import records


@pytest.mark.parametrize("name", records.RUN_COLUMNS)
def test_a_missing_table_is_empty_and_has_the_columns_of_the_recorded_one(name: str, tmp_path: Path) -> None:
    missing = records.read_runs(name, tmp_path)
    assert missing.empty
    assert missing.columns.tolist() == records.read_runs(name, ROOT).columns.tolist()


def test_a_commit_of_digits_stays_a_text(tmp_path: Path) -> None:
    (tmp_path / records.RUNS).mkdir(parents=True)
    pd.DataFrame([{"notebook": "00_start", "commit": "7e23084"}]).to_csv(tmp_path / records.RUNS / "notebooks.csv")
    assert records.read_runs("notebooks", tmp_path)["commit"].tolist() == ["7e23084"]


def test_an_interval_that_is_not_there_is_not_shown() -> None:
    assert records.interval_text(-1, 2.5) == "[-1.00, 2.50]"
    assert records.interval_text(float("nan"), float("nan")) == ""


def test_a_row_names_the_script_that_made_it_and_no_other() -> None:
    row = {"hardware": "two cores", "commit": "abc1234", "date": "2026-01-01"}
    assert records.how_made(row) == "two cores, commit abc1234, 2026-01-01"
    assert records.how_made(row | {"command": "make it"}).endswith("2026-01-01; make it")
    claims = records.read_runs("claims", ROOT).drop_duplicates(["claim", "films"])
    assert set(claims["claim"]) >= records.OF_CLAIMS_SCRIPT
    for claim, films in zip(claims["claim"], claims["films"], strict=True):
        named = "tools.benchmarks.claims" in records.how_recorded(claim, films, ROOT)
        assert named == (claim in records.OF_CLAIMS_SCRIPT), claim
