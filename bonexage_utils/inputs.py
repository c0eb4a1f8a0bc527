"""What a user hands to `predict`: images, folders, cohorts and lists, all turned into one row per film."""

import os
import re
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from unicodedata import normalize

import pandas as pd

from bonexage_utils.cohort import folders, is_cohort, load_cohort
from bonexage_utils.decoding import IMAGE_ENDINGS
from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.labels import (
    ID_COLUMNS,
    SEX_COLUMNS,
    film_id,
    find_column,
    in_another_spelling,
    parse_sex,
    read_table,
    read_text,
)
from bonexage_utils.tags import COLUMNS, all_tags


def list_films(inputs: list[str], sex: str | None = None, split: str | None = None, header: bool = False,
               tell: Callable[[str], None] | None = None) -> pd.DataFrame:
    """What INPUT… means, as rows `id`, `image`, `sex` ("M", "F" or ""), `error`; with `header` also `tags.COLUMNS`.

    An input is an image, a folder of images, a cohort folder (then sexes come from its labels, and `split` may pick
    one split), a text file with one path per line, or a CSV with `image` or `id`, and `sex` or `male`. Paths in a list
    are relative to the list. Of a folder the films in its folders too, as `cohort.folders` finds them.

    A film's sex is the one that its table says, else the one of its DICOM's tag, else `sex`; a tag that contradicts
    either is an error of the film's, and so is a modality that is none of radiographs. `tell` gets a line of what was
    passed over in folders, by kind, and one of secondary captures.

    `id` is the `labels.film_id` of the image's name, or what a table says; where two images would have the same, each
    has its path, printable, for an id, and a number if that is the same, too. A film given twice has one row, with the
    sex that came with it.

    Raises BoneXageError for an empty input, inputs without images, a folder that cannot be listed, an unusable list or
    cohort, or an unknown `sex`.
    """
    default = parse_sex(sex) if sex is not None else ""
    if default is None:
        raise BoneXageError(f"--sex {sex}: unknown; give M or F")
    rows: list[dict] = []
    passed: Counter[str] = Counter()
    for given in inputs:
        if not given:  # of a shell variable that is not set; as a path it would be the working directory
            raise BoneXageError("an INPUT is empty; give images, a folder or a list")
        path = Path(given)
        if os.path.isdir(path):
            rows += _films_of_folder(path, split, passed)
        elif path.suffix.lower() == ".csv":
            rows += _films_of_table(path)
        elif path.suffix.lower() == ".txt":
            lines = re.split(r"[\r\n]+", read_text(path, "list of films"))
            rows += [_film(path.parent / line.strip()) for line in lines if line.strip()]
        else:
            rows.append(_film(path))
    skipped = ", ".join(f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(passed.items()))
    if not rows:
        raise BoneXageError(f"{', '.join(inputs)}: no film found{f' ({skipped})' if skipped else ''}; give images "
                            f"({', '.join(IMAGE_ENDINGS)}) or a list")
    tell = tell or (lambda line: None)
    if skipped:
        tell(f"skipped: {skipped}")
    films = _once(pd.DataFrame(rows, columns=["id", "image", "sex", "error"]))
    films = _with_tags(films, default, header, tell)
    alike = films["id"].duplicated(keep=False)
    films.loc[alike, "id"] = films.loc[alike, "image"].map(lambda path: printable(normalize("NFC", path)).strip())
    return films.assign(id=_numbered(films["id"].tolist())).reset_index(drop=True)


def _with_tags(films: pd.DataFrame, default: str, header: bool, tell: Callable[[str], None]) -> pd.DataFrame:
    """The films with what their headers say of the sex, and as `tags.COLUMNS` of all; `default` where nothing does."""
    tags = all_tags(films["image"])
    against = [tag.refusal or tag.against(sex or default, "the table" if sex else "--sex")
               for tag, sex in zip(tags, films["sex"], strict=True)]
    against = [what and f"{printable(image)}: {what}" for what, image in zip(against, films["image"], strict=True)]
    error = films["error"].where(films["error"] != "", against)
    sex = films["sex"].where(films["sex"] != "", [tag.sex for tag in tags])
    secondary = films["image"][[tag.is_secondary for tag in tags]]
    if len(secondary):
        tell(f"secondary captures, which may differ from what a detector's own films show: {len(secondary):,}, e.g. "
             f"{printable(secondary.iloc[0])}")
    films = films.assign(error=error, sex=sex.where((sex != "") | (error != ""), default))
    columns = pd.DataFrame([tag.columns for tag in tags], films.index, columns=COLUMNS) if header else None
    return films.join(columns) if header else films


def _once(films: pd.DataFrame) -> pd.DataFrame:
    """Of the rows with the same id and the same file those that bring a sex, if one does, and none of them twice."""
    alike = films["id"].duplicated(keep=False)
    file = films["image"].mask(alike, films.loc[alike, "image"].map(os.path.realpath))
    good = films["error"] == ""
    told = ((films["sex"] != "") & good).groupby([films["id"], file]).transform("any")
    twice = films.assign(image=file).duplicated()
    return films[~twice & ~(told & good & (films["sex"] == ""))].copy()


def _numbered(ids: list[str]) -> list[str]:
    """The ids, each but the first of several alike with a number that makes it unlike all others."""
    taken: set[str] = set(ids)
    out: dict[str, None] = {}
    for film in ids:
        others = (name for number in count(2) if (name := f"{film} ({number})") not in taken)
        name = next(others) if film in out else film
        taken.add(name)
        out[name] = None
    return list(out)


def _film(path: Path, sex: str = "", error: str = "") -> dict:
    if not str(path).isascii():  # Macs decompose what others compose; by Unicode's rules it is the same name
        forms = [path, *(Path(normalize(form, str(path))) for form in ("NFC", "NFD"))]
        path = next(filter(os.path.exists, forms), path)
    return {"id": film_id(path.name) or printable(path.name).strip(), "image": str(path), "sex": sex, "error": error}


def _films_of_folder(folder: Path, split: str | None, passed: Counter[str]) -> list[dict]:
    """Its films as rows; what is none is counted in `passed` by its kind."""
    if is_cohort(folder):
        cohort = load_cohort(folder)
        table = cohort.split(split) if split else cohort.table
        return table[["id", "image", "sex"]].assign(error="").to_dict("records")
    if split:
        raise BoneXageError(f"{folder}: --split {split} needs a cohort folder; this holds no label table")
    images: dict[tuple[str, str], Path] = {}  # once, however many links lead to its folder
    for place, films, _, others in folders(folder):
        passed += others
        for film in films:
            images.setdefault((os.path.realpath(place), film.name), Path(film.path))
    return [_film(image) for image in sorted(images.values())]


def _films_of_table(path: Path) -> list[dict]:
    table = read_table(path, "list of films")
    sex_column = find_column(table, path, "sex", SEX_COLUMNS)
    id_column = find_column(table, path, "film id", ID_COLUMNS)
    if "image" not in table.columns and id_column is None:
        raise BoneXageError(f"{path}: needs a column 'image' (a path) or 'id' (a file name without ending)")
    beside: dict[str, list[Path]] = {}  # where a table without paths has its films
    bare = table.get("image", pd.Series("", table.index)) == ""
    for folder in filter(os.path.isdir, (path.parent, path.with_suffix("")) if bare.any() else ()):
        inside: dict[str, list[Path]] = {}
        for film in next(folders(folder))[1]:
            inside.setdefault(film_id(film.name), []).append(Path(film.path))
        beside |= inside
    otherwise = in_another_spelling(table[id_column].map(film_id), beside) if id_column else {}
    rows = []
    for line, row in zip(table.index, table.to_dict("records"), strict=True):
        text = row[sex_column] if sex_column else ""
        name, image = film_id(row.get(id_column, "")), row.get("image")
        # A file's own name may begin with the apostrophe that is taken off a formula.
        if image and not os.path.exists(path.parent / image) and os.path.exists(path.parent / f"'{image}"):
            image = f"'{image}"
        if name not in beside and f"'{name}" in beside:
            name = f"'{name}"
        found = beside.get(name, [])
        # What is given but not understood must not be taken for something else.
        sex, error = parse_sex(text) or "", ""
        if text and not sex:
            error = f"{path}: sex '{text}' is not M or F"
        elif not image and not name:
            error = f"{path}: line {line} names no film; give it an image or an id"
        elif not image and len(found) > 1:
            error = f"{found[0]}: film {name} is also in {found[1]}; keep one of them"
        elif not image and name in otherwise:
            other = beside[otherwise[name]][0]
            error = f"{path}: no image for film {name}, but {other}, in another spelling; name it alike"
        place = path.parent / image if image else found[0] if found else path.parent / f"{name}{IMAGE_ENDINGS[0]}"
        film = _film(place, sex, printable(error))
        rows.append(film | {"id": name or film["id"]})
    return rows
