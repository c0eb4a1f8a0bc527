"""Every figure of the course and of the reports: one style, alt text, colours that colour-blind readers can tell."""

import base64
import html
import io
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import gaussian_filter

from bonexage_utils.evaluation import Evaluation

if TYPE_CHECKING:  # drawing needs no torch
    from bonexage_utils.attribution import Attribution, Case

# Okabe & Ito's palette (2008), made for colour-blind readers; girls and boys differ in lightness and marker too.
GIRLS, BOYS, ACCENT, MUTED = "#E69F00", "#0072B2", "#D55E00", "#777777"
SEX_COLOUR = {"F": GIRLS, "M": BOYS}
SEX_MARKER = {"F": "o", "M": "^"}
SEX_NAME = {"F": "girls", "M": "boys"}
FOR_AND_AGAINST = "PuOr_r"  # diverging; purple and orange stay apart for every kind of colour vision
OUTLINE = "#009E73"
COLOURS_SAY = "orange speaks for an older child, purple for a younger one"
WITHIN_LIMITS = 1.96  # limits of agreement, in standard deviations (Bland & Altman 1986)


STYLE = {
    **sns.axes_style("ticks"), "figure.dpi": 110, "savefig.dpi": 110, "font.size": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlelocation": "left", "legend.frameon": False, "image.cmap": "gray",
    "patch.force_edgecolor": False,  # white edges would eat the thin bars of a comb
    "axes.prop_cycle": mpl.cycler(color=sns.color_palette("colorblind")),
}


def style() -> AbstractContextManager:
    """The one style of all figures, as a `with` block or a decorator; put back afterwards."""
    return mpl.rc_context(STYLE)


def use_style() -> None:
    """The same style until the program ends, for a notebook that draws in its cells."""
    mpl.rcParams.update(STYLE)


class Picture:
    """A finished figure with its alt text. Shown by a notebook as its last value, with the alt text beside it."""

    def __init__(self, figure: Figure, alt: str) -> None:
        if not alt.strip():
            raise ValueError("a figure needs alt text: say what one sees in it")
        self.figure, self.alt = figure, " ".join(alt.split())
        buffer = io.BytesIO()
        # No metadata: the version of matplotlib would change the file without changing the picture.
        figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
        self.png = buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        return {"image/png": self.png, "text/plain": self.alt}, {"image/png": {"alt": self.alt}}

    def to_html(self) -> str:
        """An <img> that carries the picture in itself."""
        data = base64.b64encode(self.png).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}">'


@style()
def new_figure(width: float = 6.0, height: float = 4.0, rows: int = 1, columns: int = 1, **kwargs):
    """Axes in the course's style, sizes in inches; outside pyplot, so that nothing is shown twice or kept open."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **kwargs)


@style()
def montage(films: list[np.ndarray], titles: list[str], alt: str, columns: int = 6, side: float = 1.7) -> Picture:
    """Grey films (height, width), 0–255, in rows, each under its title."""
    rows = -(-len(films) // columns)
    figure, axes = new_figure(columns * side, rows * (side + 0.35), rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, film, title in zip(axes.flat, films, titles, strict=False):
        ax.imshow(film, cmap="gray", vmin=0, vmax=255)
        ax.set_title(title, fontsize=9, loc="center")
    return Picture(figure, alt)


def _signed(months: float) -> str:
    return f"{months:+.0f}".replace("-", "−")


def _overlay(ax, film: np.ndarray, map: np.ndarray, outline: np.ndarray | None = None) -> None:
    """A film (S, S) under its attribution: orange for older, purple for younger, fainter where there is less."""
    map = gaussian_filter(map, len(map) / 128, mode="constant")  # single pixels are too small to see
    limit = max(float(np.quantile(np.abs(map), 0.998)), 1e-12)
    ax.imshow(film, cmap="gray", vmin=0, vmax=255)
    ax.imshow(map, cmap=FOR_AND_AGAINST, vmin=-limit, vmax=limit, alpha=np.clip(1.5 * np.abs(map) / limit, 0, 0.75))
    if outline is not None:
        ax.contour(outline, [0.5], colors=OUTLINE, linewidths=0.8)


@style()
def attribution_maps(film: np.ndarray, found: "list[Attribution]", region: np.ndarray | None = None) -> Picture:
    """One film, uint8 (S, S), then each map over it; `region`, bool (S, S), is outlined, e.g. the deciding centres."""
    figure, axes = new_figure(2.9 * (len(found) + 1), 3.3, 1, len(found) + 1, squeeze=False)
    axes[0, 0].imshow(film, cmap="gray", vmin=0, vmax=255)
    axes[0, 0].set_title("film", loc="center")
    for ax, told in zip(axes[0, 1:], found, strict=True):
        _overlay(ax, film, told.map, region)
        ax.set_title(told.method.replace("_", " "), loc="center")
    for ax in axes.flat:
        ax.axis("off")
    figure.supxlabel(COLOURS_SAY, fontsize=9)
    told = "; ".join(f"{one.method.replace('_', ' ')}: {_signed(one.map[one.map > 0].sum())} months for older, "
                     f"{_signed(one.map[one.map < 0].sum())} for younger" for one in found)
    return Picture(figure, f"""A hand film and, laid over it, where the network looks: orange speaks for an older child,
        purple for a younger one. The film says {found[0].prediction:.0f} months, the baseline film
        {found[0].baseline:.0f}. {told}.{' A line marks the region asked about.' if region is not None else ''}""")


@style()
def worst_cases(cases: "list[Case]") -> Picture:
    """A row for each case: the film, its attribution over it, and the training films most like it to the network."""
    columns = 2 + max(len(case.neighbours) for case in cases)
    figure, axes = new_figure(1.75 * columns, 2.0 * len(cases), len(cases), columns, squeeze=False)
    told = []
    for row, case in zip(axes, cases, strict=True):
        label, predicted = case.row["months"], case.row["predicted"]
        row[0].imshow(case.film, cmap="gray", vmin=0, vmax=255)
        row[0].set_title(f"{case.row['id']} ({case.row['sex']})\nlabel {label:.0f}", fontsize=9, loc="center")
        _overlay(row[1], case.film, case.attribution.map)
        row[1].set_title(f"says {predicted:.0f}\n({_signed(predicted - label)})", fontsize=9, loc="center")
        for ax, (film, months) in zip(row[2:], case.neighbours, strict=False):
            ax.imshow(film, cmap="gray", vmin=0, vmax=255)
            ax.set_title(f"like it:\nlabel {months:.0f}", fontsize=9, loc="center", color=MUTED)
        told.append(f"{case.row['id']}: label {label:.0f}, says {predicted:.0f}, most alike "
                    f"{', '.join(f'{months:.0f}' for _, months in case.neighbours)}")
    for ax in axes.flat:
        ax.axis("off")
    figure.supxlabel(COLOURS_SAY, fontsize=9)
    return Picture(figure, f"""The {len(cases)} films with the largest errors, ages in months, one row each: the film;
        the film under its attribution, orange for older, purple for younger; and the training films most like it to
        the network, with their labels. {'; '.join(told)}.""")


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
        mine = films["sex"] == sex
        across = films.loc[mine, x] if isinstance(x, str) else x[mine]
        ax.scatter(across, y[mine], s=size, color=SEX_COLOUR[sex], marker=SEX_MARKER[sex], alpha=0.6, linewidths=0,
                   label=SEX_NAME[sex])


@style()
def bland_altman(films: pd.DataFrame) -> Picture:
    """Difference against mean of prediction and label, with bias and 95 % limits of agreement."""
    figure, ax = new_figure(6, 4)
    difference = films["predicted"] - films["months"]
    middle = (films["predicted"] + films["months"]) / 2
    bias, spread = difference.mean(), difference.std()
    _scatter_by_sex(ax, films, middle, difference)
    limits = [bias - WITHIN_LIMITS * spread, bias + WITHIN_LIMITS * spread]
    ax.axhline(bias, color=ACCENT)
    for limit in limits:
        ax.axhline(limit, color=ACCENT, linestyle="--")
    ax.axhline(0, color=MUTED, linewidth=0.8, zorder=0)
    ax.set(xlabel="mean of prediction and label (months)", ylabel="prediction − label (months)",
           title=f"Bias {bias:+.1f}, limits of agreement {limits[0]:+.1f} to {limits[1]:+.1f} months")
    ax.legend()
    return Picture(figure, f"""Bland–Altman plot of {len(films)} films: prediction minus label against their mean, in
        months. The bias is {bias:+.1f} months; the dashed limits of agreement are at {limits[0]:+.1f} and
        {limits[1]:+.1f} months.""")


@style()
def error_by_group(evaluation: Evaluation) -> Picture:
    """MAE with interval by age band and sex; groups too small to speak are left out."""
    figure, ax = new_figure(6, 4)
    groups = evaluation.groups[evaluation.groups["age"] != "all"]
    bands = list(dict.fromkeys(groups["age"]))
    told = []
    for sex, name, offset in (("F", "girls", -0.1), ("M", "boys", 0.1)):
        mine = groups[(groups["sex"] == name) & groups["mae"].notna()]
        where = np.array([bands.index(age) for age in mine["age"]]) + offset
        ax.errorbar(where, mine["mae"], yerr=[mine["mae"] - mine["low"], mine["high"] - mine["mae"]], capsize=3,
                    fmt=SEX_MARKER[sex], color=SEX_COLOUR[sex], label=name)
        for x, high, n in zip(where, mine["high"], mine["n"], strict=True):
            ax.annotate(f"n={n}", (x, high), (0, 4), textcoords="offset points", ha="center", fontsize=7)
        told += [f"{name} {row.age} {row.mae:.1f}" for row in mine.itertuples()]
    ax.set(xticks=range(len(bands)), xticklabels=bands, xlabel="labelled bone age", ylabel="MAE (months)",
           title="Mean absolute error by age and sex, 95 % interval")
    ax.set_ylim(bottom=0)
    ax.legend()
    return Picture(figure, f"Mean absolute error in months with 95 % intervals by age band and sex: {'; '.join(told)}.")


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
