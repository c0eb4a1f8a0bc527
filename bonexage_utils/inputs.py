"""What a user hands to `predict`: images, folders, cohorts and lists, all turned into one row per film."""

from pathlib import Path

import pandas as pd

from bonexage_utils.cohort import LABEL_FILES, load_cohort
from bonexage_utils.decoding import IMAGE_ENDINGS
from bonexage_utils.errors import BoneXageError
from bonexage_utils.labels import ID_COLUMNS, SEX_COLUMNS, parse_sex, read_table, read_text


def list_films(inputs: list[str], sex: str | None = None, split: str | None = None) -> pd.DataFrame:
    """What INPUT… means, as rows `id`, `image`, `sex` ("M", "F" or ""), `error`.

    An input is an image, a folder of images, a cohort folder (then sexes come from its labels, and `split` may pick
    one split), a text file with one path per line, or a CSV with `image` or `id`, and `sex` or `male`. `sex` is for
    rows that bring none of their own; it never replaces one. Paths in a list are relative to the list.

    Raises BoneXageError for a folder without images, an unusable list, or an unknown `sex`.
    """
    default = parse_sex(sex) if sex is not None else ""
    if default is None:
        raise BoneXageError(f"--sex {sex}: unknown; give M or F")
    rows: list[dict] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            rows += _films_of_folder(path, default, split)
        elif path.suffix.lower() == ".csv":
            rows += _films_of_table(path, default)
        elif path.suffix.lower() == ".txt":
            lines = read_text(path, "list of films").splitlines()
            rows += [_film(path.parent / line.strip(), default) for line in lines if line.strip()]
        else:
            rows.append(_film(path, default))
    if not rows:
        raise BoneXageError(f"{', '.join(inputs)}: no film found; give images ({', '.join(IMAGE_ENDINGS)}) or a list")
    return pd.DataFrame(rows, columns=["id", "image", "sex", "error"])


def _film(path: Path, sex: str, error: str = "") -> dict:
    return {"id": path.stem, "image": str(path), "sex": sex, "error": error}


def _films_of_folder(folder: Path, sex: str, split: str | None) -> list[dict]:
    if any((folder / name).is_file() for name in LABEL_FILES["training"]):
        cohort = load_cohort(folder)
        table = cohort.split(split) if split else cohort.table
        return table[["id", "image", "sex"]].assign(error="").to_dict("records")
    if split:
        raise BoneXageError(f"{folder}: --split {split} needs a cohort folder; this holds no label table")
    images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS)
    return [_film(image, sex) for image in images]


def _films_of_table(path: Path, default: str) -> list[dict]:
    table = read_table(path)
    sex_column = next((name for name in SEX_COLUMNS if name in table.columns), None)
    id_column = next((name for name in ID_COLUMNS if name in table.columns), None)
    if "image" not in table.columns and id_column is None:
        raise BoneXageError(f"{path}: needs a column 'image' (a path) or 'id' (a file name without ending)")
    rows = []
    for row in table.to_dict("records"):
        text = row[sex_column] if sex_column else ""
        # A sex that is given but not understood must not be taken for the default.
        sex, error = (parse_sex(text) or "", "") if text else (default, "")
        if text and not sex:
            error = f"{path}: sex '{text}' is not M or F"
        if row.get("image"):
            film = _film(path.parent / row["image"], sex, error)
            film["id"] = row[id_column] if id_column else film["id"]
        else:
            name = row[id_column]
            places = [folder / f"{name}{ending}" for folder in (path.parent / path.stem, path.parent)
                      for ending in (*IMAGE_ENDINGS, *map(str.upper, IMAGE_ENDINGS))]
            film = _film(next((p for p in places if p.is_file()), places[0]), sex, error)
        rows.append(film)
    return rows
