"""The tables of a report, as text: scores, agreement, groups, coverage, widths, films, stress; and Markdown."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from bonexage_utils.calibration import Calibration, Coverage
from bonexage_utils.errors import BoneXageError
from bonexage_utils.evaluation import Evaluation, Scores, by_note
from bonexage_utils.figures import SEX_NAME
from bonexage_utils.statistics import Interval

LARGEST = 1e6
WORST = 10  # films listed
KINDS = 8  # of failure, named
STRESS_NUMBERS = {"strength": (-LARGEST, LARGEST), "n": (1, LARGEST), "mae_change": (-LARGEST, LARGEST),
                  "low": (-LARGEST, LARGEST), "high": (-LARGEST, LARGEST), "share_significant": (0, 1)}
STRESS_COLUMNS = ["perturbation", *STRESS_NUMBERS]


def score_table(evaluation: Evaluation) -> pd.DataFrame:
    """Measures as rows; the model, and the baseline where there is one, as columns."""
    def column(scores: Scores) -> dict[str, str]:
        return {
            "films": f"{scores.n:,}", "MAE, months [95 % interval]": str(scores.mae),
            "RMSE, months": f"{scores.rmse:.2f}", "median absolute error, months": f"{scores.median:.2f}",
            "R²": f"{scores.r2:.3f}" if math.isfinite(scores.r2) else "–",
            "bias, months [95 % interval]": str(scores.bias),
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


def _as_text(table: pd.DataFrame, columns: dict[str, Callable], measured: str) -> pd.DataFrame:
    """A table by group in words; one that is too small, without `measured`, shows its n and dashes."""
    rows = []
    for _, row in table.iterrows():
        cells = {name: text(row) if pd.notna(row[measured]) else "–" for name, text in columns.items()}
        group = {name: row[name] for name in ("sex", "age", "note") if name in row}
        rows.append({**group, "n": f"{row['n']:,}", **cells})
    return pd.DataFrame(rows)


ERRORS = {"MAE, months [95 % interval]": lambda row: f"{row['mae']:.1f} [{row['low']:.1f}, {row['high']:.1f}]",
          "bias, months": lambda row: f"{row['bias']:+.1f}"}


def group_table(evaluation: Evaluation) -> pd.DataFrame:
    """Error by sex and age, as text."""
    columns = dict(ERRORS)
    if evaluation.baseline:
        columns["median by sex: MAE"] = lambda row: f"{row['median']:.1f}"
    return _as_text(evaluation.groups, columns, "mae")


def note_table(evaluation: Evaluation) -> pd.DataFrame | None:
    """Error of films with and without notes, as text; None where no film has one."""
    notes = by_note(evaluation.films)
    return _as_text(notes, ERRORS, "mae") if len(notes) else None


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
        for sex, name in SEX_NAME.items()}, index=years)


def worst_films(evaluation: Evaluation) -> pd.DataFrame:
    """The rows of `evaluation.films` with the largest errors (`error`, months), worst first."""
    films = evaluation.films.assign(error=evaluation.films["predicted"] - evaluation.films["months"])
    return films.reindex(films["error"].abs().sort_values(ascending=False).index).head(WORST)


def worst_table(evaluation: Evaluation) -> pd.DataFrame:
    """The films with the largest errors, worst first; with their notes, where one of them has one."""
    films = worst_films(evaluation)
    noted = {"note": films["note"]} if films["note"].any() else {}
    return pd.DataFrame({"film": films["id"], "sex": films["sex"],
                         "label, months": films["months"].map("{:.0f}".format),
                         "prediction": films["predicted"].map("{:.1f}".format),
                         "error": films["error"].map("{:+.1f}".format), **noted})


def failure_table(evaluation: Evaluation) -> pd.DataFrame:
    """Why films have no prediction, and how many, the commonest first; what is rare is summed up."""
    named = list(evaluation.failures.items())
    rows = named[:KINDS] + [("other reasons", sum(count for _, count in named[KINDS:]))] * (len(named) > KINDS)
    return pd.DataFrame([(reason, f"{count:,}") for reason, count in rows], columns=["without a prediction", "films"])


def film_table(evaluation: Evaluation) -> pd.DataFrame:
    """Who the films are: number, and label in months (median, range), by sex."""
    by_sex = evaluation.films.groupby("sex")["months"]
    return pd.DataFrame({SEX_NAME[str(sex)]: {
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
        table = pd.read_csv(path, dtype=str, keep_default_na=False)[STRESS_COLUMNS]
        if table.empty:
            raise ValueError("no row")
        single = (table["n"] == "1") & (table["low"] == "") & (table["high"] == "")  # one film has no interval
        for name, (lowest, highest) in STRESS_NUMBERS.items():
            none = single & (name in ("low", "high"))
            table[name] = table[name].mask(none).astype(float)
            if not (table[name].between(lowest, highest) | none).all():
                raise ValueError(f"{name} is not {lowest:g} to {highest:g} everywhere")
        if (table["low"] > table["high"]).any() or (table["n"] % 1).any():
            raise ValueError("an interval or a number of films that is none")
        return pd.DataFrame({
            "perturbation": table["perturbation"], "strength": table["strength"].map("{:g}".format),
            "n": table["n"].map("{:.0f}".format),
            "change of the MAE, months [95 % interval]": [
                f"{row.mae_change:+.2f} [{f'{row.low:+.2f}, {row.high:+.2f}' if math.isfinite(row.low) else '–'}]"
                for row in table.itertuples()],
            "clinically significant changes": table["share_significant"].map("{:.0%}".format)})
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BoneXageError(f"{path}: not usable ({error}); make it with 'bonexage stress', or remove it") from None


def plain_markdown(text: str) -> str:
    """Words from a file as one line of Markdown that shows them: no HTML, code, link or picture comes of them."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line.replace("<", "&lt;").replace("`", "'").replace("](", "]\\(")


def markdown_lines(columns: Sequence[str], rows: Sequence[Sequence[str]], align: Sequence[str] | None = None) -> str:
    """A Markdown table of cells as text; a bar in a cell does not end it. `align` has a rule for each column, "---"
    for all if None."""
    lines = [columns, align or ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def markdown(table: pd.DataFrame, index: bool = True) -> str:
    """A table as Markdown, with its index in front unless `index` is False."""
    rows = [[*([str(name)] if index else []), *map(str, row)]
            for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return markdown_lines([*([""] if index else []), *map(str, table.columns)], rows)
