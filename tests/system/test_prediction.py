"""Predictions: every film its row, the sex that was given, the checkpoint's own preprocessing."""

import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bonexage_utils import images, prediction
from bonexage_utils.batches import film_sets
from bonexage_utils.calibration import Calibration
from bonexage_utils.checkpoints import load_model, set_calibration
from bonexage_utils.cohort import Cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import read_predictions
from bonexage_utils.inputs import list_films
from bonexage_utils.prediction import COLUMNS, VIEWS, Predictor, format_age, moved, predict_to_file, save_predictions


@pytest.fixture(scope="session")
def predictor(run: Path) -> Predictor:
    return Predictor(run / "model.safetensors", device="cpu")


@pytest.fixture
def films(cohort: Cohort) -> pd.DataFrame:
    return cohort.table[["id", "image", "sex"]].head(10).assign(error="")


@pytest.mark.parametrize(("months", "text"), [
    (126.5, "10 years 6 months"), (119.99, "10 years 0 months"), (0.2, "0 years 0 months"), (12, "1 year 0 months"),
    (13, "1 year 1 month"), (23.6, "2 years 0 months"), (240, "20 years 0 months"),
])
def test_ages_are_rounded_not_cut(months: float, text: str) -> None:
    """Fault 14: integer truncation makes 119.99 "9 years 11 months"."""
    assert format_age(months) == text


@given(st.floats(0, 240))
def test_a_written_age_is_at_most_half_a_month_off(months: float) -> None:
    years, _, rest, _ = format_age(months).split()
    assert abs(int(years) * 12 + int(rest) - months) <= 0.5
    assert int(rest) < 12


@pytest.mark.parametrize(("months", "text"), [
    (-5, "minus 0 years 5 months"), (-17, "minus 1 year 5 months"), (-0.4, "0 years 0 months"),
    (-12, "minus 1 year 0 months"),
])
def test_an_age_below_zero_is_written_as_one(months: float, text: str) -> None:
    assert format_age(months) == text


@pytest.mark.parametrize("months", [float("nan"), float("inf"), -float("inf")])
def test_an_age_that_is_no_number_is_refused(months: float) -> None:
    with pytest.raises(BoneXageError, match="give a number"):
        format_age(months)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_network_that_gives_no_number_gives_no_age(predictor: Predictor, films: pd.DataFrame, value: float,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "months_and_unfamiliar",
                        lambda self, films, sexes: (np.array([100.0, value]), np.zeros(len(films), bool)))
    table = predictor.predict(films.head(2))
    assert table["bone_age"].tolist()[0] == "8 years 4 months"
    assert table["bone_age"].isna().tolist() == table["error"].ne("").tolist() == [False, True]


@pytest.mark.parametrize("batch_size", [10, 11, 10**30])
def test_a_batch_may_be_larger_than_all_films(predictor: Predictor, films: pd.DataFrame, batch_size: int) -> None:
    assert predictor.predict(films, batch_size)["bone_age_months"].notna().all()


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_of_no_film_is_refused(predictor: Predictor, films: pd.DataFrame, batch_size: int) -> None:
    with pytest.raises(BoneXageError, match="--batch-size"):
        predictor.predict(films, batch_size)


def test_every_film_has_its_row_in_order(predictor: Predictor, films: pd.DataFrame) -> None:
    table = predictor.predict(films)
    assert list(table.columns) == COLUMNS
    assert table["id"].tolist() == films["id"].tolist()
    assert table["bone_age_months"].between(0, 240).all()
    assert (table["error"] == "").all()
    assert table["low_months"].isna().all()


def test_one_bad_film_costs_no_other_its_row(predictor: Predictor, films: pd.DataFrame, tmp_path: Path) -> None:
    """Fault 14: one bad file ends the batch."""
    whole = predictor.predict(films)
    (tmp_path / "junk.png").write_bytes(b"junk")
    films.loc[3, "image"] = str(tmp_path / "absent.png")
    films.loc[7, "image"] = str(tmp_path / "junk.png")
    table = predictor.predict(films, batch_size=4)
    assert len(table) == 10
    assert table["error"].ne("").tolist() == [i in (3, 7) for i in range(10)]
    assert table["bone_age_months"].isna().tolist() == [i in (3, 7) for i in range(10)]
    rest = [i for i in range(10) if i not in (3, 7)]
    np.testing.assert_allclose(table.loc[rest, "bone_age_months"], whole.loc[rest, "bone_age_months"], atol=0.02)


def test_one_by_one_and_in_batches_agree(predictor: Predictor, films: pd.DataFrame) -> None:
    one, many = predictor.predict(films, batch_size=1), predictor.predict(films, batch_size=10)
    np.testing.assert_allclose(one["bone_age_months"], many["bone_age_months"], atol=0.02)


def test_the_network_is_built_once(run: Path, films: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 14: the model built and loaded again for every image."""
    loads = []
    whole = prediction.load_model
    monkeypatch.setattr(prediction, "load_model", lambda path: loads.append(path) or whole(path))
    Predictor(run / "model.safetensors", "cpu").predict(films, batch_size=2)
    assert len(loads) == 1


def test_prediction_repeats_the_preprocessing_of_training(predictor: Predictor, cohort: Cohort, run: Path) -> None:
    """Fault 3: another mean, size or resize at inference. The selection error in the log is the witness."""
    part = cohort.split("selection")
    table = predictor.predict(part[["id", "image", "sex"]].assign(error=""))
    mae = (table["bone_age_months"] - part["months"]).abs().mean()
    assert mae == pytest.approx(predictor.description["training"]["selection_mae_months"], abs=0.01)


def test_the_stated_sex_reaches_the_network(predictor: Predictor, films: pd.DataFrame) -> None:
    """Fault 17: a service that ignored the sex; fault 11: one sex for a whole batch."""
    girls = predictor.predict(films.assign(sex="F"))["bone_age_months"]
    boys = predictor.predict(films.assign(sex="M"))["bone_age_months"]
    assert (girls != boys).all()
    mixed = predictor.predict(films.assign(sex=["F", "M"] * 5))["bone_age_months"]
    np.testing.assert_allclose(mixed, np.where(np.arange(10) % 2 == 0, girls, boys), atol=0.02)


def test_an_unknown_sex_is_an_error_or_on_request_the_mean(run: Path, predictor: Predictor,
                                                           films: pd.DataFrame) -> None:
    unknown = films.assign(sex="")
    refused = predictor.predict(unknown)
    assert refused["error"].str.contains("--sex").all()
    assert refused["bone_age_months"].isna().all()
    mean = Predictor(run / "model.safetensors", "cpu", unknown_sex="mean").predict(unknown)["bone_age_months"]
    both = [predictor.predict(films.assign(sex=sex))["bone_age_months"] for sex in "FM"]
    np.testing.assert_allclose(mean, (both[0] + both[1]) / 2, atol=0.02)


@pytest.mark.parametrize(("right", "down"), [(0.25, 0.0), (-0.25, 0.0), (0.0, 0.5), (-0.25, -0.5), (0.1, 0.1)])
def test_moved_images_lose_only_what_leaves_the_frame(right: float, down: float) -> None:
    image = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    dx, dy = round(4 * right), round(4 * down)
    for y in range(4):
        for x in range(4):
            inside = 0 <= y - dy < 4 and 0 <= x - dx < 4
            assert moved(image, right, down)[0, 0, y, x] == (image[0, 0, y - dy, x - dx] if inside else 0.0)


def test_test_time_augmentation_is_the_mean_over_moved_films(predictor: Predictor, run: Path, cohort: Cohort) -> None:
    films = film_sets(cohort, ("train",), predictor.preprocessing.image_size)[0]["train"].films[:3]
    said = []
    for right, down in VIEWS:
        views = moved(torch.from_numpy(np.array(films))[:, None], right, down)[:, 0].numpy()
        said.append(predictor.months(views, ["F", "M", "F"]))
    with_tta = Predictor(run / "model.safetensors", "cpu", tta=True).months(films, ["F", "M", "F"])
    assert len(said) == len(VIEWS) == 9
    assert not np.allclose(said[0], with_tta)
    np.testing.assert_allclose(with_tta, np.mean(said, 0), atol=1e-3)


def test_what_said_so_stands_beside_the_table(predictor: Predictor, films: pd.DataFrame, tmp_path: Path) -> None:
    save_predictions(predictor.predict(films), predictor, tmp_path / "out" / "predictions.csv")
    told = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert told["sha256"] == hashlib.sha256(predictor.path.read_bytes()).hexdigest()
    assert pd.read_csv(tmp_path / "out" / "predictions.csv").shape == (10, len(COLUMNS))


NAMES = [b"=1+1", b"-5", b"NA", b"nan", b"$x$", b"e\xcc\x81", b"\xff\xfe", b"a\nb", b"a\rb", b"x" * 240]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_every_name_of_a_file_has_its_row_and_comes_back(predictor: Predictor, films: pd.DataFrame,
                                                         tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for name, image in zip(NAMES, films["image"], strict=True):
        shutil.copy(image, os.fsdecode(os.fsencode(folder) + b"/" + name + b".png"))
    listed = list_films([str(folder)], sex="M")
    made = predict_to_file(predictor, listed, tmp_path / "p.csv")
    assert made["bone_age_months"].notna().all()
    text = (tmp_path / "p.csv").read_bytes().decode()
    assert text.count("\n") == len(NAMES) + 1
    back = read_predictions(tmp_path / "p.csv")
    assert set(back["id"]) == {"=1+1", "-5", "NA", "nan", "$x$", "\u00e9", r"\udcff\udcfe", r"a\nb", r"a\rb", "x" * 240}
    assert back["id"].tolist() == listed["id"].tolist()
    assert back["bone_age_months"].tolist() == made["bone_age_months"].tolist()
    again = predict_to_file(predictor, listed, tmp_path / "p.csv", resume=True)
    pd.testing.assert_frame_equal(again, made)
    assert (tmp_path / "p.csv").read_bytes().decode() == text


def counted(monkeypatch: pytest.MonkeyPatch, die_at: int = 10**9) -> list[str]:
    """The films that are read from now on, one at a time; reading the `die_at`-th asks for a stop."""
    seen: list[str] = []
    read = images.read_gray

    def watched(path: str) -> np.ndarray:
        seen.append(path)
        if len(seen) == die_at:
            os.kill(os.getpid(), signal.SIGINT)
        return read(path)

    monkeypatch.setattr(images, "read_gray", watched)
    monkeypatch.setattr(prediction, "films_ahead", lambda *_: 1)
    return seen


def test_resuming_skips_what_is_done_and_tries_again_what_failed(
        predictor: Predictor, films: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films.loc[3, "image"] = str(tmp_path / "later.png")
    out = tmp_path / "predictions.csv"
    first = predict_to_file(predictor, films.head(6), out)
    assert first["error"].ne("").tolist() == [False] * 3 + [True] + [False] * 2
    shutil.copy(films["image"][0], tmp_path / "later.png")
    seen = counted(monkeypatch)
    table = predict_to_file(predictor, films, out, resume=True)
    assert seen == films["image"][[3, 6, 7, 8, 9]].tolist()
    assert table["id"].tolist() == films["id"].tolist()
    assert (table["error"] == "").all()
    pd.testing.assert_frame_equal(table.drop(index=3).head(5), first.drop(index=3))
    seen.clear()
    predict_to_file(predictor, films, out)
    assert len(seen) == 10, "without --resume everything is done again"
    out.write_text(out.read_text().replace("years", "Years"))
    seen.clear()
    predict_to_file(predictor, films, out, resume=True)
    assert len(seen) == 10, "a table that was changed by hand is not taken for predictions"


def test_a_stop_keeps_what_is_done(predictor: Predictor, films: pd.DataFrame, tmp_path: Path,
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predict_to_file(predictor, films, tmp_path / "whole.csv")
    seen = counted(monkeypatch, die_at=5)
    with pytest.raises(BoneXageError, match="--resume"):
        predict_to_file(predictor, films, tmp_path / "p.csv", batch_size=2)
    assert not (tmp_path / "p.csv").exists()
    before = len(seen)
    table = predict_to_file(predictor, films, tmp_path / "p.csv", batch_size=2, resume=True)
    assert len(seen) - before <= 6
    pd.testing.assert_frame_equal(table, whole, atol=0.02)


@pytest.mark.slow
@given(st.lists(st.integers(0, 5), min_size=4, max_size=4), st.lists(st.integers(0, 5), min_size=4, max_size=4),
       st.permutations(range(4)), st.lists(st.sampled_from("MF"), min_size=4, max_size=4), st.booleans())
@settings(max_examples=20)
def test_resuming_gives_what_predicting_anew_gives(
        predictor: Predictor, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory, before: list[int],
        after: list[int], order: list[int], sexes: list[str], whole: bool) -> None:
    """Whatever lies under a path now, whatever lay there before: finished or stopped, in any order, with any sex."""
    folder = tmp_path_factory.mktemp("films")
    paths = [folder / f"{number}.png" for number in range(4)]
    listed = pd.DataFrame({"id": list("abcd"), "image": list(map(str, paths)), "sex": "F", "error": ""})
    for contents, path in zip(before, paths, strict=True):
        shutil.copy(cohort.table["image"][contents], path)
    if whole:
        predict_to_file(predictor, listed, folder / "p.csv", batch_size=2)
    else:
        with pytest.MonkeyPatch.context() as patch:
            counted(patch, die_at=3)
            with pytest.raises(BoneXageError, match="--resume"):
                predict_to_file(predictor, listed, folder / "p.csv", batch_size=2)
    for contents, path in zip(after, paths, strict=True):
        shutil.copy(cohort.table["image"][contents], path)
        os.utime(path, ns=(1, 1))
    listed = listed.iloc[order].reset_index(drop=True).assign(sex=sexes)
    table = predict_to_file(predictor, listed, folder / "p.csv", batch_size=2, resume=True)
    pd.testing.assert_frame_equal(table, predict_to_file(predictor, listed, folder / "anew.csv"), atol=0.02)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_film_replaced_since_is_predicted_anew_and_named(predictor: Predictor, cohort: Cohort, films: pd.DataFrame,
                                                           tmp_path: Path, stopped: bool,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (0, 1, 2):
        films.loc[number, "image"] = str(shutil.copy(films["image"][number], tmp_path / f"{number}.png"))
    out, told = tmp_path / "p.csv", []
    if stopped:
        counted(monkeypatch, die_at=5)
        with pytest.raises(BoneXageError, match="--resume"):
            predict_to_file(predictor, films, out, batch_size=2)
    else:
        predict_to_file(predictor, films, out)
    shutil.copy(cohort.table["image"][20], films["image"][1])
    seen = counted(monkeypatch)
    table = predict_to_file(predictor, films, out, resume=True, tell=told.append)
    assert films["image"][1] in seen
    assert not {films["image"][0], films["image"][2]} & set(seen)
    expected = predictor.predict(films.loc[[1]])["bone_age_months"][0]
    assert table["bone_age_months"][1] == pytest.approx(expected, abs=0.02)
    assert len(told) == 1
    assert "films replaced under their old path: 1," in told[0]
    assert films["image"][1] in told[0]


def test_what_a_stopped_prediction_put_aside_is_kept(predictor: Predictor, films: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        counted(patch, die_at=5)
        with pytest.raises(BoneXageError, match="--resume"):
            predict_to_file(predictor, films, tmp_path / "p.csv", batch_size=2)
    (part,) = (tmp_path / ".p.csv.parts").iterdir()
    with pytest.raises(BoneXageError, match=r"put films aside.*--resume.*remove .*\.p\.csv\.parts"):
        predict_to_file(predictor, films, tmp_path / "p.csv")
    assert part.exists()
    assert len(predict_to_file(predictor, films, tmp_path / "p.csv", resume=True)) == len(films)
    assert not part.parent.exists()
    predict_to_file(predictor, films, tmp_path / "p.csv")  # a finished one is made anew


@pytest.mark.parametrize("months", ["NaN", "1e9", "-1e4", "null", '"many"', "[]"])
def test_an_age_put_aside_that_is_none_is_refused(predictor: Predictor, films: pd.DataFrame, tmp_path: Path,
                                                  months: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        counted(patch, die_at=5)
        with pytest.raises(BoneXageError, match="--resume"):
            predict_to_file(predictor, films, tmp_path / "p.csv", batch_size=2)
    (part,) = (tmp_path / ".p.csv.parts").iterdir()
    part.write_text(re.sub(r'"bone_age_months": [0-9.]+', f'"bone_age_months": {months}', part.read_text(), count=1))
    with pytest.raises(BoneXageError, match="cannot be gone on with"):
        predict_to_file(predictor, films, tmp_path / "p.csv", resume=True)


def test_one_path_in_two_places_is_two_films(predictor: Predictor, films: pd.DataFrame, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    ages = []
    for number, site in enumerate(("a", "b")):
        (tmp_path / site).mkdir()
        shutil.copy(films["image"][number], tmp_path / site / "hand.png")
        monkeypatch.chdir(tmp_path / site)
        listed = list_films(["hand.png"], sex="F")
        ages.append(predict_to_file(predictor, listed, tmp_path / "p.csv", resume=True)["bone_age_months"][0])
        expected = predictor.predict(films.loc[[number]].assign(sex="F"))["bone_age_months"][0]
        assert ages[-1] == pytest.approx(expected, abs=0.02)
    assert ages[0] != ages[1]


def test_films_that_moved_are_not_read_again(predictor: Predictor, films: pd.DataFrame, tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    first = predict_to_file(predictor, films, tmp_path / "p.csv")
    moved_films = films.assign(id=[f"new {film}" for film in films["id"]], image=[
        str(shutil.copy(path, tmp_path / f"{number}.png")) for number, path in enumerate(films["image"])])
    seen, told = counted(monkeypatch), []
    table = predict_to_file(predictor, moved_films, tmp_path / "p.csv", resume=True, tell=told.append)
    assert seen == told == []
    assert table["id"].tolist() == moved_films["id"].tolist()
    assert table["image"].tolist() == moved_films["image"].tolist()
    pd.testing.assert_series_equal(table["bone_age_months"], first["bone_age_months"])


def test_a_film_that_changes_while_it_is_read_gets_no_age(predictor: Predictor, films: pd.DataFrame, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    films.loc[3, "image"] = str(shutil.copy(films["image"][3], tmp_path / "racing.png"))
    read, other = images.read_gray, films["image"][7]

    def racing(path: str) -> np.ndarray:
        film = read(path)
        if path == films["image"][3]:
            shutil.copy(other, path)
        return film

    monkeypatch.setattr(images, "read_gray", racing)
    first = predict_to_file(predictor, films, tmp_path / "p.csv")
    assert first["error"].str.contains("changed while it was read").tolist() == [row == 3 for row in range(10)]
    monkeypatch.setattr(images, "read_gray", read)
    table = predict_to_file(predictor, films, tmp_path / "p.csv", resume=True)
    assert table["bone_age_months"][3] == pytest.approx(predictor.predict(
        films.loc[[7]].assign(sex=films["sex"][3]))["bone_age_months"][0], abs=0.02)


def test_hashes_stand_beside_the_table_in_the_order_of_its_rows(predictor: Predictor, films: pd.DataFrame,
                                                                tmp_path: Path) -> None:
    films.loc[3, "image"] = str(tmp_path / "absent.png")
    predict_to_file(predictor, films, tmp_path / "p.csv")
    hashes = json.loads((tmp_path / "p.json").read_text())["films_sha256"]
    assert hashes == [None if row == 3 else hashlib.sha256(Path(path).read_bytes()).hexdigest()
                      for row, path in enumerate(films["image"])]


def test_a_table_without_hashes_is_not_gone_on_with(predictor: Predictor, films: pd.DataFrame, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier version wrote none: which films its rows are of, nobody knows."""
    save_predictions(predictor.predict(films), predictor, tmp_path / "p.csv")
    seen = counted(monkeypatch)
    predict_to_file(predictor, films, tmp_path / "p.csv", resume=True)
    assert seen == films["image"].tolist()


def test_a_checkpoint_that_goes_in_between_costs_no_table(run: Path, films: pd.DataFrame, tmp_path: Path) -> None:
    shutil.copy(run / "model.safetensors", tmp_path)
    own = Predictor(tmp_path / "model.safetensors", "cpu")
    (tmp_path / "model.safetensors").unlink()
    assert len(predict_to_file(own, films, tmp_path / "p.csv")) == 10
    told = json.loads((tmp_path / "p.json").read_text())
    assert told["sha256"] == hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def test_a_pipe_among_the_films_is_not_waited_for(predictor: Predictor, films: pd.DataFrame, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    films.loc[3, "image"] = str(tmp_path / "pipe.png")
    assert predictor.predict(films)["error"].ne("").tolist() == [row == 3 for row in range(10)]


@pytest.mark.parametrize("options", [{"unknown_sex": "mean"}, {"tta": True}])
def test_resuming_with_other_options_is_refused(predictor: Predictor, run: Path, films: pd.DataFrame, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch, options: dict) -> None:
    counted(monkeypatch, die_at=1)
    with pytest.raises(BoneXageError, match="--resume"):
        predict_to_file(predictor, films, tmp_path / "p.csv", batch_size=2)
    other = Predictor(run / "model.safetensors", "cpu", **options)
    with pytest.raises(BoneXageError, match="another checkpoint or options"):
        predict_to_file(other, films, tmp_path / "p.csv", resume=True)


def test_a_changed_table_is_not_credited_to_the_checkpoint(predictor: Predictor, films: pd.DataFrame,
                                                           tmp_path: Path) -> None:
    from bonexage_utils.evaluation import read_provenance

    out = tmp_path / "predictions.csv"
    predict_to_file(predictor, films, out)
    assert read_provenance(out)["sha256"] == hashlib.sha256(predictor.path.read_bytes()).hexdigest()
    out.write_text(out.read_text().replace("years", "Years"))
    with pytest.raises(BoneXageError, match="changed"):
        read_provenance(out)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError("CUDA out of memory"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried …")])
def test_out_of_memory_says_what_to_try(predictor: Predictor, films: pd.DataFrame, error: RuntimeError,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(Predictor, "months_and_unfamiliar", full)
    with pytest.raises(BoneXageError, match="try --batch-size 4"):
        predictor.predict(films, batch_size=8)


WIDTHS = Calibration(coverage=0.9, tta=False, max_age=240.0, films=100, splits={"calibration": 100}, half_width=20.0,
                     bands=[0, 60, 120, 180, 241], groups={"F": [11.0, 12.0, 13.0, 14.0], "M": [None] * 4})


@pytest.fixture
def calibrated(run: Path, tmp_path: Path) -> Path:
    """A copy of the trained checkpoint with intervals."""
    path = tmp_path / "calibrated" / "model.safetensors"
    path.parent.mkdir()
    shutil.copy(run / "model.safetensors", path)
    set_calibration(path, load_model(path)[2]["network_sha256"], asdict(WIDTHS))
    return path


def test_a_calibrated_checkpoint_gives_intervals(calibrated: Path, predictor: Predictor, films: pd.DataFrame,
                                                 tmp_path: Path) -> None:
    plain = predictor.predict(films)
    films.loc[3, "image"] = str(tmp_path / "absent.png")
    table = Predictor(calibrated, "cpu", unknown_sex="mean").predict(films.assign(sex=["F", "M", "", "F", "M"] * 2))
    has = [True, True, False, False, True, True, True, False, True, True]
    assert table["low_months"].notna().tolist() == table["high_months"].notna().tolist() == has
    assert plain["low_months"].isna().all()
    boys = table[table["sex"] == "M"]
    np.testing.assert_allclose(boys["high_months"], (boys["bone_age_months"] + 20).clip(upper=240), atol=0.01)
    girl = table.iloc[0]
    half = WIDTHS.groups["F"][int(girl["bone_age_months"] // 60)]
    assert girl["low_months"] == pytest.approx(max(0, girl["bone_age_months"] - half), abs=0.01)


def test_intervals_are_not_given_to_another_kind_of_prediction(calibrated: Path, films: pd.DataFrame) -> None:
    other = Predictor(calibrated, "cpu", tta=True)
    assert other.predict(films.head(2))["low_months"].isna().all()
    assert "without --tta" in other.no_interval


def test_resuming_after_calibration_repeats_no_film_and_renews_all_intervals(
        calibrated: Path, run: Path, films: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "p.csv"
    predict_to_file(Predictor(run / "model.safetensors", "cpu"), films.head(6), out)
    seen = counted(monkeypatch)
    table = predict_to_file(Predictor(calibrated, "cpu"), films, out, resume=True)
    assert seen == films["image"][6:].tolist()
    assert table["low_months"].notna().all()
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["sha256"] == hashlib.sha256(calibrated.read_bytes()).hexdigest()
    assert Calibration.from_description(told) == WIDTHS


@pytest.mark.parametrize("content", ["id,boneage,male\n1,100,True\n", "epoch,train_loss_years\n1,2\n", "\x89PNG",
                                     ",".join(COLUMNS) + ",my notes\n"])
def test_what_is_no_table_of_predictions_is_not_written_over(run: Path, cohort: Cohort, tmp_path: Path,
                                                             content: str) -> None:
    out = tmp_path / "p.csv"
    out.write_text(content)
    for resume in (False, True):
        with pytest.raises(BoneXageError, match="name another"):
            predict_to_file(Predictor(run / "model.safetensors", "cpu"), rows(cohort).head(2), out, resume=resume)
    assert out.read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_a_description_of_another_table_is_not_written_over(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    """a.csv and a.txt would both be described by a.json."""
    predictor = Predictor(run / "model.safetensors", "cpu")
    predict_to_file(predictor, rows(cohort).head(2), tmp_path / "a.csv")
    before = (tmp_path / "a.json").read_bytes()
    for name, words in (("a.txt", "name another"), ("a", "name another"), ("a.json", "name the table")):
        with pytest.raises(BoneXageError, match=words):
            predict_to_file(predictor, rows(cohort).head(2), tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == before
    predict_to_file(predictor, rows(cohort).head(3), tmp_path / "a.csv")
    (tmp_path / "b.json").write_text('{"mine": 1}')
    with pytest.raises(BoneXageError, match="name another"):
        predict_to_file(predictor, rows(cohort).head(2), tmp_path / "b.csv")


def test_a_table_of_other_options_is_not_resumed_and_films_that_leave_are_named(run: Path, cohort: Cohort,
                                                                               tmp_path: Path) -> None:
    out, told = tmp_path / "p.csv", []
    predictor = Predictor(run / "model.safetensors", "cpu")
    predict_to_file(predictor, rows(cohort).head(4), out)
    with pytest.raises(BoneXageError, match="without --resume"):
        predict_to_file(Predictor(run / "model.safetensors", "cpu", tta=True), rows(cohort).head(4), out, resume=True)
    table = predict_to_file(predictor, rows(cohort).tail(2), out, resume=True, tell=told.append)
    assert len(table) == 2
    assert len(told) == 1
    assert "4" in told[0]


def test_a_long_name_of_a_table_costs_no_work(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    predictor = Predictor(run / "model.safetensors", "cpu")
    out = tmp_path / ("a" * 246 + ".csv")
    assert len(predict_to_file(predictor, rows(cohort).head(2), out)) == 2
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".json"]


def rows(cohort: Cohort) -> pd.DataFrame:
    return cohort.table[["id", "image", "sex"]].assign(error="")


@pytest.mark.parametrize("name", ["meta", "gpu", "", "cuda:x", "CPU", "cpu\n", "cuda:999"])
def test_a_device_that_is_none_is_refused_in_a_line(run: Path, name: str) -> None:
    with pytest.raises(BoneXageError, match="--device") as caught:
        Predictor(run / "model.safetensors", name or " ")
    assert "\n" not in str(caught.value)


def test_the_network_waits_for_no_film_that_could_be_read_ahead(predictor: Predictor, films: pd.DataFrame,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """While the network has a batch, the next is read whole, however large a batch is."""
    many = pd.concat([films] * 30, ignore_index=True)
    ready = threading.Semaphore(0)
    read = images.read_gray
    monkeypatch.setattr(images, "read_gray", lambda path: (read(path), ready.release())[0])
    batch, seen = 100, []

    def answer(self: Predictor, films: np.ndarray, sexes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        wanted = min(len(many), (len(seen) + 2) * batch) - sum(seen)
        assert all(ready.acquire(timeout=20) for _ in range(wanted))
        seen.append(wanted)
        return np.full(len(films), 60.0), np.zeros(len(films), bool)

    monkeypatch.setattr(Predictor, "months_and_unfamiliar", answer)
    assert len(predictor.predict(many, batch, workers=2)) == 300
    assert seen == [200, 100, 0]
