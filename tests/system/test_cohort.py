"""Layouts, label tables, sexes and splits."""

import json
import os
import shutil
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.checkpoints import load_model
from bonexage_utils.checks.audit import balance
from bonexage_utils.cohort import SPLITS, Cohort, load_cohort, split_of
from bonexage_utils.course.start import sample_cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import check_outputs
from bonexage_utils.labels import KNOWN_LABELS
from bonexage_utils.training import train


def write_folder(root: Path, rows: list[str], header: str = "id,boneage,male", name: str = "training",
                 nested: bool = False) -> Path:
    stem = f"boneage-{name}-dataset"
    folder = root / stem / stem if nested else root / stem
    folder.mkdir(parents=True)
    (root / f"{stem}.csv").write_text("\n".join([header, *rows]) + "\n")
    for row in rows:
        cv2.imwrite(str(folder / f"{row.split(',')[0].strip()}.png"), np.full((40, 30), 90, np.uint8))
    return root


ROWS = [f"{i},{i % 200 + 1},{i % 2 == 0}" for i in range(1000, 1060)]


@pytest.mark.parametrize("nested", [False, True])
def test_flat_and_nested_layouts_load_the_same_films(tmp_path: Path, nested: bool) -> None:
    cohort = load_cohort(write_folder(tmp_path, ROWS, nested=nested))
    assert len(cohort) == 60
    assert cohort.table["image"].map(lambda p: Path(p).is_file()).all()
    assert set(cohort.table["split"]) <= set(SPLITS)
    assert cohort.table.set_index("id").loc["1000", ["months", "sex"]].tolist() == [1.0, "M"]


def test_the_cohort_says_what_it_holds(tmp_path: Path) -> None:
    cohort = load_cohort(write_folder(tmp_path, ROWS))
    assert "60 films" in repr(cohort)
    assert balance(cohort)["films"].sum() == 60


PIXEL = cv2.imencode(".png", np.full((40, 30), 90, np.uint8))[1].tobytes()


def write(root: Path, files: dict[str, str | list[int]]) -> Path:
    """Write text files, and folders of films by number."""
    for name, content in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            place.write_text(content)
        else:
            place.mkdir(parents=True)
            for film in content:
                (place / f"{film}.png").write_bytes(PIXEL)
    return root


def lines(header: str, films: list[int], rest: str) -> str:
    return "\n".join([header, *(f"{film},{rest}" for film in films)]) + "\n"


TRAIN, VALID, TEST = list(range(1377, 1397)), list(range(1400, 1440)), list(range(4360, 4366))
TRAIN_CSV = lines("id,boneage,male", TRAIN, "100,True")
VALID_CSV = lines("Image ID,male,Bone Age (months)", VALID, "FALSE,90")
TEST_CSV = lines("Case ID,Sex,Ground truth bone age (months)", TEST, "M,131.5")
KAGGLE_TEST_CSV = lines("Case ID,Sex", TEST, "M")

# Each layout in circulation, and whether it labels a validation and a test set.
LAYOUTS: dict[str, tuple[dict[str, str | list[int]], bool, bool]] = {
    "Kaggle": ({
        "boneage-training-dataset.csv": TRAIN_CSV, "boneage-test-dataset.csv": KAGGLE_TEST_CSV,
        "boneage-training-dataset/boneage-training-dataset": TRAIN,
        "boneage-test-dataset/boneage-test-dataset": TEST}, False, False),
    "Kaggle and the official test labels": ({
        "boneage-training-dataset.csv": TRAIN_CSV, "boneage-test-dataset.csv": KAGGLE_TEST_CSV,
        "Bone age ground truth.csv": TEST_CSV,
        "boneage-training-dataset/boneage-training-dataset": TRAIN,
        "boneage-test-dataset/boneage-test-dataset": TEST}, False, True),
    "flat": ({
        "boneage-training-dataset.csv": TRAIN_CSV, "boneage-test-dataset.csv": TEST_CSV,
        "boneage-training-dataset": TRAIN, "boneage-test-dataset": TEST}, False, True),
    "flat, three sets": ({
        "boneage-training-dataset.csv": TRAIN_CSV, "boneage-test-dataset.csv": TEST_CSV,
        "boneage-validation-dataset.csv": VALID_CSV, "boneage-training-dataset": TRAIN,
        "boneage-validation-dataset": VALID, "boneage-test-dataset": TEST}, True, True),
    "RSNA's archives": ({
        "train.csv": TRAIN_CSV, "boneage-training-dataset": TRAIN,
        "Bone Age Validation Set/Validation Dataset.csv": VALID_CSV,
        "Bone Age Validation Set/boneage-validation-dataset-1": VALID[:25],
        "Bone Age Validation Set/boneage-validation-dataset-2": VALID[25:],
        "Bone Age Test Set/Bone age ground truth.csv": TEST_CSV,
        "Bone Age Test Set/Test Set Images": TEST}, True, True),
    "RSNA's archives, unzipped in one place": ({
        "train.csv": TRAIN_CSV, "boneage-training-dataset": TRAIN, "Validation Dataset.csv": VALID_CSV,
        "boneage-validation-dataset-1/boneage-validation-dataset-1": VALID[:25],
        "boneage-validation-dataset-2/boneage-validation-dataset-2": VALID[25:]}, True, False),
    "Deeplasia's test labels": ({
        "boneage-training-dataset.csv": TRAIN_CSV, "boneage-training-dataset": TRAIN,
        "rsna_test.csv": "image_ID,dir,patient_ID,sex,bone_age\n"
                         + "".join(f"{film}.png,bone_age,{film},M,131.5\n" for film in TEST),
        "boneage-test-dataset": TEST}, False, True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_in_circulation_loads(tmp_path: Path, name: str) -> None:
    files, validation, test = LAYOUTS[name]
    cohort = load_cohort(write(tmp_path, files))
    table = cohort.table
    assert table["image"].map(lambda image: Path(image).is_file()).all()
    assert [Path(image).stem for image in table["image"]] == table["id"].tolist()
    there = {film for content in files.values() if isinstance(content, list) for film in content}
    assert sorted(table["id"].astype(int)) == sorted(there)
    split = table.set_index("id")["split"]
    assert set(split[[str(film) for film in TRAIN]]) <= set(SPLITS) - ({"selection", "calibration"} if validation else
                                                                      set()) - ({"test"} if test else set())
    assert set(VALID) & there == (set(VALID) if validation else set())
    assert set(split[[str(film) for film in VALID if validation]]) == ({"selection", "calibration"} if validation else
                                                                       set())
    assert set(table.loc[table["id"].astype(int).isin(VALID), "months"]) == ({90.0} if validation else set())
    assert set(TEST) & there in (set(), set(TEST))
    assert set(split[[str(film) for film in TEST if film in there]]) == (
        {"test" if test else "unlabelled"} if set(TEST) & there else set())
    assert set(cohort.label_hashes) == {file for file in files if file.endswith(".csv")}


def test_validation_labels_under_the_test_s_name_are_told_by_their_ids(tmp_path: Path) -> None:
    """Some packages ship them so: 1,425 rows, none of the test's ids."""
    films = [film for film in range(1400, 3000)][:1425]
    write(tmp_path, {"boneage-training-dataset.csv": lines("id,boneage,male", [1377, 1378], "100,True"),
                     "boneage-training-dataset": [1377, 1378],
                     "boneage-test-dataset.csv": lines("id,boneage,male", films, "90,False"),
                     "boneage-test-dataset": films[:3]})
    split = load_cohort(tmp_path).table.set_index("id")["split"]
    assert set(split[[str(film) for film in films]]) == {"selection", "calibration"}
    # One of the test's ids among them, or one row less, and it is a test set.
    for other in (films[:-1] + [4400], films[:-1]):
        (tmp_path / "boneage-test-dataset.csv").write_text(lines("id,boneage,male", other, "90,False"))
        split = load_cohort(tmp_path).table.set_index("id")["split"]
        assert set(split[[str(film) for film in other]]) == {"test"}


def test_a_cohort_inside_a_cohort_s_folder_is_left_alone(tmp_path: Path) -> None:
    """The phantom lives in data/, where RSNA is unpacked too."""
    root = write(tmp_path, LAYOUTS["flat"][0])
    write(root / "phantom-3", {"boneage-training-dataset.csv": lines("id,boneage,male", [1377, 7], "50,True"),
                               "boneage-training-dataset": [1377, 7],
                               "boneage-validation-dataset.csv": lines("id,boneage,male", [8], "50,True"),
                               "boneage-validation-dataset": [8]})
    assert len(load_cohort(root)) == len(TRAIN) + len(TEST)


@pytest.mark.parametrize("name", ["7.PNG", "7.jpg", "7.JPEG", "7.tif", "7.TIFF", "7.dcm", "7.DICOM"])
def test_a_film_may_have_any_ending_in_any_case(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, {"boneage-training-dataset.csv": "id,boneage,male\n7,50,True\n",
                            "boneage-training-dataset": [], f"boneage-training-dataset/{name}": "a film"})
    assert Path(load_cohort(root).table["image"][0]).name == name


def test_a_missing_film_keeps_its_row_and_its_place(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["Kaggle"][0])
    film = root / "boneage-training-dataset" / "boneage-training-dataset" / "1380.png"
    film.unlink()
    assert load_cohort(root).table.set_index("id").loc["1380", "image"] == str(film)


@pytest.mark.parametrize(("files", "words"), [
    ({"boneage-training-dataset/1377.dcm": "x"}, "film 1377 is also in"),
    ({"boneage-training-dataset/boneage-training-dataset": [1377]}, "film 1377 is also in"),
    ({"train.csv": lines("id,boneage,male", TRAIN, "101,True")}, "disagree on film 1377"),
    ({"Bone age ground truth.csv": lines("Case ID,Sex", TEST, "F")}, "disagree on film 4360"),
    ({"boneage-validation-dataset.csv": TRAIN_CSV, "boneage-validation-dataset": []}, "two of the label files"),
    ({"boneage-validation-dataset.csv": "junk", "boneage-validation-dataset": []}, "validation-dataset.csv"),
])
def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, files: dict[str, str | list[int]], words: str) -> None:
    root = write(write(tmp_path, LAYOUTS["flat"][0]), files)
    with pytest.raises(BoneXageError, match=words) as caught:
        load_cohort(root)
    assert "\n" not in str(caught.value)


def test_the_same_labels_under_two_names_are_the_same(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["flat"][0] | {"train.csv": TRAIN_CSV.replace("True", "M")})
    assert len(load_cohort(root)) == len(TRAIN) + len(TEST)


def test_labels_without_a_film_or_a_folder_are_left_out(tmp_path: Path) -> None:
    """Many copies of the training set bring Kaggle's table of the test along, without its films."""
    files = {name: content for name, content in LAYOUTS["flat"][0].items() if name != "boneage-test-dataset"}
    assert len(load_cohort(write(tmp_path, files))) == len(TRAIN)


def test_a_user_s_own_links_are_her_films(tmp_path: Path) -> None:
    """The usual way to make a subset without copying. What a link leads to is only ever read, and decoded as a film."""
    root = write(tmp_path / "data", LAYOUTS["flat"][0])
    films = root / "boneage-training-dataset"
    try:
        (films / "1377.png").unlink()
        (films / "1377.png").symlink_to(films / "1378.png")
    except OSError:
        pytest.skip("no links here")
    assert len(load_cohort(root)) == len(TRAIN) + len(TEST)
    whole = load_cohort(root)
    (tmp_path / "elsewhere").mkdir()
    for film in list(films.iterdir())[:5]:
        film.rename(tmp_path / "elsewhere" / film.name)
        film.symlink_to(tmp_path / "elsewhere" / film.name)
    pd.testing.assert_frame_equal(load_cohort(root).table, whole.table)
    for name in ("boneage-training-dataset", "boneage-training-dataset.csv"):  # a whole folder, and the table
        (root / name).rename(tmp_path / name)
        (root / name).symlink_to(tmp_path / name)
    linked = load_cohort(root)
    pd.testing.assert_frame_equal(linked.table, whole.table)
    assert linked.table["image"].map(os.path.isfile).all()
    assert linked.label_hashes == whole.label_hashes
    # Under two names it is still one film; and nothing is written through a link, nor over what one leads to.
    (films / "again").symlink_to(tmp_path / "boneage-training-dataset")
    pd.testing.assert_frame_equal(load_cohort(root).table, whole.table)
    for output in (root / "boneage-training-dataset.csv", tmp_path / "boneage-training-dataset.csv",
                   next((tmp_path / "elsewhere").iterdir())):
        with pytest.raises(BoneXageError, match=r"not written over|nothing is written over it"):
            check_outputs([output], linked.files)


@given(st.dictionaries(st.integers(1, 500), st.sampled_from([".png", ".PNG", ".jpg", ".tiff", ".dcm", None]),
                       min_size=1, max_size=12), st.booleans())
def test_films_are_found_or_named(tmp_path_factory: pytest.TempPathFactory, films: dict[int, str | None],
                                  nested: bool) -> None:
    root = tmp_path_factory.mktemp("found") / "Hände à côté"
    folder = root / "boneage-training-dataset" / ("boneage-training-dataset" if nested else "")
    folder.mkdir(parents=True)
    for film, ending in films.items():
        if ending:
            (folder / f"{film}{ending}").write_bytes(b"x")
    (root / "boneage-training-dataset.csv").write_text(lines("id,boneage,male", list(films), "100,True"))
    images = load_cohort(root).table.set_index("id")["image"]
    assert {int(film) for film, image in images.items() if Path(image).is_file()} == {
        film for film, ending in films.items() if ending}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_names_are_the_same_film(tmp_path: Path, form: str) -> None:
    stored, other = (unicodedata.normalize(name, "Zoé") for name in (form, {"NFC": "NFD", "NFD": "NFC"}[form]))
    write(tmp_path, {"boneage-training-dataset.csv": "", f"boneage-training-dataset/{stored}.png": "a film"})
    (tmp_path / "boneage-training-dataset.csv").write_text(f"id,boneage,male\n{other},50,True\n", encoding="utf-8")
    table = load_cohort(tmp_path).table
    assert table["id"].tolist() == ["Zo\u00e9"]
    assert Path(table["image"][0]).is_file()


@pytest.mark.parametrize(("labelled", "stored"), [
    ("7", "007"), ("007", "7"), ("A7", "a7"), ("７", "7"), ("a b", "ab")])
def test_a_film_in_another_spelling_is_said_and_not_guessed(tmp_path: Path, labelled: str, stored: str) -> None:
    root = write(tmp_path, {"boneage-training-dataset.csv": "", "boneage-training-dataset": [9999],
                            f"boneage-training-dataset/{stored}.png": "a film"})
    table = root / "boneage-training-dataset.csv"
    table.write_text(f"id,boneage,male\n9999,40,True\n{labelled},50,True\n", encoding="utf-8")
    with pytest.raises(BoneXageError, match=rf"no image for film {labelled}, but .*{stored}\.png, in another spelling"):
        load_cohort(root)
    table.write_text(f"id,boneage,male\n9999,40,True\n{labelled},50,True\n{stored},60,True\n", encoding="utf-8")
    missing = load_cohort(root).table.set_index("id")["image"].map(os.path.isfile)
    assert missing.to_dict() == {"9999": True, labelled: False, stored: True}, "the file is the other film's"


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = write(tmp_path, LAYOUTS["flat"][0])
    films = root / "boneage-training-dataset"
    (films / "1377.png").unlink()
    try:
        for link, target in ((films / "1377.png", "1377.png"), (films / "boneage-training-dataset", "."),
                             (films / "up", ".."), (root / "self", "self"), (root / "a", "b"), (root / "b", "a")):
            link.symlink_to(target)
    except OSError:
        pytest.skip("no links here")
    there = load_cohort(root).table.set_index("id")["image"].map(os.path.isfile)
    assert len(there) == len(TRAIN) + len(TEST)
    assert there.index[~there].tolist() == ["1377"]


def test_a_name_that_is_too_long_costs_no_other_film_its_place(tmp_path: Path) -> None:
    write(tmp_path, {"boneage-training-dataset.csv": f"id,boneage,male\n1,50,True\n{'x' * 300},60,True\n"
                     f"{'9' * 5000},70,False\n", "boneage-training-dataset": [1],
                     "boneage-test-dataset.csv": f"id,boneage,male\n{'8' * 5000},50,True\n",
                     "boneage-test-dataset": []})
    table = load_cohort(tmp_path).table
    assert table["image"].map(os.path.isfile).tolist() == [True, False, False, False]
    with pytest.raises(BoneXageError, match="no such folder"):
        load_cohort(tmp_path / ("x" * 300))


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_folder_whose_name_is_no_text_has_a_printable_one(tmp_path: Path) -> None:
    root = write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xffnda\n")), LAYOUTS["RSNA's archives"][0])
    (root / "Bone Age Test Set").rename(os.fsdecode(os.fsencode(root) + b"/\xfe"))
    cohort = load_cohort(root)
    assert cohort.name == r"\udcffnda\n"
    assert repr(cohort).isprintable()
    assert r"\udcfe/Bone age ground truth.csv" in cohort.label_hashes
    assert cohort.table["image"].map(os.path.isfile).all()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_folder_whose_name_is_no_text_can_be_trained_on(cohort: Cohort, tmp_path: Path) -> None:
    root = shutil.copytree(cohort.root, os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    train(load_cohort(root), tmp_path / "run", replace(TINY, epochs=1), cache_dir=tmp_path / "cache")
    for told in (json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8")),
                 load_model(tmp_path / "run" / "model.safetensors")[2]["training"]):
        assert told["cohort"] == r"\udcff"


def test_official_sets_fill_their_splits(tmp_path: Path) -> None:
    write_folder(tmp_path, ROWS)
    write_folder(tmp_path, [f"{i},100,True" for i in range(2000, 2100)], name="validation")
    write_folder(tmp_path, [f"{i},100.5,F" for i in range(4360, 4380)], "Case ID,Ground truth bone age (months),Sex",
                 name="test")
    table = load_cohort(tmp_path).table.set_index("id")["split"]
    assert set(table.loc["1000":"1059"]) == {"train"}
    assert set(table.loc["4360":"4379"]) == {"test"}
    halves = table.loc["2000":"2099"].value_counts()
    assert set(halves.index) == {"selection", "calibration"}
    assert halves.min() > 30


def test_an_unlabelled_test_set_leaves_the_test_to_the_training_table(tmp_path: Path) -> None:
    write_folder(tmp_path, [f"{i},50,True" for i in range(300)])
    write_folder(tmp_path, ["4360,M", "4361,F"], "Case ID,Sex", name="test")
    table = load_cohort(tmp_path).table.set_index("id")["split"]
    assert table["4360"] == "unlabelled"
    assert "test" in set(table)


@given(st.lists(st.integers(0, 10**6).map(str), unique=True, min_size=1, max_size=50), st.data())
def test_a_split_depends_on_the_film_alone(ids: list[str], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(ids), unique=True))
    before = {film: split_of(film) for film in ids}
    assert {film: split_of(film) for film in kept} == {film: before[film] for film in kept}


def test_split_shares_are_as_stated() -> None:
    splits = [split_of(str(i)) for i in range(20_000)]
    shares = {name: splits.count(name) / len(splits) for name in SPLITS}
    # 0.08 ± 4 standard errors of a share of 20,000
    assert all(abs(shares[name] - 0.08) < 0.008 for name in ("selection", "calibration", "test"))


@pytest.mark.parametrize(("rows", "header", "words"), [
    (["1,abc,True"], "id,boneage,male", "age"),
    (["1,-3,True"], "id,boneage,male", "age"),
    (["1,300,True"], "id,boneage,male", "age"),
    (["1,,True"], "id,boneage,male", "age"),
    (["1,50,"], "id,boneage,male", "unknown sex"),
    (["1,50,maybe"], "id,boneage,male", "unknown sex"),
    (["1,50,True", "1,60,True"], "id,boneage,male", "twice"),
    ([",50,True"], "id,boneage,male", "no film id"),
    (["1,50"], "id,boneage", "no sex column"),
    (["1,True"], "id,male", "boneage"),
    (["50,True"], "boneage,male", "no film id column"),
])
def test_labels_that_cannot_be_trusted_are_refused(tmp_path: Path, rows: list[str], header: str, words: str) -> None:
    write_folder(tmp_path, rows, header)
    with pytest.raises(BoneXageError, match=words) as caught:
        load_cohort(tmp_path)
    assert "\n" not in str(caught.value)
    assert "boneage-training-dataset.csv" in str(caught.value)


def test_a_folder_that_is_no_cohort_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BoneXageError, match="no such folder"):
        load_cohort(tmp_path / "absent")
    with pytest.raises(BoneXageError, match="not a cohort"):
        load_cohort(tmp_path)


def test_a_sample_is_the_same_every_time(cohort) -> None:
    sample = sample_cohort(cohort, 30)
    assert len(sample) == 30
    assert sample.table["id"].tolist() == sample_cohort(cohort, 30).table["id"].tolist()
    assert set(sample_cohort(cohort, 10).table["id"]) < set(sample.table["id"])


def test_the_real_cohort_loads(radiographs: Path) -> None:
    cohort = load_cohort(radiographs / "rsna100")
    table = cohort.table
    assert len(table) == 12_611
    # facts of the public training labels (Halabi 2019, computed from the label file)
    assert (table["sex"] == "M").sum() == 6_833
    assert table["months"].mean() == pytest.approx(127.32, abs=0.005)
    assert cohort.label_hashes == {
        "boneage-training-dataset.csv": "9459296c0fca3e3cd908e79002914d0d90c7f5e46936eefd34b11261468ce209"
    }
    assert KNOWN_LABELS[cohort.label_hashes["boneage-training-dataset.csv"]] == "the RSNA 2017 training labels"
