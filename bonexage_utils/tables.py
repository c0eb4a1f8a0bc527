"""Tables as files: CSV as spreadsheets and programs write it, workbooks (.xlsx), and what we write ourselves."""

import csv
import datetime
import io
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from bonexage_utils.errors import BoneXageError, printable

TABLE_ENDINGS = (".csv", ".tsv", ".xlsx", ".xlsm", ".xls", ".ods")  # the last two are told what to save them as
MAX_BYTES = 2**26  # a table of a million films; more is something else
# Of a workbook, which is compressed: bytes and cells once unpacked.
MAX_UNPACKED, MAX_CELLS = 2**28, 2**24
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # the marks before a spreadsheet's "Unicode text"
_OTHER_SPREADSHEETS = {b"\xd0\xcf\x11\xe0": "an old Excel file, or one with a password", b"<": "a web page, or XML"}
# A spreadsheet computes a cell that begins so, and what it computes may call other programs; an apostrophe before it
# makes it text (OWASP, CSV injection).
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")

Rows = list[tuple[int, list[str]]]  # each row's line and its cells


def write_table(table: pd.DataFrame, path: Path | str) -> None:
    """Write a table for people and for `read_table`: CSV in UTF-8, its text printable, no formula for a spreadsheet."""
    def cell(value: object) -> object:
        text = printable(value) if isinstance(value, str) else ""
        return f"'{text}" if _FORMULA.match(text) else text or value

    table.map(cell).to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def read_table(path: Path | str, what: str = "label table",
               fits: Callable[[set[str]], bool] = lambda names: True) -> pd.DataFrame:
    """Read a delimited text file or a workbook as it stands: every cell a stripped str, the index each row's line in
    the file. Only the apostrophe by which `write_table` marks what is no formula is taken off.

    What a file is, its content decides. Text is UTF-8 with or without a byte order mark, or UTF-16 with one; any line
    ends; the separator is the one of comma, semicolon and tab that the header holds most of, outside quotes, or what a
    first line `sep=;` says. Of a workbook the values are read, of formulas those last computed; of several sheets the
    one whose column names `fits` accepts. Column names come as `heading` has them. Blank lines and separators trailing
    at a line's end are passed over.

    Raises BoneXageError for an absent or empty file, another encoding, NUL bytes, broken quotes, a damaged or
    unreasonably large workbook, a formula without a value, sheets of which none or several fit, a line with more or
    fewer fields than the header, or two columns of the same name.
    """
    path = Path(path)
    data = read_bytes(path, what)
    if data.startswith(b"PK\x03\x04"):
        rows = _fitting(_workbook(path, data), path, what, fits)
    else:
        rows = _filled(_lines(_text(data, path), path))
    if not rows:
        raise BoneXageError(f"{path}: empty; give a table with a header and one row per film")
    names = _header(rows)
    if not names:
        raise BoneXageError(f"{path}: line {rows[0][0]} names no column; begin the table with its header")
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        raise BoneXageError(f"{path}: two columns are named '{twice}'; keep one")
    for line, cells in rows[1:]:
        if len(cells) < len(names) or any(cells[len(names) :]):
            raise BoneXageError(f"{path}: line {line} has {len(cells)} fields, and the header in line {rows[0][0]} has "
                                f"{len(names)}; is one cut off, a decimal comma not in quotes, or the header further "
                                "down? Save the table again")
    cells = [row[: len(names)] for _, row in rows[1:]]
    return pd.DataFrame(cells, index=[line for line, _ in rows[1:]], columns=names, dtype=str)


def heading(name: str) -> str:
    """The name of a column in lower case, with single spaces for spaces and underscores."""
    return re.sub(r"[\s_]+", " ", name.lower()).strip()


def _filled(rows: Rows) -> Rows:
    """The rows that hold something, their cells stripped."""
    return [(line, [_cell(text) for text in cells]) for line, cells in rows if any(map(str.strip, cells))]


def _header(rows: Rows) -> list[str]:
    names = list(map(heading, rows[0][1]))
    while names and not names[-1]:
        names.pop()
    return names


def _cell(text: str) -> str:
    text = text.strip()
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


# --- text ---

def read_text(path: Path, what: str) -> str:
    """A text file without its byte order mark. Raises BoneXageError if it is absent, too large or no text."""
    return _text(read_bytes(path, what), path)


def read_bytes(path: Path, what: str) -> bytes:
    """The bytes of a file. Raises BoneXageError if it is absent or too large."""
    if not os.path.isfile(path):  # unlike Path's, False for a name that is too long
        raise BoneXageError(f"{path}: no such file; give a {what}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BoneXageError(f"{path}: too large for a {what}; give a CSV")
        return path.read_bytes()
    except OSError as error:
        raise BoneXageError(f"{path}: cannot be read ({error.strerror}); give a {what}") from None


def _text(data: bytes, path: Path) -> str:
    other = next((name for start, name in _OTHER_SPREADSHEETS.items() if data.startswith(start)), None)
    if other:
        raise BoneXageError(f"{path}: {other}; save it as .xlsx (without a password), or as CSV")
    encoding, where = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig", ""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:  # most often one of Windows' own, and which one nobody can be sure of
        text, line = "\0", data.count(b"\n", 0, error.start) + 1
        where = f" (line {line})" if encoding == "utf-8-sig" else ""
    if "\0" in text:
        raise BoneXageError(f"{path}: not text in UTF-8{where}; save it as 'CSV UTF-8', or as .xlsx")
    return text.lstrip("\ufeff")  # some programs add a mark to a text that has one


def _lines(text: str, path: Path) -> Rows:
    said = re.match(r"sep=(.)[\r\n]", text)  # Excel's own word for the separator; the line stays, as a blank one
    text = text[5:] if said else text
    header = next((line for line in re.split(r"[\r\n]+", text) if line.strip(" ,;\t")), "")
    separator = said[1] if said else max(",;\t", key=re.sub(r'"[^"]*"', "", header).count)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
        return [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise BoneXageError(f"{path}: not a readable table ({error}); save it as CSV in UTF-8") from None


# --- workbooks ---

def _fitting(sheets: list[tuple[str, Rows]], path: Path, what: str, fits: Callable[[set[str]], bool]) -> Rows:
    """The rows of the one sheet whose header fits, or of the only one; none if all are empty."""
    filled = {name: filled for name, rows in sheets if (filled := _filled(rows))}
    fitting = [name for name, rows in filled.items() if fits(set(_header(rows)))]
    if len(fitting) > 1 or (len(filled) > 1 and not fitting):
        names, fit = (fitting, "each may be") if fitting else (list(filled), "none looks like")
        raise BoneXageError(f"{path}: of its sheets ({', '.join(names[:4])}) {fit} the {what}; keep one, or save it as "
                            "CSV; --columns id=NAME,sex=NAME says what columns are called")
    return filled[(fitting or list(filled))[0]] if filled else []


def _workbook(path: Path, data: bytes) -> list[tuple[str, Rows]]:
    """Name and rows of each sheet. Nothing is computed, and no link to another file is followed."""
    from openpyxl import load_workbook  # a tenth of a second that most tables do not need

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if "xl/workbook.xml" not in archive.namelist():
                raise BoneXageError(f"{path}: an archive, but no Excel workbook; save the table as .xlsx or CSV")
            # No more than this is ever unpacked: zipfile stops where a file should end by its entry.
            if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED:
                raise BoneXageError(f"{path}: too large once unpacked; save the sheet as CSV")
        with warnings.catch_warnings():  # of openpyxl, on menus and styles that it passes over
            warnings.simplefilter("ignore")
            computed, written = (load_workbook(io.BytesIO(data), read_only=True, data_only=values, keep_links=False)
                                 for values in (True, False))
            return [(printable(sheet.title), list(_rows(sheet, written[sheet.title], path)))
                    for sheet in computed.worksheets]
    except BoneXageError:
        raise
    except Exception:  # a damaged file can make the reader raise anything
        raise BoneXageError(f"{path}: a damaged workbook; save it again as .xlsx, or as CSV") from None


def _rows(computed, written, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a sheet, read once as computed and once as written, padded to the length of the first."""
    cells, width = 0, 0
    for sheet in (computed, written):
        sheet.reset_dimensions()  # what the file says of its size may be wrong
    for line, (values, sources) in enumerate(zip(computed.iter_rows(), written.iter_rows(), strict=True), start=1):
        cells += len(values)
        if cells > MAX_CELLS:
            raise BoneXageError(f"{path}: too many cells in sheet {computed.title}; save the table as CSV")
        for value, source in zip(values, sources, strict=True):
            if source.data_type == "f" and value.value is None:
                raise BoneXageError(f"{path}: line {line}: a formula without its value; open the file in a "
                                    "spreadsheet and save it again, or save it as CSV")
        texts = [_text_of(cell.value) + ("%" if _is_percent(cell) else "") for cell in values]
        width = width or (len(texts) if any(texts) else 0)
        yield line, texts + [""] * (width - len(texts))


def _is_percent(cell) -> bool:
    """Whether a spreadsheet shows a number as a hundred times itself: the 126 that somebody wrote is kept as 1.26."""
    return isinstance(cell.value, int | float) and "%" in re.sub(r'"[^"]*"|\\.', "", cell.number_format or "")


def _text_of(value: object) -> str:
    """A cell's value as text. A spreadsheet has no whole numbers: 1377.0 is 1377, as far as it can count."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
