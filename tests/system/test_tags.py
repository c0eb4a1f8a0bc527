"""What a DICOM's header says of sex, side and age: used, compared with what a user says, and without any name."""

import math
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from commands import bonexage
from hypothesis import given
from hypothesis import strategies as st
from made_up_films import dicom, film, opencv
from pydicom import DataElement
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from bonexage_utils.checks.stress import stress
from bonexage_utils.cohort import load_cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.inputs import list_films
from bonexage_utils.prediction_table import COLUMNS as PREDICTED
from bonexage_utils.prediction_table import outputs
from bonexage_utils.tags import COLUMNS, Tags, read_tags

PATIENT = {"PatientName": "Doe^Jane", "PatientID": "4711", "PatientBirthDate": "20100515", "StudyDate": "20201115"}
FILM = {"Modality": "DX", "PatientSex": "F", "Laterality": "L", "ViewPosition": "PA", "BodyPartExamined": "HAND"}


def tags(folder: Path, **said: object) -> Tags:
    (folder / "film").write_bytes(dicom(film(), **said))
    return read_tags(folder / "film")


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_header_says_who_and_how(tmp_path: Path, syntax: str) -> None:
    assert tags(tmp_path, syntax=syntax, **PATIENT, **FILM) == Tags("F", "L", 126.1, "PA", "HAND", "DX")


odd_words = pytest.mark.filterwarnings("ignore:(Invalid value for VR|The value length)")


@odd_words
@pytest.mark.parametrize(("said", "sex"), [("M", "M"), ("F", "F"), ("f ", "F"), ("O", ""), ("", ""), ("MALE", "M"),
                                           ("Female", "F"), ("W", ""), ("1", ""), (["M", "F"], "")])
def test_only_m_and_f_are_a_sex_and_what_they_stand_for(tmp_path: Path, said: str, sex: str) -> None:
    assert tags(tmp_path, PatientSex=said).sex == sex


@odd_words
@pytest.mark.parametrize(("said", "months"), [
    ({"PatientAge": "120M"}, 120), ({"PatientAge": "010Y"}, 120), ({"PatientAge": "006W"}, 1.4),
    ({"PatientAge": "060D"}, 2.0), ({"PatientAge": "10Y"}, 120), ({"PatientAge": "ten"}, math.nan), ({}, math.nan),
    ({"PatientAge": "009Y", **PATIENT}, 126.1), ({"PatientAge": "010Y", **PATIENT, "PatientBirthDate": ""}, 120),
    ({"PatientAge": "010Y", **PATIENT, "PatientBirthDate": "20991231"}, 120),
    ({**PATIENT, "AcquisitionDate": "20151115"}, 66.0), ({**PATIENT, "StudyDate": "2020"}, math.nan),
    # Days that stand for none, as archives write them where they take out the true ones.
    ({"PatientAge": "010Y", **PATIENT, "PatientBirthDate": "19000101"}, math.nan), ({"PatientAge": "999Y"}, math.nan),
    ({"PatientAge": "010Y", "PatientBirthDate": "20200101", "StudyDate": "20200101"}, math.nan),
    ({**PATIENT, "PatientBirthDate": "19000101"}, math.nan),
])
def test_the_age_is_of_the_day_of_the_exposure(tmp_path: Path, said: dict, months: float) -> None:
    found = tags(tmp_path, **said).age_months
    assert found == months or (math.isnan(found) and math.isnan(months))


@given(st.dates(date(1995, 1, 1), date(2026, 1, 1)), st.dates(date(1995, 1, 1), date(2026, 1, 1)))
def test_an_age_by_dates_counts_days(tmp_path_factory: pytest.TempPathFactory, born: date, taken: date) -> None:
    dates = {"PatientBirthDate": f"{born:%Y%m%d}", "StudyDate": f"{taken:%Y%m%d}"}
    age = tags(tmp_path_factory.getbasetemp(), **dates).age_months
    assert abs(age * 30.4375 - (taken - born).days) < 2 if taken >= born else math.isnan(age)


@given(st.binary(max_size=80), st.integers(0, 2000), st.integers(0, 3000))
def test_any_damage_leaves_words_or_nothing(tmp_path_factory: pytest.TempPathFactory, junk: bytes, place: int,
                                            end: int) -> None:
    data = dicom(film(), **PATIENT, **FILM)
    file = tmp_path_factory.getbasetemp() / "film"
    file.write_bytes((data[:place] + junk + data[place + len(junk) :])[:end])
    found = read_tags(file)
    assert found.sex in ("", "M", "F")
    assert not {"DOE^JANE", "4711", "20100515", "20201115"} & set(map(str, found.columns.values()))


def same(found: Tags, wanted: Tags) -> bool:
    """Whether both say the same; since Python 3.13 `==` says no where both have NaN for an age."""
    return repr(found) == repr(wanted)


@odd_words
def test_what_is_no_word_of_the_standard_is_left_out(tmp_path: Path) -> None:
    """Where a console writes free text, it may write a name."""
    found = tags(tmp_path, BodyPartExamined=DataElement(0x00180015, "LO", "Hand of Jane Doe, born 2010"),
                 ViewPosition=DataElement(0x00185101, "LO", "x" * 5000))
    assert same(found, Tags())
    for text in ("DOE JANE", "20100515", "4711", "Hand 4711"):
        assert same(tags(tmp_path, **{name: DataElement(name, "CS", text) for name in (
            "BodyPartExamined", "ViewPosition", "Modality")}), Tags())
    assert tags(tmp_path, BodyPartExamined="LEFT HAND", ViewPosition="DP").columns["header_body_part"] == "LEFT HAND"


def test_two_sides_of_one_film_are_none(tmp_path: Path) -> None:
    assert [tags(tmp_path, Laterality="L", ImageLaterality=side).side for side in "LRU"] == ["L", "", ""]


def test_no_dicom_has_no_tags(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(opencv(".png", film()))
    (tmp_path / "b.dcm").write_text("text")
    for name in ("a.png", "absent", ""):
        assert same(read_tags(tmp_path / name), Tags())
    assert same(read_tags(tmp_path / "b.dcm"), Tags(
        refusal="not a readable image (text file); give PNG, JPEG, TIFF or DICOM"))


def test_what_is_no_film_says_so_before_its_sex_is_asked_for(tmp_path: Path) -> None:
    for name, data in (("a.png", b"text"), ("b.png", b""), ("c.dcm", b"%PDF-1.4\n%\xe2\0"), ("d.png", b"\0" * 99)):
        (tmp_path / name).write_bytes(data)
    errors = list_films([str(tmp_path)])["error"].map(lambda error: error.split(": ")[1]).tolist()
    assert errors == [f"not a readable image ({kind}); give PNG, JPEG, TIFF or DICOM" if kind else
                      "zero bytes; copy the image again" for kind in ("text file", "", "PDF", "other file")]


# --- a sex by table, option and tag ---

@pytest.fixture
def films(tmp_path: Path) -> Path:
    for name, sex in (("girl", "F"), ("boy", "M"), ("other", "O")):
        (tmp_path / f"{name}.dcm").write_bytes(dicom(film(seed=len(name)), PatientSex=sex, **PATIENT))
    return tmp_path


def test_the_sex_of_a_film_comes_from_its_table_its_tag_or_the_option(films: Path) -> None:
    assert list_films([str(films)])["sex"].tolist() == ["M", "F", ""]
    (films / "films.csv").write_text("image,sex\ngirl.dcm,\nboy.dcm,M\nother.dcm,F\n")
    listed = list_films([str(films / "films.csv")])
    assert listed["sex"].tolist() == ["F", "M", "F"]
    assert listed["sex_from"].tolist() == ["the film's PatientSex", "films.csv", "films.csv"]
    assert listed["error"].eq("").all()
    (films / "films.csv").write_text("image\ngirl.dcm\nother.dcm\n")
    listed = list_films([str(films / "films.csv")], sex="F")
    assert listed["sex"].tolist() == ["F", "F"]
    assert listed["sex_from"].tolist() == ["the film's PatientSex", "--sex"]
    assert listed["error"].eq("").all()


def test_two_sexes_of_one_film_are_an_error_of_its_own_that_names_both(films: Path) -> None:
    listed = list_films([str(films)], sex="M").set_index("id")
    assert listed["error"].map(bool).to_dict() == {"girl": True, "boy": False, "other": False}
    assert "girl.dcm: sex M by --sex, but F by the film's PatientSex; mend" in listed["error"]["girl"]
    (films / "films.csv").write_text("id,sex\ngirl,F\nboy,F\n")
    listed = list_films([str(films / "films.csv")])
    assert listed["error"].iloc[0] == ""
    assert "boy.dcm: sex F by films.csv, but M by the film's PatientSex; mend" in listed["error"].iloc[1]


def test_a_picture_of_another_modality_is_named(tmp_path: Path) -> None:
    for name in ("CR", "CT", "MR", "US", "DR", ""):
        (tmp_path / f"{name or 'none'}.dcm").write_bytes(dicom(film(), Modality=name))
    errors = list_films([str(tmp_path)]).set_index("id")["error"]
    assert errors[["CR", "DR", "none"]].eq("").all()
    assert [errors[name].split(": ")[1].split(",")[0] for name in ("CT", "MR", "US")] == [
        "a CT slice (Modality CT)", "an MR slice (Modality MR)", "an ultrasound picture (Modality US)"]


def cohort_of(folder: Path, *sexes: str, label: str = "F", **said: object) -> Path:
    (folder / "boneage-training-dataset").mkdir(parents=True)
    for number, sex in enumerate(sexes):
        (folder / "boneage-training-dataset" / f"IM{number:06d}").write_bytes(
            dicom(film(200, 150, seed=number), PatientSex=sex, **said))
    (folder / "boneage-training-dataset.csv").write_text("id,boneage,sex\n" + "".join(
        f"IM{number:06d},{50 + number},{label}\n" for number in range(len(sexes))))
    return folder


@pytest.mark.slow
def test_check_finds_labels_that_films_contradict(tmp_path: Path) -> None:
    done = bonexage("check", cohort_of(tmp_path / "data", "F", "M", "O", "", Modality="DX"), "--out", "found",
                    cwd=tmp_path)
    assert done.returncode == 1
    found = pd.read_csv(tmp_path / "found" / "findings.csv")
    found = found[found["finding"] == "other than its label"]
    assert found["id"].tolist() == ["IM000001"]
    assert found["severity"].tolist() == ["fault"]
    assert "sex F by the label, but M by the film's PatientSex" in found["detail"].iloc[0]


@pytest.mark.slow
def test_train_refuses_labels_that_films_contradict(tmp_path: Path) -> None:
    data = cohort_of(tmp_path / "data", *["M"] * 5, *["F"] * 60)
    done = bonexage("train", data, "--out", tmp_path / "run", "--backbone", "test_convnext", "--image-size", "32",
                    "--epochs", "1", "--weights", "none")
    assert done.returncode == 1
    assert "films contradict their labels, e.g." in done.stderr
    assert "sex F by the label, but M by the film's PatientSex" in done.stderr
    assert done.stderr.count("\n") == 1


def test_stress_refuses_labels_that_films_contradict(tmp_path: Path) -> None:
    with pytest.raises(BoneXageError, match=r"films contradict their labels, e\.g\. .*sex F by the label, but M"):
        stress(None, load_cohort(cohort_of(tmp_path / "data", *["M"] * 9)), tmp_path / "out", "train")
    assert not (tmp_path / "out").exists()


# --- predict --header ---

@pytest.mark.slow
def test_predict_adds_what_the_header_says_and_no_name(films: Path, run: Path, tmp_path: Path) -> None:
    out, checkpoint = tmp_path / "out" / "ages.csv", run / "model.safetensors"
    out.parent.mkdir()
    opencv_film = tmp_path / "plain.png"
    opencv_film.write_bytes(opencv(".png", film()))
    for resume in ([], ["--resume"]):
        done = bonexage("predict", checkpoint, films, "--header", "--unknown-sex", "mean", "--out", out, *resume)
        assert done.returncode == 0, done.stderr
        table = pd.read_csv(out, dtype=str, keep_default_na=False)
        assert table.columns.tolist()[-6:] == COLUMNS
        assert table.set_index("id")["header_sex"].to_dict() == {"boy": "M", "girl": "F", "other": "", "plain": ""}
        assert table["header_age_months"].tolist() == ["126.1"] * 3 + [""]
        text = (out.read_text() + out.with_suffix(".json").read_text()).lower()
        assert not any(word in text for word in ("doe", "4711", "20100515", "20201115"))
    done = bonexage("predict", checkpoint, films, "--unknown-sex", "mean", "--out", out, "--resume")
    assert done.returncode == 1
    assert "resume with --header" in done.stderr
    assert "header_sex" in pd.read_csv(out).columns


def test_a_cohort_without_endings_loads(tmp_path: Path) -> None:
    cohort = load_cohort(cohort_of(tmp_path / "data", "F", "F"))
    assert cohort.table["image"].map(lambda image: Path(image).is_file()).all()


def test_a_list_of_films_without_endings_finds_them(tmp_path: Path) -> None:
    cohort_of(tmp_path / "data", "F", "M")
    (tmp_path / "data" / "boneage-training-dataset" / "films.csv").write_text("id,sex\nIM000000,F\nIM000001,\n")
    listed = list_films([str(tmp_path / "data" / "boneage-training-dataset" / "films.csv")])
    assert listed["sex"].tolist() == ["F", "M"]
    with pytest.raises(BoneXageError, match="no such file"):
        list_films([str(tmp_path / "absent.csv")])


@pytest.mark.parametrize(("text", "ours"), [
    (",".join(PREDICTED), True), (",".join([*PREDICTED, *COLUMNS]) + "\n1,\n", True), ("", True), ("\r\n\n", True),
    ("\n1,2\n", False), (",".join([*PREDICTED, *COLUMNS, "mine"]), False), (",".join([*PREDICTED, "mine"]), False),
])
def test_a_table_with_columns_of_headers_is_one_of_ours_and_no_other(tmp_path: Path, text: str, ours: bool) -> None:
    (tmp_path / "ages.csv").write_text(text)
    if ours:
        assert outputs(tmp_path / "ages.csv")[0] == tmp_path / "ages.csv"
    else:
        with pytest.raises(BoneXageError, match="holds something else than predictions"):
            outputs(tmp_path / "ages.csv")
