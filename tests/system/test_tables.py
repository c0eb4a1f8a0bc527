"""Tables as people send them: each means what it says, or is refused for its true reason."""

import csv
import datetime
import io
import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from commands import bonexage
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils import tables
from bonexage_utils.cohort import Cohort, is_cohort, load_cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import evaluate, read_truth
from bonexage_utils.inputs import list_films
from bonexage_utils.labels import TableFormat, before_the_spreadsheet, film_id, label_hash, parse_age, read_labels
from bonexage_utils.tables import read_table


def book(path: Path, *sheets: list[list], titles: tuple[str, ...] = ()) -> Path:
    """A workbook of these rows, as a spreadsheet saves it: every number a float or whole, dates as dates."""
    made = openpyxl.Workbook()
    made.remove(made.active)
    for place, rows in enumerate(sheets):
        sheet = made.create_sheet((*titles, *"ABCDEF")[place])
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


def refused(path: Path, words: str, columns: str | None = None, sex_codes: str | None = None) -> str:
    with pytest.raises(BoneXageError, match=words) as caught:
        read_labels(path, TableFormat.parse(columns, sex_codes))
    assert str(caught.value).count("\n") == 0
    assert ";" in str(caught.value)
    return str(caught.value)


def means(path: Path, columns: str | None = None, sex_codes: str | None = None) -> list[tuple]:
    """The rows of a label table as (id, months, sex)."""
    return list(read_labels(path, TableFormat.parse(columns, sex_codes)).itertuples(index=False, name=None))


# --- as they come in the mail: the text, the options that say what it means, the rows, or words of the refusal ---

RIGHT = [("1377", 126.5, "F"), ("1378", 36.0, "M")]
MAILS: dict[str, tuple[str, dict[str, str], list[tuple] | str]] = {
    "a colleague's codes": ("id,boneage,sex\n1377,126.5,0\n1378,36,1\n", {"sex_codes": "0=F,1=M"}, RIGHT),
    "codes the other way round": ("id,boneage,sex\n1377,126.5,1\n1378,36,0\n", {"sex_codes": "1=F,0=M"}, RIGHT),
    "codes beside an empty cell": ("id,boneage,sex\n1377,126.5,0.0\n1378,36,1.0\n", {"sex_codes": "0=F,1=M"}, RIGHT),
    "ISO 5218": ("id,boneage,sex\n1377,126.5,2\n1378,36,1\n", {"sex_codes": "1=male,2=female,9=unknown"}, RIGHT),
    "codes that nobody explains": ("id,boneage,sex\n1377,126.5,0\n1378,36,1\n", {},
                                   r"unknown sex '0' under 'sex' at line 2, line 3; .*--sex-codes '0=\?,1=\?'$"),
    "yes and no under sex": ("id,boneage,sex\n1377,126.5,False\n1378,36,True\n", {}, r"--sex-codes 'false=\?,true=\?'"),
    "yes and no under gender": ("id,boneage,gender\n1377,126.5,0\n1378,36,1\n", {}, r"--sex-codes '0=\?,1=\?'"),
    "yes and no under male": ("id,boneage,male\n1377,126.5,0\n1378,36,1\n", {}, RIGHT),
    "yes and no under female": ("id,boneage,female\n1377,126.5,1\n1378,36,0\n", {}, RIGHT),
    "F under female may be false": ("id,boneage,female\n1377,126.5,F\n1378,36,T\n", {}, r"--sex-codes 'f=\?,t=\?'"),
    "German words": ("id,boneage,sex\n1377,126.5,Mädchen\n1378,36,Junge\n", {"sex_codes": "mädchen=F,junge=M"}, RIGHT),
    "German letters": ("id,boneage,sex\n1377,126.5,w\n1378,36,m\n", {"sex_codes": "w=F"}, RIGHT),
    "German letters, unexplained": ("id,boneage,sex\n1377,126.5,w\n1378,36,m\n", {}, r"unknown sex 'w'.*'w=\?,m=M'"),
    "Spanish letters, half explained": ("id,boneage,sex\n1377,126.5,M\n1378,36,H\n", {"sex_codes": "H=M"},
                                        r"unknown sex 'M' .*'m=\?,h=M'"),
    "Spanish letters": ("id,boneage,sex\n1377,126.5,M\n1378,36,H\n", {"sex_codes": "H=M,M=F"}, RIGHT),
    "an unknown sex to train on": ("id,boneage,sex\n1377,126.5,F\n1378,36,O\n", {}, "unknown sex at line 3"),
    "a code for unknown": ("id,boneage,sex\n1377,126.5,F\n1378,36,9\n", {"sex_codes": "9=U"}, "unknown sex at line 3"),
    "a German spreadsheet": ("id;boneage;male\n1377;126,5;0\n1378;36;1\n", {}, RIGHT),
    "what Excel puts first": ("sep=;\r\nid;boneage;male\r\n1377;126,5;0\r\n1378;36;1\r\n", {}, RIGHT),
    "quoted decimal commas": ('id,boneage,sex\n1377,"126,5",F\n1378,"36,0",M\n', {}, RIGHT),
    "decimal commas that split": ("id,boneage,sex\n1377,126,5,F\n1378,36,M\n", {}, "4 fields, .* has 3;.*comma"),
    "points and commas": ("id;boneage;sex\n1377;126,5;F\n1378;36.0;M\n", {}, "some ages with a comma and some without"),
    "a comma of thousands": ("id;boneage;sex\n1377;126,500;F\n1378;36;M\n", {},
                             r"'126,500' under 'boneage'\) at line 2"),
    "years and months": ("id,boneage,sex\n1377,10y 6.5m,F\n1378,3 years,M\n", {}, RIGHT),
    "in words": ("id,boneage,sex\n1377,10 years 6.5 months,F\n1378,36 months,M\n", {}, RIGHT),
    "as in a DICOM": ("id,boneage,sex\n1377,126M,F\n1378,003Y,M\n", {}, [("1377", 126.0, "F"), ("1378", 36.0, "M")]),
    "with a semicolon": ("id,boneage,sex\n1377,10;6,F\n1378,3;0,M\n", {},
                         [("1377", 126.0, "F"), ("1378", 36.0, "M")]),
    "with and without units": ("id,boneage,sex\n1377,10y 6m,F\n1378,36,M\n", {}, "unit and some without"),
    "a thirteenth month": ("id,boneage,sex\n1377,10y 13m,F\n1378,3y,M\n", {}, "age that is not.*'10y 13m'.* line 2;"),
    "dates": ("id,boneage,sex\n1377,10.06.2015,F\n1378,2015-06-10,M\n", {}, r"age that is not.*'10\.06\.2015'"),
    "what a spreadsheet makes of 10-6": ("id,boneage,sex\n1377,10-Jun,F\n1378,3-Jan,M\n", {}, "age that is not"),
    "years by name": ("id,bone age (years),sex\n1377,10.5,F\n1378,3,M\n", {}, "in years; say --columns years='bone"),
    "years by looks": ("id,boneage,sex\n1377,10.5,F\n1378,3,M\n", {}, "like years; say --columns years='boneage'"),
    "years, said": ("id,boneage,sex\n1377,10.5,F\n1378,3,M\n", {"columns": "years=boneage"},
                    [("1377", 126.0, "F"), ("1378", 36.0, "M")]),
    "years.months": ("id,boneage,sex\n1377,10.11,F\n1378,3.2,M\n", {"columns": "years=boneage"},
                     "looks like months, at line 2; write 9.11 as 9y 11m"),
    "infants, said": ("id,boneage,sex\n1377,10.5,F\n1378,3,M\n", {"columns": "months=boneage"},
                      [("1377", 10.5, "F"), ("1378", 3.0, "M")]),
    "names of one's own": ("Röntgen-Nr.,KA, Monate,Geschlecht\n".replace("KA, Monate", '"KA, Monate"')
                           + "1377,126.5,F\n1378,36,M\n",
                           {"columns": "id=röntgen-nr.,months=KA, Monate,sex=Geschlecht"}, RIGHT),
    "no name that is known": ("film,age,kind\n1377,126.5,F\n", {},
                              r"no film id column; .*--columns id=NAME \(found: film"),
    "years by name, said to be months": ("id,Knochenalter (Jahre),sex\n1377,10.5,F\n1378,3,M\n",
                                         {"columns": "months=Knochenalter (Jahre)"},
                                         r"\(jahre\)' is named in years, .* as months; say --columns years=NAME"),
    "months by name, said to be years": ("id,bone age (months),sex\n1377,10.5,F\n",
                                         {"columns": "years=bone age (months)"},
                                         "is named in months, .* as years; say --columns months=NAME"),
    "days by name": ("id,bone age (days),sex\n1377,100,F\n", {"columns": "months=bone age (days)"},
                     "named in days, .* as months; write months"),
    "units in the cells go before the name": ("id,bone age (years),sex\n1377,10y 6.5m,F\n1378,3y,M\n",
                                              {"columns": "months=bone age (years)"}, RIGHT),
    "one column for two things": ("60,sex\n60,F\n", {"columns": "id=60,months=60"}, "'60' is to hold two things; name"),
    "one column for two things, by its name": ("boneage,sex\n60,F\n", {"columns": "id=boneage"},
                                               "'boneage' is to hold two things; name"),
    "a male that is 1=F": ("id,boneage,male\n1377,126.5,1\n1378,36,0\n", {"sex_codes": "1=F,0=M"},
                           "says 1=F, and the column 'male' the opposite;"),
    "a mark before a mark": ("\ufeffid,boneage,sex\n1377,126.5,F\n1378,36,M\n", {}, RIGHT),
    "a name that is not there": ("id,age,sex\n1377,126.5,F\n", {"columns": "months=KA"},
                                 r"no column 'ka', which --columns names for months \(found: id, age, sex\);"),
    "two columns, one said": ("id,boneage,male,sex\n1377,126.5,?,F\n1378,36,?,M\n", {"columns": "sex=sex"}, RIGHT),
    "predictions": ("id,image,sex,bone_age_months,bone_age,low_months,high_months,error\n1,a.png,F,60,5 years,50,70,\n",
                    {}, "these are predictions"),
}


@pytest.mark.parametrize("mail", MAILS)
@pytest.mark.parametrize("how", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_from_the_mail_is_right_or_refused_for_its_reason(tmp_path: Path, mail: str, how: str) -> None:
    text, options, expected = MAILS[mail]
    (tmp_path / "labels.csv").write_bytes(text.encode(how))
    if isinstance(expected, str):
        refused(tmp_path / "labels.csv", expected, **options)
    else:
        assert means(tmp_path / "labels.csv", **options) == expected


def test_an_encoding_that_could_be_any_is_refused_and_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("id;boneage;sex\n1377;126;Mädchen\n".encode("cp1252"))
    refused(tmp_path / "labels.csv", r"not text in UTF-8 \(line 2\); save it as 'CSV UTF-8', or as \.xlsx",
            sex_codes="Mädchen=F")


@pytest.mark.parametrize(("option", "text"), [
    ("--columns", "id"), ("--columns", ""), ("--columns", "id="), ("--columns", "film=a"), ("--columns", "id=a,id=b"),
    ("--columns", "id=,sex=b"), ("--columns", "months=a,years=b"), ("--sex-codes", "0"), ("--sex-codes", "0=X"),
    ("--sex-codes", "=F"), ("--sex-codes", "0=F,0=M"), ("--sex-codes", "1=M,1.0=F"), ("--sex-codes", "0=F;1=M"),
])
def test_an_option_that_says_nothing_clear_is_refused(option: str, text: str) -> None:
    with pytest.raises(BoneXageError, match=option):
        TableFormat.parse(**{option.strip("-").replace("-", "_"): text})


@given(st.dictionaries(st.sampled_from(["id", "image", "months", "sex"]), st.text("aB ,=é", min_size=1).map(str.strip)
                       .filter(lambda name: name and name[0] not in ",=" and name[-1] != ",")))
def test_any_name_of_a_column_can_be_said(names: dict[str, str]) -> None:
    said = TableFormat.parse(",".join(f"{kind}={name}" for kind, name in names.items())) if names else TableFormat()
    assert said.columns == {kind: tables.heading(name) for kind, name in names.items()}


# --- ages and ids ---

@given(st.integers(0, 20), st.integers(0, 11), st.sampled_from([
    "{y}y {m}m", "{y} years {m} months", "{y}y{m}m", "{y} yrs, {m} mos", "{y} Years and {m} Months", "{y};{m}",
    "{y:03}Y{m}M", "{t}m", "{t:03}M", "{t} months", "{t} mo"]))
def test_an_age_with_its_units_is_read_back(years: int, months: int, form: str) -> None:
    assert parse_age(form.format(y=years, m=months, t=12 * years + months)) == 12 * years + months


@pytest.mark.parametrize(("text", "months"), [
    ("10.5 years", 126), ("10,5y", 126), ("1y", 12), ("045D", 45 * 12 / 365.25), ("006W", 6 * 7 * 12 / 365.25),
    ("2y 3m 2w", 27 + 14 * 12 / 365.25), ("10y 6,5m", 126.5), ("10y 6.5m", 126.5), ("1,5y 6m", None),
    *((text, None) for text in (
        "", "y", "10", "10.5", "10y 12m", "10;12", "10.5y 6m", "6m 10y", "-1y", "1e1y", "10 y 6", "10-6", "10/6",
        "10'6\"", "1.2.3y", "10y 6mm", "2015-06-10", "10.06.2015", "10:06", "nan", "１０y", "126,500m"))])
def test_only_what_is_clear_is_an_age(text: str, months: float | None) -> None:
    assert parse_age(text) == (None if months is None else pytest.approx(months))


def as_a_spreadsheet_would(number: int) -> list[str]:
    power = len(str(number)) - 1
    digits = f"{number / 10**power:.{power}f}"
    return [f"{number}.0", f"{number}.00", f"{number},0", *([f"{number:,}", f"{number:,}".replace(",", ".")]
            if number > 999 else []), f"{digits}E+{power:02}", f"{digits.replace('.', ',')}e+{power}"]


@given(st.sets(st.integers(1, 10**7), min_size=1, max_size=6), st.data())
def test_ids_that_a_spreadsheet_changed_are_mended_to_the_film_that_is_there(films: set[int],
                                                                             data: st.DataObject) -> None:
    wanted = {data.draw(st.sampled_from(as_a_spreadsheet_would(film))): str(film) for film in films}
    there = {str(film) for film in films}
    mended = before_the_spreadsheet(wanted, there)
    unclear = {text for text in wanted if re.fullmatch(r"[0-9]+[.,]0+", text)
               and {re.split("[.,]", text)[0], re.sub("[.,]", "", text)} <= there}
    assert mended == {text: film for text, film in wanted.items() if text not in unclear}
    assert before_the_spreadsheet(wanted, there | set(wanted)) == {}, "so are films called"
    assert before_the_spreadsheet(wanted, set()) == {}
    assert before_the_spreadsheet([*wanted, *there], there) == {}, "each has its film"


@pytest.mark.parametrize(("wanted", "there"), [
    (["1.38E+03"], ["1380", "1378"]),  # digits are lost
    (["2.000"], ["2", "2000"]), (["1377.0", "1,377"], ["1377"]), (["1377.5"], ["1377"]), (["1,37"], ["137"]),
    (["a1377.0"], ["a1377"]), (["1e9999999999"], ["1"]), (["007.0"], ["7"]),
])
def test_an_id_that_may_be_another_is_not_mended(wanted: list[str], there: list[str]) -> None:
    assert before_the_spreadsheet(wanted, there) == {}


def folder_of(root: Path, cohort: Cohort, films: int = 40) -> tuple[Path, pd.DataFrame]:
    """Links to films, in folders below `root`, and their rows."""
    rows = cohort.table.head(films)
    for place, film in enumerate(rows["image"]):
        folder = root / f"part {place % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / Path(film).name).symlink_to(film)
    return root, rows[["id", "months", "sex"]]


def test_mended_ids_are_told_and_split_as_the_films_they_are(cohort: Cohort, tmp_path: Path) -> None:
    root, rows = folder_of(tmp_path / "films", cohort)
    rows.rename(columns={"months": "boneage"}).to_csv(tmp_path / "right.csv", index=False)
    rows.assign(id=rows["id"] + ".0").rename(columns={"months": "boneage"}).to_csv(tmp_path / "floats.csv", index=False)
    told: list[str] = []
    right, mended = (load_cohort(root, tmp_path / name, tell=told.append) for name in ("right.csv", "floats.csv"))
    pd.testing.assert_frame_equal(mended.table, right.table)
    assert told == [f"{tmp_path / 'floats.csv'}: 40 ids that a spreadsheet changed are read as what they were, e.g. "
                    f"{rows['id'][0]}.0 as {rows['id'][0]}"]
    films = list_films([str(root)], labels=tmp_path / "floats.csv", tell=told.append)
    assert films["id"].tolist() == rows["id"].tolist()
    assert films["image"].map(os.path.isfile).all()
    assert len(told) == 2
    predictions = right.table.assign(bone_age_months=60.0)[["id", "sex", "bone_age_months"]]
    truth = read_truth(tmp_path / "floats.csv", tell=told.append)
    assert len(told) == 2, "nothing tells yet what they were"
    assert evaluate(predictions, truth.table, tell=told.append).scores.n == 40
    assert told[2].startswith("labels: 40 ids")


# --- workbooks ---

def test_a_workbook_means_what_its_sheet_shows(tmp_path: Path) -> None:
    rows = [["ID", "Boneage", "Male", "Taken", None, "Remark"],
            [1377, 126.5, False, datetime.date(2015, 6, 10), None, "a"], [1378.0, 36, True, None, None, None],
            [None] * 6, ["007", "9y 11m", 1, "x", "", ""]]
    path = book(tmp_path / "labels.xlsx", rows)
    refused(path, "with a unit and some without, at line 5;")
    rows[-1][1] = 119
    assert means(book(path, rows)) == [*RIGHT, ("007", 119.0, "M")]
    table = read_table(path)
    assert table.index.tolist() == [2, 3, 5]
    assert table["taken"].tolist() == ["2015-06-10T00:00:00", "", "x"]
    path.rename(tmp_path / "named otherwise.csv")
    assert len(means(tmp_path / "named otherwise.csv")) == 3


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 10**14) | st.text("aé7-_", min_size=1, max_size=6),
                          st.integers(21, 240) | st.decimals(21, 240, places=9).map(float), st.sampled_from("MF")),
                min_size=1, max_size=6, unique_by=lambda row: film_id(str(row[0]))))
def test_a_workbook_and_a_csv_of_the_same_cells_mean_the_same(tmp_path_factory: pytest.TempPathFactory,
                                                              rows: list[tuple]) -> None:
    folder = tmp_path_factory.getbasetemp()
    header = ["id", "Bone Age (months)", "sex"]
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    (folder / "same.csv").write_text(text.getvalue(), encoding="utf-8")
    assert means(book(folder / "same.xlsx", [header, *map(list, rows)])) == means(folder / "same.csv")


def test_a_number_that_is_shown_in_per_cent_is_no_age(tmp_path: Path) -> None:
    """126 written into such a cell is kept as 1.26, and shown as 126 %."""
    book(tmp_path / "a.xlsx", [["id", "bone age (months)", "sex"], ["1377", 1.26, "F"], ["1378", 0.36, "M"]])
    made = openpyxl.load_workbook(tmp_path / "a.xlsx")
    for row, form in ((2, "0%"), (3, '0 "%"')):
        made.active.cell(row, 2).number_format = form
    made.save(tmp_path / "a.xlsx")
    assert "'1.26%' under" in refused(tmp_path / "a.xlsx", "no age|not 0–240 months .* at line 2;")


def test_the_sheet_with_a_fitting_header_is_read(tmp_path: Path) -> None:
    about, films = [["Bone ages 2024"], ["by", "me"]], [["Film", "KA", "sex"], [1377, 126.5, "F"], [1378, 36, "M"]]
    path = book(tmp_path / "labels.xlsx", about, [], films, titles=("About", "Empty", "Films"))
    assert means(path, "id=Film,months=KA") == RIGHT
    assert "sheets (About, Films) none looks like the label table" in refused(path, "sheets")
    path = book(tmp_path / "labels.xlsx", films, films, titles=("2023", "2024"))
    assert "sheets (2023, 2024) each may be the label table" in refused(path, "sheets", "id=Film,months=KA")
    refused(book(tmp_path / "labels.xlsx", []), "empty")


def test_a_formula_is_never_computed_and_counts_as_what_it_was(tmp_path: Path) -> None:
    """openpyxl writes no values beside formulas, as a spreadsheet does; those are put in here."""
    path = book(tmp_path / "labels.xlsx", [["id", "boneage", "sex"], [1377, "=10*12+6.5", "F"], [1378, "=3*12", "M"]])
    refused(path, "line 2: a formula without its value; open the file")
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    sheet = parts["xl/worksheets/sheet1.xml"].decode()
    sheet, count = re.subn(r"<f>([^<]*)</f><v ?/>|<f>([^<]*)</f><v></v>",
                           lambda found: f"{found[0].split('<v')[0]}<v>{126.5 if '10' in found[0] else 36}</v>", sheet)
    assert count == 2
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, sheet if name.endswith("sheet1.xml") else data)
    assert means(path) == RIGHT


@pytest.mark.parametrize(("name", "data", "words"), [
    ("old.xls", b"\xd0\xcf\x11\xe0" + bytes(600), "an old Excel file, or one with a password; save it as .xlsx"),
    ("page.xls", b"<html><table><tr><td>id", "a web page, or XML; save it as .xlsx"),
    ("cut.xlsx", None, "a damaged workbook"), ("letter.docx", {"word/document.xml": "x"}, "no Excel workbook"),
    ("table.ods", {"content.xml": "x"}, "no Excel workbook"),
    ("empty.xlsx", {"xl/workbook.xml": ""}, "damaged workbook"),
])
def test_what_is_no_workbook_is_told_what_it_is(tmp_path: Path, name: str, data: bytes | dict | None,
                                                words: str) -> None:
    path = tmp_path / name
    if isinstance(data, dict):
        with zipfile.ZipFile(path, "w") as archive:
            for part, text in data.items():
                archive.writestr(part, text)
    else:
        path.write_bytes(data or book(path, [["id", "boneage", "sex"], [1, 30, "F"]]).read_bytes()[:-400])
    refused(path, words)
    with pytest.raises(BoneXageError, match=words):
        list_films([str(path)] if path.suffix != ".docx" else [str(path.rename(path.with_suffix(".xlsx")))])


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_UNPACKED", 2**24)
    path = book(tmp_path / "labels.xlsx", [["id", "boneage", "sex"], [1377, 126.5, "F"]])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/media/image1.bin", bytes(2**24))
    assert path.stat().st_size < 2**17
    refused(path, "too large once unpacked")
    monkeypatch.setattr(tables, "MAX_CELLS", 100)
    refused(book(path, [["id", "boneage", "sex"], *([k, 30, "F"] for k in range(40))]), "too many cells in sheet A")


def test_a_bomb_of_entities_is_damage(tmp_path: Path) -> None:
    """Expat stops where text grows beyond measure; a reader that did not would take all memory here."""
    path = book(tmp_path / "labels.xlsx", [["id", "boneage", "sex"], [1377, 126.5, "F"]])
    laughs = "".join(f'<!ENTITY a{k} "{f"&a{k - 1};" * 10}">' for k in range(1, 12))
    with zipfile.ZipFile(path) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            if name.endswith("sheet1.xml"):
                assert b"<t>id</t>" in data
                data = data.replace(b"<t>id<", b"<t>&a11;<")
                data = f'<!DOCTYPE worksheet [<!ENTITY a0 "ha">{laughs}]>'.encode() + data
            archive.writestr(name, data)
    refused(path, "a damaged workbook")


# --- a folder of one's own ---

def test_a_folder_of_links_and_a_table_of_any_name_is_a_cohort(cohort: Cohort, tmp_path: Path) -> None:
    root, rows = folder_of(tmp_path / "mine", cohort)
    sheet = [["Film", "KA", "Sex"], *([f"{row.id}.png", row.months, int(row.sex == "M")] for row in rows.itertuples())]
    said = TableFormat.parse("id=Film,months=KA", "0=F,1=M")
    path = book(tmp_path / "bone ages.xlsx", sheet)
    with pytest.raises(BoneXageError, match=r"not a cohort; it needs .* or a label table that --labels names"):
        load_cohort(root)
    mine = load_cohort(root, path, said)
    expected = cohort.table.head(40).set_index("id")
    assert mine.table.set_index("id")[["months", "sex", "split"]].equals(expected[["months", "sex", "split"]])
    assert mine.table["image"].map(os.path.isfile).all()
    assert path in mine.files
    assert mine.label_hashes == {"bone ages.xlsx": label_hash(path, said)}, "no path of anybody's machine"
    assert label_hash(path, said) != label_hash(path) != label_hash(path, replace(said, sex_codes={"0": "M", "1": "F"}))
    (root / "bone ages.xlsx").symlink_to(path)
    assert load_cohort(root, "bone ages.xlsx", said).label_hashes == mine.label_hashes, "beside the films"
    assert not is_cohort(root)
    rows.rename(columns={"months": "boneage"}).to_csv(root / "labels.csv", index=False)
    assert is_cohort(root)
    assert load_cohort(root).table.equals(mine.table)
    assert list_films([str(root)])["sex"].tolist() == rows["sex"].tolist()
    (root / "labels.xlsx").symlink_to(path)
    with pytest.raises(BoneXageError, match=r"labels.csv: labels.xlsx lies beside it; name the one you mean"):
        load_cohort(root)


def test_a_label_file_is_looked_for_here_and_in_the_folder(cohort: Cohort, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    root, rows = folder_of(tmp_path / "mine", cohort)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BoneXageError, match=r"--labels 't\.csv': no such file; name a label table"):
        load_cohort(root, "t.csv")
    for place in (root, tmp_path):
        rows.rename(columns={"months": "boneage"}).to_csv(place / "t.csv", index=False)
        assert place == tmp_path or len(load_cohort(root, "t.csv")) == 40
    with pytest.raises(BoneXageError, match=r"t\.csv: so named are .* and .*mine.t\.csv; give --labels a longer path"):
        load_cohort(root, "t.csv")
    assert len(load_cohort(root, tmp_path / "t.csv")) == 40


def test_a_table_beside_the_films_may_lack_ages_and_films_that_it_lacks_are_told(cohort: Cohort, tmp_path: Path
                                                                                  ) -> None:
    root, rows = folder_of(tmp_path / "mine", cohort)
    (root / "labels.csv").write_text("id,sex\n" + "".join(f"{row.id},{row.sex}\n" for row in rows[:30].itertuples()))
    (root / "report.pdf").write_bytes(b"%PDF-1.7")
    told: list[str] = []
    films = list_films([str(root)], tell=told.append)
    assert films["sex"].tolist() == rows["sex"][:30].tolist()
    assert films["image"].map(os.path.isfile).all()
    assert sum(f"{root}: 10 films are in no row of {root / 'labels.csv'} and left out" in line for line in told) == 1
    assert any("1 PDF" in line for line in told)


@pytest.mark.parametrize("column", ["image", "id"])
def test_films_of_a_list_are_not_called_left_out(cohort: Cohort, tmp_path: Path, column: str) -> None:
    root, rows = folder_of(tmp_path / "mine", cohort)
    names = [str(path) if column == "image" else path.stem for path in sorted(root.rglob("*.png"))]
    (tmp_path / "list.csv").write_text(f"{column},sex\n" + "".join(f"{name},F\n" for name in names))
    told: list[str] = []
    assert len(list_films([str(root)], labels=tmp_path / "list.csv", tell=told.append)) == len(rows)
    assert told == []


@pytest.mark.parametrize("line", ["_______", "_;_", "___,___"])
def test_a_table_must_begin_with_a_header(tmp_path: Path, line: str) -> None:
    (tmp_path / "labels.csv").write_text(f"{line}\nid,sex\n1,F\n")
    with pytest.raises(BoneXageError, match="line 1 names no column"):
        read_table(tmp_path / "labels.csv")


def test_many_codes_are_asked_for_at_once(tmp_path: Path) -> None:
    """Row by row it would take the square of their number: a quarter of an hour."""
    rows = 40_000
    (tmp_path / "list.csv").write_text("id,sex\n" + "".join(f"{row},{row % 2}\n" for row in range(rows)))
    films = list_films([str(tmp_path / "list.csv")])
    assert films["error"].str.contains("--sex-codes '0=?,1=?'", regex=False).all()


def test_a_table_for_a_folder_of_films_needs_no_ages_to_predict(cohort: Cohort, tmp_path: Path) -> None:
    root, rows = folder_of(tmp_path / "mine", cohort)
    sexes = rows["sex"].tolist()
    sexes[0] = "unknown"
    path = book(tmp_path / "sexes.xlsx", [["id", "sex"], *map(list, zip(rows["id"][:30], sexes[:30], strict=True)),
                                          ["nowhere", "F"]])
    told: list[str] = []
    films = list_films([str(root)], labels=path, tell=told.append)
    assert films["id"].tolist() == [*rows["id"][:30], "nowhere"]
    assert films["sex"].tolist() == ["", *sexes[1:30], "F"]
    assert films["error"].eq("").all()
    assert films["image"].map(os.path.isfile).tolist() == [True] * 30 + [False]
    assert told == [f"{root}: 10 films are in no row of {path} and left out, e.g. {rows['id'][30]}.png"]
    for inputs in ([str(root), str(root)], [rows["id"][0]], [str(path)]):
        with pytest.raises(BoneXageError, match="is for one INPUT that is a folder"):
            list_films(inputs, labels=path)
    with pytest.raises(BoneXageError, match="--labels '': no such file; name a label table"):
        list_films([str(root)], labels="")
    with pytest.raises(BoneXageError, match="unknown sex at line 2"):  # for a split it has to be a whole label table
        list_films([str(root)], split="test", labels=path)


def test_a_list_may_be_a_workbook_with_columns_of_its_own(cohort: Cohort, tmp_path: Path) -> None:
    rows = cohort.table.head(3)
    sheet = [["Path", "Geschlecht"], *map(list, zip(rows["image"], ["w", "m", "d"], strict=True))]
    said = TableFormat.parse("image=Path,sex=Geschlecht", "w=F,m=M,d=U")
    films = list_films([str(book(tmp_path / "films.xlsx", sheet))], tables=said)
    assert films["image"].tolist() == rows["image"].tolist()
    assert films["sex"].tolist() == ["F", "M", ""]
    assert films["sex_from"].tolist() == ["films.xlsx", "films.xlsx", ""]
    with pytest.raises(BoneXageError, match=r"needs a column 'image' .*--columns id=NAME \(found: path, geschlecht"):
        list_films([str(tmp_path / "films.xlsx")])


@pytest.mark.slow
def test_every_command_takes_a_table_of_ones_own(run: Path, cohort: Cohort, tmp_path: Path) -> None:
    root, rows = folder_of(tmp_path / "mine", cohort, 80)
    book(tmp_path / "ages.xlsx", [["Film", "Age", "Sex"], *(
        [int(r.id), f"{r.months // 12:.0f}y {r.months % 12:.4f}m", 1 + (r.sex == "F")] for r in rows.itertuples())])
    bare = ("--labels", tmp_path / "ages.xlsx")
    said = (*bare, "--columns", "id=Film,months=Age", "--sex-codes", "1=M,2=F")
    model, out = run / "model.safetensors", tmp_path / "p.csv"
    commands = [("check", root), ("predict", model, root, "--out", out, "--split", "calibration"),
                ("evaluate", out, root, "--out", tmp_path / "report"),
                ("stress", model, root, "--out", tmp_path / "report", "--split", "calibration"),
                ("train", root, "--out", tmp_path / "run", "--backbone", "test_convnext", "--image-size", 64,
                 "--epochs", 1, "--batch-size", 8, "--grad-accum", 1, "--weights", "none", "--precision", "fp32")]
    for words in commands:
        refusal = bonexage(*words, *bare)
        assert refusal.returncode == (2 if words[0] == "check" else 1)
        assert refusal.stderr.startswith("bonexage: ")
        assert "--columns id=NAME" in refusal.stderr
        done = bonexage(*words, *said)
        assert done.returncode == 0, done.stderr
    labelled = pd.read_csv(out).merge(cohort.table.astype({"id": int}), on="id", suffixes=("", "_label"))
    assert len(labelled) == len(cohort.split("calibration"))
    assert (labelled["sex"] == labelled["sex_label"]).all()
    again = bonexage(*commands[-1], *bare, "--columns", "id=Film,months=Age", "--sex-codes", "1=F,2=M", "--resume")
    assert again.returncode == 1, "other sexes are another run"
    assert bonexage(*commands[-1], *said, "--resume").returncode == 0
    assert bonexage("predict", model, root, "--out", tmp_path / "q.csv", "--sex", "F", *said).returncode == 1
    reasons = pd.read_csv(tmp_path / "q.csv")["error"].fillna("")
    assert reasons.str.contains(r"M in ages\.xlsx, but --sex F; leave").sum() == (rows["sex"] == "M").sum()


def test_the_real_labels_as_a_spreadsheet_and_as_links(radiographs: Path, tmp_path: Path) -> None:
    """Many of RSNA's labels in a workbook beside links to a few real films: the same ages, sexes and splits."""
    source = radiographs / "rsna100"
    labels = pd.read_csv(source / "boneage-training-dataset.csv").head(600)
    whole = load_cohort(source).table.set_index("id")
    films = tmp_path / "films"
    films.mkdir()
    for image in whole.loc[labels["id"].astype(str), "image"].head(50):
        (films / Path(image).name).symlink_to(image)
    sheet = labels.rename(columns={"id": "Film", "boneage": "KA"})
    said = TableFormat.parse("id=Film,months=KA,sex=male")
    mine = load_cohort(films, book(tmp_path / "KA.xlsx", [list(sheet), *sheet.to_numpy().tolist()]), said).table
    assert mine.set_index("id")[["months", "sex", "split"]].equals(whole.loc[mine["id"], ["months", "sex", "split"]])
    assert mine["image"].map(os.path.isfile).sum() == 50
