"""Table against simulation: live many children through from birth and ask when each event came.

Nothing is drawn here. A child's clocks (`maturity.clock`) say at which bone age each centre appears, widens and fuses;
its tempo says at which age it has that bone age.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from bonexage_utils.phantom import anatomy, maturity
from bonexage_utils.phantom.maturity import CENTRES, Sex

EPIPHYSES = tuple(name for name in CENTRES if name not in anatomy.ROUND_BONES)
EVENTS = ("emr_half", "emr_one", "fusion_begins", "fusion_complete")
TOLERANCE_MONTHS, TOLERANCE_SHARE = 3.0, 0.08  # whichever is larger
LAST_MONTH = 300.0
# One before the other, by the literature: Gilsanz & Ratib; Johnston et al. 1968 for triquetrum and lunate.
APPEARANCE_ORDER = (("capitate", "triquetrum"), ("hamate", "triquetrum"), ("radius", "triquetrum"),
                    ("triquetrum", "lunate"), ("lunate", "scaphoid"), ("lunate", "trapezium"), ("scaphoid", "pisiform"),
                    ("ulna", "pisiform"), ("pisiform", "sesamoid"), ("PP3", "MC3"), ("MC3", "MP3"), ("MP3", "DP3"),
                    ("PP3", "PP5"), ("MP3", "MP5"), ("DP3", "DP5"))  # fmt: skip
FUSION_ORDER = (("DP3", "MC1"), ("DP1", "PP3"), ("MC1", "PP3"), ("PP3", "MC3"), ("DP3", "MP3"), ("MC3", "ulna"),
                ("ulna", "radius"), ("MP3", "radius"))  # fmt: skip


def live(sex: Sex, n: int, seed: int = 0) -> pd.DataFrame:
    """`n` lives: one row a child, with `tempo`; `appears_X` (chronological months) of all 30 centres; and of the 21
    epiphyses `emr_half_X`, `emr_one_X`, `fusion_begins_X`, `fusion_complete_X` (bone-age months) and `closed_X`
    (chronological months at complete fusion; NaN where it never comes by the atlas's last plate)."""
    rng = np.random.default_rng([seed, sex == "M"])
    ages = np.arange(0.0, LAST_MONTH, 0.25)
    mean, sd = maturity.brush(sex, ages)
    rows = []
    for _ in range(n):
        tempo = float(np.clip(rng.standard_normal(), -maturity.TEMPO_LIMIT, maturity.TEMPO_LIMIT))
        bone_age = np.maximum(mean + sd * tempo, 1.0)
        row = {"tempo": tempo}
        for name, shifts in maturity.draw_shifts(rng).items():
            clock = maturity.clock(name, sex, *shifts)
            row[f"appears_{name}"] = ages[min(np.searchsorted(bone_age, clock.appears), len(ages) - 1)]
            if name in EPIPHYSES:
                row |= {f"{event}_{name}": getattr(clock, event) for event in EVENTS}
                at = np.searchsorted(bone_age, clock.fusion_complete)
                row[f"closed_{name}"] = ages[at] if at < len(ages) else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def compare(n: int, seed: int = 0) -> pd.DataFrame:
    """The tables against the medians of `n` simulated lives of each sex.

    One row an event: `sex`, `event` ("appears" on the calendar, the others on the bone-age scale), `name` (a centre, or
    a group of epiphyses for the others), `table`, `median`, `low`, `high` (5th and 95th percentile), `within` (median
    within 3 months or 8 % of the table, the larger).
    """
    rows = []
    for sex in ("F", "M"):
        lives = live(sex, n, seed)
        asked = [("appears", name, float(anatomy.APPEARANCE[name][sex].median), [name]) for name in CENTRES]
        for event in EVENTS:
            for group, stones in anatomy.MILESTONES[sex].items():
                members = [name for name in EPIPHYSES if maturity.group(name) == group]
                asked.append((event, group, float(getattr(stones, event)), members))
        for event, name, table, members in asked:
            values = lives[[f"{event}_{member}" for member in members]].to_numpy().ravel()
            low, median, high = np.percentile(values, [5, 50, 95])
            within = abs(median - table) <= max(TOLERANCE_MONTHS, TOLERANCE_SHARE * table)
            rows.append((sex, event, name, table, median, low, high, bool(within)))
    return pd.DataFrame(rows, columns=["sex", "event", "name", "table", "median", "low", "high", "within"])


def order_kept(n: int, seed: int = 0) -> pd.DataFrame:
    """How often one event comes before or with another in the same child: `sex`, `event`, `first`, `then`, `share`."""
    rows = []
    for sex in ("F", "M"):
        lives = live(sex, n, seed)
        for event, pairs in (("appears", APPEARANCE_ORDER), ("fusion_complete", FUSION_ORDER)):
            for first, then in pairs:
                share = float((lives[f"{event}_{first}"] <= lives[f"{event}_{then}"]).mean())
                rows.append((sex, event, first, then, share))
    return pd.DataFrame(rows, columns=["sex", "event", "first", "then", "share"])


def draw_comparison(table: pd.DataFrame, n: int):
    """The figure of `compare`: tabled age across, simulated median with its 5th to 95th percentile up; a `Picture`."""
    from bonexage_utils.figures import MUTED, SEX_COLOUR, SEX_MARKER, SEX_NAME, Picture, new_figure

    parts = {"appears": "centre appears (calendar)", "emr_half": "half as wide as the shaft's end",
             "emr_one": "as wide as the shaft's end", "fusion_complete": "fusion complete (bone age)"}  # fmt: skip
    figure, axes = new_figure(9, 8.4, 2, 2)
    for ax, (event, title) in zip(axes.flat, parts.items(), strict=True):
        part = table[table["event"] == event]
        top = float(part["high"].max()) * 1.03
        line = np.linspace(0, top, 100)
        band = np.maximum(TOLERANCE_MONTHS, TOLERANCE_SHARE * line)
        ax.fill_between(line, line - band, line + band, color=MUTED, alpha=0.25, linewidth=0)
        for sex, rows in part.groupby("sex"):
            spread = [rows["median"] - rows["low"], rows["high"] - rows["median"]]
            ax.errorbar(rows["table"], rows["median"], spread, fmt=SEX_MARKER[sex], color=SEX_COLOUR[sex], markersize=5,
                        elinewidth=0.8, label=SEX_NAME[sex])  # fmt: skip
        ax.set(title=title, xlabel="table (months)", ylabel="simulated (months)", xlim=(0, top), ylim=(0, top))
    axes[0, 0].legend(loc="upper left")
    met = int(table["within"].sum())
    return Picture(figure, f"""Four panels of tabled against simulated ages in months, from {n:,} simulated children of
        each sex: when centres appear, when epiphyses reach half and all of the shaft's width, and when they have fused.
        A grey band marks 3 months or 8 percent. {met} of {len(table)} medians lie in it; bars reach from the 5th to the
        95th percentile.""")
