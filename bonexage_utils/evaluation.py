"""How wrong a model is, for whom, and how sure one can be of that."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from bonexage_utils.cohort import load_cohort, split_of
from bonexage_utils.errors import BoneXageError
from bonexage_utils.labels import read_labels

# Bands of five years: childhood, the years the carpals fill, puberty, closing plates. Months, right edge excluded.
AGE_BANDS = (0, 60, 120, 180, 241)
BAND_NAMES = tuple(f"{low // 12}–{high // 12} y" for low, high in pairwise(AGE_BANDS))
# Below this many films a group gives its number alone. At 20, the 95 % interval of an MAE held in 91–92 % of 1,500
# samples of normal or Laplace errors, and reached a third of the MAE or more to each side; at 10, in 88 %.
SMALLEST_GROUP = 20
RESAMPLES = 2000
WITHIN_LIMITS = 1.96  # limits of agreement, in standard deviations (Bland & Altman 1986)


@dataclass(frozen=True)
class Interval:
    """An estimate with a 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def _bootstrap(statistic: Callable, seed: int, *samples: np.ndarray) -> Interval:
    """95 % percentile-bootstrap interval over films, which are resampled whole: all their `samples` (n,) together."""
    # In batches: 2,000 resamples of 12,000 films at once would take 200 MB.
    found = stats.bootstrap(samples, statistic, paired=len(samples) > 1, vectorized=True, n_resamples=RESAMPLES,
                            method="percentile", batch=100, rng=np.random.default_rng(seed)).confidence_interval
    return Interval(float(statistic(*samples)), float(found.low), float(found.high))


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> Interval:
    """The mean of `values` (n,) with its 95 % percentile-bootstrap interval over films; NaN bounds for n < 2."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return Interval(float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"))
    return _bootstrap(np.mean, seed, values)


def paired_difference(errors_a: np.ndarray, errors_b: np.ndarray, seed: int = 0) -> Interval:
    """MAE of a minus MAE of b on the same films in the same order, months, with a paired bootstrap interval.

    Negative: a is better. Raises ValueError if the lengths differ.
    """
    errors_a, errors_b = np.asarray(errors_a, float), np.asarray(errors_b, float)
    if errors_a.shape != errors_b.shape:
        raise ValueError(f"not the same films: {errors_a.shape} against {errors_b.shape}")
    return bootstrap_mean(np.abs(errors_a) - np.abs(errors_b), seed)


def _least_squares(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
    x = x - x.mean(axis, keepdims=True)
    with np.errstate(invalid="ignore"):  # a resample of one film over and over has no slope
        return (x * y).sum(axis) / (x**2).sum(axis)


def slope(x: np.ndarray, y: np.ndarray, seed: int = 0) -> Interval:
    """Least-squares slope of y on x, both (n,), with a 95 % percentile-bootstrap interval over films, which holds
    where the scatter changes along x; all NaN below `SMALLEST_GROUP` films or where x does not vary."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < SMALLEST_GROUP or np.ptp(x) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    return _bootstrap(_least_squares, seed, x, y)


@dataclass(frozen=True)
class Scores:
    """Errors of `n` films, in months. `within` maps 6, 12, 24 months to the share of films at most that far off."""

    n: int
    mae: Interval
    rmse: float
    median: float
    r2: float
    bias: Interval
    within: dict[int, float]

    def to_dict(self) -> dict:
        return asdict(self)


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


@dataclass(frozen=True)
class Agreement:
    """Bland and Altman's bias and 95 % limits of agreement, months; `outside` is the share of films beyond them."""

    bias: Interval
    lower: Interval
    upper: Interval
    outside: float


def agreement(predicted: np.ndarray, truth: np.ndarray) -> Agreement:
    """Bias and limits of agreement of predictions with labels, both (n,), months, each with its 95 % interval.

    The limits are bias ± 1.96 s, where s is the standard deviation of the differences. Standard errors: s/√n of the
    bias, s·√(1/n + 1.96²/(2(n − 1))) of a limit; intervals by Student's t with n − 1 degrees of freedom (Bland & Altman
    1999, Stat Methods Med Res 8:135). They suppose normal differences, and are a little narrow below 40 films (Carkeet
    & Goh 2018, Stat Methods Med Res 27:1559). NaN bounds for n < 2.
    """
    error = np.asarray(predicted, float) - np.asarray(truth, float)
    n, bias = len(error), float(error.mean())
    spread = float(error.std(ddof=1)) if n > 1 else float("nan")
    t = stats.t.ppf(0.975, n - 1) if n > 1 else float("nan")

    def around(value: float, variance: float) -> Interval:
        half = float(t * spread * np.sqrt(variance))
        return Interval(value, value - half, value + half)

    reach, variance = WITHIN_LIMITS * spread, 1 / n + WITHIN_LIMITS**2 / (2 * max(n - 1, 1))
    return Agreement(around(bias, 1 / n), around(bias - reach, variance), around(bias + reach, variance),
                     float((np.abs(error - bias) > reach).mean()))


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
    calibrated. `noise_floor` is what `read_noise_floor` says. `failed` counts the films without a prediction,
    `unlabelled` those without a label; `splits` counts the films used by split.
    """

    scores: Scores
    baseline: Scores | None
    medians: dict[str, float]
    groups: pd.DataFrame
    films: pd.DataFrame
    failed: int
    unlabelled: int
    splits: dict[str, int]
    agreement: Agreement
    error_slope: Interval
    calibration_slope: Interval
    noise_floor: float | None


def read_truth(path: Path | str) -> pd.DataFrame:
    """Labels from a cohort folder or one label table: `id`, `months`, `sex`, `split`."""
    path = Path(path)
    if path.is_dir():
        table = load_cohort(path).table
    else:
        table = read_labels(path)
        table["split"] = [split_of(film) for film in table["id"]]
    return table[["id", "months", "sex", "split"]]


def read_noise_floor(path: Path | str) -> float | None:
    """The MAE, months, of a phantom cohort's true bone ages against its labels; None for any other cohort or table."""
    try:
        return float(json.loads((Path(path) / "cohort.json").read_text(encoding="utf-8"))["noise_floor_months"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_predictions(path: Path | str) -> pd.DataFrame:
    """A predictions.csv as written by `bonexage predict`. Raises BoneXageError if it is not one."""
    path = Path(path)
    try:
        table = pd.read_csv(path, dtype={"id": str, "image": str, "sex": str, "error": str})
    except (OSError, ValueError) as error:
        raise BoneXageError(f"{path}: cannot be read ({str(error).splitlines()[0]}); make it with 'bonexage predict'") \
            from None
    absent = [name for name in ("id", "bone_age_months") if name not in table.columns]
    if absent:
        raise BoneXageError(f"{path}: no column {', '.join(absent)}; make it with 'bonexage predict'")
    if table["id"].duplicated().any():
        twice = table.loc[table["id"].duplicated(), "id"].iloc[0]
        raise BoneXageError(f"{path}: film {twice} stands there twice; predict each film once")
    return table


def evaluate(predictions: pd.DataFrame, truth: pd.DataFrame, medians: dict[str, float] | None = None,
             noise_floor: float | None = None) -> Evaluation:
    """Join predictions and labels by id and measure. `medians` (months by sex) are for labels without training films.

    Raises BoneXageError if no film has both.
    """
    said = predictions.reindex(columns=["id", "sex", "bone_age_months", "low_months", "high_months"])
    joined = said.rename(columns={"sex": "told", "bone_age_months": "predicted"}).merge(truth, on="id", how="left")
    failed = joined["predicted"].isna()
    unlabelled = joined["months"].isna() & ~failed
    films = joined[~failed & ~unlabelled].reset_index(drop=True)
    predicted, months = films["predicted"].to_numpy(), films["months"].to_numpy()
    scores = score(predicted, months)
    labelled = truth[(truth["split"] == "train") & truth["months"].notna()]
    medians = median_by_sex(labelled) if len(labelled) else medians or {}
    guess = films["sex"].map(medians).astype(float)
    films["guess"] = guess if guess.notna().all() else float("nan")
    baseline = score(guess.to_numpy(), months) if guess.notna().all() else None
    return Evaluation(
        scores, baseline, medians, by_group(films), films, int(failed.sum()), int(unlabelled.sum()),
        films["split"].value_counts().to_dict(), agreement(predicted, months), slope(months / 12, predicted - months),
        slope(predicted, months), noise_floor)


@dataclass(frozen=True)
class Comparison:
    """MAE of one model minus that of another (`difference`, months) on the `n` films that both have an error for."""

    n: int
    difference: Interval


def compare(evaluation: Evaluation, other: Evaluation) -> Comparison:
    """Two models on the films that both predicted, film by film. Raises BoneXageError if there is no such film."""
    both = evaluation.films.merge(other.films[["id", "predicted"]], on="id", suffixes=("", "_other"))
    if both.empty:
        raise BoneXageError("the two models have no film in common; predict the same films with both")
    return Comparison(len(both), paired_difference(both["predicted"] - both["months"],
                                                   both["predicted_other"] - both["months"]))
