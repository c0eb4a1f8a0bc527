"""What a hospital's archive writes: every film is right or refused for its true reason, and the rest is counted."""

import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from commands import bonexage
from hospital_export import EXTRA, READ, Exported, write_export
from made_up_films import film

from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.inputs import list_films

with_decoders = pytest.mark.skipif(find_spec("libjpeg") is None, reason="the extra dicom is not installed")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> list[Exported]:
    return write_export(tmp_path_factory.mktemp("export"), film(480, 360), 96)


def root(export: list[Exported]) -> Path:
    return next(one.path.parent for one in export if one.what == "DICOMDIR")


def right_or_refused(export: list[Exported], decoders: bool) -> None:
    """Each film by itself, as a list names it, against what it is made to be."""
    listed = list_films([str(root(export))], tell=lambda line: None).set_index("image")
    expected = read_gray(export[0].path).astype(int)
    for one in export:
        if one.expected.startswith("skipped"):
            assert str(one.path) not in listed.index, one.what
            continue
        row = listed.loc[str(one.path)]
        if one.expected in (READ, EXTRA, "sex unknown"):
            assert row["sex"] == (one.sex if one.sex in ("M", "F") else ""), one.what
        error = row["error"]
        if not error:
            try:
                np.testing.assert_allclose(read_gray(one.path), expected, atol=3, err_msg=one.what)
            except BoneXageError as reason:
                error = str(reason)
        wanted = {READ: "", "sex unknown": "", EXTRA: "" if decoders else "install bonexage[dicom]"}
        wanted = wanted.get(one.expected, one.expected)
        assert (wanted in error) if wanted else not error, f"{one.what}: {error}"


def test_without_the_extra_each_film_is_right_or_refused(export: list[Exported], core_alone: None) -> None:
    right_or_refused(export, decoders=False)


@with_decoders
def test_with_the_extra_each_film_is_right_or_refused(export: list[Exported]) -> None:
    right_or_refused(export, decoders=True)


def test_what_is_passed_over_is_counted_by_its_kind(export: list[Exported]) -> None:
    said: list[str] = []
    films = list_films([str(root(export))], tell=said.append)
    assert said[0] == ("skipped: 1 DICOMDIR, 1 empty file, 1 encapsulated PDF, 1 key object selection, 1 presentation "
                       "state, 1 structured report, 1 text file")
    assert said[1].startswith("secondary captures, which may differ")
    assert ": 3, e.g." in said[1], "one has several frames, and an error of its own"
    assert len(said) == 2
    assert films["id"].is_unique
    assert len(films) == sum(not one.expected.startswith("skipped") for one in export)


@pytest.mark.parametrize("kind", ["structured report", "encapsulated PDF", "DICOMDIR"])
def test_what_is_no_film_is_named_where_it_is_given_by_itself(export: list[Exported], kind: str) -> None:
    path = next(one.path for one in export if one.what == kind)
    with pytest.raises(BoneXageError, match=rf"not a readable image \({kind}\); give"):
        read_gray(path)


def test_every_file_of_a_collection_of_scanners_is_read_or_refused_in_a_line() -> None:
    """The 200 odd files that pydicom is tested with: of all modalities, old, cut, private, in directories."""
    said: list[str] = []
    films = list_films([str(Path(pydicom.__file__).parent / "data" / "test_files")], tell=said.append)
    reasons = Counter()
    for row in films.itertuples():
        try:
            reason = row.error or read_gray(row.image).dtype.name
        except BoneXageError as error:
            reason = str(error)
        assert "\n" not in reason
        reasons[reason.split(": ", 1)[-1].split(" (")[0]] += 1
    assert re.match(r"skipped: \d+ DICOMDIRs, .*structured reports", said[0])
    assert reasons["uint8"] >= 10
    assert reasons["a CT slice"] >= 10
    assert reasons["an MR slice"] >= 10


@pytest.mark.slow
def test_predict_says_once_what_would_decode_the_rest(export: list[Exported], run: Path, tmp_path: Path,
                                                      core_alone: None) -> None:
    done = bonexage("predict", run / "model.safetensors", root(export), "--out", "ages.csv", "--header", cwd=tmp_path)
    counts = Counter(one.expected for one in export)
    table = pd.read_csv(tmp_path / "ages.csv", keep_default_na=False)
    assert done.returncode == 1
    assert (table["error"] == "").sum() == counts[READ]
    assert table["error"].str.contains("install bonexage[dicom]", regex=False).sum() == counts[EXTRA]
    assert done.stderr.count("pip install") == 1
    assert f"{counts[EXTRA]}; pip install 'bonexage[dicom]'" in done.stderr
    assert (table["error"].str.contains("sex unknown")).sum() == counts["sex unknown"]
    assert not any(word in (tmp_path / "ages.csv").read_text() for word in ("Doe", "4711", "20100515"))


@pytest.mark.slow
def test_check_and_train_say_so_too(export: list[Exported], tmp_path: Path, core_alone: None) -> None:
    places = [one for one in export if one.expected in (READ, EXTRA)]
    (tmp_path / "boneage-training-dataset").mkdir()
    for number, one in enumerate(places):
        (tmp_path / "boneage-training-dataset" / f"IM{number:06d}").write_bytes(one.path.read_bytes())
    (tmp_path / "boneage-training-dataset.csv").write_text("id,boneage,sex\n" + "".join(
        f"IM{number:06d},{60 + number},{one.sex}\n" for number, one in enumerate(places)))
    extra = sum(one.expected == EXTRA for one in places)
    done = bonexage("check", tmp_path)
    assert f"{extra}; pip install 'bonexage[dicom]'" in done.stderr
    options = ["--out", tmp_path / "run", "--backbone", "test_convnext", "--image-size", "32", "--weights", "none",
               "--epochs", "1", "--batch-size", "4"]
    done = bonexage("train", tmp_path, *options)
    assert done.returncode == 1
    assert done.stderr.count("pip install") == 1
    assert done.stderr.count("\n") == 1
    done = bonexage("train", tmp_path, *options, "--drop-bad")
    assert done.returncode == 0, done.stderr
    left_out = len(pd.read_csv(tmp_path / "run" / "dropped.csv"))  # of the test split no film was read
    assert 0 < left_out <= extra
    assert f"bonexage: {left_out} films left out; " in done.stderr
    assert f"bonexage: films that take the decoders of an extra: {left_out}; pip install" in done.stderr


def test_a_native_film_goes_the_same_way(tmp_path: Path, core_alone: None, radiographs: Path) -> None:
    native = read_gray(next((radiographs / "native" / "boneage-training-dataset").glob("*.png")))
    right_or_refused(write_export(tmp_path, native, 120), decoders=False)
