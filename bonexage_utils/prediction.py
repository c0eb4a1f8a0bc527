"""Predictions for many images: one model, one row each, and no film costs another its row."""

import json
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from bonexage_utils.batches import SEX_CODE
from bonexage_utils.calibration import Calibration
from bonexage_utils.checkpoints import load_model
from bonexage_utils.devices import memory_advice, to_network
from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.evaluation import read_predictions
from bonexage_utils.files import StopRequest, atomic_file, file_hash, only_writer
from bonexage_utils.images import letterbox, read_films
from bonexage_utils.labels import write_table

PART = 512  # films put aside at a time
# Test-time augmentation: the film as it is and moved by this share of its side each way. A network whose map is coarse
# answers a little differently when bones fall otherwise on its grid; the mean of nine answers is steadier.
VIEWS = tuple(product((0.0, -0.04, 0.04), repeat=2))
SEX_UNKNOWN = "sex unknown: give --sex M or F, a sex column, or --unknown-sex mean"
COLUMNS = ["id", "image", "sex", "bone_age_months", "bone_age", "low_months", "high_months", "error"]


def format_age(months: float) -> str:
    """126.5 → "10 years 6 months". Rounded to whole months first (half to even), so 119.99 is 10 years."""
    years, rest = divmod(round(months), 12)
    return f"{years} year{'' if years == 1 else 's'} {rest} month{'' if rest == 1 else 's'}"


class Predictor:
    """A checkpoint, loaded once. All preprocessing is the checkpoint's own.

    `unknown_sex` is what happens with a child of unknown sex if the network uses sex: "error", or the "mean" of the
    predictions for a girl and for a boy. `tta` averages over the nine views of `VIEWS`, at nine times the cost.
    Intervals are given where the checkpoint was calibrated for such predictions; `no_interval` says why one may be
    missing. Raises BoneXageError for a missing, damaged or foreign checkpoint.
    """

    def __init__(self, checkpoint: Path | str, device: str | None = None, unknown_sex: str = "error",
                 tta: bool = False) -> None:
        if unknown_sex not in ("error", "mean"):
            raise BoneXageError(f"unknown_sex '{unknown_sex}': use error or mean")
        self.path = Path(checkpoint)
        model, self.preprocessing, self.description = load_model(self.path)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.uses_sex = model.settings["use_sex"]
        self.unknown_sex = unknown_sex
        self.tta = tta
        self.calibration = Calibration.from_description(self.description)
        self.no_interval = "the sex is unknown"
        if self.calibration and self.calibration.tta != tta:
            how = "with" if self.calibration.tta else "without"
            self.calibration, self.no_interval = None, f"the checkpoint was calibrated {how} --tta"

    @torch.inference_mode()
    def months(self, films: np.ndarray, sexes: list[str]) -> np.ndarray:
        """Bone ages in months (n,) of letterboxed films, uint8 (n, size, size); sexes "M", "F" or "" (unknown).

        Raises BoneXageError for an unknown sex if that is an error here.
        """
        unknown = np.array([sex not in SEX_CODE for sex in sexes])
        if self.uses_sex and unknown.any() and self.unknown_sex == "error":
            raise BoneXageError(SEX_UNKNOWN)
        codes = torch.tensor([SEX_CODE.get(sex, 0) for sex in sexes], device=self.device)
        where = torch.from_numpy(unknown).to(self.device)
        views = VIEWS if self.tta else VIEWS[:1]
        months = [self._view_months(torch.from_numpy(films), view, codes, where) for view in views]
        return torch.stack(months).double().mean(0).cpu().numpy()

    def _view_months(self, films: Tensor, view: tuple[float, float], codes: Tensor, unknown: Tensor) -> Tensor:
        images = to_network(films, self.preprocessing, self.device, lambda unit: moved(unit, *view))
        months = self.model(images, codes)
        if self.uses_sex and unknown.any():
            months = torch.where(unknown, self.model.mean_over_sexes(images), months)
        return months

    def stream(self, films: pd.DataFrame, batch_size: int = 16, workers: int | None = None) -> Iterator[list[dict]]:
        """Batch by batch, one row for each of `films` (columns `id`, `image`, `sex`, and `error` for rows that cannot
        be used), in order, with the columns of `COLUMNS`. A film that cannot be read, or whose sex is unknown, keeps
        its row, with the reason in `error`. `workers` threads read ahead of the network (see `images.read_films`).

        Raises BoneXageError when memory runs out.
        """
        rows = films.to_dict("records")
        hidden = {"disable": True} if len(rows) < 20 else {}
        with tqdm(total=len(rows), desc="predicting", unit="film", leave=False, mininterval=0.5, **hidden) as bar:
            for batch in batched(self._with_films(rows, workers), batch_size):
                with memory_advice(self.path, batch_size, f"try --batch-size {max(1, batch_size // 2)}"):
                    predicted = self._predict_batch(batch)
                yield predicted
                bar.update(len(batch))

    def predict(self, films: pd.DataFrame, batch_size: int = 16, workers: int | None = None) -> pd.DataFrame:
        """The rows of `stream` as one table, with intervals."""
        rows = [row for batch in self.stream(films, batch_size, workers) for row in batch]
        return self.with_intervals(rows)

    def with_intervals(self, rows: list[dict]) -> pd.DataFrame:
        """Rows of `stream` as a table, `low_months` and `high_months` filled where there is an interval, else NaN."""
        table = pd.DataFrame(rows, columns=COLUMNS)
        ends = {"low_months": float("nan"), "high_months": float("nan")}
        if self.calibration:
            ends = self.calibration.intervals(table["sex"], table["bone_age_months"].astype(float))
        return table.assign(**ends)

    def _with_films(self, rows: list[dict], workers: int | None) -> Iterator[tuple[dict, np.ndarray | str]]:
        """Each row with its letterboxed film, or with the reason why there is none; rows in error are not read."""
        needs_sex = self.uses_sex and self.unknown_sex == "error"
        errors = [row.get("error") or (SEX_UNKNOWN if needs_sex and row["sex"] not in SEX_CODE else "") for row in rows]
        paths = [row["image"] for row, error in zip(rows, errors, strict=True) if not error]
        films = read_films(paths, lambda film, _: letterbox(film, self.preprocessing.image_size), workers)
        for row, error in zip(rows, errors, strict=True):
            yield row, error or next(films)

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


def moved(images: Tensor, right: float, down: float) -> Tensor:
    """Images (B, 1, S, S) moved by shares of the side, rounded to whole pixels; what comes in is black."""
    right, down = round(right * images.shape[-1]), round(down * images.shape[-2])
    return pad(images, (right, -right, down, -down))  # pads where positive, crops where negative


def batched(items: Iterable, size: int) -> Iterator[list]:
    """`items` in lists of `size`; the last may be shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def predict_to_file(predictor: Predictor, films: pd.DataFrame, out: Path | str, batch_size: int = 16,
                    resume: bool = False) -> pd.DataFrame:
    """Predict `films`; write `out`, a CSV, and beside it a JSON file that describes the checkpoint; return the table.

    What is done is put aside every `PART` films, so that `resume` goes on after whatever stopped it; films that an
    earlier `out` by the same checkpoint has a prediction for are not done again either. A film that failed is.

    Raises BoneXageError when another process writes `out`, when stopped by Ctrl-C or SIGTERM (what is done is kept), or
    when there is nothing to resume by this checkpoint.
    """
    out = Path(out)
    parts = out.with_name(f".{out.name}.parts")
    with only_writer(out.with_suffix(".json"), out), StopRequest() as stop:
        if not resume:
            shutil.rmtree(parts, ignore_errors=True)
        done = _load_done(out, parts, predictor) if resume else {}
        keys = list(zip(films["image"], films["sex"], strict=True))
        waiting: list[dict] = []
        for rows in predictor.stream(films[[key not in done for key in keys]], batch_size):
            waiting += rows
            if stop.asked or len(waiting) >= PART:
                _put_aside(parts, waiting, predictor)
                done |= {(row["image"], row["sex"]): row for row in waiting}
                waiting = []
            if stop.asked:
                raise BoneXageError(f"{out}: stopped after {len(done):,} of {len(films):,} films; go on with --resume")
        done |= {(row["image"], row["sex"]): row for row in waiting}
        rows = [{**done[key], "id": film} for key, film in zip(keys, films["id"], strict=True)]
        table = predictor.with_intervals(rows)
        save_predictions(table, predictor, out)
        shutil.rmtree(parts, ignore_errors=True)
    return table


def _identity(predictor: Predictor) -> dict:
    """What two predictions must share to stand in one table; intervals are made anew for the whole of it."""
    return {"network_sha256": predictor.description["network_sha256"], "unknown_sex": predictor.unknown_sex,
            "tta": predictor.tta}


def _put_aside(parts: Path, rows: list[dict], predictor: Predictor) -> None:
    parts.mkdir(exist_ok=True)
    with atomic_file(parts / f"{len(list(parts.glob('*.json'))):06d}.json") as temporary:
        temporary.write_text(json.dumps({**_identity(predictor), "rows": rows}), encoding="utf-8")


def _load_done(out: Path, parts: Path, predictor: Predictor) -> dict[tuple[str, str], dict]:
    """Rows with a prediction that need not be made again, by image and sex."""
    rows: list[dict] = []
    try:
        for part in sorted(parts.glob("*.json")):
            stored = json.loads(part.read_text(encoding="utf-8"))
            if {name: stored[name] for name in _identity(predictor)} != _identity(predictor):
                raise BoneXageError(f"{out}: begun by another checkpoint or options; start over without --resume")
            rows += stored["rows"]
        if out.is_file() and out.with_suffix(".json").is_file():
            stored = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
            wanted = {**_identity(predictor), "table_sha256": file_hash(out)}  # else changed since: not ours
            if all(stored.get(name) == value for name, value in wanted.items()):
                rows += read_predictions(out).to_dict("records")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BoneXageError(f"{out}: cannot be gone on with ({error}); start over without --resume") from None
    return {(row["image"], row["sex"]): row for row in rows if not row["error"]}


def save_predictions(predictions: pd.DataFrame, predictor: Predictor, out: Path | str) -> None:
    """Write the table, and beside it, under the same name with `.json`, a description of the checkpoint."""
    out = Path(out)
    with atomic_file(out) as temporary:
        write_table(predictions, temporary)
    with atomic_file(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(
            {"checkpoint": printable(predictor.path.name), "sha256": file_hash(predictor.path), **_identity(predictor),
             "table_sha256": file_hash(out), **predictor.description}, indent=2))
