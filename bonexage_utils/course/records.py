"""A claim's two rows: the phantom, measured live in a notebook, and real films, as recorded."""

from pathlib import Path

import numpy as np
import pandas as pd

from bonexage_utils.course.start import course_folder
from bonexage_utils.statistics import paired_over_seeds, verdict

COLUMNS = ["films", "trained on", "measured on", "seeds", "a", "MAE of a", "b", "MAE of b", "a minus b",
           "95 % interval", "verdict"]


def recorded_claims(folder: Path | None = None) -> pd.DataFrame:
    """data/reference_runs/claims.csv; without it, an empty table."""
    path = (folder or course_folder()) / "data" / "reference_runs" / "claims.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["claim", "films"])


def recorded_claim(claim: str, films: str = "rsna100", folder: Path | None = None) -> dict | None:
    """The recorded row of a claim on those films; None if it has not been measured."""
    table = recorded_claims(folder)
    rows = table[(table["claim"] == claim) & (table["films"] == films)].to_dict("records")
    return rows[-1] if rows else None


def how_recorded(claim: str, films: str = "rsna100", folder: Path | None = None) -> str:
    """How the recorded row was made, in one sentence."""
    row = recorded_claim(claim, films, folder)
    if row is None:
        return f"{films}: not yet measured."
    return (f"{films}: {row['backbone']}, films at {row['size_px']} px, {row['epochs']} epochs, {row['minutes']:.0f} "
            f"minutes on {row['hardware']}, commit {row['commit']}, {row['date']}; python -m tools.benchmarks.claims.")


def two_rows(claim: str, errors: dict[str, np.ndarray], trained_on: int, live: str = "phantom, live",
             films: str = "rsna100", folder: Path | None = None) -> pd.DataFrame:
    """The claim's table: `errors` holds two arms, the claimed one first, as absolute errors (seeds, films) in months.

    The second row is the recorded one, or says "not yet measured".
    """
    (a, off_a), (b, off_b) = errors.items()
    apart = paired_over_seeds(off_a, off_b)
    rows = [[live, trained_on, off_a.shape[1], off_a.shape[0], a, off_a.mean(), b, off_b.mean(), apart.value,
             f"[{apart.low:.2f}, {apart.high:.2f}]", verdict(apart, a, b)]]
    row = recorded_claim(claim, films, folder)
    if row is None:
        rows.append([f"{films}, recorded", *[""] * (len(COLUMNS) - 2), "not yet measured"])
    else:
        rows.append([f"{films}, recorded", row["trained_on"], row["measured_on"], row["seeds"], row["a"], row["mae_a"],
                     row["b"], row["mae_b"], row["difference"], f"[{row['low']:.2f}, {row['high']:.2f}]",
                     row["verdict"]])
    table = pd.DataFrame(rows, columns=COLUMNS).set_index("films")
    return table.map(lambda value: f"{value:.2f}" if isinstance(value, float) else value)
