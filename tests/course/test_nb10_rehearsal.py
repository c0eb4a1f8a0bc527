"""Notebook 10's way from a folder to a report: the commands as typed, a run that is stopped, two hospitals, a page."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY

from bonexage_utils.cohort import Cohort
from bonexage_utils.course.nb10 import rehearsal
from bonexage_utils.course.nb10.presentation import final_report
from bonexage_utils.course.start import PROFILES, Course
from bonexage_utils.errors import BoneXageError
from bonexage_utils.settings import TrainConfig


@pytest.fixture(scope="module")
def course(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("course").resolve()
    return Course(PROFILES["fast"], torch.device("cpu"), cohort, True, 0, folder)


@pytest.fixture(scope="module")
def done(course: Course, cohort: Cohort) -> tuple[Path, Path, list[str]]:
    """A run stopped after an epoch and resumed, and its report, both as seen from the course's folder."""
    run = rehearsal.run_folder(course)
    said = [rehearsal.train_until(course, cohort, run, TINY, stop_after=1),
            rehearsal.train_until(course, cohort, run, TINY)]
    report, model, data = run / "report", run / "model.safetensors", cohort.root
    rehearsal.bonexage(course, "predict", model, data, "--out", run / "all.csv")
    rehearsal.bonexage(course, "evaluate", run / "all.csv", data, "--out", report)
    return run, report, said


def test_stopped_and_resumed(course: Course, done: tuple) -> None:
    run, _, said = done
    stopped, finished = said
    assert stopped.startswith(f"{run}: stopped in epoch 2")
    assert "--resume" in stopped
    assert finished == "model.safetensors is written"
    log = pd.read_csv(course.folder / run / "log.csv")
    assert log["epoch"].tolist() == [1, 2]
    told = rehearsal.stopped_and_resumed(log, 1).alt
    assert "after epoch 1 marks where the run was stopped" in told
    assert "stopped" not in rehearsal.stopped_and_resumed(log, None).alt


def test_other_settings_are_refused(course: Course, cohort: Cohort, done: tuple) -> None:
    """What the exercise on resuming says."""
    said = rehearsal.train_until(course, cohort, done[0], replace(TINY, lr=TINY.lr / 2))
    assert "begun with other settings (lr); resume with the same, or train into another folder" in said


def test_a_run_on_phantoms_begins_anew_and_one_on_films_stays(course: Course, tmp_path: Path) -> None:
    here = replace(course, folder=tmp_path)
    for embedded, left in ((True, False), (False, True)):
        mine = replace(here, embedded=embedded)
        run = tmp_path / rehearsal.run_folder(mine)
        run.mkdir(parents=True)
        rehearsal.run_folder(mine)
        assert run.is_dir() == left


def test_commands_print_what_they_say_and_bars_stay_out(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    rehearsal.bonexage(course, "download", "--out", "rsna", without="kagglehub")
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == "$ bonexage download --out rsna"
    assert "kagglehub is not installed" in shown.out
    assert shown.out.rstrip().endswith("(exit status 1)")
    assert sys.modules.get("kagglehub", ...) is not None
    rehearsal.bonexage(course, "check", "nowhere")
    shown = capsys.readouterr()
    assert "bonexage: nowhere: no such folder" in shown.out
    assert "(exit status 2)" in shown.out
    assert not shown.err


def test_films_that_the_learner_gave_are_used(course: Course, cohort: Cohort) -> None:
    data, own = rehearsal.own_cohort(replace(course, embedded=False))
    assert own is cohort
    assert (course.folder / data).resolve() == cohort.root.resolve()
    inside = replace(course, folder=cohort.root.resolve().parent, embedded=False)
    assert rehearsal.own_cohort(inside)[0] == Path(cohort.root.name)


@pytest.mark.slow
def test_without_films_site_b_is_drawn_once(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rehearsal.OWN_FILMS, "fast", 6)
    data, own = rehearsal.own_cohort(course)
    facts = json.loads((course.folder / data / "cohort.json").read_text())
    assert (facts["site"], facts["seed"], len(own)) == ("B", rehearsal.OWN_SEED, 6)
    before = (course.folder / data / "ground_truth.csv").stat().st_mtime_ns
    assert len(rehearsal.own_cohort(course)[1]) == 6
    assert (course.folder / data / "ground_truth.csv").stat().st_mtime_ns == before


def test_recipes(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    small = rehearsal.recipe(replace(course, profile=PROFILES["cpu"]))
    assert (small.backbone, small.weights, small.image_size) == ("resnet10t", "phantom", 160)
    monkeypatch.setattr(rehearsal, "frozen_backbone", lambda profile: ("convnext_tiny", "imagenet", 256))
    gpu = replace(course, profile=PROFILES["gpu"])
    assert rehearsal.recipe(gpu).image_size == 256
    assert rehearsal.recipe(replace(gpu, embedded=False)) == TrainConfig()


def test_home_and_away_known(course: Course, cohort: Cohort) -> None:
    films = cohort.split("test")
    said = films.assign(bone_age_months=films["months"] + 3.0, low_months=films["months"] - 1,
                        high_months=films["months"] + 1).drop(columns="months")
    said.iloc[0, said.columns.get_loc("low_months")] = 230.0
    said.iloc[0, said.columns.get_loc("high_months")] = 231.0
    said.to_csv(course.folder / "said.csv", index=False)
    here = rehearsal.errors_on(course, Path("said.csv"), cohort.root)
    row = rehearsal.at_home_and_away({"here": here}).loc["here"]
    assert (row["n"], row["mae"], row["bias"]) == (len(films), 3, 3)
    assert row["inside"] == pytest.approx(1 - 1 / len(films))
    told = rehearsal.draw_home_and_away(pd.DataFrame(row).T).alt
    assert f"here: MAE 3.0 [3.0, 3.0], bias +3.0 [+3.0, +3.0] months on {len(films)} films" in told


def test_the_difference_between_places_is_not_paired() -> None:
    """A known answer: two normal means of n films each; the interval is about 1.96 √(2/n) SD to either side."""
    rng = np.random.default_rng(0)
    home, away = (pd.DataFrame({"error": rng.normal(mean, 1, 400)}) for mean in (20, 23))
    found = rehearsal.mae_difference(away, home)
    assert found.value == pytest.approx(3, abs=0.2)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * (2 / 400) ** 0.5, rel=0.15)
    assert rehearsal.mae_difference(home, home).value == 0


@pytest.mark.parametrize(("apart", "spread", "said"), [
    (4, 1, "as the readers' habits would have it"), (0, 1, "none that these films can show"), (2, 30, "undecided"),
    (8, 1, "neither none nor"), (2, 1, "neither none nor"),
])  # fmt: skip
def test_a_difference_of_biases_is_held_against_the_readers_habits(apart: float, spread: float, said: str) -> None:
    rng = np.random.default_rng(0)
    home, away = (pd.DataFrame({"error": mean + spread * rng.standard_normal(400)}) for mean in (0, apart))
    found, words = rehearsal.bias_difference(away, home)
    assert found.low < apart < found.high
    assert words.startswith(f"expected of the two readers alone +4: {said}")


def test_margins_are_told_and_small_groups_are_silent() -> None:
    groups = pd.DataFrame({"sex": ["girls", "girls", "boys", "all", "all"], "n": [10, 30, 18, 19, 48],
                           "age": ["0–5 y", "all", "all", "0–5 y", "all"], "mae": [np.nan, 8, np.nan, np.nan, 7],
                           "low": [np.nan, 6, np.nan, np.nan, 5], "high": [np.nan, 9, np.nan, np.nan, 8]})
    told = rehearsal.draw_margins(groups).alt
    assert "all: 7.0 [5.0, 8.0] on 48 films; 0–5 years: 19 films, too few to speak; boys: 18 films" in told
    assert "girls: 8.0 [6.0, 9.0] on 30 films" in told


def test_bars_go_before_the_word(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def write(self, text: str) -> int:
            events.append(f"{self.name} {text.strip()}")
            return len(text)

        def flush(self) -> None:
            events.append(f"{self.name} flushed")

    def command(line: list[str], standalone_mode: bool) -> None:
        sys.stderr.write("\rbar")
        sys.stderr.write("\r   \r")
        sys.stdout.write("done\n")

    monkeypatch.setattr("bonexage_utils.__main__.app", command)
    monkeypatch.setattr(sys, "stdout", Stream("words"))
    monkeypatch.setattr(sys, "stderr", Stream("bars"))
    rehearsal.bonexage(course, "check")
    assert events[events.index("bars bar"):] == ["bars bar", "bars ", "bars flushed", "words done"]


def test_what_the_mean_hides() -> None:
    rows = [("rotation", 5.0, -1, 1, 0.1), ("resolution", 1.0, -1, 2, 0.4), ("inversion", 1.0, 3, 9, 0.9)]
    table = pd.DataFrame(rows, columns=["perturbation", "strength", "low", "high", "share_significant"])
    table = table.assign(mae_change=(table["low"] + table["high"]) / 2, unit="of something")
    assert rehearsal.hidden_moves(table) == (
        "resolution 1 (of something): MAE +0.50 [-1.00, 2.00] months, and 40% of the answers moved by more than a year")
    assert rehearsal.hidden_moves(table[2:]) == "no condition leaves the MAE as it was"


def test_the_worst_group_has_enough_films() -> None:
    groups = pd.DataFrame({"sex": ["girls", "boys", "boys", "all"], "age": ["0–5 y", "0–5 y", "5–10 y", "all"],
                           "n": [3, 20, 25, 48], "mae": [np.nan, 5, 9, 7]})
    assert rehearsal.worst_group(groups) == (
        "2 of 3 groups of sex and age have 20 films or more; the worst of them: boys, 5–10 y, 9.0 months")
    assert rehearsal.worst_group(groups[:1]) == "0 of 1 groups of sex and age have 20 films or more"


def test_the_final_report_says_what_the_files_say(course: Course, done: tuple) -> None:
    run, report, _ = (course.folder / part if isinstance(part, Path) else part for part in done)
    text = final_report(run, report, "A title").read_text(encoding="utf-8")
    metrics = json.loads((report / "metrics.json").read_text())
    mae = metrics["scores"]["mae"]
    for wanted in ("# A title", "**Not a medical device.**", f"{mae['value']:.2f} [{mae['low']:.2f}",
                   "| backbone | test_convnext", "| epochs done | 2 |", "Not measured.", "has no intervals"):
        assert wanted in text, wanted
    assert text.count("✎") >= 12
    assert "{{" not in text


def test_the_final_report_shows_the_worst_and_refuses_anothers(course: Course, done: tuple) -> None:
    run, report, _ = (course.folder / part if isinstance(part, Path) else part for part in done)
    network = json.loads((run / "all.json").read_text())["network_sha256"]
    rows = [{"perturbation": "rotation", "strength": float(k), "n": 9, "mae_change": k, "low": k - 1, "high": k + 1,
             "share_significant": 0.1} for k in range(8)]
    pd.DataFrame(rows).to_csv(report / "stress.csv", index=False)
    (report / "stress.json").write_text(json.dumps({"network_sha256": network}))
    text = final_report(run, report).read_text(encoding="utf-8")
    assert "| rotation | 7.0 | +7.0 [+6.0, +8.0] | 10% |" in text
    assert "| rotation | 2.0 |" not in text
    (report / "stress.json").write_text(json.dumps({"network_sha256": "another"}))
    with pytest.raises(BoneXageError, match="of another network"):
        final_report(run, report)
    for name in ("stress.csv", "stress.json"):
        (report / name).unlink()


def test_a_final_report_needs_a_report(course: Course, done: tuple, tmp_path: Path) -> None:
    with pytest.raises(BoneXageError, match=r"metrics\.json: .*evaluate"):
        final_report(course.folder / done[0], tmp_path)
