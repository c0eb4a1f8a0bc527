"""The figures of a run and its report: learning curve, predicted against true, agreement, error by group, coverage."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bonexage_utils.calibration import Coverage
from bonexage_utils.evaluation import Evaluation
from bonexage_utils.figures import ACCENT, BOYS, MUTED, SEX_COLOUR, SEX_MARKER, SEX_NAME, Picture, new_figure, style
from bonexage_utils.statistics import SMALLEST_GROUP, Interval, agreement, bootstrap_mean, slope


@style()
def learning_curve(log: pd.DataFrame, baseline: float | None = None) -> Picture:
    """Training and selection MAE by epoch from a run's log.csv; `baseline` is the MAE of the median by sex, months."""
    figure, ax = new_figure(6, 4)
    ax.plot(log["epoch"], log["train_mae_months"], marker="o", markersize=3, color=MUTED, label="training films")
    ax.plot(log["epoch"], log["selection_mae_months"], marker="s", markersize=3, color=BOYS, label="selection films")
    if baseline is not None:
        ax.axhline(baseline, color=ACCENT, linestyle="--", label="median by sex")
    ax.set(xlabel="epoch", ylabel="MAE (months)", title="Learning curve")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylim(bottom=0)
    ax.legend()
    best = log["selection_mae_months"].min()
    first, last = log["selection_mae_months"].iloc[[0, -1]]
    return Picture(figure, f"""Mean absolute error in months against epoch, for training and selection films. On the
        selection films it goes from {first:.1f} to {last:.1f} in {len(log)} epochs; the best is {best:.1f}.""")


@style()
def predicted_against_true(films: pd.DataFrame) -> Picture:
    """`films` has `sex`, `months` (label) and `predicted`."""
    figure, ax = new_figure(5, 5)
    top = max(films["months"].max(), films["predicted"].max()) + 6
    ax.plot([0, top], [0, top], color=MUTED, linewidth=1, zorder=0)
    _scatter_by_sex(ax, films, "months", films["predicted"])
    ax.set(xlabel="label (months)", ylabel="predicted (months)", xlim=(0, top), ylim=(0, top), aspect="equal",
           title="Predicted against labelled bone age")
    ax.legend()
    error = (films["predicted"] - films["months"]).abs()
    return Picture(figure, f"""Scatter of predicted against labelled bone age for {len(films)} films, both in months,
        with the line of identity. Half of the films lie within {error.median():.0f} months of the line, nine in ten
        within {error.quantile(0.9):.0f}.""")


def _scatter_by_sex(ax, films: pd.DataFrame, x: str | pd.Series, y: pd.Series) -> None:
    size = 14 if len(films) < 500 else 7
    for sex in ("F", "M"):
        group = films["sex"] == sex
        across = films.loc[group, x] if isinstance(x, str) else x[group]
        ax.scatter(across, y[group], s=size, color=SEX_COLOUR[sex], marker=SEX_MARKER[sex], alpha=0.6, linewidths=0,
                   label=SEX_NAME[sex])


@style()
def bland_altman(films: pd.DataFrame) -> Picture:
    """Difference against mean of prediction and label, with bias and 95 % limits of agreement and their intervals.

    Against the mean of the two and not the label, since a label is a reading with an error of its own: against it,
    even a second reader as good as the first shows a slope (Bland & Altman 1995, Lancet 346:1085). `error_against_age`
    shows that slope for what it is.
    """
    figure, ax = new_figure(6.5, 4)
    found = agreement(films["predicted"], films["months"])
    lower, upper = (f"{limit.value:+.1f}" if len(films) > 1 else "–" for limit in (found.lower, found.upper))
    _scatter_by_sex(ax, films, (films["predicted"] + films["months"]) / 2, films["predicted"] - films["months"])
    for line, dashes in ((found.bias, "-"), (found.lower, "--"), (found.upper, "--")):
        ax.axhline(line.value, color=ACCENT, linestyle=dashes)
        ax.axhspan(line.low, line.high, color=ACCENT, alpha=0.2, linewidth=0)
    ax.axhline(0, color=MUTED, linewidth=0.8, zorder=0)
    ax.set(xlabel="mean of prediction and label (months)", ylabel="prediction − label (months)",
           title=f"Bias {found.bias.value:+.1f}, limits of agreement {lower} to {upper} months")
    ax.legend()
    return Picture(figure, f"""Bland–Altman plot of {len(films)} films: prediction minus label against their mean, in
        months. The bias is {found.bias.value:+.1f} months; the dashed limits of agreement are at
        {lower} and {upper} months, and {found.outside:.0%} of the films lie beyond
        them. Bands show 95 % intervals.""")


@style()
def error_against_age(films: pd.DataFrame) -> Picture:
    """The error against the label (regression to the mean) and against the prediction (calibration), side by side."""
    figure, axes = new_figure(9, 4, 1, 2, sharey=True)
    error = films["predicted"] - films["months"]
    described = []
    for ax, column, name in zip(axes, ("months", "predicted"), ("label", "prediction"), strict=True):
        years = films[column] / 12
        _scatter_by_sex(ax, films, films[column], error)
        per_year = slope(years, error)
        steps = [error[(years >= year) & (years < year + 2)] for year in range(0, 20, 2)]
        means = [bootstrap_mean(part) if len(part) >= SMALLEST_GROUP else Interval(np.nan, np.nan, np.nan)
                 for part in steps]  # the line breaks where there are too few films
        middle, low, high = np.array([(mean.value, mean.low, mean.high) for mean in means]).T
        ax.errorbar(range(12, 240, 24), middle, yerr=[middle - low, high - middle], color="black", fmt="-s",
                    markersize=4, capsize=3, label="mean of two years")
        ax.axhline(0, color=MUTED, linewidth=0.8, zorder=0)
        ax.set(xlabel=f"{name} (months)", xlim=(0, 240), xticks=range(0, 241, 60),
               title=f"Against the {name}: {per_year.value:+.2f} months per year")
        described.append(f"against the {name} it changes by {per_year} months per year of age")
    axes[0].set_ylabel("prediction − label (months)")
    axes[0].legend(fontsize=8)
    return Picture(figure, f"""Two scatters of the error, prediction minus label, of {len(films)} films:
        {" and ".join(described)} (95 % interval). Squares show the mean error of every two years of age
        that have {SMALLEST_GROUP} films.""")


def _by_group(ax, table: pd.DataFrame, value: str, bounds: bool = True, counts: bool = False) -> str:
    """Draw a column of a group table by age band and sex, groups that are too small left out; the same in words."""
    groups = table[table["age"] != "all"]
    bands = list(dict.fromkeys(groups["age"]))
    described = []
    for sex, offset, side in (("F", -0.1, "right"), ("M", 0.1, "left")):
        group = groups[(groups["sex"] == SEX_NAME[sex]) & groups[value].notna()]
        where = np.array([bands.index(age) for age in group["age"]]) + offset
        spread = [group[value] - group["low"], group["high"] - group[value]] if bounds else None
        ax.errorbar(where, group[value], yerr=spread, capsize=3, fmt=SEX_MARKER[sex], color=SEX_COLOUR[sex],
                    label=SEX_NAME[sex])
        for x, y, n in zip(where, group[value], group["n"], strict=True) if counts else ():
            ax.annotate(f"n={n}", (x, y), (10 * np.sign(offset), 0), textcoords="offset points", ha=side, va="center",
                        fontsize=7)
        described += [f"{SEX_NAME[sex]} {row.age} {getattr(row, value):.3g}" for row in group.itertuples()]
    ax.set(xticks=range(len(bands)), xticklabels=bands, xlabel="labelled bone age", xlim=(-0.6, len(bands) - 0.4))
    return "; ".join(described)


@style()
def error_by_group(evaluation: Evaluation) -> Picture:
    """MAE with interval by age band and sex; groups too small to speak are left out."""
    figure, ax = new_figure(6, 4)
    described = _by_group(ax, evaluation.groups, "mae", counts=True)
    ax.set(ylabel="MAE (months)", title="Mean absolute error by age and sex, 95 % interval")
    ax.set_ylim(bottom=0)
    cells = evaluation.groups[evaluation.groups[["sex", "age"]].ne("all").all(axis=1)]
    silent = cells[cells["mae"].isna()]
    for place, age in enumerate(dict.fromkeys(cells["age"])):
        few = [f"{row.sex} n={row.n}" for row in silent[silent["age"] == age].itertuples()]
        ax.annotate("\n".join([*few, "too few"] if few else ""), (place, 0), (0, 3), textcoords="offset points",
                    fontsize=7, ha="center", color=MUTED)
    ax.legend()
    few = "; ".join(f"{row.sex} {row.age}, {row.n} films" for row in silent.itertuples())
    return Picture(figure, f"Mean absolute error in months with 95 % intervals by age band and sex: {described}."
                   + f" Too few to speak: {few}." * bool(few))


@style()
def coverage_by_group(coverage: Coverage) -> Picture:
    """How often the intervals held, with 95 % interval, and how wide they are, by age band and sex."""
    figure, (left, right) = new_figure(9, 4, 1, 2)
    held = _by_group(left, coverage.table, "coverage")
    wide = _by_group(right, coverage.table, "width", bounds=False)
    left.axhline(coverage.wanted, color=ACCENT, linestyle="--", label=f"promised: {coverage.wanted:.0%}")
    left.set(ylabel="inside", title="Share of labels inside, and its 95 % interval")
    left.set_ylim(min(0.5, left.get_ylim()[0]), 1.02)  # the same for two pictures, so that they can be compared
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    right.set(ylabel="width (months)", title="Mean width of the intervals")
    right.set_ylim(0, 1.1 * max(1.0, coverage.table["width"].max()))  # equal widths leave the top line without room
    left.legend()
    return Picture(figure, f"""Two panels by age band and sex. Share of labels inside their {coverage.wanted:.0%}
        interval: {held}. Mean width in months: {wide}.""")
