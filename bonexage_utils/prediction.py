"""What a trained network says of many images: one model, one row each, and no film costs another its row."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bonexage_utils.batches import SEX_CODE, standardise, to_unit
from bonexage_utils.checkpoints import load_model
from bonexage_utils.cohort import ID_COLUMNS, load_cohort, parse_sex
from bonexage_utils.errors import BoneXageError
from bonexage_utils.files import atomic_file
from bonexage_utils.images import letterbox, read_gray

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
COLUMNS = ["id", "image", "sex", "bone_age_months", "bone_age", "low_months", "high_months", "error"]


def format_age(months: float) -> str:
    """126.5 → "10 years 6 months". Rounded to whole months first (half to even), so 119.99 is 10 years."""
    years, rest = divmod(round(months), 12)
    return f"{years} year{'' if years == 1 else 's'} {rest} month{'' if rest == 1 else 's'}"


class Predictor:
    """A checkpoint, loaded once. All preprocessing is the checkpoint's own.

    `unknown_sex` says what to do with a child of unknown sex if the network uses sex: "error", or "mean" of what it
    says of a girl and of a boy. Raises BoneXageError for a missing, damaged or foreign checkpoint.
    """

    def __init__(self, checkpoint: Path | str, device: str | None = None, unknown_sex: str = "error") -> None:
        if unknown_sex not in ("error", "mean"):
            raise BoneXageError(f"unknown_sex '{unknown_sex}': use error or mean")
        self.path = Path(checkpoint)
        model, self.preprocessing, self.description = load_model(self.path)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.uses_sex = model.settings["use_sex"]
        self.unknown_sex = unknown_sex

    @torch.inference_mode()
    def months(self, films: np.ndarray, sexes: list[str]) -> np.ndarray:
        """Bone ages in months (n,) of letterboxed films, uint8 (n, size, size); sexes "M", "F" or "" (unknown).

        Raises BoneXageError for an unknown sex if that is an error here.
        """
        images = standardise(to_unit(torch.from_numpy(films)[:, None].to(self.device)), self.preprocessing)
        images = images.to(memory_format=torch.channels_last)
        unknown = np.array([sex not in SEX_CODE for sex in sexes])
        if self.uses_sex and unknown.any() and self.unknown_sex == "error":
            raise BoneXageError("sex unknown: give --sex M or F, a sex column, or --unknown-sex mean")
        codes = torch.tensor([SEX_CODE.get(sex, 0) for sex in sexes], device=self.device)
        months = self.model(images, codes)
        if self.uses_sex and unknown.any():
            where = torch.from_numpy(unknown).to(self.device)
            months = torch.where(where, self.model.mean_over_sexes(images), months)
        return months.double().cpu().numpy()

    def predict(self, films: pd.DataFrame, batch_size: int = 16, workers: int = 4) -> pd.DataFrame:
        """One row for each of `films` (columns `id`, `image`, `sex`, and `error` for rows that cannot be used).

        Returns the columns of `COLUMNS` in the same order. A film that cannot be read, or whose sex is unknown,
        keeps its row and says why in `error`. `workers` threads read ahead of the network.
        """
        rows = films.to_dict("records")
        done: list[dict] = []
        with tqdm(total=len(rows), desc="predicting", unit="film", leave=False, disable=len(rows) < 20) as bar:
            for batch in _batched(_read_ahead(rows, self._read, workers), batch_size):
                done.extend(self._predict_batch(batch))
                bar.update(len(batch))
        return pd.DataFrame(done, columns=COLUMNS)

    def _read(self, row: dict) -> np.ndarray | str:
        """The letterboxed film, or the reason why there is none."""
        if row.get("error"):
            return row["error"]
        if self.uses_sex and row["sex"] not in SEX_CODE and self.unknown_sex == "error":
            return "sex unknown: give --sex M or F, a sex column, or --unknown-sex mean"
        try:
            return letterbox(read_gray(row["image"]), self.preprocessing.image_size)
        except BoneXageError as error:
            return str(error)

    def _predict_batch(self, batch: list[tuple[dict, np.ndarray | str]]) -> list[dict]:
        good = [(row, film) for row, film in batch if not isinstance(film, str)]
        months = iter(())
        if good:
            months = iter(self.months(np.stack([film for _, film in good]), [row["sex"] for row, _ in good]))
        out = []
        for row, film in batch:
            answer = {"id": row["id"], "image": row["image"], "sex": row["sex"], "error": ""}
            if isinstance(film, str):
                answer["error"] = film
            else:
                value = float(next(months))
                answer |= {"bone_age_months": round(value, 2), "bone_age": format_age(value)}
            out.append(answer)
        return out


def _batched(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def _read_ahead(rows: list[dict], read, workers: int, ahead: int = 64) -> Iterator[tuple[dict, np.ndarray | str]]:
    """Each row with what `read` makes of it, in order; at most `ahead` are read before they are needed."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[tuple[dict, Future]] = []
        for row in rows:
            waiting.append((row, pool.submit(read, row)))
            if len(waiting) >= ahead:
                first, future = waiting.pop(0)
                yield first, future.result()
        for row, future in waiting:
            yield row, future.result()


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
            lines = _read_text(path).splitlines()
            rows += [_film(path.parent / line.strip(), default) for line in lines if line.strip()]
        else:
            rows.append(_film(path, default))
    if not rows:
        raise BoneXageError(f"{', '.join(inputs)}: no film found; give images ({', '.join(IMAGE_ENDINGS)}) or a list")
    return pd.DataFrame(rows, columns=["id", "image", "sex", "error"])


def _film(path: Path, sex: str, error: str = "") -> dict:
    return {"id": path.stem, "image": str(path), "sex": sex, "error": error}


def _films_of_folder(folder: Path, sex: str, split: str | None) -> list[dict]:
    if (folder / "boneage-training-dataset.csv").is_file():
        cohort = load_cohort(folder)
        table = cohort.split(split) if split else cohort.table
        return table[["id", "image", "sex"]].assign(error="").to_dict("records")
    if split:
        raise BoneXageError(f"{folder}: --split {split} needs a cohort folder; this holds no label table")
    images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_ENDINGS)
    return [_film(image, sex) for image in images]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BoneXageError(f"{path}: cannot be read ({error}); give a text file in UTF-8") from None


def _films_of_table(path: Path, default: str) -> list[dict]:
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", sep=None, engine="python").fillna("")
    except (OSError, ValueError) as error:
        raise BoneXageError(f"{path}: not a readable table ({str(error).splitlines()[0]}); save it as CSV") from None
    table.columns = [name.strip().lower() for name in table.columns]
    sex_column = next((name for name in ("sex", "male") if name in table.columns), None)
    id_column = next((name for name in ID_COLUMNS if name in table.columns), None)
    if "image" not in table.columns and id_column is None:
        raise BoneXageError(f"{path}: needs a column 'image' (a path) or 'id' (a file name without ending)")
    rows = []
    for row in table.to_dict("records"):
        text = row.get(sex_column, "").strip() if sex_column else ""
        # A sex that is given but not understood must not be taken for the default.
        sex, error = (parse_sex(text) or "", "") if text else (default, "")
        if text and not sex:
            error = f"{path}: sex '{text}' is not M or F"
        if row.get("image"):
            film = _film(path.parent / row["image"], sex, error)
            film["id"] = row[id_column] if id_column else film["id"]
        else:
            name = row[id_column].strip()
            places = [path.parent / path.stem / f"{name}.png", path.parent / f"{name}.png"]
            film = _film(next((p for p in places if p.is_file()), places[0]), sex, error)
        rows.append(film)
    return rows


def save_predictions(predictions: pd.DataFrame, predictor: Predictor, out: Path | str) -> None:
    """Write `predictions.csv`, and beside it `predictions.json`: the checkpoint that said so, described."""
    out = Path(out)
    digest = hashlib.sha256(predictor.path.read_bytes()).hexdigest()
    with atomic_file(out) as temporary:
        predictions.to_csv(temporary, index=False)
    with atomic_file(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(
            {"checkpoint": predictor.path.name, "sha256": digest, **predictor.description}, indent=2))
