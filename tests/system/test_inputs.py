"""What INPUT… means: every film of it once, under an id that can be printed, written and told from all others."""

import csv
import os
import re
import shutil
import sys
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_films import film, opencv

from bonexage_utils.cohort import Cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.inputs import list_films
from bonexage_utils.labels import TableFormat
from bonexage_utils.tables import read_table, write_table

PIXEL = cv2.imencode(".png", np.full((40, 30), 90, np.uint8))[1].tobytes()
needs_bytes = pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")


def films_at(folder: Path, *names: str | bytes) -> Path:
    for name in names:
        place = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        Path(os.fsdecode(place)).write_bytes(PIXEL)
    return folder


def ids(*inputs: Path) -> list[str]:
    return list_films([str(given) for given in inputs], sex="M")["id"].tolist()


def test_inputs_of_every_kind_name_the_same_films(cohort: Cohort, phantom_folder: Path, tmp_path: Path) -> None:
    for path in cohort.table["image"].head(3):
        shutil.copy(path, tmp_path)
    names = sorted(p.stem for p in tmp_path.glob("*.png"))
    assert len(names) == 3
    (tmp_path / "list.txt").write_text("\n".join(f"{name}.png" for name in names) + "\n\n")
    (tmp_path / "by_image.csv").write_text("image,sex\n" + "".join(f"{name}.png,M\n" for name in names))
    (tmp_path / "by_id.csv").write_text("id,male\n" + "".join(f"{name},True\n" for name in names))
    sources = [[str(tmp_path / f"{name}.png") for name in names], [str(tmp_path)], [str(tmp_path / "list.txt")],
               [str(tmp_path / "by_image.csv")], [str(tmp_path / "by_id.csv")]]
    for source in sources:
        table = list_films(source, sex="M")
        assert table["id"].tolist() == names, source
        assert (table["sex"] == "M").all()
        assert table["image"].map(lambda p: Path(p).is_file()).all()
    whole = list_films([str(phantom_folder)])
    assert whole["sex"].tolist() == cohort.table["sex"].tolist()
    part = list_films([str(phantom_folder)], split="calibration")
    assert part["id"].tolist() == cohort.split("calibration")["id"].tolist()


def test_a_given_sex_is_never_replaced_or_guessed(tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_text("image,sex\na.png,F\nb.png,x\nc.png,\nd.png,M\ne.png,unknown\nf.png,O\n")
    table = list_films([str(tmp_path / "films.csv")], sex="M")
    assert table["sex"].tolist() == ["F", "", "M", "M", "M", "M"]
    assert table["sex_from"].tolist() == ["films.csv", "", "--sex", "films.csv", "--sex", "--sex"]
    assert table["error"].map(bool).tolist() == [True, True, False, False, False, False]
    assert re.search(r"a\.png: F in films\.csv, but --sex M; leave", table["error"][0])
    assert re.search(r"^unknown sex 'x' under 'sex'; .*--sex-codes 'f=F,x=\?,m=M' \(.*films\.csv, line 3\)$",
                     table["error"][1])
    unsaid = list_films([str(tmp_path / "films.csv")])
    assert unsaid["sex"].tolist() == ["F", "", "", "M", "", ""], "an unknown sex stays unknown"
    assert unsaid["error"].map(bool).tolist() == [False, True, False, False, False, False]


@pytest.mark.parametrize(("inputs", "options", "words"), [
    (["absent.png", None], {}, "an INPUT is empty"),
    (["empty"], {}, "no film found"), (["a.png"], {"sex": "x"}, "--sex"), (["empty"], {"split": "test"}, "cohort"),
    (["bad.csv"], {}, "image"), (["absent.csv"], {}, "absent.csv"), (["absent.txt"], {}, "absent.txt"),
])
def test_inputs_that_mean_nothing_are_refused(tmp_path: Path, inputs: list[str | None], options: dict,
                                              words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("name,age\nx,3\n")
    with pytest.raises(BoneXageError, match=words) as caught:
        list_films([str(tmp_path / name) if name else "" for name in inputs], **options)
    assert "\n" not in str(caught.value)


# --- which files of a folder are films ---

def test_what_systems_leave_behind_is_no_film(tmp_path: Path) -> None:
    """A folder from a Mac, a disk station, a notebook and Windows."""
    films_at(tmp_path, "1.png", "sub/2.PNG", "._1.png", "sub/._2.png", ".hidden/3.png", "Thumbs.db",
             ".ipynb_checkpoints/1-checkpoint.png", "__MACOSX/1.png", "__MACOSX/._1.png",
             "@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "lost+found/4.png", ".Trash-1000/files/5.png", ".Trashes/5.png",
             *(f"{name}/5.png" for name in ("$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "Recycler", "__macosx", "@tmp",
                                            "~snapshot", "@Recently-Snapshot", "@__thumb", "#Recycle", "#snapshot",
                                            "Network Trash Folder", "SYSTEM VOLUME INFORMATION", "@Recycle")))
    assert ids(tmp_path) == ["1", "2"]
    assert ids(tmp_path / ".hidden") == ["3"], "a folder that is named is meant"


def test_a_folder_and_a_cohort_are_searched_by_the_same_rule(tmp_path: Path) -> None:
    films = tmp_path / "boneage-training-dataset"
    films_at(films, "1.png", "._2.png", "__MACOSX/boneage-training-dataset/2.png", "2.png",
             ".ipynb_checkpoints/1-checkpoint.png")
    (tmp_path / "boneage-training-dataset.csv").write_text("id,boneage,male\n1,50,True\n2,60,True\n")
    assert ids(tmp_path) == ids(films) == ["1", "2"]


def test_links_in_a_circle_end_and_a_link_to_nothing_keeps_its_row(tmp_path: Path) -> None:
    films_at(tmp_path / "data", "1.png", "sub/2.png")
    try:
        for link, target in (("data/loop", "."), ("data/sub/up", ".."), ("data/self", "self"), ("data/3.png", "3.png"),
                             ("data/4.png", "gone"), ("data/other", "../elsewhere")):
            (tmp_path / link).symlink_to(target)
    except OSError:
        pytest.skip("no links here")
    films_at(tmp_path / "elsewhere", "5.png")
    assert sorted(ids(tmp_path / "data")) == ["1", "2", "3", "4", "5"]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions do not bind the user whom many containers run as, so the refusal is played."""
    films_at(tmp_path, "1.png", "closed/2.png")
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(BoneXageError, match=r"closed: cannot be listed \(Permission denied\); check"):
        ids(tmp_path)


# --- names ---

def test_films_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    """Else "a" would stand there twice, and which of the two has the label of "a" would be guessed."""
    films_at(tmp_path, "a.png", "a.JPG", "b.png", "sub/b.png", "c.png", "d.dcm.png", "d.dcm")
    assert set(ids(tmp_path)) == {"c", *(str(tmp_path / name) for name in (
        "a.png", "a.JPG", "b.png", "sub/b.png", "d.dcm.png", "d.dcm"))}
    assert ids(tmp_path / "b.png", tmp_path / "sub" / "b.png") == [str(tmp_path / "b.png"),
                                                                   str(tmp_path / "sub" / "b.png")]
    assert ids(tmp_path / "sub", tmp_path / "sub" / "b.png", tmp_path / "sub") == ["b"], "one film, given three times"


def test_the_rows_of_a_table_are_its_own(tmp_path: Path) -> None:
    """Two ids for one image are two rows; an id may be the name of a file."""
    films_at(tmp_path, "a.png")
    (tmp_path / "films.csv").write_text("id,image,sex\n1.png,a.png,M\n2,a.png,M\n2,a.png,M\n,a.png,M\n")
    assert ids(tmp_path / "films.csv") == ["1", "2", "a"]


@needs_bytes
def test_a_name_that_is_no_text_is_written_with_escapes(tmp_path: Path) -> None:
    films_at(tmp_path, b"\xff\xe9.png", b"a\nb.png", b"a\rb.png", b"t\tt.png", b"\x1b[31mred.png", "\u202egnp.png",
             "é.png")
    films = list_films([str(tmp_path)])
    assert set(films["id"]) == {r"\udcff\udce9", r"a\nb", r"a\rb", r"t\tt", r"\x1b[31mred", r"\u202egnp", "é"}
    assert films["image"].map(os.path.isfile).all(), "what is read is the file itself"


@needs_bytes
@given(st.sets(st.binary(min_size=1, max_size=12).map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"="))
               | st.text("=+-@'$^_\\{é;,\"\u0301\u00a0 1.0aA\n\r", min_size=1, max_size=8).map(os.fsencode),
               min_size=1, max_size=8))
def test_every_film_of_a_folder_has_a_row_and_an_id_that_survives_a_table(
        tmp_path_factory: pytest.TempPathFactory, names: set[bytes]) -> None:
    folder = films_at(tmp_path_factory.mktemp("names"), *(b"x" + name + b".png" for name in names), *(
        name + b".png" for name in names if not name.startswith(b".")))
    films = list_films([str(folder)])
    assert sorted(films["image"]) == sorted(str(folder / name) for name in os.listdir(folder))
    assert films["id"].is_unique
    write_table(films, folder / "table.csv")
    assert read_table(folder / "table.csv")["id"].tolist() == films["id"].tolist()
    lines = (folder / "table.csv").read_bytes().decode().splitlines()
    assert len(lines) == len(films) + 1
    assert all(cell.isprintable() or "\u00a0" in cell for row in csv.reader(lines) for cell in row)
    assert not any(cell.startswith(tuple("=+-@")) for row in csv.reader(lines) for cell in row)


def test_a_name_that_is_too_long_costs_no_other_its_row(tmp_path: Path) -> None:
    films_at(tmp_path, "1.png")
    (tmp_path / "by_id.csv").write_text(f"id,sex\n1,M\n{'x' * 300},M\n")
    (tmp_path / "by_image.csv").write_text(f"image,sex\n1.png,M\n{'x' * 300}.png,M\n")
    for table in ("by_id.csv", "by_image.csv"):
        assert ids(tmp_path / table) == ["1", "x" * 300]
    assert ids(tmp_path / ("x" * 300)) == ["x" * 300]
    with pytest.raises(BoneXageError, match="no such file"):
        ids(tmp_path / f"{'x' * 300}.csv")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_names_are_the_same(tmp_path: Path, form: str) -> None:
    """A Mac lists "é" as "e" and an accent; a table from elsewhere has one letter."""
    stored, other = (unicodedata.normalize(name, "Zoé") for name in (form, {"NFC": "NFD", "NFD": "NFC"}[form]))
    films_at(tmp_path, f"{stored}.png")
    (tmp_path / "by_id.csv").write_text(f"id,sex\n{other},M\n", encoding="utf-8")
    (tmp_path / "by_image.csv").write_text(f"image,sex\n{other}.png,M\n", encoding="utf-8")
    (tmp_path / "list.txt").write_text(f"{other}.png\n", encoding="utf-8")
    for given_as in ("by_id.csv", "by_image.csv", "list.txt", "", f"{other}.png"):
        films = list_films([str(tmp_path / given_as)])
        assert films["id"].tolist() == ["Zo\u00e9"], given_as
        assert films["image"].map(os.path.isfile).all(), given_as


@pytest.mark.parametrize(("name", "stored"), [("7", "007"), ("A7", "a7"), ("a b", "ab")])
def test_a_film_in_another_spelling_says_so(tmp_path: Path, name: str, stored: str) -> None:
    films_at(tmp_path, f"{stored}.png", "8.png")
    (tmp_path / "films.csv").write_text(f"id,sex\n{name},M\n8,M\n9,M\n")
    films = list_films([str(tmp_path / "films.csv")])
    assert films["id"].tolist() == [name, "8", "9"]
    assert f"no image for film {name}, but one in another spelling; name it alike: " in films["error"][0]
    assert films["error"][0].endswith(f"{stored}.png")
    assert films["error"][1:].tolist() == ["", ""], "that 9 is not there shows when it is read"


def test_a_row_that_means_no_film_or_two_says_so(tmp_path: Path) -> None:
    films_at(tmp_path, "1.png", "1.jpg", "2.png", "films/2.png")
    (tmp_path / "films.csv").write_text("id,image,sex\n1,,M\n2,,M\n,,M\n")
    films = list_films([str(tmp_path / "films.csv")])
    assert films["image"][1] == str(tmp_path / "films" / "2.png"), "the folder of the table's name comes first"
    assert films["error"][0].startswith("two films of the id 1; keep one of ")
    assert "line 4 names no film" in films["error"][2]
    (tmp_path / "images.csv").write_text("image,sex\n2.png,M\n,M\n")
    assert list_films([str(tmp_path / "images.csv")])["error"].map(bool).tolist() == [False, True]


def test_only_line_ends_end_a_line_of_a_list(tmp_path: Path) -> None:
    films_at(tmp_path, "a\u2028b.png", "c.png")
    (tmp_path / "list.txt").write_bytes("a\u2028b.png\r\n\r\nc.png\r".encode())
    assert list_films([str(tmp_path / "list.txt")])["image"].map(os.path.isfile).tolist() == [True, True]


def test_a_film_given_twice_has_one_row_with_the_sex_that_came_with_it(
        cohort: Cohort, phantom_folder: Path, tmp_path: Path) -> None:
    film = cohort.table.iloc[3]
    (tmp_path / "linked").symlink_to(phantom_folder)
    other = str(tmp_path / "linked" / Path(film["image"]).relative_to(phantom_folder))
    for inputs in ([film["image"], str(phantom_folder)], [str(phantom_folder), other, film["image"]]):
        films = list_films(inputs, sex={"F": "M", "M": "F"}[film["sex"]])
        assert sorted(films["id"]) == sorted(cohort.table["id"])
        assert films.set_index("id")["sex"].to_dict() == cohort.table.set_index("id")["sex"].to_dict()
        assert (films["error"] != "").tolist() == (films["sex"] == film["sex"]).tolist(), "--sex says another"
    (tmp_path / "one.csv").write_text(f"image,sex\n{film['image']},x\n")
    films = list_films([str(tmp_path / "one.csv"), film["image"]], sex="F")
    assert films["error"].map(bool).tolist() == [True, False], "a sex that is not understood is none"
    assert films["id"].is_unique


@needs_bytes
def test_names_that_are_written_alike_are_numbered(tmp_path: Path) -> None:
    """Two files whose names differ in form alone, one that is no text beside one that is named as it is written."""
    forms = [f"{unicodedata.normalize(form, 'é')}.png" for form in ("NFC", "NFD")]
    films_at(tmp_path / "forms", *forms)
    films_at(tmp_path / "escapes", b"bad\xff.png", rb"bad\udcff.png", rb"bad\udcff.png (2).png")
    for folder, alike in (("forms", forms[0]), ("escapes", r"bad\udcff.png")):
        films = list_films([str(tmp_path / folder)])
        assert {str(tmp_path / folder / alike), f"{tmp_path / folder / alike} (2)"} <= set(films["id"])
        assert films["id"].map(lambda film: unicodedata.normalize("NFC", film)).is_unique
        assert sorted(films["image"]) == sorted(str(path) for path in (tmp_path / folder).iterdir())
    (tmp_path / "both.csv").write_text("id,image,sex\n1,1.png,M\n1,1.png,F\n")
    films = list_films([str(tmp_path / "both.csv")])
    assert films["id"].tolist() == [f"{tmp_path / '1.png'}", f"{tmp_path / '1.png'} (2)"]
    assert films["sex"].tolist() == ["M", "F"]


@pytest.mark.parametrize(("header", "words"), [
    ("image,sex,male", "two sex columns (male, sex)"), ("image,id,image id", "two film id columns (id, image id)"),
    ("case_id,image_id,sex", "two film id columns (image id, case id)"), ("id,Sex,MALE", "two sex columns (male, sex)"),
])
def test_a_list_that_says_a_thing_twice_is_refused(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "films.csv").write_text(f"{header}\na.png,F,True\n")
    with pytest.raises(BoneXageError, match=f"films.csv: {re.escape(words)}; keep one"):
        list_films([str(tmp_path / "films.csv")])


def test_a_list_may_write_a_sex_as_pandas_does_and_name_a_file_with_an_apostrophe(tmp_path: Path) -> None:
    films_at(tmp_path, "'=2.png", "=3.png", "'=4.png", "=4.png", "'=5.png")
    rows = ["image,id,male", "'=2.png,,1.0", "'=3.png,,0.0", "'=4.png,,1.0", "''=4.png,,1", ",'=5,0", ""]
    (tmp_path / "films.csv").write_text("\n".join(rows))
    films = list_films([str(tmp_path / "films.csv")])
    assert films["image"].tolist() == [str(tmp_path / name) for name in (
        "'=2.png", "=3.png", "=4.png", "'=4.png", "'=5.png")]
    assert films["sex"].tolist() == ["M", "F", "M", "M", "F"]
    assert films["error"].eq("").all()


def test_any_table_may_lie_among_films(tmp_path: Path) -> None:
    films_at(tmp_path, "1.png", "sub/2.png")
    (tmp_path / "train.csv").write_text("epoch,loss\n1,2\n")
    assert ids(tmp_path) == ["1", "2"]
    with pytest.raises(BoneXageError, match="needs a cohort folder"):
        list_films([str(tmp_path)], split="test")
    films_at(tmp_path, "boneage-training-dataset/3.png")
    (tmp_path / "train.csv").write_text("id,boneage,male\n3,60,True\n")
    assert ids(tmp_path) == ["3"], "a cohort"
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "boneage-training-dataset.csv").write_text("id,boneage,male\n3,60,True\n")
    with pytest.raises(BoneXageError, match="not a cohort; it needs"):
        ids(tmp_path / "flat")


def test_a_table_among_the_films_of_a_cohort_hides_none(tmp_path: Path) -> None:
    """A run's log has that name, too; a folder with labels and films of its own is another cohort."""
    for root in (tmp_path, tmp_path / "other"):
        films_at(root, "boneage-training-dataset/3.png")
        (root / "train.csv").write_text("id,boneage,male\n3,60,True\n")
    (tmp_path / "boneage-training-dataset" / "train.csv").write_text("epoch,loss\n1,2\n")
    films = list_films([str(tmp_path)])
    assert films["image"].tolist() == [str(tmp_path / "boneage-training-dataset" / "3.png")]
    assert films["sex"].tolist() == ["M"]


@pytest.mark.parametrize(("data", "kind"), [(b"PK\3\4\0\0", "ZIP"), (b"\x1f\x8b\x08\0", "gzip"),
                                            (b"7z\xbc\xaf'\x1c\0", "7z"), (b"Rar!\x1a\7\0", "RAR")])
def test_what_is_packed_is_to_be_unpacked(tmp_path: Path, data: bytes, kind: str) -> None:
    (tmp_path / "export").write_bytes(data)
    with pytest.raises(BoneXageError, match=rf"no film found \(1 {kind} archive\); unpack what is packed, or give"):
        list_films([str(tmp_path)])
    assert list_films([str(tmp_path / "export")])["error"].iloc[0].endswith(f"({kind} archive); unpack it")


def test_an_id_with_a_folder_is_not_told_of_another_folder_s_film(tmp_path: Path) -> None:
    for place in ("P1", "P2"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "IM1").write_bytes(opencv(".png", film()))
    (tmp_path / "list.csv").write_text("id,sex\nP1/IM1,F\nP2/IM1,M\n")
    errors = list_films([str(tmp_path)], labels="list.csv", tell=lambda line: None)["error"]
    assert [error.split("; ")[1] for error in errors] == ["name the column 'image' for paths"] * 2
    (tmp_path / "list.csv").write_text("image,sex\nP1/IM1,F\nP2/IM1,M\n")
    films = list_films([str(tmp_path)], labels="list.csv", tell=lambda line: None)
    assert films[["sex", "error"]].to_numpy().tolist() == [["F", ""], ["M", ""]]


@pytest.mark.parametrize("name", ["PatientSex", "Sex (M/F)", "Geschlecht", "patient_gender"])
def test_a_column_that_may_say_the_sex_is_not_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "list.csv").write_text(f"id,{name}\n1,F\n")
    with pytest.raises(BoneXageError, match=r"' may say the sex; say so with --columns sex="):
        list_films([str(tmp_path / "list.csv")], sex="M")
    films = list_films([str(tmp_path / "list.csv")], tables=TableFormat.parse(f"sex={name}"))
    assert films["sex"].tolist() == ["F"]


def test_a_workbook_among_films_is_no_archive(tmp_path: Path) -> None:
    openpyxl.Workbook().save(tmp_path / "ages.xlsx")
    with pytest.raises(BoneXageError, match=r"no film found \(1 office document\); give images"):
        list_films([str(tmp_path)])
