"""Predictions for many images: one model, one row each, and no film costs another its row."""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from bonexage_utils.batches import SEX_CODE
from bonexage_utils.calibration import Calibration
from bonexage_utils.checkpoints import load_model
from bonexage_utils.devices import choose_device, memory_advice, to_network
from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.evaluation import LEAST_SAID, MOST_SAID, read_predictions
from bonexage_utils.familiarity import map_statistics
from bonexage_utils.files import StopRequest, atomic_file, check_outputs, file_hash, only_writer
from bonexage_utils.images import film_hash, film_stamp, films_ahead, letterbox, read_films
from bonexage_utils.notes import REFUSED, UNLIKE, orientation_notes, with_note
from bonexage_utils.orientation import is_blank, thumbnail
from bonexage_utils.prediction_table import COLUMNS, HANDFUL, SEX_UNKNOWN, known_error, outputs, parts_of, refuse_parts
from bonexage_utils.tables import heading, read_table, write_table
from bonexage_utils.tags import COLUMNS as HEADER

PART = 512  # films put aside at a time
# Test-time augmentation: the film as it is and moved by this share of its side each way. A network whose map is coarse
# answers a little differently when bones fall otherwise on its grid; the mean of nine answers is steadier.
VIEWS = tuple(product((0.0, -0.04, 0.04), repeat=2))


class Film(NamedTuple):
    """What is kept of a film that was read: letterboxed, uint8 (size, size), and its `orientation.thumbnail`."""

    square: np.ndarray
    thumbnail: np.ndarray


def format_age(months: float) -> str:
    """126.5 → "10 years 6 months", −5 → "minus 0 years 5 months". Rounded to whole months first (half to even), so
    119.99 is 10 years. Raises BoneXageError for what is no number."""
    if not math.isfinite(months):
        raise BoneXageError(f"an age of {months} months: give a number")
    whole = round(months)
    years, rest = divmod(abs(whole), 12)
    sign = "minus " if whole < 0 else ""
    return f"{sign}{years} year{'' if years == 1 else 's'} {rest} month{'' if rest == 1 else 's'}"


class Predictor:
    """A checkpoint, loaded once. All preprocessing is the checkpoint's own.

    `unknown_sex` is what happens with a child of unknown sex if the network uses sex: "error", or the "mean" of the
    predictions for a girl and for a boy. `tta` averages over the nine views of `VIEWS`, at nine times the cost.
    Intervals are given where the checkpoint was calibrated for such predictions; `no_interval` says why one may be
    missing. `strict`: a film with a note gets no age. `device` as for `devices.choose_device`.

    Raises BoneXageError for a missing, damaged or foreign checkpoint, and a device that is not here.
    """

    def __init__(self, checkpoint: Path | str, device: str | None = None, unknown_sex: str = "error",
                 tta: bool = False, strict: bool = False) -> None:
        if unknown_sex not in ("error", "mean"):
            raise BoneXageError(f"unknown_sex '{unknown_sex}': use error or mean")
        self.path = Path(checkpoint)
        model, self.preprocessing, self.description = load_model(self.path)
        self.sha256 = file_hash(self.path)
        self.device = choose_device(device or "auto")
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.uses_sex = model.settings["use_sex"]
        self.unknown_sex = unknown_sex
        self.tta = tta
        self.strict = strict
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
        return self.months_and_unfamiliar(films, sexes)[0]

    @torch.inference_mode()
    def months_and_unfamiliar(self, films: np.ndarray, sexes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """`months`, and for each film (n,) whether it looks to the network unlike those it knows; nowhere, where the
        checkpoint cannot tell."""
        unknown = np.array([sex not in SEX_CODE for sex in sexes])
        if self.uses_sex and unknown.any() and self.unknown_sex == "error":
            raise BoneXageError(SEX_UNKNOWN)
        codes = torch.tensor([SEX_CODE.get(sex, 0) for sex in sexes], device=self.device)
        where = torch.from_numpy(unknown).to(self.device)
        views = VIEWS if self.tta else VIEWS[:1]
        months, maps = zip(*(self._view(torch.from_numpy(films), view, codes, where) for view in views), strict=True)
        known = self.model.familiarity
        unfamiliar = known.unfamiliar(map_statistics(maps[0])) if known else np.zeros(len(films), bool)
        return torch.stack(months).double().mean(0).cpu().numpy(), unfamiliar

    def _view(self, films: Tensor, view: tuple[float, float], codes: Tensor, unknown: Tensor
              ) -> tuple[Tensor, Tensor]:
        """Months (n,) and feature maps of films in one of `VIEWS`."""
        maps = self.model.features(to_network(films, self.preprocessing, self.device, lambda unit: moved(unit, *view)))
        months = self.model.from_map(maps, codes)
        if self.uses_sex and unknown.any():
            other = self.model.from_map(maps, 1 - codes)
            months = torch.where(unknown, (months + other) / 2, months)
        return months, maps

    def stream(self, films: pd.DataFrame, batch_size: int = 16, workers: int | None = None,
               done: dict[tuple[str | None, str], dict] | None = None) -> Iterator[list[dict]]:
        """Batch by batch, one row for each of `films` (columns `id`, `image`, `sex`, and `error` for rows that cannot
        be used), in order, with the columns of `COLUMNS` and `sha256`, of the film's bytes (None if it was not read). A
        film that cannot be read, that is blank, or whose sex is unknown, keeps its row, with the reason in `error`; one
        whose hash and sex are in `done` gets age and note from there. `workers` threads read ahead of the network (see
        `images.read_films`).

        Raises BoneXageError when memory runs out, and for a batch of no film.
        """
        if batch_size < 1:
            raise BoneXageError(f"--batch-size {batch_size}: give a whole number from 1")
        rows = films.to_dict("records")
        hidden = {"disable": True} if len(rows) <= HANDFUL else {}
        with tqdm(total=len(rows), desc="predicting", unit="film", leave=False, mininterval=0.5, **hidden) as bar:
            ready = self._with_films(rows, batch_size, workers, done or {})
            for batch in batched(ready, min(batch_size, max(1, len(rows)))):
                with memory_advice(self.path, batch_size, f"try --batch-size {max(1, batch_size // 2)}"):
                    predicted = self._predict_batch(batch)
                yield predicted
                bar.update(len(batch))

    def predict(self, films: pd.DataFrame, batch_size: int = 16, workers: int | None = None) -> pd.DataFrame:
        """The rows of `stream` as one table (`table_of`)."""
        rows = [row for batch in self.stream(films, batch_size, workers) for row in batch]
        return self.table_of(rows)

    def table_of(self, rows: list[dict]) -> pd.DataFrame:
        """Rows of `stream` as a table, `low_months` and `high_months` filled where there is an interval, else NaN. If
        `strict`, a film with a note has its note for an error, and no age."""
        table = pd.DataFrame(rows, columns=COLUMNS)
        if self.strict:
            noted = table["note"] != ""
            table.loc[noted, ["bone_age_months", "bone_age"]] = None
            table.loc[noted, "error"] = (table["image"] + ": " + table["note"] + f"; {REFUSED}")[noted]
        ends = {"low_months": float("nan"), "high_months": float("nan")}
        if self.calibration:
            ends = self.calibration.intervals(table["sex"], table["bone_age_months"].astype(float))
        return table.assign(**ends)

    def _with_films(self, rows: list[dict], batch_size: int, workers: int | None,
                    done: dict[tuple[str | None, str], dict]) -> Iterator[tuple[dict, Film | str | dict]]:
        """Each row with its letterboxed film, with the reason why there is none, or with the row that `done` has for
        it; rows in error are not read."""
        needs_sex = self.uses_sex and self.unknown_sex == "error"
        errors = [known_error(row, needs_sex) for row in rows]
        wanted = [row for row, error in zip(rows, errors, strict=True) if not error]
        stamps: dict[int, tuple] = {}

        def known(place: int) -> dict | None:
            row = wanted[place]
            stamps[place], row["sha256"] = film_stamp(row["image"])[:3], film_hash(row["image"])
            return done.get((row["sha256"], row["sex"]))

        def make(film: np.ndarray, place: int) -> Film:
            path, picture = wanted[place]["image"], thumbnail(film)
            if film_stamp(path)[:3] != stamps[place]:
                raise BoneXageError(f"{path}: changed while it was read; go on with --resume when nothing writes there")
            if is_blank(picture):
                raise BoneXageError(f"{path}: blank, or nearly so; take another copy of the film, or leave it out")
            return Film(letterbox(film, self.preprocessing.image_size), picture)

        films = read_films([row["image"] for row in wanted], make, workers,
                           films_ahead(self.preprocessing.image_size, batch_size), known)
        for row, error in zip(rows, errors, strict=True):
            yield row, error or next(films)

    def _predict_batch(self, batch: list[tuple[dict, Film | str | dict]]) -> list[dict]:
        good = [(row, film) for row, film in batch if isinstance(film, Film)]
        months, notes = iter(()), iter(())
        if good:
            squares, sexes = np.stack([film.square for _, film in good]), [row["sex"] for row, _ in good]
            said, unfamiliar = self.months_and_unfamiliar(squares, sexes)
            lying = orientation_notes(np.stack([film.thumbnail for _, film in good]))
            months, notes = iter(said), iter(with_note(pd.Series(lying), UNLIKE, unfamiliar))
        out = []
        for row, film in batch:
            answer = {"id": row["id"], "image": row["image"], "sex": row["sex"], "error": "", "note": "",
                      "sha256": row.get("sha256")}
            if isinstance(film, Film):
                answer["note"] = next(notes)
            if isinstance(film, str):
                answer["error"] = film
            elif isinstance(film, dict):
                answer |= {name: film[name] for name in ("bone_age_months", "bone_age", "note")}
            elif LEAST_SAID <= (value := float(next(months))) <= MOST_SAID:  # False for NaN
                answer |= {"bone_age_months": round(value, 2), "bone_age": format_age(value)}
            else:
                answer["error"] = f"{row['image']}: the network gives {value:g} months, no age; use another checkpoint"
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
                    resume: bool = False, tell: Callable[[str], None] | None = None,
                    workers: int | None = None) -> pd.DataFrame:
    """Predict `films`; write `out`, a CSV, and beside it a JSON file that describes the checkpoint; return the table.
    Columns of `tags.COLUMNS` that `films` has come last.

    What is done is put aside every `PART` films, so that `resume` goes on after whatever stopped it; films that an
    earlier `out` by the same checkpoint has a prediction for are not done again either. A film that failed is. A film
    is known by its bytes, wherever it lies now; `tell` gets one line if films were replaced under their old paths.
    `workers` as for `images.read_films`.

    Raises BoneXageError when `outputs` and `files.check_outputs` refuse `out`, when another process writes it, when
    stopped by Ctrl-C or SIGTERM (what is done is kept), when there is nothing to resume by this checkpoint, when
    there is something and `resume` is False, and when resuming would lose `tags.COLUMNS` of the earlier table.
    """
    out, description = outputs(out)
    check_outputs([out, description], [predictor.path, *films["image"]])
    parts = parts_of(out)
    with only_writer(description, out), StopRequest() as stop:
        if not resume:
            refuse_parts(out)
        before = _load_done(out, parts, predictor) if resume else []
        if resume and out.is_file() and HEADER[0] not in films and heading(HEADER[0]) in read_table(out, "table"):
            raise BoneXageError(f"{out}: has columns of --header, which would be lost; resume with --header")
        done = {(row["sha256"], row["sex"]): row for row in before}
        rows: list[dict] = []
        waiting: list[dict] = []
        for batch in predictor.stream(films, batch_size, workers, done):
            rows += batch
            waiting += [row for row in batch if (row["sha256"], row["sex"]) not in done]
            if stop.asked or len(waiting) >= PART:
                _put_aside(parts, waiting, predictor)
                waiting = []
            if stop.asked:
                raise BoneXageError(f"{out}: stopped after {len(rows):,} of {len(films):,} films; go on with --resume")
        had, paths = {(row["image"], row["sha256"]) for row in before}, {row["image"] for row in before}
        replaced = [row["image"] for row in rows
                    if not row["error"] and row["image"] in paths and (row["image"], row["sha256"]) not in had]
        listed = {row[name] for row in rows for name in ("sha256", "image")}
        gone = [row["image"] for row in before if listed.isdisjoint((row["sha256"], row["image"]))]
        if gone and tell:
            tell(f"films of the earlier table that are not among these, and leave it: {len(gone):,}, e.g. {gone[0]}")
        if replaced and tell:
            tell(f"films replaced under their old path: {len(replaced):,}, e.g. {replaced[0]}; the ages given are of "
                 "what lies there now")
        table = predictor.table_of(rows)
        table = table.assign(**{name: films[name].to_numpy() for name in HEADER if name in films})
        save_predictions(table, predictor, out, [row["sha256"] for row in rows])
        shutil.rmtree(parts, ignore_errors=True)
    return table


def _identity(predictor: Predictor) -> dict:
    """What two predictions must share to stand in one table; intervals are made anew for the whole of it."""
    return {"network_sha256": predictor.description["network_sha256"], "unknown_sex": predictor.unknown_sex,
            "tta": predictor.tta}


def _familiarity(predictor: Predictor) -> str | None:
    known = predictor.model.familiarity
    return known.digest if known else None


def _put_aside(parts: Path, rows: list[dict], predictor: Predictor) -> None:
    parts.mkdir(exist_ok=True)
    with atomic_file(parts / f"{len(list(parts.glob('*.json'))):06d}.json") as temporary:
        temporary.write_text(json.dumps({
            **_identity(predictor), "familiarity": _familiarity(predictor), "rows": rows}), encoding="utf-8")


def _load_done(out: Path, parts: Path, predictor: Predictor) -> list[dict]:
    """Rows with a prediction that need not be made again: `sha256` of the film, `sex`, `image` then, age and note."""
    rows: list[dict] = []
    try:
        for part in sorted(parts.glob("*.json")):
            stored = json.loads(part.read_text(encoding="utf-8"))
            if {name: stored[name] for name in _identity(predictor)} != _identity(predictor):
                raise BoneXageError(f"{out}: begun by another checkpoint or options; to start over, remove {parts}")
            for row in stored["rows"]:
                if not row["error"] and not LEAST_SAID <= row["bone_age_months"] <= MOST_SAID:
                    raise ValueError(f"an age of {row['bone_age_months']} months in {part.name}")
            if stored.get("familiarity") == _familiarity(predictor):  # else the notes would be others
                rows += stored["rows"]
        if out.is_file() and out.with_suffix(".json").is_file():
            stored = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
            same = stored.get("table_sha256") == file_hash(out)  # else changed since
            if same and {name: stored.get(name) for name in _identity(predictor)} != _identity(predictor):
                raise BoneXageError(f"{out}: made by another checkpoint or options; start over without --resume")
            if same and "films_sha256" in stored and stored.get("familiarity") == _familiarity(predictor):
                with suppress(BoneXageError):  # one film twice: a table nobody evaluates, so all are predicted again
                    rows += read_predictions(out).assign(sha256=stored["films_sha256"]).to_dict("records")
        return [{name: row[name] for name in ("sha256", "sex", "image", "bone_age_months", "bone_age", "note")}
                for row in rows if not row["error"] and row["sha256"] and "note" in row]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BoneXageError(f"{out}: cannot be gone on with ({error}); remove {parts}, or name another table") from None


def save_predictions(predictions: pd.DataFrame, predictor: Predictor, out: Path | str,
                     hashes: Sequence[str | None] | None = None) -> None:
    """Write the table, and beside it, under the same name with `.json`, a description of the checkpoint.

    `hashes` are the SHA-256 of the films' bytes, in the order of the rows; a later `predict_to_file` goes on from them.
    """
    out = Path(out)
    with atomic_file(out) as temporary:
        write_table(predictions, temporary)
    known = {} if hashes is None else {"films_sha256": list(hashes)}
    with atomic_file(out.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(
            {**predictor.description, "table": printable(out.name),
             "checkpoint": printable(predictor.path.name), "sha256": predictor.sha256,
             **_identity(predictor), "familiarity": _familiarity(predictor), "table_sha256": file_hash(out), **known},
            indent=2), encoding="utf-8")
