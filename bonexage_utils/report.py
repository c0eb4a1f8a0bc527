"""An evaluation as things to read: tables, figures, one self-contained page, and a model card."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from bonexage_utils import __version__, plots
from bonexage_utils.calibration import COVERAGE, Calibration, Coverage, cross_validated, fit_calibration, measured
from bonexage_utils.checkpoints import set_calibration
from bonexage_utils.cohort import load_cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import (
    SMALLEST_GROUP,
    Comparison,
    Evaluation,
    Interval,
    Scores,
    compare,
    evaluate,
    read_noise_floor,
    read_predictions,
    read_truth,
)
from bonexage_utils.files import atomic_file, file_hash
from bonexage_utils.labels import KNOWN_LABELS

WORST = 10  # films listed
STRESS_COLUMNS = ["perturbation", "strength", "n", "mae_change", "low", "high", "share_significant"]


@dataclass(frozen=True)
class Provenance:
    """What predictions.json says of the checkpoint; empty when the file is absent."""

    description: dict

    @classmethod
    def beside(cls, predictions: Path) -> "Provenance":
        path = predictions.with_suffix(".json")
        if not path.is_file():
            return cls({})
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            if description["table_sha256"] != file_hash(predictions):
                raise ValueError("it describes another table, or this one was changed since")
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise BoneXageError(f"{path}: not usable ({error}); predict again, or remove it") from None
        return cls(description)

    @property
    def medians(self) -> dict[str, float] | None:
        """The median label of each sex that the network was trained on, months."""
        return self.description.get("training", {}).get("median_months_by_sex")


def headline(evaluation: Evaluation) -> str:
    """One line: the MAE with its interval, and the baseline's."""
    text = f"MAE {evaluation.scores.mae} months on {evaluation.scores.n:,} films"
    if evaluation.baseline:
        text += f" (median by sex of the training labels: {evaluation.baseline.mae})"
    return text


def score_table(evaluation: Evaluation) -> pd.DataFrame:
    """Measures as rows; the model, and the baseline where there is one, as columns."""
    def column(scores: Scores) -> dict[str, str]:
        return {
            "films": f"{scores.n:,}", "MAE, months [95 % interval]": str(scores.mae),
            "RMSE, months": f"{scores.rmse:.2f}", "median absolute error, months": f"{scores.median:.2f}",
            "R²": f"{scores.r2:.3f}", "bias, months [95 % interval]": str(scores.bias),
            **{f"within {limit} months": f"{share:.1%}" for limit, share in scores.within.items()},
        }

    columns = {"model": column(evaluation.scores)}
    if evaluation.baseline:
        columns["median by sex"] = column(evaluation.baseline)
    return pd.DataFrame(columns)


def agreement_table(evaluation: Evaluation) -> pd.DataFrame:
    """Bland and Altman's numbers and the two slopes, each with its interval."""
    found = evaluation.agreement
    rows: dict[str, Interval] = {
        "bias, months": found.bias, "lower limit of agreement, months": found.lower,
        "upper limit of agreement, months": found.upper,
        "change of the error per year of labelled age, months": evaluation.error_slope,
        "change of the label per month of prediction (1: calibrated)": evaluation.calibration_slope,
    }
    return pd.DataFrame({"value [95 % interval]": {name: str(value) for name, value in rows.items()}})


def _as_text(table: pd.DataFrame, columns: dict[str, Callable], spoken: str) -> pd.DataFrame:
    """A table by group in words; one too small to speak, which has no `spoken`, shows its n and dashes."""
    rows = []
    for _, row in table.iterrows():
        told = {name: text(row) if pd.notna(row[spoken]) else "–" for name, text in columns.items()}
        rows.append({"sex": row["sex"], "age": row["age"], "n": f"{row['n']:,}", **told})
    return pd.DataFrame(rows)


def group_table(evaluation: Evaluation) -> pd.DataFrame:
    """Error by sex and age, as text."""
    columns = {"MAE, months [95 % interval]": lambda row: f"{row['mae']:.1f} [{row['low']:.1f}, {row['high']:.1f}]",
               "bias, months": lambda row: f"{row['bias']:+.1f}"}
    if evaluation.baseline:
        columns["median by sex: MAE"] = lambda row: f"{row['median']:.1f}"
    return _as_text(evaluation.groups, columns, "mae")


def coverage_table(coverage: Coverage) -> pd.DataFrame:
    """Coverage and width of the intervals by sex and age, as text."""
    return _as_text(coverage.table, {
        "inside [95 % interval]": lambda row: f"{row['coverage']:.0%} [{row['low']:.0%}, {row['high']:.0%}]",
        "mean width, months": lambda row: f"{row['width']:.0f}"}, "coverage")


def width_table(calibration: Calibration) -> pd.DataFrame:
    """Half-widths of the intervals by sex and predicted age, as text; (all) marks those learned from all films."""
    years = [f"{round(low / 12)}–{round(high / 12)} y" for low, high in zip(calibration.bands, calibration.bands[1:],
                                                                          strict=False)]
    return pd.DataFrame({
        name: [f"±{calibration.half_width:.1f} (all)" if width is None else f"±{width:.1f}"
               for width in calibration.groups[sex]]
        for sex, name in plots.SEX_NAME.items()}, index=years)


def worst_table(evaluation: Evaluation) -> pd.DataFrame:
    """The films with the largest errors, worst first."""
    films = evaluation.films.assign(error=evaluation.films["predicted"] - evaluation.films["months"])
    films = films.reindex(films["error"].abs().sort_values(ascending=False).index).head(WORST)
    return pd.DataFrame({"film": films["id"], "sex": films["sex"],
                         "label, months": films["months"].map("{:.0f}".format),
                         "prediction": films["predicted"].map("{:.1f}".format),
                         "error": films["error"].map("{:+.1f}".format)})


def film_table(evaluation: Evaluation) -> pd.DataFrame:
    """Who the films are: number, and label in months (median, range), by sex."""
    by_sex = evaluation.films.groupby("sex")["months"]
    return pd.DataFrame({plots.SEX_NAME[str(sex)]: {
        "films": f"{len(part):,}", "median label, months": f"{part.median():.0f}",
        "range, months": f"{part.min():.0f}–{part.max():.0f}"} for sex, part in by_sex}).T


def stress_table(out: Path, network: str | None = None) -> pd.DataFrame | None:
    """`stress.csv` in the report's folder, as `bonexage stress` writes it, as text; None where there is none.

    Raises BoneXageError if it is no such table, or the stress.json beside it names another network than `network`.
    """
    path = out / "stress.csv"
    if not path.is_file():
        return None
    try:
        facts = path.with_suffix(".json")
        tested = json.loads(facts.read_text(encoding="utf-8"))["network_sha256"] if facts.is_file() else network
        if network and tested != network:
            raise ValueError("of another network than the predictions")
        table = pd.read_csv(path)[STRESS_COLUMNS]
        return pd.DataFrame({
            "perturbation": table["perturbation"], "strength": table["strength"], "n": table["n"],
            "change of the MAE, months [95 % interval]": [
                f"{row.mae_change:+.2f} [{row.low:+.2f}, {row.high:+.2f}]" for row in table.itertuples()],
            "clinically significant changes": table["share_significant"].map("{:.0%}".format)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BoneXageError(f"{path}: not usable ({error}); make it with 'bonexage stress', or remove it") from None


def _markdown(table: pd.DataFrame, index: bool = True) -> str:
    head = [*([""] if index else []), *map(str, table.columns)]
    rows = [[*([str(name)] if index else []), *map(str, row)] for name, row in zip(table.index, table.to_numpy(),
                                                                                 strict=True)]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _html(table: pd.DataFrame, index: bool = True) -> str:
    return table.to_html(border=0, index=index)


def write_report(evaluation: Evaluation, out: Path | str, provenance: Provenance, coverage: Coverage | None = None,
                 calibration: Calibration | None = None, comparison: Comparison | None = None) -> Path:
    """Write `report.html`, `model_card.md`, `metrics.json`, `groups.csv`, the figures and, given `coverage`,
    `coverage.csv` into `out`. `calibration` is the checkpoint's, `comparison` one with another model."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    stress = stress_table(out, provenance.description.get("network_sha256"))
    pictures = {
        "predicted_against_true": plots.predicted_against_true(evaluation.films),
        "bland_altman": plots.bland_altman(evaluation.films),
        "error_against_age": plots.error_against_age(evaluation.films),
        "error_by_group": plots.error_by_group(evaluation),
    } | ({"coverage": plots.coverage_by_group(coverage)} if coverage else {})
    for name, picture in pictures.items():
        with atomic_file(out / f"{name}.png") as temporary:
            temporary.write_bytes(picture.png)
    metrics = {
        "scores": evaluation.scores.to_dict(), "failed": evaluation.failed, "unlabelled": evaluation.unlabelled,
        "baseline": evaluation.baseline.to_dict() if evaluation.baseline else None,
        "training_median_months_by_sex": evaluation.medians, "films_by_split": evaluation.splits,
        "agreement": asdict(evaluation.agreement), "error_slope_months_per_year": asdict(evaluation.error_slope),
        "calibration_slope": asdict(evaluation.calibration_slope), "noise_floor_months": evaluation.noise_floor,
        "comparison": asdict(comparison) if comparison else None,
    }
    with atomic_file(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    tables = {"groups": evaluation.groups} | ({"coverage": coverage.table} if coverage else {})
    for name, table in tables.items():
        with atomic_file(out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)

    environment = Environment(loader=PackageLoader("bonexage_utils"), undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, autoescape=lambda name: bool(name) and name.endswith(".html"))
    environment.filters |= {"html_table": _html, "markdown": _markdown}
    facts = {
        "evaluation": evaluation, "headline": headline(evaluation), "version": __version__,
        "model": provenance.description, "pictures": pictures, "scores": score_table(evaluation),
        "agreement": agreement_table(evaluation), "groups": group_table(evaluation), "worst": worst_table(evaluation),
        "film_facts": film_table(evaluation), "stress": stress, "comparison": comparison,
        "coverage": coverage, "coverage_rows": coverage_table(coverage) if coverage else None,
        "calibration": calibration, "widths": width_table(calibration) if calibration else None,
        "known_labels": KNOWN_LABELS, "smallest_group": SMALLEST_GROUP,
        "trained_on": evaluation.splits.get("train", 0), "selected_by": evaluation.splits.get("selection", 0),
    }
    for name in ("report.html", "model_card.md"):
        with atomic_file(out / name) as temporary:
            temporary.write_text(environment.get_template(name).render(**facts), encoding="utf-8")
    return out / "report.html"


def evaluate_files(predictions: Path, labels: Path, out: Path, against: Path | None = None,
                   calibrate: Path | None = None, coverage: float = COVERAGE) -> Iterator[str]:
    """Evaluate a predictions.csv, write the report into `out`, and tell the results line by line.

    `against` is another model's predictions.csv. `calibrate` is the checkpoint that made the predictions: intervals of
    `coverage` are learned from these films and written into it. Raises BoneXageError for files that are no good, and
    where calibration is refused, before anything is written.
    """
    provenance = Provenance.beside(predictions)
    truth = read_truth(labels)
    result = evaluate(read_predictions(predictions), truth, provenance.medians, read_noise_floor(labels))
    comparison = compare(result, evaluate(read_predictions(against), truth)) if against else None
    if calibrate:
        if not labels.is_dir():
            raise BoneXageError(f"{labels}: --calibrate needs the cohort's folder, which tells the splits")
        fitted = fit_calibration(result.films, provenance.description, load_cohort(labels).label_hashes, coverage)
        set_calibration(calibrate, provenance.description["network_sha256"], fitted.to_dict())
        held = cross_validated(result.films, fitted)
    else:
        fitted = Calibration.from_description(provenance.description)
        held = measured(result.films, fitted)
    page = write_report(result, out, provenance, held, fitted, comparison)
    yield headline(result)
    if against and comparison:
        yield f"MAE minus that of {against}: {comparison.difference} months on {comparison.n:,} films"
    if held and held.table["n"].iloc[-1] >= SMALLEST_GROUP:
        yield f"{held.table['coverage'].iloc[-1]:.1%} of labels inside their {held.wanted:.0%} interval ({held.films})"
    yield f"{page}"
