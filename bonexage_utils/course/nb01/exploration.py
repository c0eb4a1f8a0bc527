"""Data and figures of notebook 01: bins of labels, four label tables, a folder with bad films, a leak."""

import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from bonexage_utils.cohort import Cohort
from bonexage_utils.course.sliders import OLDEST, SEXES, Slider, slider
from bonexage_utils.decoding import read_gray
from bonexage_utils.errors import BoneXageError
from bonexage_utils.figures import ACCENT, BOYS, MUTED, SEX_COLOUR, SEX_NAME, Picture, montage, new_figure
from bonexage_utils.images import cached_images, letterbox
from bonexage_utils.phantom import anatomy, write_cohort
from bonexage_utils.phantom.dataset import IMAGE_FOLDER, TRUTH_FILE
from bonexage_utils.phantom.faults import PLANTED_FILE, plant_faults

WIDEST_BIN, TWIN_BINS = 24, (1, 6, 24)  # months
RSNA_SHARES = (0.81, 0.58)  # multiples of 6 and of 12 months among RSNA's 12,611 training labels
# The first seed with a right hand and no other unusual film, a letter on that hand and one on the mirrored film:
# a flipped, turned or inverted film would be as bad as a planted one, and a mirrored hand shows by its letter alone.
HOSPITAL_FILMS, HOSPITAL_FAULTS, HOSPITAL_SEED = 80, 12, 44
TABLES = {"A": "to the month", "B": "years", "C": "as it is", "D": "school"}
# What is visible of the planted faults on a contact sheet.
ON_SHEET = {
    "white, because there is nothing to open": ("file cut short", "file deleted", "file of zero bytes",
                                                "text under the name of an image"),
    "without a hand": ("no hand on the film",), "a negative": ("black and white swapped",),
    "upside down": ("turned upside down",), "on its side": ("turned on its side",),
    "thumb on the left": ("left and right swapped",),
}
TWICE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # share of the films that were exported twice
LEAK_FILMS, LEAK_PIXELS, LEAK_DRAWS = 500, 32, 20


def draw_bins(films: pd.DataFrame, widths: tuple[int, ...] = TWIN_BINS) -> Picture:
    """Histograms of the labels of `films` (`months`, `sex`), girls upwards and boys downwards, one for each
    bin width in months."""
    figure, axes = new_figure(8, 0.7 + 1.9 * len(widths), len(widths), 1, sharex=True, squeeze=False)
    parts = []
    for ax, width in zip(axes[:, 0], widths, strict=True):
        edges = np.arange(-0.5, OLDEST + 24 + width, width)  # shifted by half a month: a whole month lies inside a bin
        counts = np.histogram(films["months"], edges)[0]
        for sex, up in zip(SEXES, (1, -1), strict=True):
            of_sex = films.loc[films["sex"] == sex, "months"]
            ax.hist(of_sex, edges, weights=np.full(len(of_sex), up), color=SEX_COLOUR[sex], label=SEX_NAME[sex])
        ax.axhline(0, color="black", linewidth=0.8)
        ax.yaxis.set_major_formatter(lambda count, _: f"{abs(count):.0f}")
        ax.set(ylabel="films", xlim=(0, OLDEST + 24), xticks=range(0, OLDEST + 25, 12),
               title=f"bins of {width} month{'s' if width > 1 else ''}")
        empty = (counts[edges[:-1] < OLDEST + 23] == 0).mean()  # of the bins within the axis
        parts.append(f"bins of {width}: {empty:.0%} of them empty, the fullest holds {counts.max()} films")
    axes[-1, 0].set_xlabel("label (months)")
    axes[0, 0].legend(loc="upper left")
    return Picture(figure, f"""Histograms of {len(films):,} labels in months, girls upwards and boys downwards.
        Girls and boys together: {'; '.join(parts)}.""")


def choose_bins(films: pd.DataFrame) -> Slider:
    """A slider over the bin width and the histogram of `draw_bins`."""
    return slider(lambda width: draw_bins(films, (width,)), range(1, WIDEST_BIN + 1), 6, "bin, months")


def share_of_multiples(months: np.ndarray, step: int) -> float:
    """The share (0–1) of the labels (n,), months, that `step` divides; NaN is no label and not counted."""
    months = np.asarray(months, float)
    given = months[~np.isnan(months)]
    return float((given % step == 0).mean())


def label_costs(cohort: Cohort) -> pd.Series:
    """The error in months of rounding to the nearest plate of the atlas, and of the label itself, without test films.

    Mean absolute differences to the true bone ages of `ground_truth.csv`, and the per cent of labels that equal the
    nearest plate. Empty where the truth is not known, as with real films.
    """
    if not (cohort.root / TRUTH_FILE).is_file():
        return pd.Series(dtype=float)
    truth = pd.read_csv(cohort.root / TRUTH_FILE, dtype={"id": str}).set_index("id")["bone_age_months"]
    films = cohort.table[cohort.table["split"] != "test"].dropna(subset=["months"])
    true_age = films["id"].map(truth)
    plate = np.array([min(anatomy.GP_STANDARDS[sex], key=lambda plate: abs(plate - age))
                      for sex, age in zip(films["sex"], true_age, strict=True)])
    return pd.Series({"from the true bone age to the nearest plate (months)": (plate - true_age).abs().mean(),
                      "from the true bone age to the label (months)": (films["months"] - true_age).abs().mean(),
                      "labels that are the nearest plate (%)": 100 * (films["months"] == plate).mean()})


def four_tables(months: np.ndarray) -> dict[str, np.ndarray]:
    """Four tables made from these labels (n,), months: A to the month, B with one in eight in years, C as they are, D
    of children of school age alone (5 to 12 years)."""
    months = np.asarray(months, float)
    months = months[~np.isnan(months)]
    rng = np.random.default_rng(0)
    in_years = np.where(rng.random(len(months)) < 1 / 8, np.ceil(months / 12), months)
    # Triangles that reach to the neighbouring plates add up to a constant: the comb is gone.
    spread = np.rint(months + np.minimum(12, months / 2) * rng.triangular(-1, 0, 1, len(months)))
    return {"A": spread, "B": in_years, "C": months, "D": months[(months >= 60) & (months <= 144)]}


def draw_four_tables(months: np.ndarray) -> Picture:
    """Histograms, one bin per month, of `four_tables`."""
    figure, axes = new_figure(9, 4.6, 2, 2, sharex=True)
    parts = []
    for ax, (name, labels) in zip(axes.flat, four_tables(months).items(), strict=True):
        ax.hist(labels, bins=np.arange(-0.5, 241), color=BOYS)
        ax.set(title=f"table {name}: {len(labels):,} labels", xlim=(0, 240), xticks=range(0, 241, 24))
        low, high = (labels <= 18).mean(), labels.max()
        parts.append(f"{name}: {share_of_multiples(labels, 6):.0%} multiples of six, {low:.0%} at most 18 months, from "
                     f"{labels.min():.0f} to {high:.0f} months")
    for ax in axes[-1]:
        ax.set_xlabel("label (months)")
    for ax in axes[:, 0]:
        ax.set_ylabel("films")
    return Picture(figure, f"Histograms of the labels of four tables, one bin per month. {'; '.join(parts)}.")


def rank_correlation(values: pd.Series, months: pd.Series) -> float:
    """Spearman's rank correlation, −1 to 1; 0 where all values are the same and it is not defined."""
    return 0.0 if values.min() == values.max() else float(values.corr(months, method="spearman"))


def draw_sizes(films: pd.DataFrame) -> Picture:
    """Height against width (px) of `films`, coloured by `months`; thin lines join films of the same proportions."""
    figure, ax = new_figure(6.5, 4)
    points = ax.scatter(films["width"], films["height"], c=films["months"], cmap="cividis", s=14, zorder=2)
    figure.colorbar(points, ax=ax, label="label (months)")
    low, high = films["width"].min(), films["width"].max()
    bottom, top = 0.9 * films["height"].min(), 1.1 * films["height"].max()
    for text, aspect in (("2:3", 2 / 3), ("4:5", 4 / 5), ("1:1", 1.0)):
        ax.plot([bottom * aspect, top * aspect], [bottom, top], color=MUTED, linewidth=0.8, zorder=1)
        ax.text(top * aspect, top, text, color=MUTED, ha="center", va="bottom", fontsize=8)
    ax.set(xlabel="width (px)", ylabel="height (px)")
    correlations = [rank_correlation(films[side], films["months"]) for side in ("width", "height")]
    return Picture(figure, f"""Height against width of {len(films)} films in pixels, coloured by label. Widths go from
        {low} to {high}, heights from {films["height"].min()} to {films["height"].max()}. Rank correlation with the
        label: width {correlations[0]:.2f}, height {correlations[1]:.2f}.""")


@lru_cache
def _hospital() -> tuple[tempfile.TemporaryDirectory, Path]:
    temporary = tempfile.TemporaryDirectory(prefix="bonexage-hospital-")  # as long as this process lives
    folder = write_cohort(Path(temporary.name) / "hospital", HOSPITAL_FILMS, HOSPITAL_SEED, workers=1)
    plant_faults(folder, HOSPITAL_FAULTS, HOSPITAL_SEED)
    return temporary, folder


def hospital() -> Path:
    """The folder of a cohort of 80 phantoms, twelve of them with a planted fault; `planted_faults.csv` lists these."""
    return _hospital()[1]


def sheet_film(path: str, side: int = 84) -> np.ndarray:
    """A film as a tile (side, side), uint8, of a contact sheet; white where it cannot be read."""
    try:
        return letterbox(read_gray(path), side)
    except BoneXageError:
        return np.full((side, side), 255, np.uint8)


def draw_sheet(films: pd.DataFrame) -> Picture:
    """A contact sheet of the hospital's `films` (`id`, `image`)."""
    return montage([sheet_film(path) for path in films["image"]], films["id"].tolist(), f"""Contact sheet of
        {len(films)} small hand films under their ids, most of them left hands with the fingers up. Others:
        {tell_sheet()}.""", columns=10, side=0.85)


def tell_sheet() -> str:
    """The visible faults on the contact sheet of the hospital's films, in words for its alt text."""
    planted = pd.read_csv(hospital() / PLANTED_FILE, dtype=str)
    truth = pd.read_csv(hospital() / TRUTH_FILE, dtype={"id": str})
    faults = {what: planted.loc[planted["fault"].isin(kinds), "id"].tolist() for what, kinds in ON_SHEET.items()}
    faults["thumb on the left"] += truth.loc[truth["right_hand"], "id"].tolist()
    return "; ".join(f"{what}: {', '.join(sorted(ids))}" for what, ids in faults.items())


def draw_closer(ids: list[str]) -> Picture:
    """Films of the hospital, large enough to read the letter on them."""
    planted = pd.read_csv(hospital() / PLANTED_FILE, dtype=str).set_index("id")["fault"]
    truth = pd.read_csv(hospital() / TRUTH_FILE, dtype={"id": str}).set_index("id")
    letters = truth["right_hand"].map({True: "R", False: "L"}).where(truth["marker"], "none")
    mirrored = planted.index[planted == "left and right swapped"]
    parts = [f"{film} {letters[film]}{', mirrored' if film in mirrored else ''}" for film in ids]
    films = [sheet_film(str(hospital() / IMAGE_FOLDER / f"{film}.png"), 300) for film in ids]
    return montage(films, ids, f"Films of the hospital, larger. The letter on each: {'; '.join(parts)}.",
                   columns=min(4, len(ids)), side=2.2)


def small_films(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    """At most `LEAK_FILMS` training films as rows of pixels, float32 (n, `LEAK_PIXELS`²), and their labels (n,)."""
    films = cohort.split("train").dropna(subset=["months"]).head(LEAK_FILMS)
    cached = cached_images(films["image"].tolist(), LEAK_PIXELS)
    readable = np.setdiff1d(np.arange(len(films)), list(cached.failures))
    return cached.array[readable].reshape(len(readable), -1).astype(np.float32), films["months"].to_numpy()[readable]


def looks(pixels: np.ndarray) -> np.ndarray:
    """Rows of pixels (n, d) of mean 0 and length 1: their products are correlations, 1 for films that look the same."""
    pixels = pixels - pixels.mean(axis=1, keepdims=True)
    return pixels / np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-6)


def exported_again(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same films (n, d) by another exposure, and with noise."""
    return 15 + 0.85 * pixels + rng.normal(0, 2, pixels.shape)


def leak(cohort: Cohort) -> pd.DataFrame:
    """The measured MAE of a nearest-neighbour regression when some of the films were exported twice.

    Columns: `twice` (share of films with a second export, 0–0.5), `by film` and `by child`: its MAE in months when the
    split is drawn film by film, or child by child; `median`: that of the median of all labels. From at most
    `LEAK_FILMS` training films, small and standardised; a quarter is tested on the rest; the mean of `LEAK_DRAWS` draws
    with fixed seeds.
    """
    flat, months = small_films(cohort)
    rows = []
    for twice in TWICE:
        errors = {"by film": [], "by child": []}
        for draw in range(LEAK_DRAWS):
            rng = np.random.default_rng([draw, round(100 * twice)])
            copied = rng.permutation(len(flat))[: round(twice * len(flat))]
            child = np.r_[np.arange(len(flat)), copied]
            pixels = looks(np.concatenate([flat, exported_again(flat[copied], rng)]))
            draws = {"by film": rng.random(len(child)), "by child": rng.random(len(flat))[child]}
            for split, number in draws.items():
                test = number < 0.25
                nearest = (pixels[test] @ pixels[~test].T).argmax(axis=1)
                error = months[child[test]] - months[child[~test]][nearest]
                errors[split].append(np.abs(error).mean())
        rows.append({"twice": twice, **{split: float(np.mean(all_draws)) for split, all_draws in errors.items()},
                     "median": float(np.abs(months - np.median(months)).mean())})
    return pd.DataFrame(rows)


def draw_leak(table: pd.DataFrame) -> Picture:
    """The columns of `leak` against the share of films exported twice."""
    figure, ax = new_figure(6.5, 3.8)
    for split, colour, marker, line in (("by film", ACCENT, "s", "--"), ("by child", BOYS, "o", "-")):
        ax.plot(100 * table["twice"], table[split], color=colour, marker=marker, linestyle=line,
                label=f"split drawn {split}")
    ax.axhline(table["median"].iloc[0], color=MUTED, linestyle=":", label="the median")
    ax.set(xlabel="films exported twice (%)", ylabel="MAE on the judged films (months)", ylim=(0, None),
           title="The same reader, judged after two splits")
    ax.legend(loc="lower left")
    parts = "; ".join(f"at {row.twice:.0%} by film {row[2]:.1f}, by child {row[3]:.1f}" for row in table.itertuples())
    return Picture(figure, f"""Mean absolute error in months of a nearest-neighbour reader against the share of films
        that were exported twice, for a split drawn film by film and one drawn child by child: {parts}. The median of
        all labels, which looks at no film, has {table["median"].iloc[0]:.1f}.""")
