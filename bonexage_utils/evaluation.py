"""How wrong a model is, for whom, and how sure one can be of that."""

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
SMALLEST_GROUP = 10  # below this many films a group's mean says little, and its interval is not given
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """An estimate with a 95 % bootstrap interval over films."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> Interval:
    """The mean of `values` (n,) with its 95 % percentile-bootstrap interval over films; NaN bounds for n < 2."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return Interval(float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan"))
    # In batches: 2,000 resamples of 12,000 films at once would take 200 MB.
    result = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", batch=100,
                             rng=np.random.default_rng(seed))
    return Interval(float(values.mean()), float(result.confidence_interval.low), float(result.confidence_interval.high))


def paired_difference(errors_a: np.ndarray, errors_b: np.ndarray, seed: int = 0) -> Interval:
    """MAE of a minus MAE of b on the same films in the same order, months, with a paired bootstrap interval.

    Negative: a is better. Raises ValueError if the lengths differ.
    """
    errors_a, errors_b = np.asarray(errors_a, float), np.asarray(errors_b, float)
    if errors_a.shape != errors_b.shape:
        raise ValueError(f"not the same films: {errors_a.shape} against {errors_b.shape}")
    return bootstrap_mean(np.abs(errors_a) - np.abs(errors_b), seed)


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


def by_group(table: pd.DataFrame) -> pd.DataFrame:
    """MAE with interval and bias for each sex and age band, and each margin, months.

    `table` has `sex`, `months` (label) and `predicted`. Groups under `SMALLEST_GROUP` films give n alone.
    """
    table = table.assign(
        band=pd.cut(table["months"], AGE_BANDS, right=False,
                    labels=[f"{low // 12}–{high // 12} y" for low, high in pairwise(AGE_BANDS)]),
        error=table["predicted"] - table["months"],
    )
    rows = []
    sexes = [("girls", table["sex"] == "F"), ("boys", table["sex"] == "M"), ("all", table["sex"].notna())]
    bands = [*table["band"].cat.categories, "all"]
    for sex_name, of_sex in sexes:
        for band in bands:
            errors = table.loc[of_sex & ((table["band"] == band) | (band == "all")), "error"].to_numpy()
            row = {"sex": sex_name, "age": band, "n": len(errors)}
            if len(errors) >= SMALLEST_GROUP:
                mae = bootstrap_mean(np.abs(errors))
                row |= {"mae": mae.value, "low": mae.low, "high": mae.high, "bias": float(errors.mean())}
            rows.append(row)
    return pd.DataFrame(rows, columns=["sex", "age", "n", "mae", "low", "high", "bias"])


def median_by_sex(labels: pd.DataFrame) -> dict[str, float]:
    """The median label of each sex, months: the best constant guess, from training labels only."""
    return {str(sex): float(value) for sex, value in labels.groupby("sex")["months"].median().items()}


@dataclass(frozen=True)
class Evaluation:
    """Everything `report` prints. `films` has one row per film that has both prediction and label.

    `baseline` scores the median by sex of the training labels on the same films (None without training labels).
    `failed` counts the films without a prediction, `unlabelled` those without a label; `splits` counts the films
    used by split.
    """

    scores: Scores
    baseline: Scores | None
    medians: dict[str, float]
    groups: pd.DataFrame
    films: pd.DataFrame
    failed: int
    unlabelled: int
    splits: dict[str, int]


def read_truth(path: Path | str) -> pd.DataFrame:
    """Labels from a cohort folder or one label table: `id`, `months`, `sex`, `split`."""
    path = Path(path)
    if path.is_dir():
        table = load_cohort(path).table
    else:
        table = read_labels(path)
        table["split"] = [split_of(film) for film in table["id"]]
    return table[["id", "months", "sex", "split"]]


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


def evaluate(predictions: pd.DataFrame, truth: pd.DataFrame) -> Evaluation:
    """Join predictions and labels by id and measure. Raises BoneXageError if no film has both."""
    joined = predictions[["id", "bone_age_months"]].merge(truth, on="id", how="left")
    failed = joined["bone_age_months"].isna()
    unlabelled = joined["months"].isna() & ~failed
    films = joined[~failed & ~unlabelled].rename(columns={"bone_age_months": "predicted"}).reset_index(drop=True)
    scores = score(films["predicted"].to_numpy(), films["months"].to_numpy())
    labelled = truth[(truth["split"] == "train") & truth["months"].notna()]
    medians = median_by_sex(labelled) if len(labelled) else {}
    guess = films["sex"].map(medians)
    baseline = None if guess.isna().any() else score(guess.to_numpy(float), films["months"].to_numpy())
    return Evaluation(scores, baseline, medians, by_group(films), films, int(failed.sum()), int(unlabelled.sum()),
                      films["split"].value_counts().to_dict())
