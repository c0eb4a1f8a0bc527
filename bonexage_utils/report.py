"""An evaluation as things to read: tables, figures, one self-contained page, and a model card."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from bonexage_utils import __version__, plots
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import Evaluation, Scores
from bonexage_utils.files import atomic_file, file_hash


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


def group_table(evaluation: Evaluation) -> pd.DataFrame:
    """The groups as text; a group too small to speak shows its n and a dash."""
    rows = []
    for row in evaluation.groups.itertuples():
        spoken = not pd.isna(row.mae)
        rows.append({"sex": row.sex, "age": row.age, "n": row.n,
                     "MAE, months [95 % interval]": f"{row.mae:.1f} [{row.low:.1f}, {row.high:.1f}]" if spoken else "–",
                     "bias, months": f"{row.bias:+.1f}" if spoken else "–"})
    return pd.DataFrame(rows)


def write_report(evaluation: Evaluation, out: Path | str, provenance: Provenance) -> Path:
    """Write `report.html`, `model_card.md`, `metrics.json`, `groups.csv` and the figures into `out`."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    pictures = {
        "predicted_against_true": plots.predicted_against_true(evaluation.films),
        "bland_altman": plots.bland_altman(evaluation.films),
        "error_by_group": plots.error_by_group(evaluation),
    }
    for name, picture in pictures.items():
        with atomic_file(out / f"{name}.png") as temporary:
            temporary.write_bytes(picture.png)
    metrics = {
        "scores": evaluation.scores.to_dict(), "failed": evaluation.failed, "unlabelled": evaluation.unlabelled,
        "baseline": evaluation.baseline.to_dict() if evaluation.baseline else None,
        "training_median_months_by_sex": evaluation.medians, "films_by_split": evaluation.splits,
    }
    with atomic_file(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    with atomic_file(out / "groups.csv") as temporary:
        evaluation.groups.to_csv(temporary, index=False)

    environment = Environment(loader=PackageLoader("bonexage_utils"), undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True, autoescape=lambda name: bool(name) and name.endswith(".html"))
    facts = {
        "evaluation": evaluation, "headline": headline(evaluation), "version": __version__,
        "model": provenance.description, "pictures": pictures, "scores": score_table(evaluation),
        "groups": group_table(evaluation), "trained_on": evaluation.splits.get("train", 0),
        "selected_by": evaluation.splits.get("selection", 0),
    }
    for name in ("report.html", "model_card.md"):
        with atomic_file(out / name) as temporary:
            temporary.write_text(environment.get_template(name).render(**facts), encoding="utf-8")
    return out / "report.html"
