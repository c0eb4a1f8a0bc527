"""How far to trust one prediction: intervals by split conformal prediction, from films no weight was fitted to."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from bonexage_utils.batches import pixel_keys
from bonexage_utils.checkpoints import check_network, load_model, set_calibration
from bonexage_utils.cohort import UNKNOWN_SPLIT
from bonexage_utils.devices import choose_device, to_network
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import AGE_BANDS, groups_of
from bonexage_utils.familiarity import Familiarity, map_statistics
from bonexage_utils.images import cached_images, letterbox, read_films
from bonexage_utils.statistics import SMALLEST_GROUP, half_width, share

COVERAGE = 0.9
# Films a group needs for a half-width of its own. Coverage over new films of one calibration on n films is itself
# random, Beta(k, n + 1 − k) with k as in `half_width` (Vovk 2012): wanting 90 %, n = 30 gives less than 80 % in one
# calibration of twenty.
ENOUGH = 30
LEARNED_FROM = ("train", "selection")
FOLDS = 10
MOST_SEEN = 500  # films that teach what is usual; more change little, and each goes through the network again


def check_coverage(coverage: float) -> None:
    """Raise BoneXageError for a coverage that is no share between 0 and 1."""
    if not 0 < coverage < 1:
        raise BoneXageError(f"--coverage {coverage}: give a share between 0 and 1, such as 0.9")


@dataclass(frozen=True)
class Calibration:
    """Half-widths of prediction intervals, months, learned from `films` films of known sex of the `splits` (counts).

    `groups` has one half-width per band of *predicted* age (edges `bands`, months) for each sex, since the true age of
    a new film is unknown (Mondrian conformal prediction, Vovk et al. 2003); None where fewer than `ENOUGH` films fell,
    and there `half_width`, learned from all films, is used. They hold for predictions made with the same `tta`.
    """

    coverage: float
    tta: bool
    max_age: float
    films: int
    splits: dict[str, int]
    half_width: float
    bands: list[float]
    groups: dict[str, list[float | None]]

    @classmethod
    def fit(cls, films: pd.DataFrame, coverage: float = COVERAGE, tta: bool = False,
            max_age: float = 240.0) -> "Calibration":
        """Learn from `films` with `sex`, `predicted`, `months` (label) and `split`.

        Raises BoneXageError for a coverage that is no share, or one that takes more films.
        """
        check_coverage(coverage)
        errors = (films["predicted"] - films["months"]).to_numpy()
        overall = half_width(errors, coverage)
        if math.isinf(overall):
            needed = math.ceil(round(coverage / (1 - coverage), 9))
            raise BoneXageError(f"{len(films)} films are too few to calibrate: {coverage:.0%} coverage takes {needed}")
        band = _band(films["predicted"], AGE_BANDS)
        groups: dict[str, list[float | None]] = {}
        for sex in ("F", "M"):
            inside = [errors[(films["sex"] == sex) & (band == number)] for number in range(len(AGE_BANDS) - 1)]
            widths = [half_width(part, coverage) if len(part) >= ENOUGH else math.inf for part in inside]
            groups[sex] = [None if math.isinf(width) else width for width in widths]
        splits = {str(name): int(count) for name, count in films["split"].value_counts().items()}
        return cls(coverage, tta, max_age, len(films), splits, overall, list(AGE_BANDS), groups)

    def intervals(self, sex: pd.Series, months: pd.Series) -> pd.DataFrame:
        """`low_months` and `high_months` around predictions `months`, within 0 and `max_age`; NaN where there is no
        prediction or the sex is not "F" or "M"."""
        widths = np.array([[self.half_width if width is None else width for width in self.groups[s]] for s in "FM"])
        known = sex.isin(["F", "M"]) & months.notna()
        half = np.where(known, widths[(sex == "M").astype(int), _band(months, self.bands)], np.nan)
        return pd.DataFrame({"low_months": (months - half).clip(0, self.max_age).round(2),
                             "high_months": (months + half).clip(0, self.max_age).round(2)})

    @classmethod
    def from_description(cls, description: dict) -> "Calibration | None":
        """The calibration in a checkpoint's description. Raises BoneXageError if another version wrote it."""
        try:
            return cls(**description["calibration"]) if description.get("calibration") else None
        except TypeError:
            raise BoneXageError("the checkpoint's calibration is of another version; calibrate it again") from None


def _band(months: pd.Series, edges: tuple | list) -> np.ndarray:
    return np.clip(np.searchsorted(edges, months.fillna(0), side="right") - 1, 0, len(edges) - 2)


def fit_calibration(films: pd.DataFrame, provenance: dict, label_hashes: dict[str, str],
                    coverage: float = COVERAGE) -> Calibration:
    """Fit intervals to the `films` of an evaluation; `calibrate_checkpoint` writes them into the checkpoint.

    `provenance` describes what made the predictions (`evaluation.read_provenance`), `label_hashes` those of the films'
    cohort. Raises BoneXageError if `provenance` is empty, if the network was trained on a film or selected by it or
    that cannot be told, if a film was predicted without its label's sex, and for what `Calibration.fit` refuses.
    """
    if "network_sha256" not in provenance:
        raise BoneXageError("no predictions.json beside the predictions says what made them; predict again")
    trained, given = set(provenance["training"]["label_hashes"].values()), set(label_hashes.values())
    if trained & given and trained != given:
        raise BoneXageError("the cohort's label tables are not all those of the training, so that its splits may be "
                            "others; calibrate on the cohort as it was")
    if films["split"].eq(UNKNOWN_SPLIT).any():
        raise BoneXageError("the labels came as a table alone, which tells no splits; give the cohort's folder")
    learned = films["split"].isin(LEARNED_FROM)
    if learned.any():
        splits = " or ".join(films.loc[learned, "split"].unique())
        raise BoneXageError(f"{int(learned.sum()):,} of these films are of split {splits}, from which the network "
                            "learned; calibrate on 'predict --split calibration'")
    if (films["given_sex"] != films["sex"]).any():
        raise BoneXageError("films were predicted with another sex than their label's, or none; predict the cohort's "
                            "folder, which knows them")
    return Calibration.fit(films, coverage, provenance["tta"], provenance["model"]["max_age"])


def fit_checkpoint(checkpoint: Path | str, films: pd.DataFrame, provenance: dict, label_hashes: dict[str, str],
                   coverage: float = COVERAGE, workers: int | None = None) -> Calibration:
    """Fit intervals for a checkpoint as `fit_calibration` does; `films` has `image`, too. `workers` as for
    `images.read_films`.

    Label tables that are not the training's may still be of its films, under other ids: the films' pixels tell. Raises
    BoneXageError for what `fit_calibration` refuses, for a checkpoint of another network, and for films that the
    network learned from.
    """
    fitted = fit_calibration(films, provenance, label_hashes, coverage)
    known = check_network(checkpoint, provenance["network_sha256"])
    if set(provenance["training"]["label_hashes"].values()) != set(label_hashes.values()):
        cache = cached_images(films["image"].tolist(), provenance["preprocessing"]["image_size"], workers=workers)
        if cache.failures or not known:
            why = f"{len(cache.failures):,} of them cannot be read" if cache.failures else "it does not say from which"
            raise BoneXageError(f"{checkpoint}: whether it learned from these films cannot be told ({why}); calibrate "
                                "on the cohort that it was trained on, or train it again")
        seen = sum(key in known for key in pixel_keys(cache.array).tolist())
        if seen:
            raise BoneXageError(f"{seen:,} of these films are, under other ids, among those that {checkpoint} learned "
                                "from; calibrate on the cohort as it was, or on other films")
    return fitted


@torch.inference_mode()
def learn_familiarity(checkpoint: Path | str, films: pd.DataFrame) -> Familiarity | None:
    """What the network usually sees, from `films` (`id`, `image`) that it did not learn from, at most `MOST_SEEN` of
    them. Where too few can be read, what the checkpoint knew before; None where it knew nothing.

    Raises BoneXageError for a checkpoint that is none.
    """
    model, preprocessing, _ = load_model(checkpoint)
    device = choose_device()
    model = model.to(device, memory_format=torch.channels_last)
    images = films.sort_values("id")["image"].to_numpy()
    chosen = np.random.default_rng(0).permutation(len(images))[:MOST_SEEN]
    seen = read_films(images[chosen].tolist(), lambda film, _: letterbox(film, preprocessing.image_size), ahead=8)
    bar = tqdm(seen, total=len(chosen), desc="what is usual", unit="film", leave=False, mininterval=0.5)
    # One by one: in a batch, the last digits of a film's map depend on how many other films there are.
    parts = [map_statistics(model.features(to_network(torch.from_numpy(film)[None], preprocessing, device))).cpu()
             for film in bar if not isinstance(film, str)]
    return (Familiarity.learn(torch.cat(parts)) if parts else None) or model.familiarity


def calibrate_checkpoint(checkpoint: Path | str, fitted: Calibration, familiarity: Familiarity | None,
                         provenance: dict) -> None:
    """Write what was fitted into the checkpoint that made the predictions (`checkpoints.set_calibration`)."""
    set_calibration(checkpoint, provenance["network_sha256"], asdict(fitted), familiarity)


@dataclass(frozen=True)
class Coverage:
    """How often intervals that want `wanted` held on `films`, by labelled sex and age (`coverage_by_sex_and_age`)."""

    wanted: float
    table: pd.DataFrame
    films: str

    @property
    def short(self) -> list[str]:
        """The groups whose intervals held less often than wanted beyond chance: their whole 95 % interval is below."""
        return [f"{row.sex} {row.age}" for row in self.table.itertuples() if row.high < self.wanted]


def coverage_by_sex_and_age(films: pd.DataFrame) -> pd.DataFrame:
    """Share of `films` inside their interval with its 95 % interval (Wilson 1927) and mean width, months, by group.

    `films` has `sex`, `months` (label), `low_months`, `high_months`. Groups under `SMALLEST_GROUP` give n alone.
    """
    rows = []
    for sex, age, part in groups_of(films):
        row = {"sex": sex, "age": age, "n": len(part)}
        if len(part) >= SMALLEST_GROUP:
            inside = share(part["months"].between(part["low_months"], part["high_months"]).to_numpy())
            row |= {"coverage": inside.value, "low": inside.low, "high": inside.high,
                    "width": float((part["high_months"] - part["low_months"]).mean())}
        rows.append(row)
    return pd.DataFrame(rows, columns=["sex", "age", "n", "coverage", "low", "high", "width"])


def cross_validated(films: pd.DataFrame, calibration: Calibration) -> Coverage | None:
    """Coverage of the same procedure by tenfold cross-validation: each film's interval comes from the other folds.

    None if nine folds are too few films to calibrate.
    """
    held = math.ceil(len(films) / FOLDS)
    if math.isinf(half_width(np.zeros(len(films) - held), calibration.coverage)):
        return None
    films = films.sort_values("id", ignore_index=True)
    fold = np.random.default_rng(0).permutation(len(films)) % FOLDS
    parts = []
    for number in range(FOLDS):
        others = Calibration.fit(films[fold != number], calibration.coverage, max_age=calibration.max_age)
        part = films[fold == number]
        parts.append(part.assign(**others.intervals(part["sex"], part["predicted"])))
    return Coverage(calibration.coverage, coverage_by_sex_and_age(pd.concat(parts)),
                    f"the {len(films):,} films that calibrate, by tenfold cross-validation")


def measured(films: pd.DataFrame, calibration: Calibration | None) -> Coverage | None:
    """Coverage of the intervals that `films` came with, on those of other splits than calibrated them; None if none."""
    if calibration is None:
        return None
    new = films[films["low_months"].notna() & ~films["split"].isin([*calibration.splits, *LEARNED_FROM, UNKNOWN_SPLIT])]
    if new.empty:
        return None
    return Coverage(calibration.coverage, coverage_by_sex_and_age(new),
                    f"{len(new):,} films of splits that neither trained, selected nor calibrated the network")
