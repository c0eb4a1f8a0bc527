"""Tables: label tables in the spellings in circulation, ids, ages in months and sexes, or one line with the reason."""

import csv
import hashlib
import io
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from bonexage_utils.decoding import IMAGE_ENDINGS
from bonexage_utils.errors import BoneXageError, printable

MAX_MONTHS = 240.0

# Names in circulation (Kaggle `kmader/rsna-bone-age`, flat copies of it, the RSNA archives, Deeplasia's copy of the
# test labels), as `read_table` spells them.
ID_COLUMNS = ("id", "image id", "case id")
MONTHS_COLUMNS = ("boneage", "bone age", "boneage (months)", "bone age (months)", "ground truth bone age (months)")
SEX_COLUMNS = ("male", "sex")
SEX_VALUES = {"m": "M", "male": "M", "true": "M", "1": "M", "1.0": "M",
              "f": "F", "female": "F", "false": "F", "0": "F", "0.0": "F"}

# Tables in circulation by the SHA-256 of their text with LF line ends.
RSNA_TRAINING_LABELS = "9459296c0fca3e3cd908e79002914d0d90c7f5e46936eefd34b11261468ce209"
RSNA_TEST_LABELS = "69e6c73a9f2c5c2f90b6171d8c30f149c04a87f06b79641a0254d17cd40c9743"
KNOWN_LABELS = {
    RSNA_TRAINING_LABELS: "the RSNA 2017 training labels",
    RSNA_TEST_LABELS: "the RSNA 2017 test labels, in the version with decimals",
}

MAX_BYTES = 2**26  # a table of a million films; more is something else
_ENDINGS = re.compile(rf"(?:{'|'.join(re.escape(ending) for ending in IMAGE_ENDINGS)})+$", re.IGNORECASE)
# A spreadsheet computes a cell that begins so, and what it computes may call other programs; an apostrophe before it
# makes it text (OWASP, CSV injection).
_FORMULA = re.compile(r"'*[=+\-@＝＋－＠]")


def parse_sex(value: object) -> str | None:
    """ "M" or "F" for the spellings of `SEX_VALUES` (any case); None for everything else, NaN included."""
    return SEX_VALUES.get(str(value).strip().lower())


def film_id(name: str) -> str:
    """The id of a film by its file name or its cell in a table: without image endings, composed (Unicode's NFC; a Mac's
    file names are decomposed), printable."""
    return printable(unicodedata.normalize("NFC", _ENDINGS.sub("", name).strip()))


def in_another_spelling(wanted: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """The ids of `wanted` that are not `there` but stand there otherwise, and how: names are compared without folder,
    ending, case, spaces, leading zeros, and the commas, apostrophe or ".0" of a spreadsheet."""
    def loosely(film: str) -> str:
        name = re.split(r"[/\\]", unicodedata.normalize("NFKC", film).casefold())[-1]
        return re.sub(r"\.0+$|[\s',]+", "", _ENDINGS.sub("", name)).lstrip("0")

    wanted, there = dict.fromkeys(wanted), set(there)
    missing = {film: loosely(film) for film in wanted if film not in there}
    others = {loosely(film): film for film in sorted(there.difference(wanted))} if missing else {}
    return {film: others[name] for film, name in missing.items() if name in others}


def label_hash(path: Path | str) -> str:
    """SHA-256 of a label file's text with LF line ends, so that a copy made on Windows has the same."""
    return hashlib.sha256(Path(path).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def write_table(table: pd.DataFrame, path: Path | str) -> None:
    """Write a table for people and for `read_table`: CSV in UTF-8, its text printable, no formula for a spreadsheet."""
    def cell(value: object) -> object:
        text = printable(value) if isinstance(value, str) else ""
        return f"'{text}" if _FORMULA.match(text) else text or value

    table.map(cell).to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def read_table(path: Path | str, what: str = "label table") -> pd.DataFrame:
    """Read a delimited text file as it stands: every cell a stripped str, the index each row's line in the file. Only
    the apostrophe by which `write_table` marks what is no formula is taken off.

    UTF-8 with or without a byte order mark; any line ends; the separator is the one of comma, semicolon and tab that
    the header holds most of, outside quotes. Column names come in lower case, with single spaces for spaces and
    underscores. Blank lines and separators trailing at a line's end are passed over.

    Raises BoneXageError for an absent or empty file, another encoding, NUL bytes, broken quotes, a line with more or
    fewer fields than the header, or two columns of the same name.
    """
    path = Path(path)
    text = read_text(path, what)
    header = next((line for line in re.split(r"[\r\n]+", text) if line.strip(" ,;\t")), "")
    separator = max(",;\t", key=re.sub(r'"[^"]*"', "", header).count)

    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
        lines = [(reader.line_num, [_cell(text) for text in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise BoneXageError(f"{path}: not a readable table ({error}); save it as CSV in UTF-8") from None
    if not lines:
        raise BoneXageError(f"{path}: empty; give a table with a header and one row per film")
    (_, names), *rows = lines
    while not names[-1]:
        names.pop()
    names = [re.sub(r"[\s_]+", " ", name.lower()).strip() for name in names]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice:
        raise BoneXageError(f"{path}: two columns are named '{twice}'; keep one")
    for line, cells in rows:
        if len(cells) < len(names) or any(cells[len(names) :]):
            raise BoneXageError(f"{path}: line {line} has {len(cells)} fields and the header {len(names)}; "
                                "is it cut off? Save the table again")
    cells = [row[: len(names)] for _, row in rows]
    return pd.DataFrame(cells, index=[line for line, _ in rows], columns=names, dtype=str)


def _cell(text: str) -> str:
    text = text.strip()
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def find_column(table: pd.DataFrame, path: Path, kind: str, names: tuple[str, ...]) -> str | None:
    """Which of `names` the table from `path` has; None for none of them. Raises BoneXageError for more than one."""
    found = [name for name in names if name in table.columns]
    if len(found) > 1:
        raise BoneXageError(f"{path}: two {kind} columns ({', '.join(found)}); keep one")
    return found[0] if found else None


def read_text(path: Path, what: str = "label table") -> str:
    """A text file in UTF-8, without its byte order mark. Raises BoneXageError if it is absent, too large or no text."""
    if not os.path.isfile(path):  # unlike Path's, False for a name that is too long
        raise BoneXageError(f"{path}: no such file; give a {what}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BoneXageError(f"{path}: too large for a {what}; give a CSV")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BoneXageError(f"{path}: cannot be read ({error.strerror}); give a {what}") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BoneXageError(f"{path}: not text in UTF-8; save it as 'CSV UTF-8'")
    return text


def read_labels(path: Path | str) -> pd.DataFrame:
    """Read a label table: columns `id` (str), `months` (float 0–240, all NaN without an age column), `sex` ("M"/"F").

    The id may be a file name, see `film_id`. A row equal to an earlier one is kept once. Otherwise nothing is mended
    and nothing guessed; columns of other names are passed over.

    Raises BoneXageError for what `read_table` refuses; for a table without rows; an absent or ambiguous column; an id
    that is empty, holds a path or a character that does not print; one id with two different labels; an age that is not
    a number from 0 to 240; an unknown sex; and for years. A column is taken for years if its name has the word. If its
    name gives no unit it is too if no age is above 20 and either one has decimals or there are ten or more: a cohort of
    infants has to name its column 'bone age (months)'.
    """
    path = Path(path)
    raw = read_table(path)

    def column(kind: str, names: tuple[str, ...]) -> str:
        if found := find_column(raw, path, kind, names):
            return found
        raise BoneXageError(f"{path}: no {kind} column; name it '{names[0]}' (found: {', '.join(raw.columns[:8])})")

    def refuse(bad: pd.Series, what: str, remedy: str) -> None:
        if bad.any():
            lines = ", ".join(f"line {line}" for line in bad.index[bad][:3])
            more = f" and {int(bad.sum()) - 3} more" if bad.sum() > 3 else ""
            raise BoneXageError(f"{path}: {what} at {lines}{more}; {remedy}")

    id_name, sex_name = column("film id", ID_COLUMNS), column("sex", SEX_COLUMNS)
    months_name = find_column(raw, path, "bone age", MONTHS_COLUMNS)
    if raw.empty:
        raise BoneXageError(f"{path}: no rows; give one row per film")
    ids = raw[id_name].map(film_id)
    refuse(ids == "", "no film id", "give every row the name of its image without ending")
    refuse(raw[id_name] != raw[id_name].map(printable), "a film id with a sign that does not print",
           "write it anew, and name the image so")
    refuse(~ids.map(_is_a_name), "a film id that is no file name", "give the name of the image, without folders")

    sex = raw[sex_name].map(parse_sex)
    refuse(sex.isna(), "unknown sex", "write True/False under 'male', or M/F under 'sex'")

    months = pd.Series(float("nan"), index=raw.index)
    if months_name:
        number = raw[months_name].str.fullmatch(r"[0-9]+(\.[0-9]*)?")
        months[number] = raw.loc[number, months_name].astype(float)
        # Not `~between`: a comparison with NaN must refuse, not pass.
        refuse(~(months <= MAX_MONTHS), f"an age that is not 0–{MAX_MONTHS:g} months",
               "give the bone age in months as a number like 126.5")
        if "months" not in months_name and months.max() <= 20 and (len(months) >= 10 or (months % 1).any()):
            raise BoneXageError(f"{path}: no bone age above 20, which looks like years; multiply by 12, or name the "
                                "column 'bone age (months)' if these are months")
    elif years := next((name for name in raw.columns if re.search(r"bone ?age\b.*\b(years?|yrs?|y)\b", name)), None):
        raise BoneXageError(f"{path}: '{years}' is in years; multiply by 12 and name it 'boneage'")

    table = pd.DataFrame({"id": ids, "months": months, "sex": sex}).drop_duplicates()
    refuse(table["id"].duplicated(keep=False), "the same id twice, with different labels,", "keep one row per film")
    return table.reset_index(drop=True)


def _is_a_name(film: str) -> bool:
    return film not in (".", "..") and not set(film) & set('/\\:')
