"""Figures of where a network looks: a film, and what of it speaks for which age."""

import numpy as np
from scipy.ndimage import gaussian_filter

from bonexage_utils.attribution import Attribution, Case
from bonexage_utils.plots import MUTED, Picture, new_figure, style

FOR_AND_AGAINST = "PuOr_r"  # diverging; purple and orange stay apart for every kind of colour vision
OUTLINE = "#009E73"
COLOURS_SAY = "orange speaks for an older child, purple for a younger one"


def _signed(months: float) -> str:
    return f"{months:+.0f}".replace("-", "−")


def overlay(ax, film: np.ndarray, map: np.ndarray, outline: np.ndarray | None = None) -> None:
    """A film (S, S) under its attribution: orange for older, purple for younger, fainter where there is less."""
    map = gaussian_filter(map, len(map) / 128, mode="constant")  # single pixels are too small to see
    limit = max(float(np.quantile(np.abs(map), 0.998)), 1e-12)
    ax.imshow(film, cmap="gray", vmin=0, vmax=255)
    ax.imshow(map, cmap=FOR_AND_AGAINST, vmin=-limit, vmax=limit, alpha=np.clip(1.5 * np.abs(map) / limit, 0, 0.75))
    if outline is not None:
        ax.contour(outline, [0.5], colors=OUTLINE, linewidths=0.8)


@style()
def attribution_maps(film: np.ndarray, found: list[Attribution], region: np.ndarray | None = None) -> Picture:
    """One film, uint8 (S, S), then each map over it; `region`, bool (S, S), is outlined, e.g. the deciding centres."""
    figure, axes = new_figure(2.4 * (len(found) + 1), 3.0, 1, len(found) + 1, squeeze=False)
    axes[0, 0].imshow(film, cmap="gray", vmin=0, vmax=255)
    axes[0, 0].set_title("film", loc="center")
    for ax, told in zip(axes[0, 1:], found, strict=True):
        overlay(ax, film, told.map, region)
        older, younger = (_signed(told.map[side].sum()) for side in (told.map > 0, told.map < 0))
        ax.set_title(f"{told.method.replace('_', ' ')}\n{older} and {younger} months", loc="center", fontsize=9)
    for ax in axes.flat:
        ax.axis("off")
    figure.supxlabel(COLOURS_SAY, fontsize=9)
    told = "; ".join(f"{one.method.replace('_', ' ')}: {_signed(one.map[one.map > 0].sum())} months for older, "
                     f"{_signed(one.map[one.map < 0].sum())} for younger" for one in found)
    return Picture(figure, f"""A hand film and, laid over it, where the network looks: orange speaks for an older child,
        purple for a younger one. The film says {found[0].prediction:.0f} months, the baseline film
        {found[0].baseline:.0f}. {told}.{' A line marks the region asked about.' if region is not None else ''}""")


@style()
def worst_cases(cases: list[Case]) -> Picture:
    """A row for each case: the film, its attribution over it, and the training films most like it to the network."""
    columns = 2 + max(len(case.neighbours) for case in cases)
    figure, axes = new_figure(1.75 * columns, 2.0 * len(cases), len(cases), columns, squeeze=False)
    told = []
    for row, case in zip(axes, cases, strict=True):
        label, predicted = case.row["months"], case.row["predicted"]
        row[0].imshow(case.film, cmap="gray", vmin=0, vmax=255)
        row[0].set_title(f"{case.row['id']} ({case.row['sex']})\nlabel {label:.0f}", fontsize=9, loc="center")
        overlay(row[1], case.film, case.attribution.map)
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
