"""Recorded runs, the tables of data/reference_runs: how they are read and shown, and a claim's two rows, the phantom,
measured live in a notebook, and real films, as recorded."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonexage_utils.course.start import course_folder
from bonexage_utils.statistics import paired_over_seeds, verdict

RUNS = Path("data") / "reference_runs"  # in the course's folder
NOT_YET = "not yet measured"
DEVICES = {"cpu": "processor", "cuda": "GPU"}
# The columns of each table, in the order in which the scripts of tools/ write them.
RUN_COLUMNS = {
    "claims": "claim films a b mae_a mae_b difference low high verdict trained_on measured_on seeds backbone size_px "
              "epochs minutes hardware commit torch date baseline",
    "precision": "claim films measure arm base value base_value compared low high verdict repeats backbone size_px "
                 "batch device hardware minutes command commit torch date epochs",
    "bakeoff": "films size_px seconds start arm matched seed backbone weights lr updates epochs seconds_per_update "
               "used_seconds minutes parameters trained_on measured_on split mae baseline curve errors hardware commit "
               "torch timm date",
    "headline": "films backbone weights size_px epochs batch_size lr seed way mae low high more_than_plain more_low "
                "more_high bias mae_median_by_sex trained_on measured_on minutes hardware commit torch date",
    "headline_log": "films backbone weights size_px epochs batch_size lr seed epoch train_loss_years train_mae_months "
                    "selection_mae_months seconds",
    "looks": "network pooling seed hands off centres decide shafts area_centres area_decide area_shafts shares minutes",
    "notebooks": "notebook seconds peak_mb size_kb hardware commit date",
}
# The claims that tools/benchmarks/claims.py measures; other scripts write rows of other claims into the same table.
OF_CLAIMS_SCRIPT = {"GeM beats average pooling", "GeM beats max pooling", "sex improves accuracy",
                    "the bound improves accuracy", "the bound stabilises training"}
COLUMNS = ["films", "trained on", "measured on", "seeds", "a", "MAE of a", "b", "MAE of b", "a minus b",
           "95 % interval", "verdict"]


# --- any recorded run ---

def read_runs(name: str, folder: Path | None = None) -> pd.DataFrame:
    """The table `name` of RUN_COLUMNS as recorded in the course's folder, or in `folder`; empty if there is none."""
    path = (folder or course_folder()) / RUNS / f"{name}.csv"
    if not path.is_file():
        return pd.DataFrame(columns=RUN_COLUMNS[name].split())
    return pd.read_csv(path, dtype={"commit": str})  # else 7e23084 is a number


def interval_text(low: float, high: float, shown: Callable[[float], str] = "{:.2f}".format) -> str:
    """An interval in brackets, each end as `shown` writes it; "" where there is no interval (NaN)."""
    return "" if pd.isna(low) else f"[{shown(low)}, {shown(high)}]"


def how_made(row: Mapping[str, Any]) -> str:
    """The machine, the commit and the day of a recorded row, and the command that made it where the row has one."""
    command = f"; {row['command']}" if "command" in row else ""
    return f"{row['hardware']}, commit {row['commit']}, {row['date']}{command}"


# --- claims ---

def recorded_claim(claim: str, films: str = "rsna100", folder: Path | None = None) -> dict | None:
    """The recorded row of a claim on those films; None if it has not been measured."""
    table = read_runs("claims", folder)
    rows = table[(table["claim"] == claim) & (table["films"] == films)].to_dict("records")
    return rows[-1] if rows else None


def how_recorded(claim: str, films: str = "rsna100", folder: Path | None = None) -> str:
    """How the recorded row was made, in one sentence."""
    row = recorded_claim(claim, films, folder)
    if row is None:
        return f"{films}: {NOT_YET}."
    script = "; python -m tools.benchmarks.claims" if claim in OF_CLAIMS_SCRIPT and "command" not in row else ""
    return (f"{films}: {row['backbone']}, films at {row['size_px']} px, {row['epochs']} epochs, {row['minutes']:.0f} "
            f"minutes on {how_made(row)}{script}.")


def claim_cells(row: Mapping[str, Any] | None) -> list:
    """The cells of a recorded row of claims.csv under COLUMNS[1:]; for None a row that says NOT_YET."""
    if row is None:
        return [*[""] * (len(COLUMNS) - 2), NOT_YET]
    return [row["trained_on"], row["measured_on"], row["seeds"], row["a"], f"{row['mae_a']:.2f}", row["b"],
            f"{row['mae_b']:.2f}", f"{row['difference']:.2f}", interval_text(row["low"], row["high"]), row["verdict"]]


def two_rows(claim: str, errors: dict[str, np.ndarray], trained_on: int, live: str = "phantom, live",
             films: str = "rsna100", folder: Path | None = None) -> pd.DataFrame:
    """The claim's table: `errors` holds two arms, the claimed one first, as absolute errors (seeds, films) in months.

    The second row is the recorded one, or says "not yet measured".
    """
    (a, errors_a), (b, errors_b) = errors.items()
    seeds, measured_on = errors_a.shape
    apart = paired_over_seeds(errors_a, errors_b)
    measured = {"trained_on": trained_on, "measured_on": measured_on, "seeds": seeds, "a": a, "mae_a": errors_a.mean(),
                "b": b, "mae_b": errors_b.mean(), "difference": apart.value, "low": apart.low, "high": apart.high,
                "verdict": verdict(apart, a, b)}
    rows = [[live, *claim_cells(measured)],
            [f"{films}, recorded", *claim_cells(recorded_claim(claim, films, folder))]]
    return pd.DataFrame(rows, columns=COLUMNS).set_index("films")
