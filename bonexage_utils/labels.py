"""Label tables: ids, ages in months and sexes in the spellings in circulation, or one line with the reason."""

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bonexage_utils.decoding import IMAGE_ENDINGS
from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.tables import heading, read_table

MAX_MONTHS = 240.0

# Names in circulation (Kaggle `kmader/rsna-bone-age`, flat copies of it, the RSNA archives, Deeplasia's copy of the
# test labels), as `tables.heading` spells them.
COLUMNS = {
    "id": ("id", "image id", "case id"),
    "image": ("image",),
    "months": ("boneage", "bone age", "boneage (months)", "bone age (months)", "ground truth bone age (months)"),
    "years": (),  # never known by a name: a user has to say it
    "sex": ("male", "sex", "gender", "female"),
}
KINDS = {"id": "film id", "image": "image", "months": "bone age", "years": "bone age", "sex": "sex"}

SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}
NO_SEXES = ("", "?", "o", "u", "other", "unknown", "nan", "none", "na", "n/a")
# What yes and no mean, which only the name of a column can tell.
YES, NO = ("true", "1", "yes"), ("false", "0", "no")
SEXES_UNDER = {"male": dict.fromkeys(YES, "M") | dict.fromkeys(NO, "F") | SEXES,
               "female": dict.fromkeys(YES, "F") | dict.fromkeys(NO, "M")}  # "f" might be false here

# Tables in circulation by the SHA-256 of their text with LF line ends.
RSNA_TRAINING_LABELS = "9459296c0fca3e3cd908e79002914d0d90c7f5e46936eefd34b11261468ce209"
RSNA_TEST_LABELS = "69e6c73a9f2c5c2f90b6171d8c30f149c04a87f06b79641a0254d17cd40c9743"
KNOWN_LABELS = {
    RSNA_TRAINING_LABELS: "the RSNA 2017 training labels",
    RSNA_TEST_LABELS: "the RSNA 2017 test labels, in the version with decimals",
}

_ENDINGS = re.compile(rf"(?:{'|'.join(re.escape(ending) for ending in IMAGE_ENDINGS)})+$", re.IGNORECASE)


@dataclass(frozen=True)
class TableFormat:
    """What a user says of her tables, where they do not say it themselves.

    `columns` has the name, in her tables, of columns "id", "image", "months", "years" or "sex"; `sex_codes` the sex,
    "M", "F" or "" for unknown, of codes in lower case.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    sex_codes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, columns: str | None = None, sex_codes: str | None = None) -> "TableFormat":
        """From `--columns id=NAME,months=NAME` and `--sex-codes 0=F,1=M`; a name may hold commas and equals signs.

        Raises BoneXageError for another form, an unknown kind or sex, or one that is said twice.
        """
        kinds = "|".join(COLUMNS)
        names = _pairs("--columns", columns, rf"({kinds})\s*=\s*([^,\s](?:.*?[^,\s])??)",
                       "id=Patient,months=Age,sex=Gender")
        said = _pairs("--sex-codes", sex_codes, r"([^,=\s](?:[^=]*?[^,=\s])??)\s*=\s*(male|female|unknown|[mfu])",
                      "0=F,1=M (U is unknown)")
        if {"months", "years"} <= {kind for kind, _ in names}:
            raise BoneXageError(f"--columns {columns}: months and years; name one column of bone ages")
        codes = [(_code(code), sex[0].upper().replace("U", "")) for code, sex in said]
        for option, pairs in (("--columns", names), ("--sex-codes", codes)):
            keys = [key for key, _ in pairs]
            if twice := next((key for key in keys if keys.count(key) > 1), None):
                raise BoneXageError(f"{option}: {twice} twice; say it once")
        return cls({kind: heading(name) for kind, name in names}, dict(codes))

    def find(self, table: pd.DataFrame, path: Path, *kinds: str) -> str | None:
        """The column of `table` that has what one of `kinds` says; None for none.

        Raises BoneXageError for more than one, for one that a user names and that is not there, or for one of sexes
        whose name contradicts the codes.
        """
        name = self._find(table, path, *kinds)
        for code, sex in self.sex_codes.items() if "sex" in kinds and name in ("male", "female") else ():
            if code in (*YES, *NO) and sex and sex != SEXES_UNDER[name][code]:
                raise BoneXageError(f"{path}: --sex-codes says {code}={sex}, and the column '{name}' the opposite; "
                                    "leave the code out, or rename the column 'sex'")
        return name

    def _find(self, table: pd.DataFrame, path: Path, *kinds: str) -> str | None:
        for kind in kinds:
            name = self.columns.get(kind)
            if name in table.columns:
                return name
            if name is not None:
                raise BoneXageError(f"{path}: no column '{name}', which --columns names for {kind} (found: "
                                    f"{', '.join(table.columns[:8])}); name one of these")
        found = [name for kind in kinds for name in COLUMNS[kind] if name in table.columns]
        if len(found) > 1:
            raise BoneXageError(f"{path}: two {KINDS[kinds[0]]} columns ({', '.join(found)}); keep one, or say which "
                                f"with --columns {kinds[0]}=NAME")
        return found[0] if found else None

    def has(self, names: Collection[str], *kinds: str) -> bool:
        """Whether a table with columns `names` says one of `kinds`."""
        return any(name in names for kind in kinds
                   for name in ([self.columns[kind]] if kind in self.columns else COLUMNS[kind]))

    def sex(self, text: str, column: str) -> str | None:
        """What a cell under the name `column` says: "M", "F", "" for unknown, None for what is not clear.

        Codes come first. Beside them a word keeps its meaning unless they give that sex a code of its own: where "H"
        is a boy, an "M" may be no boy.
        """
        code = _code(text)
        if code in self.sex_codes:
            return self.sex_codes[code]
        if code in NO_SEXES:
            return ""
        sex = SEXES_UNDER.get(column, SEXES).get(code)
        return None if sex in self.sex_codes.values() else sex

    def ask_for_codes(self, cells: pd.Series) -> str:
        """What a user could say of the codes in a column of a table."""
        meant = {_code(text): self.sex(text, str(cells.name)) for text in cells.unique()}
        codes = [f"{code}={sex or '?'}" for code, sex in meant.items() if sex != ""]
        return f"say what every code means, with F or M for each ?: --sex-codes '{','.join(codes[:6])}'"

    @property
    def digest(self) -> str:
        """Changes with everything said here; "" if nothing is."""
        said = [dict(self.columns), dict(self.sex_codes)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest() if any(said) else ""


AS_IT_SAYS = TableFormat()


def _pairs(option: str, text: str | None, form: str, example: str) -> list[tuple[str, str]]:
    """The pairs of `form` that `text` lists with commas between."""
    rest, pairs = text, []
    while rest is not None:
        # A comma ends a pair only where another pair follows it.
        found = re.match(rf"\s*{form}\s*(?:,(?=\s*{form}\s*(?:,|$))|$)", rest, re.IGNORECASE)
        if not found:
            raise BoneXageError(f"{option} '{text}': not understood; write it as in {option} {example}")
        pairs.append((found[1].lower(), found[2]))
        rest = rest[found.end() :] or None
    return pairs


def _code(text: object) -> str:
    """A code as it is compared: in lower case, and 1.0 as 1, which a program makes of it beside an empty cell."""
    return re.sub(r"^([0-9]+)\.0+$", r"\1", unicodedata.normalize("NFC", str(text)).strip().lower())


def parse_sex(value: object) -> str | None:
    """ "M" or "F" for M, F, male and female in any case; None for everything else, NaN included."""
    return SEXES.get(str(value).strip().lower())


# --- ids ---

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


def before_the_spreadsheet(wanted: Iterable[str], there: Collection[str]) -> dict[str, str]:
    """The ids of `wanted` that are not `there` but are numbers as spreadsheets and programs write them (1377.0, 1,377,
    1.377E+03), and the one whole number of which that can come, where it is `there` and nobody else's."""
    wanted = dict.fromkeys(wanted)
    found = {}
    for film in wanted:
        if film not in there:
            meant = [number for number in _whole_numbers(film) if number in there and number not in wanted]
            found |= {film: meant[0]} if len(meant) == 1 else {}
    numbers = list(found.values())
    return {film: number for film, number in found.items() if numbers.count(number) == 1}


def _whole_numbers(text: str) -> list[str]:
    """The whole numbers that can have been written so; in few digits, as 1.38E+03, it might be many."""
    numbers = []
    if found := re.fullmatch(r"([0-9]+)[.,]0+", text):
        numbers.append(found[1])
    if re.fullmatch(r"[0-9]{1,3}(?:[,.'’ \u00a0\u202f][0-9]{3})+", text):
        numbers.append(re.sub(r"[^0-9]", "", text))
    found = re.fullmatch(r"([0-9])(?:[.,]([0-9]+))?e\+?([0-9]+)", text, re.IGNORECASE)
    if found and len(found[2] or "") == int(found[3][-3:]):
        numbers.append(found[1] + (found[2] or ""))
    return numbers


def spreadsheet_line(mended: Mapping[str, str], path: Path | str) -> str:
    """What to tell of ids that were read as `before_the_spreadsheet` says."""
    film, number = next(iter(mended.items()))
    return f"{path}: {len(mended):,} ids that a spreadsheet changed are read as what they were, e.g. {film} as {number}"


# --- ages ---

_NUMBER = r"([0-9]+(?:\.[0-9]*|,[0-9]{1,2}|,[0-9]{4,})?)"  # with three digits a comma may be one of thousands
_AGE = re.compile(rf"(?:{_NUMBER} ?y(?:(?:ea)?rs?)?\.?)?(?:,? ?(?:and )?{_NUMBER} ?m(?:o(?:nth)?s?|ths?)?\.?)?"
                  rf"(?:,? ?{_NUMBER} ?w(?:(?:ee)?ks?)?\.?)?(?:,? ?{_NUMBER} ?d(?:ays?)?\.?)?", re.IGNORECASE)
# In the names of columns; no singulars, which need not be units.
_UNITS = {"years": "years|yrs?|jahren?|années|ans|años|anni", "months": "months|mths|monaten?|mois|meses|mesi",
          "weeks": "weeks|wochen|semaines|semanas", "days": "days|tagen?|jours|días"}
# A year has 365.25 days; how many of each part go into the part before it.
_PARTS = ((12.0, math.inf), (1.0, 12), (7 * 12 / 365.25, 5), (12 / 365.25, 31))


def parse_age(text: str) -> float | None:
    """An age with its units as months: "10y 6m", "10 years 6 months", "126 months", "10.5 years", DICOM's "010Y",
    "126M", "045D" (PS3.5, 6.2), and "10;6" for ten years and six months. None for everything else, a bare number
    included."""
    if found := re.fullmatch(r"([0-9]{1,2});([0-9]{1,2})", text):
        years, months = map(int, found.groups())
        return 12.0 * years + months if months < 12 else None
    found = _AGE.fullmatch(re.sub(r"\s+", " ", text))
    parts = [(float(part.replace(",", ".")), *sizes) for part, sizes in zip(found.groups(), _PARTS, strict=True) if part
             ] if found else []
    fractions = [part for part, *_ in parts[:-1] if not part.is_integer()]
    if not parts or fractions or any(part >= most for part, _, most in parts[1:]):
        return None
    return sum(part * months for part, months, _ in parts)


def _months(cells: pd.Series, in_years: bool) -> tuple[pd.Series, pd.Series]:
    """Ages in months, NaN for what is none, and which cells are numbers without a unit (then months or years)."""
    bare = cells.str.fullmatch(_NUMBER)
    months = cells.where(~bare).map(parse_age, na_action="ignore").astype(float)
    months[bare] = cells[bare].str.replace(",", ".").astype(float) * (12 if in_years else 1)
    return months, bare


# --- tables ---

def label_hash(path: Path | str, tables: TableFormat = AS_IT_SAYS) -> str:
    """SHA-256 of a label file's text with LF line ends, so that a copy made on Windows has the same; of that and what
    is said of the table, if something is."""
    digest = hashlib.sha256(Path(path).read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    return hashlib.sha256(f"{digest} {tables.digest}".encode()).hexdigest() if tables.digest else digest


def read_labels(path: Path | str, tables: TableFormat = AS_IT_SAYS) -> pd.DataFrame:
    """Read a label table: columns `id` (str), `months` (float 0–240, all NaN without an age column), `sex` ("M"/"F").

    The id may be a file name, see `film_id`. An age is a number of months (or years, if `tables` says so; with a
    decimal point or comma) or one with units, see `parse_age`. A row equal to an earlier one is kept once. Otherwise
    nothing is mended and nothing guessed; columns of other names are passed over.

    Raises BoneXageError for what `read_table` refuses; for a table without rows; an absent or ambiguous column; an id
    that is empty, holds a path or a character that does not print; one id with two different labels; an age that is
    none from 0 to 240 months; ages with and without units, or with decimal points and commas, in one table; a sex that
    is unknown, or not clear, see `TableFormat.sex`; and for years. A column is taken for years if its name has the
    word. If its name gives no unit it is too if no age is above 20 and either one has decimals or there are ten or
    more: a cohort of infants has to name its column 'bone age (months)'.
    """
    path = Path(path)
    if "image" in tables.columns:
        raise BoneXageError("--columns image=: a label table names films by id; say id=NAME")
    raw = read_table(path, fits=lambda names: tables.has(names, "id") and tables.has(names, "sex"))

    def column(kind: str) -> str:
        if found := tables.find(raw, path, kind):
            return found
        raise BoneXageError(f"{path}: no {KINDS[kind]} column; name it '{COLUMNS[kind][0]}', or say which it is with "
                            f"--columns {kind}=NAME (found: {', '.join(raw.columns[:8])})")

    def refuse(bad: pd.Series, what: str, remedy: str) -> None:
        if bad.any():
            lines = ", ".join(f"line {line}" for line in bad.index[bad][:3])
            more = f" and {int(bad.sum()) - 3} more" if bad.sum() > 3 else ""
            raise BoneXageError(f"{path}: {what} at {lines}{more}; {remedy}")

    if {"bone age months", "low months", "high months"} <= set(raw.columns):
        raise BoneXageError(f"{path}: these are predictions, and no labels; give the label table")
    id_name, sex_name = column("id"), column("sex")
    if raw.empty:
        raise BoneXageError(f"{path}: no rows; give one row per film")
    ids = raw[id_name].map(film_id)
    refuse(ids == "", "no film id", "give every row the name of its image without ending")
    refuse(raw[id_name] != raw[id_name].map(printable), "a film id with a sign that does not print",
           "write it anew, and name the image so")
    refuse(~ids.map(_is_a_name), "a film id that is no file name", "give the name of the image, without folders")

    sex = raw[sex_name].map(lambda text: tables.sex(text, sex_name))
    refuse(sex == "", "unknown sex", "write True/False under 'male', or M/F under 'sex'")
    if sex.isna().any():
        refuse(sex.isna(), f"unknown sex '{raw.loc[sex.isna(), sex_name].iloc[0]}' under '{sex_name}'",
               tables.ask_for_codes(raw[sex_name]))

    months = pd.Series(float("nan"), index=raw.index)
    if months_name := tables.find(raw, path, "months", "years"):
        if len({id_name, sex_name, months_name}) < 3:
            raise BoneXageError(f"{path}: the column '{months_name}' is to hold two things; name one for each with "
                                "--columns id=NAME,months=NAME,sex=NAME")
        cells, in_years = raw[months_name], "years" in tables.columns
        months, bare = _months(cells, in_years)
        unit = "years" if in_years else "months"
        named = [name for name, words in _UNITS.items() if re.search(rf"\b(?:{words})\b", months_name)]
        if named and unit not in named and bare.any():
            remedy = f"say --columns {named[0]}=NAME" if named[0] in COLUMNS else "write months"
            raise BoneXageError(f"{path}: '{months_name}' is named in {named[0]}, and its numbers would be read as "
                                f"{unit}; {remedy}, or rename the column")
        other = cells[months.isna() & (cells != "")]
        # Not `~between`: a comparison with NaN must refuse, not pass.
        refuse(~(months <= MAX_MONTHS), f"an age that is not 0–{MAX_MONTHS:g} months"
               + (f" ('{other.iloc[0]}' under '{months_name}')" if len(other) else ""),
               "give the bone age in months as a number like 126.5"
               + (", or as 10y 6m, or name another column with --columns months=NAME" if len(other) else ""))
        points = bare & cells.str.contains(".", regex=False)
        for some, others, what in ((bare, ~bare, "a unit"), (points, bare & cells.str.contains(","), "a comma")):
            if some.any():
                few = some if some.sum() < others.sum() else others
                refuse(few & others.any(), f"some ages with {what} and some without,", "write all of them alike")
        if in_years:
            tenths = cells[bare].str.extract(r"[.,]([0-9]+)$")[0].dropna()
            mixed = tenths.isin(["10", "11"])
            if mixed.any() and tenths.astype(int).max() < 12:
                refuse(mixed.reindex(raw.index, fill_value=False), "no year has more than 11 after the point, which "
                       "looks like months,", "write 9.11 as 9y 11m")
        elif "months" not in months_name and "months" not in tables.columns and bare.any() and months.max() <= 20 \
                and (len(months) >= 10 or (months % 1).any()):
            raise BoneXageError(f"{path}: no bone age above 20, which looks like years; say --columns "
                                f"years='{months_name}' or multiply by 12, or name the column 'bone age (months)' if "
                                "these are months")
    elif years := next((name for name in raw.columns if re.search(r"bone ?age\b.*\b(years?|yrs?|y)\b", name)), None):
        raise BoneXageError(f"{path}: '{years}' is in years; say --columns years='{years}', or multiply by 12 and name "
                            "it 'boneage'")

    table = pd.DataFrame({"id": ids, "months": months, "sex": sex}).drop_duplicates()
    refuse(table["id"].duplicated(keep=False), "the same id twice, with different labels,", "keep one row per film")
    return table.reset_index(drop=True)


def no_ages(path: Path) -> BoneXageError:
    """What to raise of a table without ages where they are needed."""
    return BoneXageError(f"{path}: no bone age column; name it 'boneage', in months, or say which it is with --columns "
                         "months=NAME (or years=NAME)")


def _is_a_name(film: str) -> bool:
    return film not in (".", "..") and not set(film) & set('/\\:')
