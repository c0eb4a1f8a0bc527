"""The bake-off: what is recorded is read back, what is not says so, and the script that makes it can be stopped."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from conftest import ROOT

from bonexage_utils.course.nb10 import bakeoff
from bonexage_utils.model import Features
from bonexage_utils.weights import save_weights

SEEDS, FILMS = 3, 30


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder with runs whose errors are known: ConvNeXt 20, ResNet 12, EfficientNet 15, pretrained 8 months."""
    folder = tmp_path / "data" / "reference_runs"
    folder.mkdir(parents=True)
    rows = []
    for arm, off in (("ConvNeXt", 20), ("ResNet", 12), ("EfficientNet", 15), (bakeoff.PRETRAINED, 8)):
        for seed in range(SEEDS):
            rows.append({"films": "phantom", "size_px": 96, "seconds": 40.0, "start": "none", "arm": arm,
                         "matched": "time", "seed": seed, "backbone": "b", "weights": "none", "lr": 1e-3,
                         "updates": 100, "epochs": 2.0, "parameters": 3_500_000, "trained_on": 1800,
                         "measured_on": FILMS, "mae": off + seed, "baseline": 30.0, "curve": "40 30 20",
                         "errors": " ".join([f"{off + seed}.0"] * FILMS), "hardware": "1 core", "commit": "abc",
                         "date": "2026-11-23"})
    rows.append({**rows[0], "matched": "tuning", "mae": 99.0})
    pd.DataFrame(rows).to_csv(folder / "bakeoff.csv", index=False)
    return tmp_path


def test_what_is_recorded_is_told(recorded: Path) -> None:
    gain = bakeoff.pretraining_gain("phantom", recorded)
    assert (gain.value, gain.low, gain.high) == (-4, -4, -4)
    assert "the phantom: -4.00 [-4.00, -4.00] months, pretrained is better" in bakeoff.gain_sentences(recorded)
    assert "40 s of computing a run, 3 seeds, 1800 films at 96 px" in bakeoff.how_baked(recorded)
    told = bakeoff.draw_bakeoff(recorded).alt
    assert "the phantom: ConvNeXt 21.0 (seeds 20.0 to 22.0), ResNet 13.0" in told
    assert "the median by sex 30.0, a dotted line" in told
    assert "real films, 100 px: not yet measured" in told


def test_backbones_pretrained_alike_are_told_apart_by_films_and_by_what_was_equal(recorded: Path) -> None:
    path = recorded / "data" / "reference_runs" / "bakeoff.csv"
    old = pd.read_csv(path)
    alike = old[(old["matched"] == "time") & (old["arm"] != bakeoff.PRETRAINED)]
    real = alike.assign(start="phantom", films="rsna100", trained_on=500)
    heads = real.assign(matched="frozen", trained_on=2000)
    pd.concat([old, real, real.assign(matched="updates"), heads]).to_csv(path, index=False)
    told = bakeoff.pretrained_sentences(recorded).splitlines()
    assert told[0] == ("real films, 100 px, 500, trained whole for equal time, 40 s of one core each: ConvNeXt minus "
                       "ResNet 8.00 [8.00, 8.00] months; ResNet ends lower")
    assert len(told) == 6  # two rivals, equal time and equal updates, and a head for other films
    picture = bakeoff.draw_pretrained(recorded)
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ConvNeXt", "ResNet", "EfficientNet", "median by sex"]
    alt = picture.alt
    assert "500, trained whole for equal updates: ConvNeXt 21.0, ResNet 13.0, EfficientNet 16.0" in alt
    assert "2,000, trained whole for equal time: not yet measured" in alt
    assert "nan" not in alt
    assert bakeoff.gain_sentences(recorded).startswith("the phantom: -4.00")  # of random weights, as before
    real.assign(epochs=[2.0 if arm == "ConvNeXt" else 0.9 for arm in real["arm"]]).to_csv(path, index=False)
    assert "ResNet starts sooner" in bakeoff.pretrained_sentences(recorded)  # nothing is at its end within an epoch


def test_what_is_not_recorded_says_so(tmp_path: Path) -> None:
    assert bakeoff.how_baked(tmp_path).count("not yet measured") == 2
    assert bakeoff.gain_sentences(tmp_path).count("not yet measured") == 2
    assert bakeoff.draw_bakeoff(tmp_path).alt.count("not yet measured") == 2
    assert bakeoff.claim_sentences(tmp_path).count("not yet measured") == 4
    assert "not yet measured" in bakeoff.pretrained_sentences(tmp_path)
    assert "not yet measured" in bakeoff.draw_pretrained(tmp_path).alt


def test_a_claim_is_told_with_its_interval_and_says_who_starts_sooner(recorded: Path) -> None:
    row = {"claim": bakeoff.CLAIMS[0], "films": "phantom", "a": "ConvNeXt", "b": "ResNet", "difference": 8.0,
           "low": 6.5, "high": 9.5, "verdict": "ResNet starts sooner"}
    pd.DataFrame([row]).to_csv(recorded / "data" / "reference_runs" / "claims.csv", index=False)
    assert "the phantom: ConvNeXt minus ResNet +8.0 [+6.5, +9.5] months; ResNet starts sooner" in (
        bakeoff.claim_sentences(recorded))


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return importlib.import_module("tools.benchmarks.bakeoff")


@pytest.mark.slow
def test_a_bake_off_goes_on_where_it_was(scripts: ModuleType, phantom_folder: Path, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bakeoff", str(phantom_folder), "--name", "phantom", "--out", str(tmp_path), "--size", "64", "--seeds",
             "2", "--seconds", "0.1", "--backbones", "test_convnext", "test_resnet", "test_efficientnet"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(scripts, "BATCH", 8)
    monkeypatch.setattr(scripts, "hardware", lambda: "here")
    scripts.main()
    first = pd.read_csv(tmp_path / "bakeoff.csv")
    assert first.groupby("matched").size().to_dict() == {"time": 8, "tuning": 12, "updates": 6}
    assert first[first["matched"] == "updates"].groupby("seed")["updates"].nunique().eq(1).all()
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert claims["claim"].tolist() == [*bakeoff.CLAIMS, *(f"{claim}, update for update" for claim in bakeoff.CLAIMS)]
    first[first["seed"] != 1].to_csv(tmp_path / "bakeoff.csv", index=False)  # as if stopped before the second seed
    capsys.readouterr()
    scripts.main()
    again = pd.read_csv(tmp_path / "bakeoff.csv")
    assert len(again) == len(first)
    assert "seed 0," not in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "claims.csv")) == 4
    rate = first[first["matched"] == "tuning"].sort_values("mae").groupby("arm")["lr"].first()
    reported = first[first["matched"] == "time"].groupby("arm")["lr"].first()
    assert reported.to_dict() == rate.to_dict()


@pytest.mark.slow
def test_all_three_may_begin_where_their_schooling_ended(scripts: ModuleType, phantom_folder: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["test_convnext", "test_resnet", "test_efficientnet"]
    for name in names:
        torch.manual_seed(7)
        save_weights(name, Features(name).body.state_dict(), {}, tmp_path / "schooled")
    monkeypatch.setattr(sys, "argv", [
        "bakeoff", str(phantom_folder), "--name", "phantom", "--out", str(tmp_path), "--size", "64", "--seeds", "2",
        "--seconds", "0.1", "--schooled", str(tmp_path / "schooled"), "--train-on", "24", "--backbones", *names])
    monkeypatch.setattr(scripts, "BATCH", 8)
    scripts.main()
    runs = pd.read_csv(tmp_path / "bakeoff.csv")
    assert set(runs["arm"]) == {"ConvNeXt", "ResNet", "EfficientNet"}
    assert set(runs["start"]) == {"phantom"}
    assert set(runs["trained_on"]) == {24}
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert claims["claim"].tolist()[:2] == [f"{claim}, all pretrained alike, 24 films" for claim in bakeoff.CLAIMS]
    assert not claims["verdict"].str.contains("sooner").any()

    monkeypatch.setattr(sys, "argv", [*sys.argv, "--frozen"])
    scripts.main()
    runs = pd.read_csv(tmp_path / "bakeoff.csv")
    runs.drop(index=runs.index[-1]).to_csv(tmp_path / "bakeoff.csv", index=False)  # as if stopped before the last one
    scripts.main()
    runs = pd.read_csv(tmp_path / "bakeoff.csv")
    heads = runs[runs["matched"] == "frozen"]
    assert heads.groupby("arm").size().to_dict() == {"ConvNeXt": 2, "EfficientNet": 2, "ResNet": 2}
    claims = pd.read_csv(tmp_path / "claims.csv")
    assert claims["claim"].tolist()[-2:] == [
        f"{claim}, all pretrained alike, 24 films, frozen" for claim in bakeoff.CLAIMS]

    oven = scripts.Oven(phantom_folder, None, 64, schooled=tmp_path / "schooled")
    torch.manual_seed(7)
    start = Features("test_resnet").body.state_dict()
    begun = oven.network("test_resnet", "phantom", 3).features.body.state_dict()
    assert all(torch.allclose(begun[name], value, atol=1e-3) for name, value in start.items())  # kept as float16


def test_jobs_come_in_order_and_only_those_that_can_run(scripts: ModuleType) -> None:
    jobs = importlib.import_module("tools.benchmarks.recorded_runs")
    names = [job.name for job in jobs.chosen(real=False, gpu=False)]
    assert names[:2] == [f"phantoms {jobs.PHANTOMS.name}", "claims, phantom"]
    assert not any("real" in name or "full size" in name or "zero" in name for name in names)
    assert names.index("claims, phantom") < names.index("bake-off, phantom")
    everything = [job.name for job in jobs.chosen(real=True, gpu=True)]
    assert sorted(everything) == sorted(job.name for job in jobs.JOBS)
    assert everything.index("bake-off, full size, real") < everything.index("claims, phantom")
    job = next(job for job in jobs.JOBS if job.name == "bake-off, full size, real")
    command = job.command(Path("films"), "mine", Path("here"))
    assert command[command.index("--name") + 1] == "mine, full size"
    assert command[3] == "films"
    assert command[-1] == "here"


@pytest.mark.slow
def test_a_spent_budget_stops_a_job_as_ctrl_c_does(scripts: ModuleType, tmp_path: Path) -> None:
    jobs, mark = importlib.import_module("tools.benchmarks.recorded_runs"), tmp_path / "stopped"
    code = ("import pathlib, sys, time\ntry:\n    pathlib.Path(sys.argv[2]).touch()\n    time.sleep(60)\n"
            "except KeyboardInterrupt:\n    pathlib.Path(sys.argv[1]).touch()\n")
    endless = [sys.executable, "-c", code, str(mark), str(tmp_path / "began")]
    assert jobs.run([endless, [sys.executable, "-c", "raise SystemExit(3)"]], 5) == [None, 3]
    assert mark.is_file() == (tmp_path / "began").is_file()


def test_jobs_of_one_core_run_beside_each_other(scripts: ModuleType) -> None:
    jobs = importlib.import_module("tools.benchmarks.recorded_runs")
    turns = [[job.name for job in turn] for turn in jobs.in_turns(jobs.chosen(real=True, gpu=False))]
    assert ["bake-off, phantom", "bake-off, real"] in turns
    assert max(map(len, turns)) == 2
    alone = [[job.name for job in turn] for turn in jobs.in_turns(jobs.chosen(real=False, gpu=False))]
    assert ["bake-off, phantom"] in alone


def test_every_job_is_a_script_that_is_there(scripts: ModuleType) -> None:
    jobs = importlib.import_module("tools.benchmarks.recorded_runs")
    wanted = {job.words[1] for job in jobs.JOBS} - {"bonexage_utils"}
    assert len(wanted) >= 5
    assert wanted <= {f"tools.benchmarks.{path.stem}" for path in (ROOT / "tools" / "benchmarks").glob("*.py")}
