"""The commands as a user calls them, by their messages and exit status (in processes of their own: `test_readme`)."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import bonexage
from huggingface_hub import ModelCard

from bonexage_utils import __version__
from bonexage_utils.checkpoints import _read, _write
from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.description import DESCRIPTION
from bonexage_utils.phantom import write_cohort
from bonexage_utils.prediction_table import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ["--backbone", "test_convnext", "--image-size", 64, "--epochs", 1, "--batch-size", 8, "--grad-accum", 1,
         "--lr", 1e-3, "--weights", "none", "--precision", "fp32"]


@pytest.mark.slow
def test_phantom_train_predict_evaluate_end_to_end(tmp_path: Path) -> None:
    made = bonexage("phantom", tmp_path / "data", "--n", 60, "--seed", 3, "--workers", 1)
    assert made.returncode == 0, made.stderr
    assert "noise floor" in made.stdout
    checked = bonexage("check", tmp_path / "data")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    trained = bonexage("train", tmp_path / "data", "--out", tmp_path / "run", *TRAIN)
    assert trained.returncode == 0, trained.stderr
    assert "months" in trained.stdout
    model = tmp_path / "run" / "model.safetensors"
    again = bonexage("train", tmp_path / "data", "--out", tmp_path / "run", *TRAIN)
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    predicted = bonexage("predict", model, tmp_path / "data", "--out", tmp_path / "predictions.csv")
    assert predicted.returncode == 0, predicted.stderr
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert len(table) == 60
    assert list(table.columns) == ["id", "image", "sex", "bone_age_months", "bone_age", "low_months", "high_months",
                                   "error", "note"]
    one = bonexage("predict", model, table["image"][0], "--sex", "F", "--out", tmp_path / "one.csv")
    assert one.returncode == 0, one.stderr
    assert f"{table['image'][0]}: " in one.stdout
    assert "months)" in one.stdout
    judged = bonexage("evaluate", tmp_path / "predictions.csv", tmp_path / "data", "--out", tmp_path / "report")
    assert judged.returncode == 0, judged.stderr
    assert "MAE" in judged.stdout
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    truth = pd.read_csv(tmp_path / "data" / "boneage-training-dataset.csv")
    joined = table.merge(truth, on="id")
    expected = (joined["bone_age_months"] - joined["boneage"]).abs().mean()
    assert metrics["scores"]["mae"]["value"] == pytest.approx(expected)
    assert metrics["films_by_split"]["train"] > 30
    card = (tmp_path / "report" / "model_card.md").read_text()
    assert "test_convnext" in card
    stressed = bonexage("stress", model, tmp_path / "data", "--out", tmp_path / "report", "--split", "selection")
    assert stressed.returncode == 0, stressed.stderr
    assert "films of split selection" in stressed.stdout
    assert (tmp_path / "report" / "stress.csv").is_file()


@pytest.mark.slow
def test_a_bad_film_and_no_sex_are_told_apart(run: Path, cohort, tmp_path: Path) -> None:
    (tmp_path / "junk.png").write_bytes(b"junk")
    good = cohort.table["image"][0]
    done = bonexage("predict", run / "model.safetensors", good, tmp_path / "junk.png", "--sex", "M",
                    "--out", tmp_path / "p.csv")
    assert done.returncode == 1
    assert "1 films without a prediction" in done.stderr
    assert "junk.png" in done.stderr
    table = pd.read_csv(tmp_path / "p.csv")
    assert table["bone_age_months"].notna().tolist() == [True, False]
    asked = bonexage("predict", run / "model.safetensors", good, "--out", tmp_path / "q.csv")
    assert asked.returncode == 1
    assert "--sex" in asked.stderr
    meant = bonexage("predict", run / "model.safetensors", good, "--unknown-sex", "mean", "--out", tmp_path / "q.csv")
    assert meant.returncode == 0


@pytest.mark.slow
def test_check_finds_planted_faults_and_writes_them(tmp_path: Path) -> None:
    made = bonexage("phantom", tmp_path / "data", "--n", 36, "--seed", 4, "--workers", 1, "--faults", 12)
    assert made.returncode == 0, made.stderr
    assert len(pd.read_csv(tmp_path / "data" / "planted_faults.csv")) == 12
    checked = bonexage("check", tmp_path / "data", "--out", tmp_path / "out")
    assert checked.returncode == 1
    assert "duplicate file" in checked.stdout
    assert (tmp_path / "out" / "findings.png").is_file()
    findings = pd.read_csv(tmp_path / "out" / "findings.csv")
    assert f"{(findings['severity'] == 'fault').sum()} faults" in checked.stdout
    refused = bonexage("phantom", tmp_path / "more", "--n", 12, "--faults", 12)
    assert refused.returncode == 1
    assert "--faults 12" in refused.stderr
    assert not (tmp_path / "more").exists()


def test_check_refuses_labels_it_cannot_trust(tmp_path: Path) -> None:
    (tmp_path / "boneage-training-dataset").mkdir()
    (tmp_path / "boneage-training-dataset.csv").write_text("id,boneage,male\n1,60,True\n2,720,False\n")
    done = bonexage("check", tmp_path)
    assert done.returncode == 2
    assert "line 3" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "status"), [
    (["check", "absent"], 2), (["check", "."], 2), (["train", "absent", "--out", "run"], 1),
    (["predict", "absent.safetensors", "a.png"], 1), (["export", "absent.safetensors"], 1),
    (["evaluate", "absent.csv", "absent", "--out", "report"], 1),
    (["stress", "absent.safetensors", "absent", "--out", "report"], 1),
])
def test_bad_input_is_one_line_and_no_traceback(tmp_path: Path, arguments: list[str], status: int) -> None:
    done = bonexage(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert done.stderr.startswith("bonexage: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_one_line(run: Path, cohort, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    done = bonexage("predict", run / "model.safetensors", cohort.table["image"][0], "--sex", "F",
                    "--out", tmp_path / "taken" / "p.csv")
    assert done.returncode == 1
    assert "taken" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_label_table_alone_is_reported_on_with_a_warning_and_calibrates_nothing(
        run: Path, cohort: Cohort, tmp_path: Path) -> None:
    """A table does not tell which of its films the network was trained on."""
    model, table = tmp_path / "model.safetensors", cohort.root / "boneage-training-dataset.csv"
    shutil.copy(run / "model.safetensors", model)

    def predict(split: str) -> Path:
        out = tmp_path / f"{split}.csv"
        assert bonexage("predict", model, cohort.root, "--split", split, "--out", out).returncode == 0
        return out

    def evaluate(predictions: Path, labels: Path, *options: object) -> tuple[int, str, str]:
        done = bonexage("evaluate", predictions, labels, "--out", tmp_path / "report", *options)
        return done.returncode, done.stdout, done.stderr

    calibrate = ("--calibrate", model, "--coverage", 0.5)
    before = model.read_bytes()
    status, _, error = evaluate(predict("calibration"), table, *calibrate)
    assert status == 1
    assert error.count("\n") == 1
    assert "folder" in error
    assert not (tmp_path / "report").exists()
    assert model.read_bytes() == before

    assert evaluate(tmp_path / "calibration.csv", cohort.root, *calibrate)[0] == 0
    films = predict("test")
    count = len(cohort.split("test"))
    assert pd.read_csv(films)["low_months"].notna().sum() == count, "without intervals nothing could be claimed of them"
    shutil.rmtree(tmp_path / "report")
    seen = {}
    for labels in (cohort.root, table):
        status, told, _ = evaluate(films, labels)
        assert status == 0
        assert "MAE" in told
        texts = {name: (tmp_path / "report" / name).read_text("utf-8") for name in ("report.html", "model_card.md")}
        unknown = [re.search(rf"\b{count} of these films the split is not known.*train", " ".join(text.split()))
                   for text in texts.values()]
        claimed = ("inside" in told, (tmp_path / "report" / "coverage.csv").exists())
        splits = json.loads((tmp_path / "report" / "metrics.json").read_text())["films_by_split"]
        seen[labels] = [bool(match) for match in unknown], claimed, splits
        shutil.rmtree(tmp_path / "report")
    assert seen[table] == ([True, True], (False, False), {"unknown": count})
    assert seen[cohort.root][0] == [False, False]
    assert seen[cohort.root][1][1], "of films whose split is known it is claimed"


@pytest.mark.parametrize(
    "command", ["download", "phantom", "check", "train", "predict", "evaluate", "stress", "card", "export"])
def test_help_has_an_example(command: str) -> None:
    done = bonexage(command, "--help")
    assert done.returncode == 0
    assert f"bonexage {command}" in done.stdout


@pytest.mark.slow
def test_help_does_not_wait_for_torch() -> None:
    program = "import sys\nfrom bonexage_utils.__main__ import app\napp(['train', '--help'], standalone_mode=False)\n" \
              "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--image-size" in done.stdout


@pytest.mark.slow
def test_calibrate_then_predict_with_intervals(run: Path, cohort, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    shutil.copy(run / "model.safetensors", model)
    before = model.read_bytes()
    for split in ("train", "calibration", "test"):
        done = bonexage("predict", model, cohort.root, "--split", split, "--out", tmp_path / f"{split}.csv")
        assert done.returncode == 0, done.stderr
    common = ("--calibrate", model, "--coverage", 0.5)
    for table, labels, words in (("train", cohort.root, "of split train"),
                                 ("calibration", cohort.root / "boneage-training-dataset.csv", "folder")):
        refused = bonexage("evaluate", tmp_path / f"{table}.csv", labels, "--out", tmp_path / "report", *common)
        assert refused.returncode == 1
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert not (tmp_path / "report").exists()
        assert model.read_bytes() == before
    done = bonexage("evaluate", tmp_path / "calibration.csv", cohort.root, "--out", tmp_path / "report", *common,
                    "--against", tmp_path / "calibration.csv")
    assert done.returncode == 0, done.stderr
    assert "0.00 [0.00, 0.00]" in done.stdout
    one = bonexage("predict", model, cohort.table["image"][0], "--sex", "F", "--out", tmp_path / "one.csv")
    assert "50% interval" in one.stdout
    other = bonexage("predict", model, cohort.table["image"][0], "--sex", "F", "--tta", "--out", tmp_path / "one.csv")
    assert other.returncode == 0
    assert "1 predictions without an interval" in other.stderr
    assert "calibrated without --tta" in other.stderr
    again = bonexage("predict", model, cohort.root, "--split", "test", "--out", tmp_path / "test.csv", "--resume")
    assert again.returncode == 0, again.stderr
    judged = bonexage("evaluate", tmp_path / "test.csv", cohort.root, "--out", tmp_path / "report")
    assert judged.returncode == 0, judged.stderr
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert "of splits that neither trained, selected nor calibrated" in page


@pytest.mark.slow
def test_the_labels_of_other_films_of_the_same_ids_are_refused(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    """Two cohorts that count from one number, one that was changed after the prediction, and a moved one."""
    model = tmp_path / "model.safetensors"
    shutil.copy(run / "model.safetensors", model)
    shutil.copytree(cohort.root, tmp_path / "mine")
    write_cohort(tmp_path / "other", len(cohort), seed=5, workers=1)
    for data in ("mine", "other"):
        assert bonexage("predict", model, tmp_path / data, "--split", "calibration",
                        "--out", tmp_path / f"{data}.csv").returncode == 0
    count, before = len(cohort.split("calibration")), model.read_bytes()

    def evaluate(*words: object) -> str:
        done = bonexage("evaluate", *words, "--out", tmp_path / "report")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "report").exists()
        assert model.read_bytes() == before
        return done.stderr

    table = tmp_path / "mine.csv"
    for options in ((), ("--calibrate", model, "--coverage", 0.5)):
        assert f"{count} of {count} films are others" in evaluate(table, tmp_path / "other", *options)
    assert f"{count} of {count} films" in evaluate(table, tmp_path / "mine", "--against", tmp_path / "other.csv")
    labels = tmp_path / "mine" / "boneage-training-dataset.csv"
    assert f"{count} of {count} films" in evaluate(table, labels, "--against", tmp_path / "other.csv")

    description = json.loads(table.with_suffix(".json").read_text())
    for hashes in (description["films_sha256"][1:], ["x"] * count, "none", [1] * count):
        table.with_suffix(".json").write_text(json.dumps({**description, "films_sha256": hashes}))
        assert "predict again" in evaluate(table, tmp_path / "mine")
    table.with_suffix(".json").write_text(json.dumps(description))
    (tmp_path / "mine").rename(tmp_path / "moved")
    films = load_cohort(tmp_path / "moved").split("calibration")
    Path(films["image"][0]).unlink()  # cannot be compared
    assert bonexage("evaluate", table, tmp_path / "moved", "--out", tmp_path / "report").returncode == 0
    shutil.rmtree(tmp_path / "report")
    shutil.copy(films["image"][1], films["image"][2])
    assert f"1 of {count} films are others of the same id, e.g. {films['id'][2]}: " in evaluate(
        table, tmp_path / "moved")


@pytest.mark.slow
def test_a_calibration_is_the_last_thing_written(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    model, report = tmp_path / "model.safetensors", tmp_path / "report"
    shutil.copy(run / "model.safetensors", model)
    before = model.read_bytes()
    done = bonexage("predict", model, cohort.root, "--split", "calibration", "--out", tmp_path / "p.csv")
    assert done.returncode == 0
    report.mkdir()
    (report / "stress.csv").write_text("a,b\n1,2\n")
    words = ("evaluate", tmp_path / "p.csv", cohort.root, "--out", report, "--coverage", 0.5, "--calibrate")
    done = bonexage(*words, model)
    assert (done.returncode, model.read_bytes()) == (1, before)
    assert "stress.csv" in done.stderr
    (report / "stress.csv").unlink()
    tensors, description = _read(model, DESCRIPTION)
    other = tmp_path / "other.safetensors"
    _write(other, {name: 2 * tensor for name, tensor in tensors.items()}, description)
    done = bonexage(*words, other)
    assert "another network" in done.stderr
    assert list(report.iterdir()) == []
    assert bonexage(*words, model).returncode == 0
    assert model.read_bytes() != before


@pytest.mark.slow
def test_films_that_trained_do_not_calibrate_under_other_ids(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    """A label table that was numbered anew is another table, and splits its films otherwise."""
    model = Path(shutil.copy(run / "model.safetensors", tmp_path / "model.safetensors"))  # away from its run
    data = tmp_path / "data"
    write_cohort(data, len(cohort), seed=6, workers=1)
    words = ("evaluate", tmp_path / "p.csv", data, "--out", tmp_path / "report", "--calibrate", model,
             "--coverage", 0.5)

    def predicted() -> bool:
        return bonexage("predict", model, data, "--split", "calibration", "--out", tmp_path / "p.csv").returncode == 0

    assert predicted()
    assert bonexage(*words).returncode == 0, "films of another hospital"
    shutil.rmtree(data)
    shutil.rmtree(tmp_path / "report")
    (data / "boneage-training-dataset").mkdir(parents=True)
    lines = ["id,boneage,male"]
    for number, row in enumerate(cohort.table.itertuples()):
        shutil.copy(row.image, data / "boneage-training-dataset" / f"new{number}.png")
        lines.append(f"new{number},{row.months},{row.sex == 'M'}")
    (data / "boneage-training-dataset.csv").write_text("\n".join(lines) + "\n")
    assert predicted()
    before = model.read_bytes()
    done = bonexage(*words)
    known = set(cohort.table.loc[cohort.table["split"].isin(["train", "selection"])].index)
    count = sum(int(film.removeprefix("new")) in known for film in load_cohort(data).split("calibration")["id"])
    assert count
    assert done.stderr.startswith(f"bonexage: {count} of these films are, under other ids, among those ")
    assert (done.stderr.count("\n"), done.returncode, model.read_bytes()) == (1, 1, before)
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_films_predicted_with_another_sex_are_not_evaluated(cohort: Cohort, tmp_path: Path) -> None:
    """One that was predicted without a sex is, and is said."""
    right = cohort.table.assign(bone_age_months=60.0)[["id", "sex", "bone_age_months"]]
    other, unknown = right.copy(), right.copy()
    other.loc[:1, "sex"] = other.loc[:1, "sex"].map({"F": "M", "M": "F"})
    unknown.loc[:2, "sex"] = ""
    words = ("evaluate", tmp_path / "p.csv", cohort.root, "--out", tmp_path / "report")
    for against in (False, True):
        (right if against else other).to_csv(tmp_path / "p.csv", index=False)
        other.to_csv(tmp_path / "other.csv", index=False)
        done = bonexage(*words, *(["--against", tmp_path / "other.csv"] if against else []))
        assert done.returncode == 1
        film, said, labelled = other.loc[0, "id"], other.loc[0, "sex"], right.loc[0, "sex"]
        assert done.stderr.startswith(f"bonexage: 2 of {len(right)} films were predicted with another sex than their "
                                      f"label's, e.g. {film} as {said}, labelled {labelled}: ")
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "report").exists()
    unknown.to_csv(tmp_path / "p.csv", index=False)
    done = bonexage(*words)
    assert done.returncode == 0
    assert "\n3 films were predicted without their sex being known\n" in done.stdout
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["films_by_split"]


@pytest.mark.parametrize("call", [
    ["phantom", "", "--n", 3], ["check", ""], ["check", "data", "--out", ""], ["train", "data", "--out="],
    ["predict", "model.safetensors", "film.png", "--out", ""], ["export", "model.safetensors", "--out="], [""],
])
def test_an_empty_argument_is_not_the_working_directory(tmp_path: Path, call: list) -> None:
    """Of a shell variable that is not set."""
    done = bonexage(*call, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "an argument is empty" in done.stderr
    assert not list(tmp_path.iterdir())


NO_TORCH = """
import sys
from bonexage_utils import __main__
sys.argv = ["bonexage", *sys.argv[1:]]
try:
    __main__.main()
except SystemExit as end:
    assert "torch" not in sys.modules, "torch was imported"
    raise
"""


def without_torch(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own that fails if torch is imported."""
    return subprocess.run([sys.executable, "-c", NO_TORCH, *map(str, words)], cwd=cwd, capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.slow
@pytest.mark.parametrize(("words", "status", "said"), [
    ("predict model.safetensors film.png --sex x", 1, "--sex x: unknown"),
    ("predict absent.safetensors film.png --sex F", 1, "absent.safetensors: no such file"),
    ("predict junk.png film.png --sex F", 1, "junk.png: not a whole safetensors file"),
    ("predict cut.safetensors film.png --sex F", 1, "cut.safetensors: not a whole safetensors file"),
    ("predict model.safetensors empty --sex F", 1, "no film found"),
    ("predict model.safetensors absent.csv", 1, "absent.csv: no such file"),
    ("predict model.safetensors film.png --sex F --out film.png", 1, "film.png: holds something else"),
    ("predict model.safetensors empty --split test", 1, "needs a cohort"),
    ("predict model.safetensors film.png --sex F --device gpu", 2, "'gpu' is none"),
    ("predict model.safetensors film.png --sex F --workers 0", 2, "--workers"),
    ("predict model.safetensors", 2, "INPUT"),
    ("stress absent.safetensors data --out report", 1, "absent.safetensors: no such file"),
    ("export junk.png", 1, "junk.png: not a whole safetensors file"),
    ("--version", 0, ""),
    # every film keeps its row, though none can be predicted
    ("predict model.safetensors absent.png --sex F --out p.csv", 1, "absent.png: no such file"),
    ("predict model.safetensors junk.png absent.png --sex F --out p.csv", 1, "junk.png: not a readable image"),
    ("predict model.safetensors film.png --out p.csv", 1, "sex unknown"),
])
def test_what_can_be_refused_is_refused_before_torch_is_imported(run: Path, cohort: Cohort, tmp_path: Path, words: str,
                                                                 status: int, said: str) -> None:
    whole = (run / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole)
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    (tmp_path / "junk.png").write_bytes(b"junk" * 99)
    (tmp_path / "empty").mkdir()
    shutil.copy(cohort.table["image"][0], tmp_path / "film.png")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    done = without_torch(*words.split(), cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    after = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    table = after.pop(tmp_path / "p.csv", None)
    assert after == before
    assert (table is not None) == ("p.csv" in words)
    if table:
        rows = pd.read_csv(tmp_path / "p.csv")
        assert len(rows) == words.count(".png")
        assert rows["error"].notna().all()
        assert list(rows) == COLUMNS


def test_the_version_is_said() -> None:
    done = bonexage("--version")
    assert (done.returncode, done.stdout) == (0, f"bonexage {__version__}\n")


@pytest.mark.slow
def test_empty_splits_and_the_median_by_sex_are_told(cohort: Cohort, tmp_path: Path) -> None:
    """A cohort whose calibration and test splits lost their films."""
    data = tmp_path / "data"
    shutil.copytree(cohort.root, data)
    kept = cohort.table[cohort.table["split"].isin(["train", "selection"])]
    lines = ["id,boneage,male", *(f"{row.id},{row.months},{row.sex == 'M'}" for row in kept.itertuples())]
    (data / "boneage-training-dataset.csv").write_text("\n".join(lines) + "\n")
    for root, warned in ((cohort.root, []), (data, ["calibration", "test"])):
        done = bonexage("train", root, "--out", tmp_path / root.name / "run", *TRAIN)
        assert done.returncode == 0, done.stderr
        train = cohort.split("train")
        for sex, name in (("F", "girls"), ("M", "boys")):
            assert f"{name} {train.loc[train['sex'] == sex, 'months'].median():.0f}" in done.stdout.splitlines()[0]
        assert re.findall(r"no labelled film in split (\w+)", done.stderr) == warned
    model = tmp_path / "data" / "run" / "model.safetensors"
    refused = bonexage("stress", model, data, "--out", tmp_path / "report")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_stress_and_calibration_without_a_test_split_say_so(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    data, model = tmp_path / "data", tmp_path / "model.safetensors"
    shutil.copytree(cohort.root, data)
    shutil.copy(run / "model.safetensors", model)
    assert bonexage("predict", model, data, "--split", "calibration", "--out", tmp_path / "p.csv").returncode == 0
    words = {"stress": [model, data], "evaluate": [tmp_path / "p.csv", data, "--calibrate", model, "--coverage", 0.5]}

    def told() -> list[list[str]]:
        said = []
        for command, arguments in words.items():
            done = bonexage(command, *arguments, "--out", tmp_path / command)
            assert done.returncode == 0, done.stderr
            said.append(re.findall(r"no labelled film in split (\w+)", done.stderr))
        return said

    assert told() == [[], []]
    kept = cohort.table[cohort.table["split"] != "test"]
    lines = ["id,boneage,male", *(f"{row.id},{row.months},{row.sex == 'M'}" for row in kept.itertuples())]
    (data / "boneage-training-dataset.csv").write_text("\n".join(lines) + "\n")
    assert told() == [["test"], ["test"]]


@pytest.mark.slow
def test_a_checkpoint_is_published_whole(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    model, report = tmp_path / "model.safetensors", tmp_path / "report"
    shutil.copy(run / "model.safetensors", model)
    for split, options in (("calibration", ["--calibrate", model, "--coverage", 0.5]), ("test", [])):
        bonexage("predict", model, cohort.root, "--split", split, "--out", tmp_path / f"{split}.csv")
        assert bonexage("evaluate", tmp_path / f"{split}.csv", cohort.root, "--out", report, *options).returncode == 0
    mae = json.loads((report / "metrics.json").read_text())["scores"]["mae"]["value"]
    with open(report / "model_card.md", "a", encoding="utf-8") as card:
        card.write("\nFunding: none.\n")  # what a person adds is published
    for name, options, licence in (("bare", [], "unknown"), ("whole", ["--report", report], "unknown"),
                                   ("licensed", ["--report", report, "--license", "cc-by-nc-4.0"], "cc-by-nc-4.0")):
        out = tmp_path / name
        done = bonexage("card", model, "--out", out, *options)
        assert done.returncode == 0, done.stderr
        assert {path.name for path in out.iterdir()} == {"model.safetensors", "README.md", "config.json", "SHA256SUMS"}
        sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
        assert sums == {file: hashlib.sha256((out / file).read_bytes()).hexdigest()
                        for file in ("model.safetensors", "README.md", "config.json")}
        assert (out / "model.safetensors").read_bytes() == model.read_bytes()
        assert json.loads((out / "config.json").read_text())["model"]["backbone"] == "test_convnext"
        text = (out / "README.md").read_text(encoding="utf-8")
        head = ModelCard(text, ignore_metadata_errors=False).data
        assert (head.license, head.library_name, head.metrics) == (licence, "bonexage", ["mae"])
        assert [result.metric_value for result in head.eval_results or []] == (
            [] if name == "bare" else [pytest.approx(mae, abs=0.005)])
        assert ("Funding: none." in text) == (name != "bare")
        predicted = bonexage("predict", out / "model.safetensors", cohort.table["image"][0], "--sex", "F",
                             "--out", tmp_path / "p.csv")
        assert "50% interval" in predicted.stdout


@pytest.mark.slow
def test_a_report_of_another_network_or_none_is_not_published(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    model, other = tmp_path / "model.safetensors", tmp_path / "other.safetensors"
    shutil.copy(run / "model.safetensors", model)
    tensors, description = _read(model, DESCRIPTION)
    _write(other, {name: 2 * tensor for name, tensor in tensors.items()}, description)
    bonexage("predict", model, cohort.root, "--split", "test", "--out", tmp_path / "p.csv")
    report = tmp_path / "report"
    assert bonexage("evaluate", tmp_path / "p.csv", cohort.root, "--out", report).returncode == 0
    (tmp_path / "p.json").unlink()
    unknown = tmp_path / "unknown"
    assert bonexage("evaluate", tmp_path / "p.csv", cohort.root, "--out", unknown).returncode == 0
    (tmp_path / "empty").mkdir()
    for words, said in (([other, "--report", report], "of another network"),
                        ([model, "--report", unknown], "JSON file"),
                        ([model, "--report", tmp_path / "empty"], "no usable report"),
                        ([model, "--license", "MIT or so"], "a hub's name"), ([tmp_path / "p.csv"], "safetensors"),
                        ([model, "--license", "mit\n- x"], "a hub's name")):
        done = bonexage("card", *words, "--out", tmp_path / "out")
        assert done.returncode == 1
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()
    done = bonexage("card", model, "--out", report)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is there already" in done.stderr


@pytest.mark.slow
def test_a_prediction_imports_neither_statistics_nor_figures(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    program = NO_TORCH.replace('assert "torch" not in sys.modules, "torch was imported"',
                               'print(sorted({"accelerate", "matplotlib", "scipy.stats"} & set(sys.modules)))')
    done = subprocess.run([sys.executable, "-c", program, "predict", str(run / "model.safetensors"),
                           cohort.table["image"][0], "--sex", "F"], cwd=tmp_path, capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
