"""What is published: a card that fits the checkpoint beside it, under the license that was said."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from bonexage_utils.calibration import Calibration
from bonexage_utils.checkpoints import load_model, set_calibration
from bonexage_utils.cohort import Cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import evaluate, read_predicted
from bonexage_utils.prediction import Predictor, predict_to_file
from bonexage_utils.report.page import write_report
from bonexage_utils.report.publish import publish


@pytest.fixture
def evaluated(run: Path, cohort: Cohort, tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint, and the report of its predictions."""
    model = Path(shutil.copy(run / "model.safetensors", tmp_path))
    films = cohort.split("test")[["id", "image", "sex"]].assign(error="")
    predict_to_file(Predictor(model, "cpu"), films, tmp_path / "p.csv")
    table, provenance = read_predicted(tmp_path / "p.csv")
    write_report(evaluate(table, cohort.table), tmp_path / "report", provenance)
    return model, tmp_path / "report"


@pytest.mark.parametrize("written", ["license: unknown  # say", "license:\n- mit\n- x", "license:\n  - mit", "",
                                     "license : x"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_license_that_was_said_is_the_cards(evaluated: tuple[Path, Path], tmp_path: Path, written: str,
                                                mark: str) -> None:
    model, report = evaluated
    lines = (report / "model_card.md").read_text(encoding="utf-8").splitlines()
    assert lines[1].startswith("license: unknown")
    edited = "\n".join([lines[0], lines[2], *([written] if written else []), *lines[3:], "license: of something else"])
    (report / "model_card.md").write_text(mark + edited, encoding="utf-8")
    card = (publish(model, tmp_path / "out", report, "cc-by-4.0") / "README.md").read_text(encoding="utf-8")
    start, head, text = card.split("---\n", 2)
    assert start == ""
    assert yaml.safe_load(head)["license"] == "cc-by-4.0"
    assert yaml.safe_load(head)["library_name"] == "bonexage"
    assert text.endswith("license: of something else")


@pytest.mark.parametrize("word", ["null", "true", "no", "1.0", "0x1f", "1e3"])
def test_a_license_that_yaml_reads_as_no_text_is_refused(run: Path, tmp_path: Path, word: str) -> None:
    with pytest.raises(BoneXageError, match="give a hub's name"):
        publish(run / "model.safetensors", tmp_path / "out", license=word)
    assert not (tmp_path / "out").exists()


def test_the_card_of_an_earlier_network_is_refused(evaluated: tuple[Path, Path], tmp_path: Path) -> None:
    # As an evaluation leaves it that was killed between the two files.
    model, report = evaluated
    card = report / "model_card.md"
    network = json.loads((report / "metrics.json").read_text())["network_sha256"]
    card.write_text(card.read_text(encoding="utf-8").replace(network, "0" * 64), encoding="utf-8")
    with pytest.raises(BoneXageError, match="does not name this network"):
        publish(model, tmp_path / "out", report)


def test_a_card_with_other_intervals_than_the_checkpoints_is_refused(evaluated: tuple[Path, Path],
                                                                     tmp_path: Path) -> None:
    model, report = evaluated
    calibration = Calibration(0.9, False, 240.0, 63, {"calibration": 63}, 20.0, [0, 60, 120, 180, 241],
                              {sex: [None] * 4 for sex in "FM"})
    set_calibration(model, load_model(model)[2]["network_sha256"], asdict(calibration))
    with pytest.raises(BoneXageError, match="other intervals"):
        publish(model, tmp_path / "out", report)


def test_what_a_killed_publication_left_is_removed(run: Path, tmp_path: Path) -> None:
    left = tmp_path / ".out.0123abcd.part"
    left.mkdir()
    (left / "model.safetensors").touch()
    publish(run / "model.safetensors", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
