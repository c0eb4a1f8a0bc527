"""One page for a hospital's board: the numbers from the files of a run and its report, the judgement one's own."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined

from bonexage_utils.checkpoints import load_model
from bonexage_utils.course.exercise import NOT_ATTEMPTED
from bonexage_utils.errors import BoneXageError
from bonexage_utils.familiarity import FEWEST, Familiarity
from bonexage_utils.files import atomic_file
from bonexage_utils.report.tables import STRESS_COLUMNS, markdown
from bonexage_utils.statistics import SMALLEST_GROUP, Interval

TEMPLATE = Path(__file__).with_name("board_report.md")
DASH = "–"
# What a board should miss on the page: nothing that the notebook's hospital sent can tell it.
NEVER_MEASURED = {
    "atlas, readers, children's ages, diagnoses": f"{DASH} (only the hospital has them)",
    "one child in training and in test": f"{DASH} (no child's number was sent)",
    "one hand filmed twice": DASH, "a second reader on the same films": DASH, "wrong sex typed": DASH,
    "children who change side of ± 2 SD for their age": DASH}


def board_report(run: Path, report: Path, words: Mapping[str, Any], sent: int, tries: int,
                 title: str = "may this model read bone ages here?") -> Path:
    """Write `report`/board_report.md and return its path.

    The numbers come from the model of `run` and from the report's metrics.json, groups.csv and, where they are,
    stress.csv and coverage.csv. `words` are questions and answers, `...` where one is open; `sent` is how many films
    came, `tries` how many runs there were.

    Raises BoneXageError naming what is missing or of another network.
    """
    metrics, groups = _json(report / "metrics.json"), _table(report / "groups.csv")
    model, _, described = load_model(run / "model.safetensors")
    rows = _films(described["training"], metrics, sent) | _recipe(described["training"], tries) | _result(metrics) | {
        "groups of sex and age that are too small to speak": _silent(groups),
        "the worst group that is large enough": _worst(groups), "intervals": _intervals(described, report),
        **_stress(report, described["network_sha256"]),
        "films that are no hand": _strange(model.familiarity), **NEVER_MEASURED}
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["markdown"] = markdown
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title, measured=pd.DataFrame({"measured": {name: str(value) for name, value in rows.items()}}),
        network=described["network_sha256"][:12],
        words={question: "" if is_open(answer) else answer for question, answer in words.items()})
    with atomic_file(report / "board_report.md") as temporary:
        temporary.write_text(text.rstrip() + "\n", encoding="utf-8")
    return report / "board_report.md"


def is_open(answer: Any) -> bool:
    """Whether a question has no answer yet."""
    return answer is NOT_ATTEMPTED or answer is None or not str(answer).strip()


def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BoneXageError(f"{path}: not usable ({error}); predict and evaluate first") from None


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise BoneXageError(f"{path}: not usable ({error}); predict and evaluate first") from None


def _films(trained: dict, metrics: dict, sent: int) -> dict[str, str]:
    tested = ", ".join(f"{n:,} of split {split}" for split, n in metrics["films_by_split"].items())
    failed = f"; {metrics['failed']} without a prediction" if metrics["failed"] else ""
    return {"films sent": f"{sent:,}", "films trained on": f"{trained['films']:,}",
            "films reported on": tested + failed}


def _recipe(trained: dict, tries: int) -> dict[str, str]:
    config = trained["config"]
    return {"network": f"{config['backbone']}, weights {config['weights']}, {config['image_size']} px, "
                       f"{config['epochs']} epochs, one seed",
            "tries (the selection films chose among them)": tries}


def _result(metrics: dict) -> dict[str, str]:
    def interval(found: dict) -> str:
        return str(Interval(*(math.nan if found[name] is None else found[name] for name in ("value", "low", "high"))))

    def limit(found: dict) -> str:
        return DASH if found["value"] is None else f"{found['value']:.0f}"

    scores, agreed = metrics["scores"], metrics["agreement"]
    baseline = interval(metrics["baseline"]["mae"]) if metrics["baseline"] else DASH
    return {"MAE on films opened once, months": interval(scores["mae"]), "the median by sex has": baseline,
            "bias, months": interval(scores["bias"]),
            "limits of agreement, months": f"{limit(agreed['lower'])} to {limit(agreed['upper'])}",
            "off by more than a year": f"{1 - scores['within']['12']:.0%} of the films"}


def _cells(groups: pd.DataFrame) -> pd.DataFrame:
    return groups[(groups["sex"] != "all") & (groups["age"] != "all")]


def _silent(groups: pd.DataFrame) -> str:
    cells = _cells(groups)
    small = cells[cells["n"] < SMALLEST_GROUP]
    named = ", ".join(f"{row.sex} {row.age} ({row.n})" for row in small.itertuples())
    return f"{len(small)} of {len(cells)}" + (f": {named}" if named else "")


def _worst(groups: pd.DataFrame) -> str:
    large = _cells(groups).dropna(subset=["mae"])
    if len(large) < 2:
        return DASH
    row = large.loc[large["mae"].idxmax()]
    return f"{row.sex} {row.age}: {Interval(row.mae, row.low, row.high)} months"


def _stress(report: Path, network: str) -> dict[str, str]:
    if not (report / "stress.csv").is_file():
        return {"when the film looks otherwise": DASH}
    if _json(report / "stress.json")["network_sha256"] != network:
        raise BoneXageError(f"{report / 'stress.csv'}: of another network; run 'bonexage stress' again")
    worst = _table(report / "stress.csv")[STRESS_COLUMNS].nlargest(3, "mae_change")
    return {f"{row.perturbation} {row.strength:g}":
            f"MAE {row.mae_change:+.1f} [{row.low:+.1f}, {row.high:+.1f}] months" for row in worst.itertuples()}


def _strange(known: Familiarity | None) -> str:
    return "some get a note, not all" if known else f"not recognised (it takes {FEWEST} calibration films)"


def _intervals(described: dict, report: Path) -> str:
    calibration = described["calibration"]
    if not calibration:
        return f"{DASH} (`bonexage evaluate … --calibrate` learns them)"
    text = f"to hold {calibration['coverage']:.0%} of labels, learned from {calibration['films']:,} films"
    path = report / "coverage.csv"
    if not path.is_file():
        return f"{text}; whether they hold: {DASH}"
    whole = _table(path).iloc[-1]
    if pd.isna(whole["coverage"]):
        return f"{text}; measured on {whole['n']} films, too few to speak"
    return (f"{text}; on {whole['n']:.0f} new films they held {whole['coverage']:.0%} [{whole['low']:.0%}, "
            f"{whole['high']:.0%}], {whole['width']:.0f} months wide")
