"""A planted shortcut: a strip on every film that shows the label, the cohort with it, and which network uses it."""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from bonexage_utils.checks.attribution import COLOURS_SAY, attribute, overlay, share_inside
from bonexage_utils.cohort import Cohort
from bonexage_utils.course.bones import letterbox_mask
from bonexage_utils.course.nb08.residuals import letterboxed
from bonexage_utils.decoding import read_gray
from bonexage_utils.figures import ACCENT, BOYS, Picture, new_figure
from bonexage_utils.images import letterbox
from bonexage_utils.phantom.plate import plant_shortcut
from bonexage_utils.prediction import Predictor
from bonexage_utils.statistics import Interval, bootstrap_mean


@dataclass(frozen=True)
class Marked:
    """Films with a strip. `films` and `strips`, uint8 and bool (n, S, S): letterboxed, and where the strip lies on
    them; `table` has their `id`, `sex`, `months`, and `image`, the path of the film without one."""

    films: np.ndarray
    strips: np.ndarray
    table: pd.DataFrame


def mark(film: np.ndarray, months: float) -> tuple[np.ndarray, np.ndarray]:
    """A copy of a film, uint8 (H, W), with a strip at its lower left that is longer for the older (months), and where
    it lies, bool (H, W). White; on a film that is mostly bright, a negative, black."""
    film, where = film.copy(), np.zeros(film.shape, bool)
    x0, y0, x1, y1 = plant_shortcut(film, months, 0 if np.median(film) > 127 else 255)
    where[y0:y1, x0:x1] = True
    return film, where


def marked_cohort(cohort: Cohort, folder: Path, train: int, selection: int) -> Cohort:
    """The first `train` and `selection` films of those splits, each with a strip, written into `folder`.

    Ids, labels and splits stay; nothing else is in the table. Raises BoneXageError for a film that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.concat([cohort.split("train").head(train), cohort.split("selection").head(selection)],
                      ignore_index=True)
    images = []
    for row in tqdm(table.itertuples(), total=len(table), desc="marking films", unit="film", leave=False,
                    mininterval=0.5):
        path = folder / f"{row.id}.png"
        path.write_bytes(cv2.imencode(".png", mark(read_gray(row.image), row.months)[0])[1].tobytes())
        images.append(str(path))
    return replace(cohort, table=table.assign(image=images))


def marked_films(films: pd.DataFrame, size: int) -> Marked:
    """Rows of a cohort's table as a network of `size` px sees them with the strip."""
    pairs = [mark(read_gray(row.image), row.months) for row in films.itertuples()]
    return Marked(np.stack([letterbox(film, size) for film, _ in pairs]),
                  np.stack([letterbox_mask(strip, size) for _, strip in pairs]), films.reset_index(drop=True))


def predict_films(predictor: Predictor, films: np.ndarray, sexes: list[str], batch: int = 64) -> np.ndarray:
    """The predictions (n,), months, of a network for letterboxed films, uint8 (n, S, S)."""
    starts = range(0, len(films), batch)
    return np.concatenate([predictor.months(films[k : k + batch], sexes[k : k + batch]) for k in starts])


def two_by_two(networks: dict[str, Predictor], films: pd.DataFrame) -> dict[str, dict[str, Interval]]:
    """MAE (months, 95 % interval) of each network on rows of a cohort's table, without a strip and with it; each
    network sees them at its own size."""
    sexes, months, table = films["sex"].tolist(), films["months"].to_numpy(), {}
    for name, network in networks.items():
        size = network.preprocessing.image_size
        kinds = {"without a strip": letterboxed(films, size), "with the strip": marked_films(films, size).films}
        table[name] = {kind: bootstrap_mean(np.abs(predict_films(network, seen, sexes) - months))
                       for kind, seen in kinds.items()}
    return table


def draw_two_by_two(table: dict[str, dict[str, Interval]], marks: dict[str, float]) -> Picture:
    """`two_by_two`, and `marks` (months) as vertical lines: the noise floor, the median by sex."""
    figure, ax = new_figure(7, 0.9 + 0.75 * len(table))
    parts = []
    for place, (name, row) in enumerate(table.items()):
        for (kind, mae), offset, colour, marker in zip(row.items(), (-0.14, 0.14), (BOYS, ACCENT), ("o", "s"),
                                                       strict=True):
            ax.errorbar(mae.value, place + offset, xerr=[[mae.value - mae.low], [mae.high - mae.value]], capsize=4,
                        fmt=marker, color=colour, label=None if place else f"films {kind}")
            parts.append(f"{name}, films {kind}: {mae.value:.1f} [{mae.low:.1f}, {mae.high:.1f}]")
    for line, (name, months) in zip((":", "--"), marks.items(), strict=False):
        ax.axvline(months, color="black", linewidth=1, linestyle=line, label=name)
        parts.append(f"{name} {months:.1f}")
    ax.set(yticks=range(len(table)), ylim=(len(table) - 0.5, -0.5), xlim=(0, None), xlabel="MAE (months)")
    ax.set_yticklabels(list(table))
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return Picture(figure, f"Mean absolute error in months with 95 % interval. {'; '.join(parts)}.")


def strip_shares(network: Predictor, films: pd.DataFrame) -> pd.DataFrame:
    """Of each of `films` (rows of a cohort's table), marked: the `share` (0–1) of attribution that falls on the strip,
    and the strip's `area`, as a share of the film."""
    marked = marked_films(films, network.preprocessing.image_size)
    seen = zip(marked.films, marked.strips, marked.table["sex"], strict=True)
    shares = [share_inside(attribute(network, film, sex).map, strip) for film, strip, sex in
              tqdm(seen, total=len(films), desc="attributing", leave=False, mininterval=0.5)]
    return pd.DataFrame({"share": shares, "area": marked.strips.mean((1, 2))})


def draw_strip(networks: dict[str, Predictor], films: pd.DataFrame) -> Picture:
    """The first of `films` with its strip, then its attribution in each network, the strip outlined."""
    figure, axes = new_figure(2.1 * (1 + len(networks)), 2.6, 1, 1 + len(networks))
    case, parts = films.iloc[0], []
    for ax, (name, network) in zip(axes[1:], networks.items(), strict=True):
        marked = marked_films(films.head(1), network.preprocessing.image_size)
        found = attribute(network, marked.films[0], case["sex"])
        overlay(ax, marked.films[0], found.map, marked.strips[0])
        on_it = f"{100 * share_inside(found.map, marked.strips[0]):.1f} %"
        ax.set_title(f"{name}:\nsays {found.prediction:.0f}, {on_it} on the strip", loc="center", fontsize=9)
        parts.append(f"{name} says {found.prediction:.0f} and puts {on_it} of its attribution on the strip")
    axes[0].imshow(mark(read_gray(case["image"]), case["months"])[0], cmap="gray", vmin=0, vmax=255)
    axes[0].set_title(f"label {case['months']:.0f}", loc="center", fontsize=9)
    for ax in axes:
        ax.axis("off")
    figure.supxlabel(COLOURS_SAY, fontsize=9)
    return Picture(figure, f"""A hand film with a strip at its lower left, label {case['months']:.0f} months, and the
        same under each network's attribution, the strip outlined. {'; '.join(parts)}.""")
