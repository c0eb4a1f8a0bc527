"""A run on real films, as recorded: what was chosen, its curve, and what came out (notebook 10).

The rows are those of tools/benchmarks/headline.py; of several runs the last one recorded is told. MAE in months.
"""

from pathlib import Path

import pandas as pd

from bonexage_utils.course.records import NOT_YET, how_made, read_runs
from bonexage_utils.figures import ACCENT, BOYS, GIRLS, MUTED, Picture, new_figure
from bonexage_utils.statistics import Interval

CHOSEN = ["backbone", "weights", "size_px", "epochs", "batch_size", "lr", "seed"]
GRADED = "graded: "


def last_run(folder: Path | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The epochs of the run recorded last, and its rows on the calibration films by `way`; both empty without one."""
    ways, epochs = (read_runs(name, folder) for name in ("headline", "headline_log"))
    if epochs.empty:
        return epochs, ways.iloc[:0].set_index("way")
    chosen = epochs.iloc[-1][CHOSEN]
    epochs, ways = (table[(table[CHOSEN] == chosen).all(axis=1)] for table in (epochs, ways))
    return epochs, ways.set_index("way")


def tell_run(folder: Path | None = None) -> str:
    """What was chosen, how long it took, and the errors on films that had no part, a line each."""
    epochs, ways = last_run(folder)
    if epochs.empty:
        return f"A run on real films: {NOT_YET}."
    plain = ways.loc["plain"]
    best = epochs.loc[epochs["selection_mae_months"].idxmin()]
    lines = [
        "chosen: " + ", ".join(f"{name} {plain[name]}" for name in CHOSEN),
        f"learned from {plain['trained_on']:,} films in {epochs['seconds'].sum() / 60:.0f} minutes; kept: "
        f"epoch {best['epoch']:.0f} of {plain['epochs']}, {best['selection_mae_months']:.2f} on the selection films",
        f"on {plain['measured_on']:,} calibration films {Interval(plain['mae'], plain['low'], plain['high'])}; "
        f"the median by sex {plain['mae_median_by_sex']:.1f}"]
    for way, row in ways.drop(index="plain").iterrows():
        more = Interval(row["more_than_plain"], row["more_low"], row["more_high"])
        lines.append(f"- {way}: {row['mae']:.1f}, so {more} more")
    graded = ways.loc[ways.index.str.startswith(GRADED), "mae"]
    if len(graded):
        lines.append(f"mean of the {len(graded)} graded ways: {graded.mean() / plain['mae']:.2f} times plain")
    return "\n".join([*lines, how_made(plain)])


def draw_run(folder: Path | None = None) -> Picture:
    """MAE of the training films, as they were learned from, and of the selection films against the epoch; at the right
    end the calibration films with their interval."""
    epochs, ways = last_run(folder)
    figure, ax = new_figure(7, 4)
    ax.set(xlabel="epoch", ylabel="MAE (months)", ylim=(0, None), title="A recorded run on real films")
    if epochs.empty:
        ax.text(0.5, 0.5, NOT_YET, ha="center", transform=ax.transAxes, color=MUTED)
        return Picture(figure, f"An empty panel: {NOT_YET}.")
    plain, last = ways.loc["plain"], epochs["epoch"].max()
    best = epochs.loc[epochs["selection_mae_months"].idxmin()]
    ax.plot(epochs["epoch"], epochs["train_mae_months"], "--", color=MUTED, label="training films, augmented")
    ax.plot(epochs["epoch"], epochs["selection_mae_months"], "o-", color=BOYS, markersize=4, label="selection films")
    ax.plot(best["epoch"], best["selection_mae_months"], "o", color=ACCENT, markersize=10, markerfacecolor="none",
            label="kept")
    bars = [[plain["mae"] - plain["low"]], [plain["high"] - plain["mae"]]]
    ax.errorbar(last + 1, plain["mae"], bars, fmt="s", color=GIRLS, elinewidth=3, label="calibration films")
    ax.set_ylim(0, 1.1 * epochs[["train_mae_months", "selection_mae_months"]].to_numpy().max())
    ax.set_xticks([tick for tick in ax.get_xticks() if 1 <= tick <= last])  # the calibration films have no epoch
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    first = epochs.iloc[0]
    return Picture(figure, f"""Mean absolute error in months against the epoch, {len(epochs)} epochs. Training films,
        augmented: from {first['train_mae_months']:.1f} to {epochs['train_mae_months'].iloc[-1]:.1f}. Selection films:
        from {first['selection_mae_months']:.1f} to {epochs['selection_mae_months'].iloc[-1]:.1f}, lowest
        {best['selection_mae_months']:.1f} in epoch {best['epoch']:.0f}, which is kept. At the right end the calibration
        films: {Interval(plain['mae'], plain['low'], plain['high'])}.""")
