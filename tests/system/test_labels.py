"""Label tables: every spelling in circulation loads the same, everything else is refused in one line.

Tables are drawn together with a verdict, *accept* with the rows they mean or *refuse*, and the verdict is the oracle.
"""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.errors import BoneXageError
from bonexage_utils.labels import (
    KNOWN_LABELS,
    TableFormat,
    film_id,
    in_another_spelling,
    label_hash,
    parse_sex,
    read_labels,
)
from bonexage_utils.tables import read_table, write_table

WORDS = {"M": ["m", "M", "Male", "male", "MALE", " M "], "F": ["f", "F", "Female", "female", " F"]}
# What yes and no mean, the name of the column tells.
SPELLINGS = {"sex": WORDS, "gender": WORDS,
             "male": {"M": [*WORDS["M"], "1", "1.0", "True", "TRUE", " true ", "yes"],
                      "F": [*WORDS["F"], "0", "0.0", "False", "FALSE", "no"]},
             "female": {"M": ["0", "0.0", "False", "no"], "F": ["1", "1.0", "True", " true ", "yes"]}}
HEADERS = {"id": ["id", "ID", "Image ID", "Case ID", " id ", "image_ID", "Case  ID"],
           "months": ["boneage", "Boneage", "bone_age", "Bone Age (months)", "Ground truth bone age (months)"],
           "sex": ["male", "Male", "sex", "Sex", " SEX", "Gender", "female"]}


@dataclass(frozen=True)
class Table:
    """A label table before it is written: rows as (id, months, sex) in the spellings of the file, and how to write."""

    rows: list[tuple[str, str, str]]
    header: tuple[str, str, str] = ("id", "boneage", "male")
    order: tuple[int, ...] = (0, 1, 2, 3)  # 3: a column that means nothing
    separator: str = ","
    line_end: str = "\n"
    bom: bool = False
    quote_all: bool = False
    trailing: str = ""  # separators, or nothing, at the end of each line
    blank: str = ""  # lines at the end of the file
    last_line_end: bool = True
    means: list[dict] = field(default_factory=list)

    def text(self) -> str:
        file = io.StringIO()
        writer = csv.writer(file, delimiter=self.separator, lineterminator=self.line_end,
                            quoting=csv.QUOTE_ALL if self.quote_all else csv.QUOTE_MINIMAL)
        lines = []
        for row in [(*self.header, "remark"), *((*row, "") for row in self.rows)]:
            file.seek(0)
            file.truncate()
            writer.writerow([row[i] for i in self.order])
            lines.append(file.getvalue().removesuffix(self.line_end) + self.trailing)
        text = self.line_end.join(lines) + (self.line_end if self.last_line_end or self.blank else "")
        return text + self.blank

    def data(self) -> bytes:
        return (b"\xef\xbb\xbf" if self.bom else b"") + self.text().encode()


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A table that must be accepted."""
    names = draw(st.lists(st.integers(0, 99999).map(str) | st.text("abcé -_.ß7", min_size=1, max_size=8)
                          .map(str.strip).filter(lambda name: name.strip(".") and not name.endswith(".")),
                          min_size=1, max_size=14, unique=True))
    headers = tuple(draw(st.sampled_from(HEADERS[kind])) for kind in ("id", "months", "sex"))
    spellings = SPELLINGS[headers[2].strip().lower()]
    rows, means = [], []
    for name in names:
        months = draw(st.integers(0, 240) | st.decimals(0, 240, places=2))
        sex = draw(st.sampled_from("MF"))
        rows.append((name + draw(st.sampled_from(["", "", ".png", ".DCM"])), str(months),
                     draw(st.sampled_from(spellings[sex]))))
        means.append({"id": name, "months": float(months), "sex": sex})
    if draw(st.booleans()):  # a row said again, in its own or another spelling
        again = draw(st.integers(0, len(rows) - 1))
        rows.append((rows[again][0], rows[again][1], draw(st.sampled_from(spellings[means[again]["sex"]]))))
    # an age above 20 keeps the table clear of years, of which other tests tell
    rows.append(("last", "21", spellings["M"][0]))
    means.append({"id": "last", "months": 21.0, "sex": "M"})
    separator = draw(st.sampled_from(",;\t"))
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    return Table(rows, headers,
                 tuple(draw(st.permutations(range(4)))), separator, line_end, draw(st.booleans()), draw(st.booleans()),
                 draw(st.sampled_from(["", separator, separator * 3])),
                 draw(st.sampled_from(["", line_end, separator * 4 + line_end, "  " + line_end + line_end])),
                 draw(st.booleans()), means)


@given(tables())
def test_every_spelling_of_a_table_means_the_same(tmp_path_factory: pytest.TempPathFactory, table: Table) -> None:
    path = tmp_path_factory.getbasetemp() / "accepted.csv"
    path.write_bytes(table.data())
    assert read_labels(path).to_dict("records") == table.means


Fault = Callable[[Table, int], Table | bytes]


def cell(column: int, value: str) -> Fault:
    """The fault of writing `value` into one row."""
    def spoil(table: Table, row: int) -> Table:
        cells = list(table.rows[row])
        cells[column] = value
        return replace(table, rows=[*table.rows[:row], tuple(cells), *table.rows[row + 1 :]])
    return spoil


def header(column: int, name: str) -> Fault:
    def spoil(table: Table, row: int) -> Table:
        names = list(table.header)
        names[column] = name
        return replace(table, header=tuple(names))
    return spoil


def said_otherwise(column: int, value: str) -> Fault:
    """The fault of a film said twice, the second time with another label."""
    def spoil(table: Table, row: int) -> Table:
        cells = list(table.rows[row])
        cells[column] = value
        return replace(table, rows=[*table.rows, tuple(cells)])
    return spoil


def other_sex(table: Table, row: int) -> Table:
    cells = table.rows[row]
    return replace(table, rows=[*table.rows, (*cells[:2], "F" if TableFormat().sex(cells[2], "male") == "M" else "M")])


def a_field_too_many(table: Table, row: int) -> bytes:
    lines = table.text().split(table.line_end)
    lines[row + 1] += table.separator * 2 + "7"
    return table.line_end.join(lines).encode()


def cut_off(table: Table, row: int) -> bytes:
    """Every field of a line but the first is gone."""
    lines = replace(table, trailing="", blank="", last_line_end=True, quote_all=False).text().split(table.line_end)
    lines[row + 1] = "x"
    return table.line_end.join(lines).encode()


FAULTS: dict[str, Fault] = {
    **{f"id {value!r}": cell(0, value) for value in (
        "", " ", "../x", "..", ".", "/etc/passwd", "a/b", "a\\b", "C:x", "C:\\x.png", "~/x", ".png", "a\nb", "a\rb",
        "a\tb", "a\x1bb", "a\u200bb", "a\u202eb", "../1.png")},
    **{f"age {value!r}": cell(1, value) for value in (
        "", "abc", "-3", "240.01", "300", "1e2", "nan", "inf", "12,500", "10 years 6 months", "1/2", "0x10", "1_0",
        "１２", "None", "1e400", "NA", "+5", "−5", "60 months")},
    **{f"sex {value!r}": cell(2, value) for value in ("", "x", "2", "nan", "maybe", "T", "MF", "M.", "1.5", "2.0",
                                                     "None")},
    "no id column": header(0, "film"), "no sex column": header(2, "gender?"),
    "years in the name": header(1, "Bone Age (years)"), "boneage_years": header(1, "boneage_years"),
    "two id columns": header(1, "Image ID "), "two sex columns": header(1, "sex "),
    "the same name twice": header(2, "boneage"),
    "another age": said_otherwise(1, "0.5"), "another sex": other_sex,
    "NUL": lambda table, row: table.data().replace(b"last", b"l\0st"),
    "Latin-1": lambda table, row: replace(cell(0, "Ölü")(table, row), bom=False).text().encode("latin-1"),
    "UTF-16": lambda table, row: table.text().encode("utf-16-le"),
    "no rows": lambda table, row: replace(table, rows=[]),
    "nothing": lambda table, row: b"", "only a mark": lambda table, row: b"\xef\xbb\xbf",
    "only blanks": lambda table, row: b"\n\n  \r\n,,,\n", "no header": lambda table, row: table.data().split(
        table.line_end.encode(), 1)[1],
    "a field too many": a_field_too_many, "cut off": cut_off,
    "an open quote": lambda table, row: table.data() + b'"',
    "a spreadsheet": lambda table, row: b"PK\x03\x04\x14\0" + table.data(),
}


@given(tables(), st.sampled_from(sorted(FAULTS)), st.data())
def test_every_fault_is_refused(tmp_path_factory: pytest.TempPathFactory, table: Table, fault: str,
                                data: st.DataObject) -> None:
    table = replace(table, header=(table.header[0], "boneage", "male"))
    spoilt = FAULTS[fault](table, data.draw(st.integers(0, len(table.rows) - 1)))
    path = tmp_path_factory.getbasetemp() / "refused.csv"
    path.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.data())
    refused(path)


def refused(path: Path, words: str | None = None) -> None:
    with pytest.raises(BoneXageError, match=words) as caught:
        read_labels(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_fault_at_least_once(tmp_path: Path, fault: str) -> None:
    table = Table([("7", "50", "M"), ("8", "60", "F"), ("last", "70", "F")])
    spoilt = FAULTS[fault](table, 1)
    (tmp_path / "labels.csv").write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.data())
    refused(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_bytes(table.data())
    assert len(read_labels(tmp_path / "labels.csv")) == 3


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_anything_at_all_is_a_table_or_a_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.csv"
    path.write_bytes(b"id,boneage,male\n" + data)
    try:
        table = read_labels(path)
    except BoneXageError as error:
        line = str(error)
    else:
        line = ""
        assert table["sex"].isin(["M", "F"]).all()
        assert table["months"].between(0, 240).all()
    assert "\n" not in line


@pytest.mark.parametrize(("header", "ages", "words"), [
    ("boneage", ["1", "5", "9", "12", "15", "18", "3", "7", "8", "10"], "years"),  # ten films, none above 20
    ("boneage", ["10.5"], "years"), ("bone_age", ["20", "0.5"], "years"),  # decimals
    ("boneage", ["1", "5", "9", "12", "15", "18", "3", "7", "8", "21"], None),  # one is above 20
    ("boneage", ["18"], None), ("boneage", ["1", "2", "3"], None),  # few infants, whole months
    ("Bone Age (months)", ["1", "5", "9", "12", "15", "18", "3", "7", "8", "10.5"], None),  # the name says months
])
def test_years_are_refused_and_never_guessed(tmp_path: Path, header: str, ages: list[str], words: str | None) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"id,{header},male\n" + "".join(f"{i},{age},True\n" for i, age in enumerate(ages)))
    if words:
        with pytest.raises(BoneXageError, match=r"years.*multiply by 12"):
            read_labels(path)
    else:
        assert read_labels(path)["months"].tolist() == [float(age) for age in ages]


@pytest.mark.parametrize(("text", "expected"), [
    ("id\n1\n", [["1"]]),  # one column: nothing to separate
    ("id;remark\n1;a,b,c,d\n", [["1", "a,b,c,d"]]),  # the header decides, not the rows
    ('id,"a;b;c;d"\n1,"x;y"\n', [["1", "x;y"]]),  # separators within quotes are none
    ("\n\nid\tsex\n1\tM\n", [["1", "M"]]),
    (",id\n0,1377\n", [["0", "1377"]]),  # a column without a name, as pandas writes its index
])
def test_the_separator_is_the_header_s(tmp_path: Path, text: str, expected: list[list[str]]) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    assert read_table(path).to_numpy().tolist() == expected


def test_an_error_names_the_lines_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text('\nid,boneage,male,remark\n\n1,50,True,"two\nlines"\n2,oops,True,\n3,400,True,\n')
    refused(path, "line 6, line 7;")


# Whatever a cell may hold: signs that spreadsheets compute, separators, line ends, what does not print.
cells = st.text("=+-@'＝\"ab é1.,;\t\r\n\x1b\u2028\u202e\udcff\\", max_size=12)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6))
def test_a_table_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory,
                                           rows: list[tuple[str, str]]) -> None:
    """Cells come back, printable and without spaces around; none computes in a spreadsheet; a row is a line."""
    path = tmp_path_factory.getbasetemp() / "written.csv"
    table = pd.DataFrame(rows, columns=["id", "error"]).assign(months=[-0.5 - i for i in range(len(rows))])
    write_table(table, path)
    lines = path.read_bytes().decode().split("\n")
    assert len(lines) == len(rows) + 2
    assert all(line.isprintable() for line in lines)
    for written in list(csv.reader(lines[1:-1])):
        assert not any(cell.startswith(tuple("=+-@＝＋－＠")) for cell in written[:2])
        assert float(written[2]) < 0, "a number below zero is no text"
    back = read_table(path)
    expected = [[escape(cell).strip() for cell in row] for row in rows]
    assert back[["id", "error"]].to_numpy().tolist() == expected


def escape(text: str) -> str:
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


@pytest.mark.parametrize(("written", "cell"), [
    ("=1+1", "'=1+1"), ("'=1+1", "''=1+1"), ("'a", "'a"), ("@x", "'@x"), ("a=1", "a=1"), ("-", "'-"), ("", "")])
def test_a_formula_is_written_as_text(tmp_path: Path, written: str, cell: str) -> None:
    write_table(pd.DataFrame({"id": [written], "n": 1}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == f"id,n\n{cell},1\n"
    assert read_table(tmp_path / "t.csv")["id"].tolist() == [written]


@pytest.mark.parametrize(("name", "film"), [
    ("1377.png", "1377"), ("1377.PNG", "1377"), ("1377", "1377"), ("a.b.jpeg", "a.b"), ("a.dcm.png", "a"),
    (" 1377 .png", "1377"), ("e\u0301.png", "\u00e9"), ("\u00e9", "\u00e9"), ("a\nb.png", "a\\nb"),
    ("\udcff.png", "\\udcff"), ("a\u202fb.png", "a\u202fb"), ("NA", "NA"), (".png", "")])
def test_the_id_of_a_film(name: str, film: str) -> None:
    assert film_id(name) == film
    assert film_id(film) == film


@pytest.mark.parametrize("name", ["NA", "null", "nan", "None", "NaN", "-inf", "true", "=1+1", "1e3", "$x$"])
def test_a_word_that_means_nothing_elsewhere_is_a_film(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"id,boneage,male\n{name},50,True\n")
    assert read_labels(path)["id"].tolist() == [name]


def test_a_film_in_two_forms_of_unicode_is_one(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,boneage,male\ne\u0301,50,True\n\u00e9,50,True\n", encoding="utf-8")
    assert read_labels(path)["id"].tolist() == ["\u00e9"]
    path.write_text("id,boneage,male\ne\u0301,50,True\n\u00e9,60,True\n", encoding="utf-8")
    refused(path, "line 2, line 3")


@pytest.mark.parametrize(("wanted", "there", "found"), [
    (["1377.0"], ["1377"], {"1377.0": "1377"}), (["1377"], ["1377.00"], {"1377": "1377.00"}),
    (["7"], ["007"], {"7": "007"}), (["A7"], ["a7"], {"A7": "a7"}), (["７"], ["7"], {"７": "7"}),
    (["sub/a.png"], ["a"], {"sub/a.png": "a"}), (["C:\\x\\a.png"], ["a"], {"C:\\x\\a.png": "a"}),
    (["a b"], ["a  b"], {"a b": "a  b"}), (["'7"], ["7"], {"'7": "7"}), (["0"], ["00"], {"0": "00"}),
    (["1,377"], ["1377"], {"1,377": "1377"}), (["7", "007"], ["7", "007"], {}), (["7", "007"], ["007"], {}),
    (["7"], ["8", "70", "7.5", "17"], {}),
])
def test_other_spellings_are_found_and_only_those(wanted: list[str], there: list[str], found: dict[str, str]) -> None:
    """What is wanted under its own name is no other spelling of something else."""
    assert in_another_spelling(wanted, there) == found


def test_a_table_without_ages_is_unlabelled(tmp_path: Path) -> None:
    """Kaggle's table of the test set."""
    path = tmp_path / "labels.csv"
    path.write_text("Case ID,Sex\n4360,M\n4460,F\n")
    table = read_labels(path)
    assert table["months"].isna().all()
    assert table["sex"].tolist() == ["M", "F"]


def test_predictions_are_no_labels(tmp_path: Path) -> None:
    """What a model says, under the names of predictions.csv, must not pass for the truth."""
    path = tmp_path / "predictions.csv"
    path.write_text("id,image,sex,bone_age_months,bone_age,low_months,high_months,error\n"
                    "1,1.png,M,126.5,10 years 6 months,,,\n")
    refused(path, "these are predictions")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "labels.csv")
    refused(tmp_path / "labels.csv", "no such file")


@pytest.mark.parametrize(("column", "sex", "spelling"), [
    (column, sex, text) for column, sexes in SPELLINGS.items() for sex, texts in sexes.items() for text in texts])
def test_known_spellings_of_sex(column: str, sex: str, spelling: str) -> None:
    assert TableFormat().sex(spelling, column) == sex
    if spelling in WORDS[sex]:
        assert parse_sex(spelling) == sex


@pytest.mark.parametrize("value", [float("nan"), None, "", "x", "nan", "2", "Mm", "unknown"])
def test_everything_else_is_not_a_sex(value: object) -> None:
    """Fault 11: NaN or a typo silently becomes a sex."""
    assert parse_sex(value) is None


@given(st.text(max_size=8))
def test_a_sex_is_never_guessed(text: str) -> None:
    known = {"m", "male", "f", "female"}
    assert (parse_sex(text) is not None) == (text.strip().lower() in known)


def test_a_hash_does_not_depend_on_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"id,boneage,male\n1,50,True\n")
    (tmp_path / "b.csv").write_bytes(b"id,boneage,male\r\n1,50,True\r\n")
    assert label_hash(tmp_path / "a.csv") == label_hash(tmp_path / "b.csv")
    # sha256sum of the first
    assert label_hash(tmp_path / "a.csv") == "7352837c77ef0a8df2c73be3ca5332c7c32a5d56d325d99f927c23e81ada55c7"


def test_the_real_labels_are_recognised(radiographs: Path) -> None:
    path = radiographs / "rsna100" / "boneage-training-dataset.csv"
    assert KNOWN_LABELS[label_hash(path)] == "the RSNA 2017 training labels"
    table = read_labels(path)
    expected = pd.read_csv(path)
    assert table["id"].tolist() == expected["id"].astype(str).tolist()
    assert table["months"].tolist() == expected["boneage"].tolist()
    assert (table["sex"] == "M").tolist() == expected["male"].tolist()
