"""What a user hands to `predict`: images, folders, cohorts and lists, all turned into one row per film."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from unicodedata import normalize

import pandas as pd

from bonexage_utils.cohort import folders, has_rsna_labels, is_cohort, label_file, load_cohort, own_labels
from bonexage_utils.decoding import IMAGE_ENDINGS
from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.labels import (
    AS_IT_SAYS,
    TableFormat,
    before_the_spreadsheet,
    film_id,
    in_another_spelling,
    parse_sex,
    spreadsheet_line,
)
from bonexage_utils.tables import TABLE_ENDINGS, read_table, read_text
from bonexage_utils.tags import COLUMNS, all_tags


def list_films(inputs: list[str], sex: str | None = None, split: str | None = None, labels: Path | str | None = None,
               tables: TableFormat = AS_IT_SAYS, header: bool = False,
               tell: Callable[[str], None] = warnings.warn) -> pd.DataFrame:
    """What INPUT… means, as rows `id`, `image`, `sex` ("M", "F" or ""), `sex_from` (who says so: a table, a cohort, the
    film's PatientSex or `--sex`; "" for an unknown sex), `error`; with `header` also `tags.COLUMNS`.

    An input is an image, a folder of images, a cohort folder (then sexes come from its labels, and `split` may pick
    one split), a text file with one path per line, or a table with `image` or `id`, and `sex` or `male`, which `tables`
    may call otherwise. Paths in a list are relative to the list. Of a folder the films in its folders too, as
    `cohort.folders` finds them. With `labels` the one input is a folder, and that table says which of its films are
    meant.

    A film's sex is the one that its table says, else the one of its DICOM's tag, else `sex`; two that differ are an
    error of the film's, and so is a modality that is none of radiographs. `tell` gets a line of what was passed over in
    folders, by kind, one of secondary captures, one where ids are read as `labels.before_the_spreadsheet` says, and one
    where films of the folder are in no row.

    `id` is the `labels.film_id` of the image's name, or what a table says; where two images would have the same, each
    has its path, printable, for an id, and a number if that is the same, too. A film given twice has one row, with the
    sex that came with it.

    Raises BoneXageError for an empty input, inputs without images, a folder that cannot be listed, an unusable list or
    cohort, or an unknown `sex`.
    """
    default = parse_sex(sex) if sex is not None else ""
    if default is None:
        raise BoneXageError(f"--sex {sex}: unknown; give M or F")
    if labels is not None and (len(inputs) != 1 or not os.path.isdir(inputs[0])):
        raise BoneXageError(f"--labels {labels}: is for one INPUT that is a folder; a table may be an INPUT itself")
    rows: list[dict] = []
    passed: Counter[str] = Counter()
    for given in inputs:
        if not given:  # of a shell variable that is not set; as a path it would be the working directory
            raise BoneXageError("an INPUT is empty; give images, a folder or a list")
        path = Path(given)
        if labels is not None and not split:
            rows += _films_of_table(label_file(path, labels), tables, tell, path, passed)
        elif os.path.isdir(path):
            rows += _films_of_folder(path, split, labels, tables, tell, passed)
        elif path.suffix.lower() in TABLE_ENDINGS:
            rows += _films_of_table(path, tables, tell)
        elif path.suffix.lower() == ".txt":
            lines = re.split(r"[\r\n]+", read_text(path, "list of films"))
            rows += [_film(path.parent / line.strip()) for line in lines if line.strip()]
        else:
            rows.append(_film(path))
    skipped = ", ".join(f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(passed.items()))
    if not rows:
        packed = "unpack what is packed, or " if "archive" in skipped else ""
        raise BoneXageError(f"{', '.join(inputs)}: no film found{f' ({skipped})' if skipped else ''}; {packed}give "
                            f"images ({', '.join(IMAGE_ENDINGS)}) or a list")
    if skipped:
        tell(f"skipped: {skipped}")
    films = _once(pd.DataFrame(rows, columns=["id", "image", "sex", "sex_from", "error"]))
    for row in films[(films["error"] == "") & (films["sex"] != "")].itertuples() if default else ():
        if row.sex != default:
            films.loc[row.Index, "error"] = printable(f"{row.image}: {row.sex} in {row.sex_from}, but --sex {sex}; "
                                                      "leave --sex out, or mend the table")
    films = _with_tags(films, default, header, tell)
    alike = films["id"].duplicated(keep=False)
    films.loc[alike, "id"] = films.loc[alike, "image"].map(lambda path: printable(normalize("NFC", path)).strip())
    return films.assign(id=_numbered(films["id"].tolist())).reset_index(drop=True)


def _with_tags(films: pd.DataFrame, default: str, header: bool, tell: Callable[[str], None]) -> pd.DataFrame:
    """The films with what their headers say of the sex, and as `tags.COLUMNS` of all; `default` where nothing does."""
    tags = all_tags(films["image"])
    against = [tag.refusal or (tag.against(sex, source) if sex else tag.against(default, "--sex"))
               for tag, sex, source in zip(tags, films["sex"], films["sex_from"], strict=True)]
    against = [what and f"{printable(image)}: {what}" for what, image in zip(against, films["image"], strict=True)]
    films["error"] = films["error"].where(films["error"] != "", against)
    for sexes, source in (([tag.sex for tag in tags], "the film's PatientSex"), (default, "--sex")):
        unknown = (films["sex"] == "") & (films["error"] == "")
        films["sex"] = films["sex"].mask(unknown, sexes)
        films["sex_from"] = films["sex_from"].mask(unknown & (films["sex"] != ""), source)
    secondary = films["image"][[tag.is_secondary for tag in tags]]
    if len(secondary):
        tell(f"secondary captures, which may differ from what a detector's own films show: {len(secondary):,}, e.g. "
             f"{printable(secondary.iloc[0])}")
    columns = pd.DataFrame([tag.columns for tag in tags], films.index, columns=COLUMNS) if header else None
    return films.join(columns) if header else films


def _once(films: pd.DataFrame) -> pd.DataFrame:
    """Of the rows with the same id and the same file those that bring a sex, if one does, and none of them twice."""
    alike = films["id"].duplicated(keep=False)
    file = films["image"].mask(alike, films.loc[alike, "image"].map(os.path.realpath))
    good = films["error"] == ""
    told = ((films["sex"] != "") & good).groupby([films["id"], file]).transform("any")
    twice = films.assign(image=file).duplicated(["id", "image", "sex", "error"])
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


def _film(path: Path, sex: str = "", sex_from: str = "", error: str = "") -> dict:
    if not str(path).isascii():  # Macs decompose what others compose; by Unicode's rules it is the same name
        forms = [path, *(Path(normalize(form, str(path))) for form in ("NFC", "NFD"))]
        path = next(filter(os.path.exists, forms), path)
    return {"id": film_id(path.name) or printable(path.name).strip(), "image": str(path), "sex": sex,
            "sex_from": sex_from, "error": error}


def _films_of_folder(folder: Path, split: str | None, labels: Path | str | None, tables: TableFormat,
                     tell: Callable[[str], None], passed: Counter[str]) -> list[dict]:
    """Its films as rows; what is none is counted in `passed` by its kind."""
    own = own_labels(folder) if labels is None and not split and not has_rsna_labels(folder) else []
    if len(own) == 1:  # a list like any other: it may lack ages, and films that no row names are told
        return _films_of_table(own[0], tables, tell, folder, passed)
    if labels is not None or is_cohort(folder):
        cohort = load_cohort(folder, labels, tables, tell)
        table = cohort.split(split) if split else cohort.table
        said = f"the labels of {cohort.name}"
        return table[["id", "image", "sex"]].assign(sex_from=said, error="").to_dict("records")
    if split:
        raise BoneXageError(f"{folder}: --split {split} needs a cohort folder; this holds no label table, and none is "
                            "named with --labels")
    return [_film(image) for image in _images(folder, passed)]


def _images(folder: Path, passed: Counter[str]) -> list[Path]:
    """The images in a folder and its folders, each once, however many links lead to its folder; what is none is counted
    in `passed` by its kind."""
    images: dict[tuple[str, str], Path] = {}
    for place, films, _, others in folders(folder):
        passed += others
        for film in films:
            images.setdefault((os.path.realpath(place), film.name), Path(film.path))
    return sorted(images.values())


def _films_of_table(path: Path, tables: TableFormat, tell: Callable[[str], None],
                    films: Path | None = None, passed: Counter[str] | None = None) -> list[dict]:
    """The films of a list, of which those without a path lie in the folder `films` or its folders (what is none there
    is counted in `passed` by its kind); without one, in the table's own folder, or in that of its name beside it."""
    table = read_table(path, "list of films", lambda names: tables.has(names, "image", "id"))
    image_column, id_column, sex_column = (tables.find(table, path, kind) for kind in ("image", "id", "sex"))
    if not image_column and not id_column:
        raise BoneXageError(f"{path}: needs a column 'image' (a path) or 'id' (a file name without ending); say which "
                            f"it is with --columns id=NAME (found: {', '.join(table.columns[:8])})")
    told = next((name for name in table.columns if re.search(r"\bsex|sex\b|gender|geschlecht|género", name)), None)
    if told and not sex_column:  # passed over, every film would have the sex of --sex
        raise BoneXageError(f"{path}: '{told}' may say the sex; say so with --columns sex='{told}', or rename it")
    nothing = pd.Series("", table.index)
    images, names, sexes = (table[column] if column else nothing for column in (image_column, id_column, sex_column))
    names = names.map(film_id)
    bare = (images == "").any()
    # Where a table without paths has its films.
    beside = _found_by_id(_images(films, Counter() if passed is None else passed)) if films else {}
    for folder in filter(os.path.isdir, (path.parent, path.with_suffix("")) if bare and not films else ()):
        beside |= _found_by_id([Path(film.path) for film in next(folders(folder))[1]])
    if mended := before_the_spreadsheet(names[images == ""], beside):
        names = names.replace(mended)
        tell(spreadsheet_line(mended, path))
    otherwise = in_another_spelling(names, beside)
    rows, codes = [], ""
    for line, image, name, text in zip(table.index, images, names, sexes, strict=True):
        # A file's own name may begin with the apostrophe that is taken off a formula.
        if image and not os.path.exists(path.parent / image) and os.path.exists(path.parent / f"'{image}"):
            image = f"'{image}"
        if name not in beside and f"'{name}" in beside:
            name = f"'{name}"
        found = beside.get(name, [])
        # What is given but not understood must not be taken for something else.
        sex, error = tables.sex(text, sex_column or ""), ""
        if sex is None:
            codes = codes or tables.ask_for_codes(sexes)
            error = f"unknown sex '{text}' under '{sex_column}'; {codes} ({path}, line {line})"
        elif not image and not name:
            error = f"{path}: line {line} names no film; give it an image or an id"
        elif not image and len(found) > 1:
            error = f"two films of the id {name}; keep one of {found[0]} and {found[1]}, or name them differently"
        elif not image and name in otherwise and re.search(r"[/\\]", name):
            error = f"{path}: line {line}: an id with a folder in it, '{name}'; name the column 'image' for paths"
        elif not image and name in otherwise:
            other = beside[otherwise[name]][0]
            error = f"no image for film {name}, but one in another spelling; name it alike: {other}"
        missing = (films or path.parent) / f"{name}{IMAGE_ENDINGS[0]}"
        place = path.parent / image if image else found[0] if found else missing
        film = _film(place, sex or "", printable(path.name) if sex else "", printable(error))
        rows.append(film | {"id": name or film["id"]})
    listed = {os.path.realpath(row["image"]) for row in rows}
    left = [places[0] for _, places in sorted(beside.items()) if listed.isdisjoint(map(os.path.realpath, places))]
    if films and left:
        tell(f"{films}: {len(left):,} films are in no row of {path} and left out, e.g. {left[0].name}")
    return rows


def _found_by_id(images: list[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for image in images:
        found.setdefault(film_id(image.name), []).append(image)
    return found
