"""The errors of a network (notebook 08): reference MAEs, the films of largest error, and film by film the attribution
and the most similar training films."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bonexage_utils.checks.attribution import COLOURS_SAY, Attribution, attribute, nearest, overlay, pooled_features
from bonexage_utils.cohort import Cohort
from bonexage_utils.course.sliders import Slider, slider
from bonexage_utils.decoding import read_gray
from bonexage_utils.figures import ACCENT, BOYS, MUTED, SEX_COLOUR, SEX_MARKER, SEX_NAME, Picture, new_figure
from bonexage_utils.images import letterbox
from bonexage_utils.phantom.dataset import TRUTH_FILE
from bonexage_utils.prediction import Predictor
from bonexage_utils.statistics import Interval

NEIGHBOURS = 3
EXPLORED = 7  # films of the slider: each is drawn, with its attribution, when the cell runs
WORST_COLUMNS = 3  # cases side by side in the figure of the worst
FILMS_DPI = 95  # many films in a figure; a notebook may have 1.5 MB


def letterboxed(films: pd.DataFrame, size: int) -> np.ndarray:
    """Films (`image`: path) as a network of that size sees them: uint8 (n, size, size)."""
    return np.stack([letterbox(read_gray(path), size) for path in films["image"]])


def signed(months: float) -> str:
    """+7, −7 or 0."""
    return f"{round(months):+d}".replace("-", "−") if round(months) else "0"


# --- how large is an error? ---

def draw_yardsticks(marks: dict[str, Interval | float]) -> Picture:
    """MAEs in months on one axis: a dot with its 95 % interval, or a tick where there is none."""
    figure, ax = new_figure(6.5, 0.8 + 0.38 * len(marks))
    parts = []
    for place, (name, mark) in enumerate(marks.items()):
        if isinstance(mark, Interval):
            ax.errorbar(mark.value, place, xerr=[[mark.value - mark.low], [mark.high - mark.value]], fmt="o",
                        color=BOYS, capsize=4)
            parts.append(f"{name} {mark.value:.1f} [{mark.low:.1f}, {mark.high:.1f}]")
        else:
            ax.plot(mark, place, "|", color=ACCENT, markersize=16, markeredgewidth=2.5)
            parts.append(f"{name} {mark:.1f}")
    ax.set(yticks=range(len(marks)), xlabel="MAE (months)", xlim=(0, None), ylim=(len(marks) - 0.5, -0.5))
    ax.set_yticklabels(list(marks))
    return Picture(figure, f"Mean absolute errors in months, with 95 % interval where known: {'; '.join(parts)}.")


def blame(cohort: Cohort, films: pd.DataFrame) -> pd.DataFrame:
    """`films` (`id`, `months`, `predicted`) with `true` (the bone age the film was drawn at), `label_off` (label minus
    true) and `network_off` (predicted minus true), months; NaN where no truth is known, as with real films."""
    path = cohort.root / TRUTH_FILE
    true = pd.Series(dtype=float)
    if path.is_file():
        true = pd.read_csv(path, dtype={"id": str}).set_index("id")["bone_age_months"]
    true = films["id"].map(true).astype(float)
    return films.assign(true=true, label_off=films["months"] - true, network_off=films["predicted"] - true)


# --- one film after the other ---

@dataclass
class Residuals:
    """The films of a table, to be viewed one by one, ordered from the one predicted most too young to the one predicted
    most too old; `errors` (n,) are predictions minus labels, months.

    `films` uint8 (n, S, S) are letterboxed; `table` has a row for each with `id`, `sex`, `months` (label) and
    `predicted`; `library` (m, S, S) and `library_months` (m,) are training films to find the nearest among.
    """

    predictor: Predictor
    films: np.ndarray
    table: pd.DataFrame
    library: np.ndarray
    library_months: np.ndarray
    _maps: dict[int, Attribution] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.errors = (self.table["predicted"] - self.table["months"]).to_numpy()
        self.order = np.argsort(self.errors, kind="stable")
        self.alike = nearest(pooled_features(self.predictor, self.films),
                             pooled_features(self.predictor, self.library), NEIGHBOURS)

    def map(self, row: int) -> Attribution:
        """The attribution of the film in that row of the table; made when first asked for."""
        if row not in self._maps:
            self._maps[row] = attribute(self.predictor, self.films[row], str(self.table["sex"].iloc[row]))
        return self._maps[row]

    def worst(self, count: int) -> list[int]:
        """Rows of the films of largest absolute error, worst first."""
        return np.argsort(-np.abs(self.errors), kind="stable")[:count].tolist()


def draw_case(residuals: Residuals, places: Sequence[int]) -> Picture:
    """A row for each of `places` (1: predicted most too young; n: most too old): the film's point among all
    residuals, the film, its attribution, and the training films most like it to the network."""
    table, columns = residuals.table, 3 + NEIGHBOURS
    figure, axes = new_figure(1.5 + 1.1 * (columns - 1), 1.62 * len(places) + 0.6, len(places), columns, squeeze=False,
                              width_ratios=[1.5] + [1] * (columns - 1))
    parts = []
    for line, place in zip(axes, places, strict=True):
        row = int(residuals.order[place - 1])
        film, months, predicted = residuals.films[row], table["months"].iloc[row], table["predicted"].iloc[row]
        _residual_plot(line[0], residuals, row)
        for ax in line[1:]:
            ax.axis("off")
            ax.imshow(film, cmap="gray", vmin=0, vmax=255)
        name = f"{table['id'].iloc[row]} ({table['sex'].iloc[row]})"
        line[1].set_title(f"{name}\nlabel {months:.0f}", fontsize=9, loc="center")
        overlay(line[2], film, residuals.map(row).map)
        line[2].set_title(f"says {predicted:.0f}\n({signed(predicted - months)})", fontsize=9, loc="center")
        near = residuals.alike[row]
        for ax, other in zip(line[3:], near, strict=True):
            ax.imshow(residuals.library[other], cmap="gray", vmin=0, vmax=255)
            ax.set_title(f"like it:\nlabel {residuals.library_months[other]:.0f}", fontsize=9, loc="center",
                         color=MUTED)
        parts.append(f"place {place} of {len(table)}, film {name}: label {months:.0f}, says {predicted:.0f}, the "
                     "training films most like it have "
                     + ", ".join(f"{residuals.library_months[k]:.0f}" for k in near))
    axes[-1, 0].set_xlabel("label (months)", fontsize=8)
    figure.supxlabel(COLOURS_SAY, fontsize=9)
    figure.set_dpi(FILMS_DPI)
    return Picture(figure, f"""Ages in months. In each row: a film's point, ringed, in the plot of prediction minus
        label against the label; the film; the film under its attribution, orange for older, purple for younger; and the
        {NEIGHBOURS} training films most like it to the network. {'; '.join(parts)}.""")


def _residual_plot(ax: Any, residuals: Residuals, row: int) -> None:
    table = residuals.table
    for sex in ("F", "M"):
        own = (table["sex"] == sex).to_numpy()
        ax.scatter(table["months"][own], residuals.errors[own], s=7, color=SEX_COLOUR[sex], marker=SEX_MARKER[sex],
                   alpha=0.6, linewidths=0, label=SEX_NAME[sex])
    ax.plot(table["months"].iloc[row], residuals.errors[row], "o", color="black", fillstyle="none", markersize=10,
            markeredgewidth=1.5)
    ax.axhline(0, color=MUTED, linewidth=0.8, zorder=0)
    ax.tick_params(labelsize=7)
    ax.margins(y=0.12)
    ax.set(xlim=(0, 240), xticks=(0, 120, 240))
    ax.set_ylabel("error (months)", fontsize=8)


def three_places(residuals: Residuals) -> tuple[int, int, int]:
    """The places of the film predicted most too young, the one in the middle, and the one predicted most too old."""
    count = len(residuals.table)
    return 1, (count + 1) // 2, count


def draw_three_cases(residuals: Residuals) -> Picture:
    """`draw_case` of the three places."""
    return draw_case(residuals, three_places(residuals))


def explore(residuals: Residuals, count: int = EXPLORED) -> Slider:
    """A slider through `count` films, evenly spread from the one predicted most too young to the one predicted most too
    old, and `draw_case` of each."""
    low, middle, high = three_places(residuals)
    places = sorted({middle, *np.linspace(low, high, min(count, high)).round().astype(int).tolist()})
    return slider(lambda place: draw_case(residuals, (place,)), places, middle, "place, from too young to too old",
                  lambda place: f"{place} of {high}")


# --- the worst ---

def draw_worst(residuals: Residuals, count: int = 12) -> Picture:
    """The `count` films of largest error, worst first, each beside itself under its attribution."""
    rows = residuals.worst(count)
    lines = -(-len(rows) // WORST_COLUMNS)
    figure, axes = new_figure(2.2 * WORST_COLUMNS, 1.48 * lines + 0.2, lines, 2 * WORST_COLUMNS, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    parts = []
    for number, row in enumerate(rows):
        line, column = divmod(number, WORST_COLUMNS)
        plain, mapped = axes[line, 2 * column], axes[line, 2 * column + 1]
        one, film = residuals.table.iloc[row], residuals.films[row]
        plain.imshow(film, cmap="gray", vmin=0, vmax=255)
        plain.set_title(f"{one['id']} ({one['sex']})\nlabel {one['months']:.0f}", fontsize=8, loc="center")
        overlay(mapped, film, residuals.map(row).map)
        mapped.set_title(f"says {one['predicted']:.0f}\n({signed(residuals.errors[row])})", fontsize=8, loc="center")
        parts.append(f"{one['id']} label {one['months']:.0f}, says {one['predicted']:.0f}")
    figure.supxlabel(COLOURS_SAY, fontsize=9)
    figure.set_dpi(FILMS_DPI)
    return Picture(figure, f"""The {len(rows)} films with the largest errors, worst first, ages in months; each film
        stands beside itself under its attribution, orange for older, purple for younger. {'; '.join(parts)}.""")


def draw_blame(films: pd.DataFrame, count: int = 12) -> Picture:
    """Of `blame`'s table: how far the label (horizontal) and the network (vertical) are from the true bone age; the
    `count` films of largest error ringed. On the diagonal both agree."""
    figure, ax = new_figure(5.2, 4.6)
    errors = (films["predicted"] - films["months"]).abs()
    worst = errors.nlargest(count).index
    reach = 1.08 * max(films["label_off"].abs().max(), films["network_off"].abs().max())
    ax.plot([-reach, reach], [-reach, reach], color=MUTED, linewidth=0.8, zorder=0)
    for line in (ax.axhline, ax.axvline):
        line(0, color=MUTED, linewidth=0.8, zorder=0)
    for sex in ("F", "M"):
        of_sex = films["sex"] == sex
        ax.scatter(films.loc[of_sex, "label_off"], films.loc[of_sex, "network_off"], s=14, color=SEX_COLOUR[sex],
                   marker=SEX_MARKER[sex], alpha=0.6, linewidths=0, label=SEX_NAME[sex])
    ax.plot(films.loc[worst, "label_off"], films.loc[worst, "network_off"], "o", color="black", fillstyle="none",
            markersize=9, linestyle="none", label=f"the worst {len(worst)}")
    ax.set(xlabel="label − true bone age (months)", ylabel="prediction − true bone age (months)",
           xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.legend(fontsize=8)
    by_label = int((films.loc[worst, "label_off"].abs() > films.loc[worst, "network_off"].abs()).sum())
    return Picture(figure, f"""Prediction minus true bone age against label minus true bone age, {len(films)} films,
        months. The labels are {films['label_off'].abs().mean():.1f} months off on average, the predictions
        {films['network_off'].abs().mean():.1f}. Of the {len(worst)} films of largest error, ringed, the label is
        further from the true bone age than the prediction in {by_label}.""")
