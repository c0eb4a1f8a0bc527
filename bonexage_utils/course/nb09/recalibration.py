"""Local recalibration (notebook 09): what n labelled films of a hospital are worth, over many hospitals with n each.

Tables of films have `sex`, `months` (label) and `predicted`; all in months.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, new_figure
from bonexage_utils.statistics import paired_over_seeds

HOSPITALS = 100
HARM = 0.5  # months: an MAE that grew by less has done nobody harm
# Takes a hospital's own labelled films and other films; gives the corrected predictions of the others.
Way = Callable[[pd.DataFrame, pd.DataFrame], pd.Series]
LOOK = {"shift": (BOYS, "o"), "line by sex": (ACCENT, "s")}


def recalibrate(pool: pd.DataFrame, measures: pd.DataFrame, ways: dict[str, Way], sizes: list[int],
                hospitals: int = HOSPITALS) -> pd.DataFrame:
    """The error on the films of `measures` after each of `ways` has learned from n films, by way and n of `sizes`.

    Each of the `hospitals` draws its n films from `pool` with replacement, as in a bootstrap; all ways learn from the
    same ones. Columns: `as it is`, the MAE without a correction; `MAE`, the mean over hospitals; `change` between the
    two, paired, with its 95 % interval `low` to `high` for other hospitals and other films; `harmed`, the share of
    hospitals whose MAE grew by more than `HARM`; `from` and `to`, between which nine hospitals in ten lie; and the
    difference to the first way on the same draws, in words.
    """
    months = measures["months"].to_numpy()
    untouched = np.abs(measures["predicted"].to_numpy() - months)
    rows, first = {}, next(iter(ways))
    for n in sizes:
        rng = np.random.default_rng([9, n])
        drawn = [pool.iloc[rng.integers(0, len(pool), n)] for _ in range(hospitals)]
        errors = {way: np.stack([np.abs(mend(local, measures).to_numpy() - months) for local in drawn])
                  for way, mend in ways.items()}
        for way, off in errors.items():
            change = paired_over_seeds(off, np.broadcast_to(untouched, off.shape))
            each = off.mean(1)
            rows[way, n] = {
                "as it is": untouched.mean(), "MAE": off.mean(), "change": change.value, "low": change.low,
                "high": change.high, "harmed": (each > untouched.mean() + HARM).mean(), "from": np.quantile(each, 0.05),
                "to": np.quantile(each, 0.95),
                f"minus {first}": "" if way == first else str(paired_over_seeds(off, errors[first]))}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["way", "n"])


def said_of(row: pd.Series) -> str:
    """What the interval of a row of `recalibrate` allows to say of the error."""
    if row["high"] < 0:
        return "smaller"
    return "larger" if row["low"] > 0 else "cannot tell"


def tell_recalibrated(tables: dict[str, pd.DataFrame]) -> str:
    """A line for each place, way, and smallest and largest n of tables of `recalibrate`."""
    lines = []
    for place, table in tables.items():
        sizes = table.index.get_level_values("n")
        for (way, n), row in table[(sizes == sizes.min()) | (sizes == sizes.max())].iterrows():
            rest = row.iloc[-1]
            lines.append(f"- {place}, {n} films, {way}: MAE changes by {row['change']:+.2f} [{row['low']:+.2f}, "
                         f"{row['high']:+.2f}] months: {said_of(row)}; for {row['harmed']:.0%} of hospitals it grew by "
                         f"more than {HARM:g}"
                         + (f"; {table.columns[-1]}: {rest}" if rest else ""))
    return "\n".join(lines)


def draw_recalibrated(tables: dict[str, pd.DataFrame]) -> Picture:
    """The MAE after each way against n, a panel for each place; dashed, without a correction."""
    figure, axes = new_figure(3.6 * len(tables), 3.8, 1, len(tables), sharey=True, squeeze=False)
    described = []
    for ax, (place, table) in zip(axes.flat, tables.items(), strict=True):
        untouched, sizes = table["as it is"].iloc[0], list(table.index.unique("n"))
        ax.axhline(untouched, color=MUTED, linestyle="--", label="as it is")
        said = []
        for shift, (way, part) in zip((-0.12, 0.12), table.groupby("way", sort=False), strict=True):
            (colour, marker), where = LOOK[way], np.arange(len(part)) + shift
            ax.vlines(where, part["from"], part["to"], color=colour, linewidth=1)
            bars = [part["change"] - part["low"], part["high"] - part["change"]]
            ax.errorbar(where, part["MAE"], bars, fmt=marker, color=colour, elinewidth=4, markersize=6,
                        markeredgecolor="white", label=way)
            said += [f"{way} {row['MAE']:.1f} with {n} films (change {row['low']:+.1f} to {row['high']:+.1f}, nine "
                     f"hospitals in ten {row['from']:.1f} to {row['to']:.1f})" for (_, n), row in part.iterrows()]
        ax.set(title=place if place == "home" else f"hospital {place}", xlabel="local films with labels",
               xticks=range(len(sizes)), xticklabels=sizes, xlim=(-0.5, len(sizes) - 0.5))
        described.append(f"{place}, as it is {untouched:.1f}: {'; '.join(said)}")
    axes[0, 0].set_ylabel("MAE on other films (months)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return Picture(figure, f"""Mean absolute error in months after a correction learned from n local films, with 95 %
        intervals of the change, and thin lines that hold nine hospitals in ten; dashed, the error without a correction.
        {'. '.join(described)}.""")
