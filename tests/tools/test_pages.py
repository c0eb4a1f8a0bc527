"""The tables of the workshop kit: in step with what was recorded, and honest about what was not."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from bonexage_utils.course.bootstrap import ADDRESS, TAG
from bonexage_utils.errors import BoneXageError
from tools import build, pages
from tools.ledger import Row

CLAIM = {"claim": "sex improves accuracy", "films": "phantom", "a": "with sex", "b": "without sex", "mae_a": 9.0,
         "mae_b": 10.0, "difference": -1.0, "low": -2.0, "high": -0.5, "verdict": "with sex is better",
         "backbone": "b", "size_px": 96, "epochs": 2, "seeds": 3, "hardware": "h", "commit": "c0ffee1", "date": "d"}


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of one notebook, nothing measured."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "data" / "reference_runs").mkdir(parents=True)
    first = ("# # 00 · Start\n\n**The question:** does\nit run?\n\n**Time:** 40 minutes with the exercises. "
             "To save time,\nrun *Who runs?* and *Why* without reading. More.")
    cells = [{"cell_type": "markdown", "source": first.removeprefix("# ")}]
    (tmp_path / "notebooks" / "00_start.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return tmp_path


def record(course: Path, *rows: dict) -> None:
    pd.DataFrame(rows).to_csv(course / "data" / "reference_runs" / "claims.csv", index=False)


@pytest.mark.parametrize("name", pages.PAGES)
def test_the_pages_are_in_step_with_what_was_recorded(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    fix = "run `python -m tools.build pages`"
    assert pages.filled(text, ROOT) == text, f"{name} has old tables: {fix}"


def test_every_table_has_its_place() -> None:
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in pages.PAGES)
    for name in pages.TABLES:
        assert text.count(f"<!-- {name}:") == text.count(f"<!-- end of {name} -->") == 1, name


@pytest.mark.parametrize("name", pages.PAGES)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text)
    assert targets
    for target in targets:
        assert (ROOT / name).parent.joinpath(target).exists(), target


def test_every_notebook_says_its_question_and_minutes() -> None:
    found = pages.heads(ROOT / "notebooks")
    assert found
    assert list(found) == sorted(path.name[:2] for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    for head in found.values():
        assert head.question.endswith(("?", ".")), head
        assert head.minutes, f"{head.file}: say '**Time:** NN minutes with the exercises' in its first cell"
        assert head.only_run, f"{head.file}: say 'To save time, run *a section* without reading.' there"
        text = (ROOT / "notebooks" / head.file).read_text(encoding="utf-8")
        for section in re.findall(r"\*(.+?)\*", head.only_run):
            assert re.search(rf"#+ [^\n]*{re.escape(section)}", text, re.IGNORECASE), f"{head.file}: no {section!r}"


def test_what_is_not_measured_says_so(course: Path) -> None:
    assert pages.claims_table(course).count(pages.NOT_YET) >= 2 * len(pages.CLAIMS) - 1
    table = pages.times_table(course)
    assert "| [00 Start](00_start.ipynb) ([00 on Colab](https://colab." in table
    assert f"| Does it run? | core | 40 min | {pages.NOT_YET} | {pages.NOT_YET} | *Who runs?* and *Why* |" in table
    assert ADDRESS.rsplit("github.com", 1)[1] + f"/blob/{TAG}/notebooks/00_start.ipynb" in table


def test_a_claim_shows_both_rows_and_both_verdicts(course: Path) -> None:
    real = CLAIM | {"films": "rsna100", "difference": 0.25, "low": -1, "high": 1.5, "verdict": "no difference"}
    record(course, CLAIM, real, CLAIM | {"claim": "another", "commit": "c0ffee2"})
    table = pages.claims_table(course)
    both = "with sex 9.0 against without sex 10.0:"
    assert (f"| sex improves accuracy | 05 | {both} −1.00 [−2.00, −0.50] | {both} +0.25 [−1.00, +1.50] | "
            "phantom: with sex is better; real films: no difference |") in table
    assert "- another (phantom): with sex 9.0" in table
    assert "<details><summary>How they were measured</summary>" in table
    assert table.count("- b; 96 px, 2 epochs, 3 seeds; h, commit c0ffee1, c0ffee2, d.") == 1
    record(course, CLAIM, real | {"verdict": CLAIM["verdict"]})
    assert "| with sex is better |" in pages.claims_table(course)


def test_a_claim_without_real_films_or_months(course: Path) -> None:
    claim = CLAIM | {"claim": pages.MASKS_NEEDED, "mae_a": None, "mae_b": None, "a": "GeM (%)", "b": "average (%)"}
    record(course, claim, claim | {"films": "phantom, trained whole"})
    table = pages.claims_table(course)
    assert f"| GeM (%) minus average (%): −1.00 [−2.00, −0.50] | {pages.NO_MASKS} |" in table
    assert f"- {pages.MASKS_NEEDED} (phantom, trained whole): GeM (%) minus" in table


def test_sixteen_bits_by_device(course: Path) -> None:
    row = {"measure": "seconds a step", "arm": "bf16, channels-last", "compared": 0.8, "low": 0.7, "high": 0.9,
           "verdict": "faster", "device": "cpu", "hardware": "two cores"}
    memory = row | {"measure": "MB a step", "compared": 0.5, "low": None, "high": None, "verdict": "leaner"}
    error = row | {"measure": "MAE, months", "compared": -0.1, "low": -0.3, "high": 0.1, "verdict": "no difference"}
    pd.DataFrame([row, memory, error, row | {"arm": "fp16, contiguous"}]).to_csv(
        course / "data" / "reference_runs" / "precision.csv", index=False)
    lines = [line for line in pages.claims_table(course).splitlines() if "AMP" in line]
    assert len(lines) == 2
    assert "(bf16, two cores)" in lines[0]
    assert "seconds a step × 0.80 [× 0.70, × 0.90]; MB a step × 0.50; MAE, months −0.10 [−0.30, +0.10]" in lines[0]
    assert "seconds a step: faster; MB a step: leaner; MAE, months: no difference |" in lines[0]
    assert "(GPU)" in lines[1]
    assert pages.NOT_YET in lines[1]


def test_times_are_taken_over_from_a_whole_run(course: Path) -> None:
    rows = [Row("00_start", "cpu", "ok", 30.4, 1536, 20), Row("01_data", "fast", "ok", 1, 1, 1),
            Row("02_pixels", "cpu", "failed", 1, 1, 1)]
    pages.record_times(rows, course)
    assert "| 40 min | 30 s | 1.5 GB |" in pages.times_table(course)
    assert pages.recorded_times(course)["notebook"].tolist() == ["00_start"]
    pages.record_times([Row("00_start", "cpu", "ok", 130.0, 2048, 20), Row("03_net", "cpu", "ok", 1, 1, 1)], course)
    assert pages.recorded_times(course)["notebook"].tolist() == ["00_start", "03_net"]
    assert "| 40 min | 2.2 min | 2.0 GB |" in pages.times_table(course)


def test_a_folder_without_a_run_is_refused(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["pages", "--notebooks", str(course / "notebooks"), "--ledger", str(course)]) == 2
    assert "no ledger.json there" in capsys.readouterr().err


def test_the_clock_of_a_day(course: Path) -> None:
    table = pages.schedule((("Welcome", 15), ("00", None), ("07", None), ("00", 20)), course)
    assert "| 9:00 | Welcome | 15 |  |" in table
    assert f"| 9:15 | **00 Start** | 40 | {pages.NOT_YET} |" in table
    assert f"| 9:55 | **07** (not there) | {pages.UNWRITTEN} |  |" in table
    assert "| 10:55 | **00 Start** | 20 |" in table
    assert table.endswith("Ends at 11:15.")


def test_a_notebook_that_is_read_computes_nothing(course: Path) -> None:
    pages.record_times([Row("00_start", "cpu", "ok", 130.0, 2048, 20)], course)
    table = pages.schedule((("00", 20), (f"00{pages.READ}", 25)), course)
    assert "| 9:00 | **00 Start** | 20 | 2.2 min |" in table
    assert "| 9:20 | **00 Start**, read and not run | 25 | none |" in table


@pytest.mark.parametrize(("said", "planned"), [("40", 40), ("about 125", 125), ("125 to 170", 150),
                                               ("", pages.UNWRITTEN)])
def test_a_plan_takes_the_middle_of_what_readers_took(said: str, planned: int) -> None:
    assert pages.Head("00", "00_start.ipynb", "Start", "why?", said).planned == planned


@pytest.mark.parametrize("plan", ["NINETY_MINUTES", "HALF_DAY", "DAY_ONE", "DAY_TWO"])
def test_no_plan_gives_a_notebook_less_than_it_computes(plan: str) -> None:
    measured = pages.recorded_times(ROOT)["seconds"]
    run = {what: minutes for what, minutes in getattr(pages, plan) if what in measured.index and minutes}
    assert all(measured[number] < 60 * minutes for number, minutes in run.items())


def test_ninety_minutes_are_ninety() -> None:
    assert sum(minutes for _, minutes in pages.NINETY_MINUTES) == 90


def test_pages_are_rewritten_between_the_marks_alone(course: Path) -> None:
    page = course / "notebooks" / "README.md"
    page.write_text("Before.\n\n<!-- claims: x -->\nold\n<!-- end of claims -->\n\nAfter.\n", encoding="utf-8")
    assert pages.write_pages(course) == [page]
    text = page.read_text(encoding="utf-8")
    assert text.startswith("Before.\n\n<!-- claims: x -->\n\n| claim |")
    assert text.endswith("|\n\n<!-- end of claims -->\n\nAfter.\n")
    assert "old" not in text
    assert pages.write_pages(course) == []
    page.write_text("<!-- claims: x -->\n", encoding="utf-8")
    with pytest.raises(BoneXageError, match="end of claims"):
        pages.write_pages(course)
