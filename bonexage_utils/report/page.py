"""An evaluation written out: report.html, model_card.md, metrics.json, tables and figures in one folder."""

import json
import math
import re
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateNotFound, pass_eval_context
from jinja2.nodes import EvalContext
from markupsafe import Markup

from bonexage_utils import __version__
from bonexage_utils.calibration import Calibration, Coverage
from bonexage_utils.cohort import UNKNOWN_SPLIT
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import Comparison, Evaluation
from bonexage_utils.files import atomic_file, only_writer
from bonexage_utils.labels import KNOWN_LABELS
from bonexage_utils.report import figures, tables
from bonexage_utils.report.checklists import checklist
from bonexage_utils.report.thumbnails import thumbnails
from bonexage_utils.statistics import SMALLEST_GROUP

FILES = ("report.html", "model_card.md", "metrics.json", "groups.csv", "coverage.csv", "predicted_against_true.png",
         "bland_altman.png", "error_against_age.png", "error_by_group.png", "coverage.png")
# Words that YAML takes for something else.
NOT_TEXT = re.compile("null|true|false|yes|no|on|off|y|n", re.IGNORECASE)


def outputs(folder: Path | str) -> list[Path]:
    """Every file that `write_report` may write."""
    return [Path(folder) / name for name in FILES]


@pass_eval_context
def _plain(context: EvalContext, value: object) -> object:
    """What a file told must stay text in Markdown, too; on a page of HTML, jinja sees to that."""
    if context.autoescape or not isinstance(value, str) or isinstance(value, Markup):
        return value
    return tables.plain_markdown(value).replace("|", "\\|")


def _markdown(table: pd.DataFrame, index: bool = True) -> Markup:
    return Markup(tables.markdown(table.map(lambda cell: tables.plain_markdown(str(cell))), index))


def headline(evaluation: Evaluation) -> str:
    """One line: the MAE with its interval, and the baseline's."""
    text = f"MAE {evaluation.scores.mae} months on {evaluation.scores.n:,} films"
    if evaluation.baseline:
        text += f" (median by sex of the training labels: {evaluation.baseline.mae})"
    return text


def write_report(evaluation: Evaluation, out: Path | str, provenance: dict, coverage: Coverage | None = None,
                 calibration: Calibration | None = None, comparison: Comparison | None = None,
                 films: bool = True) -> Path:
    """Write `report.html`, `model_card.md`, `metrics.json`, `groups.csv`, the figures and, given `coverage`,
    `coverage.csv` into `out`. `provenance` describes the checkpoint (`evaluation.read_provenance`), `calibration` is
    its own, `comparison` one with another model. The page shows the films with the largest errors, where they are at
    hand and `films` is True.

    Raises BoneXageError while another process writes a report there.
    """
    out = Path(out)
    with only_writer(*outputs(out)):
        return _write(evaluation, out, provenance, coverage, calibration, comparison, films)


def _known(value: object) -> object:
    """`value` with null for every number that is none, for which JSON has no word."""
    if isinstance(value, dict):
        return {name: _known(part) for name, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(evaluation: Evaluation, out: Path, provenance: dict, coverage: Coverage | None,
           calibration: Calibration | None, comparison: Comparison | None, films: bool) -> Path:
    stress = tables.stress_table(out, provenance.get("network_sha256"))
    if not coverage:  # that of an earlier evaluation is not this one's
        for name in ("coverage.csv", "coverage.png"):
            (out / name).unlink(missing_ok=True)
    pictures = {
        "predicted_against_true": figures.predicted_against_true(evaluation.films),
        "bland_altman": figures.bland_altman(evaluation.films),
        "error_against_age": figures.error_against_age(evaluation.films),
        "error_by_group": figures.error_by_group(evaluation),
    } | ({"coverage": figures.coverage_by_group(coverage)} if coverage else {})
    for name, picture in pictures.items():
        with atomic_file(out / f"{name}.png") as temporary:
            temporary.write_bytes(picture.png)
    metrics = {
        "network_sha256": provenance.get("network_sha256"),
        "scores": asdict(evaluation.scores), "failed": evaluation.failed, "failures": evaluation.failures,
        "unlabelled": evaluation.unlabelled,
        "baseline": asdict(evaluation.baseline) if evaluation.baseline else None,
        "training_median_months_by_sex": evaluation.medians, "films_by_split": evaluation.splits,
        "agreement": asdict(evaluation.agreement), "error_slope_months_per_year": asdict(evaluation.error_slope),
        "calibration_slope": asdict(evaluation.calibration_slope), "noise_floor_months": evaluation.noise_floor,
        "comparison": asdict(comparison) if comparison else None,
        "calibration": asdict(calibration) if calibration else None,
    }
    with atomic_file(out / "metrics.json") as temporary:
        temporary.write_text(json.dumps(_known(metrics), indent=2, allow_nan=False), encoding="utf-8")
    numbers = {"groups": evaluation.groups} | ({"coverage": coverage.table} if coverage else {})
    for name, table in numbers.items():
        with atomic_file(out / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)

    facts = {
        **card_facts(provenance, calibration, evaluation, coverage, stress), "comparison": comparison,
        "pictures": pictures, "worst": tables.worst_table(evaluation),
        "thumbnails": thumbnails(tables.worst_films(evaluation)) if films else {},
    }
    for name in ("report.html", "model_card.md"):
        with atomic_file(out / name) as temporary:
            write_text(temporary, render(name, facts))
    return out / "report.html"


def card_facts(provenance: dict, calibration: Calibration | None, evaluation: Evaluation | None = None,
               coverage: Coverage | None = None, stress: pd.DataFrame | None = None) -> dict:
    """What the model card tells, with the films of `evaluation` or without any."""
    known = {
        "headline": headline(evaluation), "scores": tables.score_table(evaluation),
        "agreement": tables.agreement_table(evaluation), "groups": tables.group_table(evaluation),
        "failures": tables.failure_table(evaluation), "notes": tables.note_table(evaluation),
        "film_facts": tables.film_table(evaluation),
        "trained_on": evaluation.splits.get("train", 0), "selected_by": evaluation.splits.get("selection", 0),
        "of_unknown_split": evaluation.splits.get(UNKNOWN_SPLIT, 0),
    } if evaluation else {}
    return known | {
        "evaluation": evaluation, "comparison": None, "version": __version__, "model": provenance,
        "license": "unknown", "stress": stress, "coverage": coverage,
        "coverage_rows": tables.coverage_table(coverage) if coverage else None, "calibration": calibration,
        "widths": tables.width_table(calibration) if calibration else None, "known_labels": KNOWN_LABELS,
        "smallest_group": SMALLEST_GROUP,
        "checklist": checklist(evaluation, provenance, calibration is not None, stress is not None),
    }


def render(name: str, facts: dict) -> str:
    """A template of this package with `facts`; every text in them stays text, in HTML as in Markdown.

    Raises BoneXageError if the template is not there, as after half an installation.
    """
    environment = Environment(
        loader=PackageLoader("bonexage_utils.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        autoescape=lambda name: bool(name) and name.endswith(".html"), finalize=_plain)
    environment.filters |= {"html_table": partial(pd.DataFrame.to_html, border=0), "markdown": _markdown,
                            "identifier": _identifier}
    try:
        return environment.get_template(name).render(**facts)
    except TemplateNotFound as error:
        raise BoneXageError(f"{error}: this template is missing in the installed package; install bonexage again") \
            from None


def write_text(path: Path, text: str) -> None:
    """In UTF-8. Half a character, as a file's name may hold, is written as a question mark."""
    path.write_text(text, encoding="utf-8", errors="replace")


def _identifier(text: str) -> str:
    """A name as hubs take one, which YAML reads as text."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:96]
    return name if re.match("[A-Za-z]", name) and not NOT_TEXT.fullmatch(name) else f"films-{name}".rstrip("-")
