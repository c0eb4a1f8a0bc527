"""How wrong a model is, for whom, and how sure one can be of that."""

import json
import os
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from bonexage_utils.cohort import UNKNOWN_SPLIT, Cohort, load_cohort
from bonexage_utils.description import PROVENANCE, SHA256, check_description
from bonexage_utils.errors import BoneXageError, printable
from bonexage_utils.files import file_hash
from bonexage_utils.images import film_hashes
from bonexage_utils.labels import (
    AS_IT_SAYS,
    MAX_MONTHS,
    TableFormat,
    before_the_spreadsheet,
    in_another_spelling,
    label_hash,
    no_ages,
    parse_sex,
    read_labels,
    spreadsheet_line,
)
from bonexage_utils.notes import REFUSED, SEPARATOR
from bonexage_utils.statistics import (
    SMALLEST_GROUP,
    Agreement,
    Interval,
    agreement,
    bootstrap_mean,
    paired_difference,
    slope,
)
from bonexage_utils.tables import read_table

# Bands of five years: childhood, the years the carpals fill, puberty, closing plates. Months, right edge excluded.
AGE_BANDS = (0, 60, 120, 180, 241)
BAND_NAMES = tuple(f"{low // 12}–{high // 12} y" for low, high in pairwise(AGE_BANDS))


# Months that can be a prediction: a linear output may leave 0–240, which is an error to measure; beyond, it is no age.
LEAST_SAID, MOST_SAID = -MAX_MONTHS, 2 * MAX_MONTHS


@dataclass(frozen=True)
class Scores:
    """Errors of `n` films, in months. `within` maps 6, 12, 24 months to the share of films whose error is at most
    that."""

    n: int
    mae: Interval
    rmse: float
    median: float
    r2: float
    bias: Interval
    within: dict[int, float]


def score(predicted: np.ndarray, truth: np.ndarray) -> Scores:
    """Compare bone ages (n,) with labels (n,), both months. Raises BoneXageError if there is none."""
    predicted, truth = np.asarray(predicted, float), np.asarray(truth, float)
    if predicted.shape != truth.shape or predicted.ndim != 1:
        raise ValueError(f"predictions {predicted.shape} against labels {truth.shape}")
    if not len(truth):
        raise BoneXageError("no film has both a prediction and a label; check that the ids agree")
    error = predicted - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    return Scores(
        n=len(error), mae=bootstrap_mean(np.abs(error)), rmse=float(np.sqrt((error**2).mean())),
        median=float(np.median(np.abs(error))),
        r2=1.0 - float((error**2).sum()) / spread if spread > 0 else float("nan"),
        bias=bootstrap_mean(error),
        within={limit: float((np.abs(error) <= limit).mean()) for limit in (6, 12, 24)},
    )


def groups_of(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Sex, age band and films of each group and each margin; `table` has `sex` and `months` (label)."""
    band = pd.cut(table["months"], AGE_BANDS, right=False, labels=list(BAND_NAMES))
    sexes = [("girls", table["sex"] == "F"), ("boys", table["sex"] == "M"), ("all", table["sex"].notna())]
    for sex, of_sex in sexes:
        for name in (*BAND_NAMES, "all"):
            yield sex, name, table[of_sex & ((band == name) | (name == "all"))]


def by_group(table: pd.DataFrame) -> pd.DataFrame:
    """MAE with interval and bias for each sex and age band, and each margin, months.

    `table` has `sex`, `months` (label), `predicted` and, if known, `guess`, the median by sex, whose MAE is `median`.
    Groups under `SMALLEST_GROUP` films give n alone.
    """
    rows = []
    for sex, age, films in groups_of(table):
        error = (films["predicted"] - films["months"]).to_numpy()
        row = {"sex": sex, "age": age, "n": len(films)}
        if len(films) >= SMALLEST_GROUP:
            mae = bootstrap_mean(np.abs(error))
            row |= {"mae": mae.value, "low": mae.low, "high": mae.high, "bias": float(error.mean())}
            if "guess" in films:
                row["median"] = float((films["guess"] - films["months"]).abs().mean())
        rows.append(row)
    return pd.DataFrame(rows, columns=["sex", "age", "n", "mae", "low", "high", "bias", "median"])


def by_note(films: pd.DataFrame) -> pd.DataFrame:
    """MAE with interval and bias, months, of `films` (with `note`, `months` and `predicted`) by note: without one, with
    any, with each. Empty where no film has one; fewer than `SMALLEST_GROUP` films give n alone."""
    each = films["note"].str.split(SEPARATOR)
    kinds = sorted({note for notes in each for note in notes if note})
    parts = {"none": films["note"] == "", "any": films["note"] != ""}
    parts |= {kind: each.map(lambda notes, kind=kind: kind in notes) for kind in kinds}
    rows = []
    for name, inside in parts.items() if kinds else ():
        error = (films["predicted"] - films["months"])[inside].to_numpy()
        row = {"note": name, "n": len(error)}
        if len(error) >= SMALLEST_GROUP:
            mae = bootstrap_mean(np.abs(error))
            row |= {"mae": mae.value, "low": mae.low, "high": mae.high, "bias": float(error.mean())}
        rows.append(row)
    return pd.DataFrame(rows, columns=["note", "n", "mae", "low", "high", "bias"])


def median_by_sex(labels: pd.DataFrame) -> dict[str, float]:
    """The median label of each sex, months: the best constant guess, from training labels only."""
    return {str(sex): float(value) for sex, value in labels.groupby("sex")["months"].median().items()}


@dataclass(frozen=True)
class Evaluation:
    """Everything `report` prints. `films` has one row per film that has both prediction and label.

    `baseline` scores the median by sex of training labels on the same films (None if no training labels are known).
    `error_slope` is the change of the error (prediction − label) per year of labelled age, months: below 0, old hands
    are read too young and young ones too old, as even the best regression does (`error_slope` = 12(R² − 1) if
    calibrated). `calibration_slope` is the change of the label per month of prediction, 1 if the predictions are
    calibrated. `noise_floor` is that of `phantom.dataset.read_noise_floor`. `failed` counts the films without a
    prediction, `failures` their reasons, `unlabelled` the films without a label; `splits` counts the films used by
    split.
    """

    scores: Scores
    baseline: Scores | None
    medians: dict[str, float]
    groups: pd.DataFrame
    films: pd.DataFrame
    failed: int
    failures: dict[str, int]
    unlabelled: int
    splits: dict[str, int]
    agreement: Agreement
    error_slope: Interval
    calibration_slope: Interval
    noise_floor: float | None

    @property
    def of_unknown_sex(self) -> int:
        """How many films were predicted without a sex being given."""
        return int((self.films["given_sex"] == "").sum())


def read_truth(path: Path | str, labels: Path | str | None = None, tables: TableFormat = AS_IT_SAYS,
               tell: Callable[[str], None] = warnings.warn) -> Cohort:
    """The labels to compare with: of a cohort's folder, see `load_cohort`, or of one label table, whose films have
    `UNKNOWN_SPLIT`. Raises BoneXageError for what these refuse, and for `labels` beside a table."""
    path = Path(path)
    if os.path.isdir(path):
        return load_cohort(path, labels, tables, tell)
    if labels is not None:
        raise BoneXageError(f"--labels {labels}: is for a folder, and {path} is none; give one table")
    table = read_labels(path, tables).assign(image="", split=UNKNOWN_SPLIT)
    if table["months"].isna().all():
        raise no_ages(path)
    return Cohort(path, table, {printable(path.name): label_hash(path, tables)}, (path,))


def read_predictions(path: Path | str) -> pd.DataFrame:
    """A predictions.csv as written by `bonexage predict`. `bone_age_months`, `low_months` and `high_months` are floats,
    NaN where there is none, and every other cell is a str: `id` in Unicode's composed form, `sex` "M", "F" or "",
    `note` "" where there is none.

    Raises BoneXageError for what `labels.read_table` refuses, a table without `id` or `bone_age_months`, a row without
    id, an id that stands there twice, a sex that is none, a number that is none or outside `LEAST_SAID` … `MOST_SAID`,
    and an interval that lacks a bound or has them the wrong way round.
    """
    path = Path(path)
    table = read_table(path, "predictions.csv")
    table.columns = table.columns.str.replace(" ", "_")
    absent = [name for name in ("id", "bone_age_months") if name not in table.columns]
    if absent:
        raise BoneXageError(f"{path}: no column {', '.join(absent)}; make it with 'bonexage predict'")

    def refuse(bad: pd.Series, column: str, remedy: str) -> None:
        if bad.any():
            line = bad.idxmax()
            raise BoneXageError(f"{path}: {column} '{table.loc[line, column]}' at line {line}: {remedy}")

    table["id"] = table["id"].map(lambda film: unicodedata.normalize("NFC", film))
    refuse(table["id"] == "", "id", "no film; give every row its id")
    refuse(table["id"].duplicated(), "id", "the film stands there twice; predict each film once")
    for name in {"sex", "low_months", "high_months", "note"}.difference(table.columns):
        table[name] = ""
    sex = table["sex"].map(parse_sex)
    refuse((table["sex"] != "") & sex.isna(), "sex", "not M, F or nothing; predict again")
    numbers = pd.DataFrame(index=table.index)
    for name in ("bone_age_months", "low_months", "high_months"):
        cells = table[name]
        number = cells.str.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?(e[-+]?[0-9]+)?", case=False)
        numbers[name] = cells.where(number).astype(float)
        refuse((cells != "") & ~numbers[name].between(LEAST_SAID, MOST_SAID), name,
               f"not {LEAST_SAID:g} to {MOST_SAID:g} months; write a number as 126.5, with a point, or nothing (did a "
               "spreadsheet change it?)")
    low, high = numbers["low_months"], numbers["high_months"]
    refuse((low.notna() | high.notna()) & ~(low <= high), "high_months", "no interval with low_months; predict again")
    return table.assign(sex=sex.fillna(""), **numbers).reset_index(drop=True)


def read_provenance(predictions: Path | str) -> dict:
    """The description, in the JSON file beside a predictions.csv, of the checkpoint that made it; empty without one.
    Its `films_sha256` has for each row the SHA-256 of the film's bytes, or None.

    Raises BoneXageError if it is damaged or of another table.
    """
    if not os.path.isfile(predictions):  # for which `read_predictions` has a line
        return {}
    path = Path(predictions).with_suffix(".json")
    if not os.path.isfile(path):
        return {}
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if description["table_sha256"] != file_hash(predictions):
            raise ValueError("it describes another table, or this one was changed since")
        check_description(description, PROVENANCE)
        films = description.setdefault("films_sha256", [])
        if not isinstance(films, list) or not all(film is None or SHA256.holds(film) for film in films):
            raise ValueError("films_sha256 is no list of hashes")
    except (ValueError, OSError, KeyError, TypeError, RecursionError, BoneXageError) as error:
        raise BoneXageError(f"{path}: not usable ({error}); predict again, or remove it") from None
    return description


def read_predicted(path: Path | str) -> tuple[pd.DataFrame, dict]:
    """`read_predictions`, with `sha256` of each film's bytes ("" where not known), and `read_provenance`."""
    provenance, table = read_provenance(path), read_predictions(path)
    hashes = provenance.get("films_sha256") or [None] * len(table)
    if len(hashes) != len(table):
        raise BoneXageError(f"{path}: {len(table):,} rows, and {len(hashes):,} films in the JSON file beside it; "
                            "predict again")
    return table.assign(sha256=[film or "" for film in hashes]), provenance


def _check_same(films: pd.Series, first: pd.Series, second: pd.Series, remedy: str) -> None:
    """Raise BoneXageError where both hashes of a film are known ("" is not) and differ."""
    differ = (first != "") & (second != "") & (first != second)
    if differ.any():
        raise BoneXageError(f"{int(differ.sum()):,} of {len(films):,} films are others of the same id, e.g. "
                            f"{films[differ].iloc[0]}: {remedy}")


def _reason(error: str, image: str) -> str:
    """Why a film has no prediction, the same for all films of which it is so: without its path, and what to do."""
    reason = error.removeprefix(f"{image}: ")
    notes = reason.removesuffix(f"; {REFUSED}")
    return f"note: {notes}" if notes != reason else reason.split("; ")[0] or "no reason given"


def check_same_films(predictions: pd.DataFrame, others: pd.DataFrame) -> None:
    """Raise BoneXageError where two tables with `id` and `sha256` mean other films by one id, so far as is known."""
    both = predictions[["id", "sha256"]].merge(others[["id", "sha256"]], on="id", suffixes=("", "_other"))
    _check_same(both["id"], both["sha256"], both["sha256_other"], "predict the same films with both models")


def evaluate(predictions: pd.DataFrame, truth: pd.DataFrame, medians: dict[str, float] | None = None,
             noise_floor: float | None = None, tell: Callable[[str], None] = warnings.warn,
             workers: int | None = None) -> Evaluation:
    """Join predictions and labels by id and measure. `medians` (months by sex) are for labels without training films.

    Where `predictions` has `sha256` and `truth` has `image`, every film that is there is read to see that it is the one
    predicted, which takes about a millisecond each: an id alone tells no film, many cohorts count from one number.
    `tell` gets a line where ids of labels are read as `labels.before_the_spreadsheet` says. A film that was predicted
    without a sex is measured as it was predicted. `workers` as for `images.read_films`.

    Raises BoneXageError if no film has both, one has a label under another spelling of its id, was predicted with
    another sex than its label's, or is another film.
    """
    predictions = predictions.assign(id=predictions["id"].astype(str))
    if mended := before_the_spreadsheet(truth["id"], set(predictions["id"])):
        truth = truth.assign(id=truth["id"].replace(mended))
        tell(spreadsheet_line(mended, "labels"))
    known_ids = truth.loc[truth["months"].notna(), "id"]
    for film, other in in_another_spelling(predictions["id"], known_ids).items():
        raise BoneXageError(f"film {film} has no label, but {other}, in another spelling, has; name it alike in both")
    predictions = predictions.reindex(columns=["id", "sex", "bone_age_months", "low_months", "high_months", "sha256",
                                               "image", "error", "note"])
    texts = predictions[["sha256", "sex", "image", "error", "note"]].astype(object)  # a column may be empty throughout
    predictions = predictions.assign(**texts.where(texts.notna(), "")).rename(columns={
        "sex": "given_sex", "image": "given_image", "bone_age_months": "predicted"})
    joined = predictions.merge(truth, on="id", how="left")
    failed = joined["predicted"].isna()
    unlabelled = joined["months"].isna() & ~failed
    reasons = [_reason(error, image) for error, image in joined.loc[failed, ["error", "given_image"]].to_numpy()]
    films = joined[~failed & ~unlabelled].drop(columns="error").reset_index(drop=True)
    if failed.all() and len(failed):
        reason, count = Counter(reasons).most_common(1)[0]
        raise BoneXageError(f"none of the {len(failed):,} films has a prediction ({reason}: {count:,}); the column "
                            "error says what to do")
    if films.empty:
        said, known = (next(iter(ids), "none") for ids in (joined.loc[~failed, "id"], known_ids))
        raise BoneXageError(f"no film has both a prediction and a label (the first predicted: {said}; the first "
                            f"labelled: {known}); check that the ids agree")
    images = films.get("image", pd.Series("", films.index))
    there = film_hashes(images.where(films["sha256"] != "", ""), workers)
    _check_same(films["id"], films["sha256"], pd.Series(there, films.index, str),
                "give the cohort that was predicted, or predict this one again")
    other = films[(films["given_sex"] != "") & (films["given_sex"] != films["sex"])]
    if len(other):
        film = other.iloc[0]
        raise BoneXageError(f"{len(other):,} of {len(films):,} films were predicted with another sex than their "
                            f"label's, e.g. {film['id']} as {film['given_sex']}, labelled {film['sex']}: find out "
                            "which is right, and predict them with it")
    predicted, months = films["predicted"].to_numpy(), films["months"].to_numpy()
    scores = score(predicted, months)
    labelled = truth[(truth["split"] == "train") & truth["months"].notna()]
    medians = median_by_sex(labelled) if len(labelled) else medians or {}
    guess = films["sex"].map(medians).astype(float)
    films["guess"] = guess if guess.notna().all() else float("nan")
    baseline = score(guess.to_numpy(), months) if guess.notna().all() else None
    return Evaluation(
        scores, baseline, medians, by_group(films), films, len(reasons), dict(Counter(reasons).most_common()),
        int(unlabelled.sum()),
        films["split"].value_counts().to_dict(), agreement(predicted, months), slope(months / 12, predicted - months),
        slope(predicted, months), noise_floor)


@dataclass(frozen=True)
class Comparison:
    """MAE of one model minus that of another (`difference`, months) on the `n` films that both have an error for."""

    n: int
    difference: Interval


def compare(evaluation: Evaluation, other: Evaluation) -> Comparison:
    """Two models on the films that both predicted, film by film. Raises BoneXageError if there is no such film, or one
    of an id is not the other's."""
    both = evaluation.films.merge(other.films[["id", "predicted"]], on="id", suffixes=("", "_other"))
    if both.empty:
        raise BoneXageError("the two models have no film in common; predict the same films with both")
    check_same_films(evaluation.films, other.films)
    return Comparison(len(both), paired_difference(both["predicted"] - both["months"],
                                                   both["predicted_other"] - both["months"]))
