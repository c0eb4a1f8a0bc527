"""Layouts, label tables, sexes and splits."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.cohort import (
    SPLITS,
    balance,
    load_cohort,
    parse_sex,
    read_labels,
    sample_cohort,
    split_of,
)
from bonexage_utils.errors import BoneXageError


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


@pytest.mark.parametrize(("text", "sex"), [("True", "M"), ("false", "F"), ("M", "M"), (" f ", "F"), ("male", "M"),
                                           ("Female", "F"), ("1", "M"), ("0", "F")])
def test_known_spellings_of_sex(text: str, sex: str) -> None:
    assert parse_sex(text) == sex


@pytest.mark.parametrize("value", [float("nan"), None, "", "x", "nan", "2", "Mm", "unknown"])
def test_everything_else_is_not_a_sex(value: object) -> None:
    """Fault 11: NaN or a typo silently becomes a sex."""
    assert parse_sex(value) is None


@given(st.text(max_size=8))
def test_a_sex_is_never_guessed(text: str) -> None:
    known = {"m", "male", "true", "1", "f", "female", "false", "0"}
    assert (parse_sex(text) is not None) == (text.strip().lower() in known)


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


def test_an_error_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,boneage,male\n1,50,True\n2,oops,True\n")
    with pytest.raises(BoneXageError, match="line 3"):
        read_labels(path)


@pytest.mark.parametrize("text", ["id;boneage;male\r\n1;50;True\r\n", "\ufeffid,boneage,male\n1,50,True\n",
                                  "id\tboneage\tmale\n1\t50\tTrue\n", " ID , Boneage ,male\n1, 50 , True\n"])
def test_spellings_of_a_table_load_the_same(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode())
    assert read_labels(path).to_dict("records") == [{"id": "1", "months": 50.0, "sex": "M"}]


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
