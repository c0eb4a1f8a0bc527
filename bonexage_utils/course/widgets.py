"""What moves in the notebooks, each slider with its static twin, and a few figures that only one notebook draws.

Notebook 00 lets a hand grow and plays a game, 01 counts labels in wider and narrower bins, 03 lets one label slip.

The children here are the phantom's average ones: every ossification centre follows the tables, size is the median,
and the film is neutral. So the same age always gives the same picture. Ages are months.
"""

from collections.abc import Callable
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from bonexage_utils.phantom import Child, Nuisances, anatomy, grow, render
from bonexage_utils.plots import ACCENT, MUTED, SEX_COLOUR, SEX_MARKER, SEX_NAME, Picture, montage, new_figure
from bonexage_utils.prediction import format_age

YOUNGEST, OLDEST, STEP = 12, 216, 6  # months: the range of the course's phantoms
FILM_HEIGHT = 320  # px
TWIN_AGES = (12, 24, 60, 108, 156, 204)  # months
CENTRES = len(anatomy.APPEARANCE)
SCALE_BAR_MM, BAR_PLACE_PX, BAR_THICKNESS_PX = 20.0, 10, 4
SEXES = ("F", "M")
ONE = {"F": "girl", "M": "boy"}


def average_child(sex: str, age_months: float) -> Child:
    """The average child of that sex (`"F"`, `"M"`) and age: nothing about it is drawn by chance."""
    return grow(sex, age_months, np.random.default_rng(0), tempo=0.0, jitter=False)


def centres_present(sex: str, age_months: float) -> int:
    """How many of the 30 ossification centres show on the film of the average child of that age."""
    return sum(centre.present for centre in average_child(sex, age_months).centres)


@lru_cache(maxsize=128)  # a slider goes back and forth
def _film(sex: str, age_months: float) -> np.ndarray:
    """A neutral film, uint8 (FILM_HEIGHT, W), with a white bar of SCALE_BAR_MM in its lower left corner."""
    image, facts = render(average_child(sex, age_months), np.random.default_rng(0), FILM_HEIGHT, Nuisances())
    bar = round(SCALE_BAR_MM / facts["mm_per_px"])
    image[-BAR_PLACE_PX:, BAR_PLACE_PX:BAR_PLACE_PX + bar][:BAR_THICKNESS_PX] = 255
    return image


def draw_hands(age_months: float) -> Picture:
    """The average girl's and boy's hand at one age, 12 to 216 months, side by side; an age beyond is moved inside.

    The hand always fills the film. The bar in the corner is 2 cm long, so it shrinks while the hand grows.
    """
    age = float(np.clip(age_months, YOUNGEST, OLDEST))
    figure, axes = new_figure(5.6, 4.0, 1, 2)
    for ax, sex in zip(axes, SEXES, strict=True):
        ax.imshow(_film(sex, age), cmap="gray", vmin=0, vmax=255)
        ax.text(BAR_PLACE_PX, FILM_HEIGHT - BAR_PLACE_PX - 6, "2 cm", color="white", fontsize=8)
        ax.set_title(f"{ONE[sex]}: {centres_present(sex, age)} of {CENTRES} centres", loc="center")
        ax.axis("off")
    figure.suptitle(format_age(age))
    girl, boy = (centres_present(sex, age) for sex in SEXES)
    return Picture(figure, f"""Simulated hand films of an average girl (left) and an average boy (right), both
        {format_age(age)} old. The girl shows {girl} of {CENTRES} ossification centres, the boy {boy}.""")


def draw_growth(ages: tuple[float, ...] = TWIN_AGES) -> Picture:
    """The slider's static twin: the average girl (upper row) and boy (lower row) at several ages in months."""
    pairs = [(sex, age) for sex in SEXES for age in ages]
    counts = [centres_present(sex, age) for sex, age in pairs]
    titles = [f"{ONE[sex]}, {age / 12:g} year{'s' * (age != 12)}\n{count} of {CENTRES}"
              for (sex, age), count in zip(pairs, counts, strict=True)]
    girls, boys = counts[:len(ages)], counts[len(ages):]
    years = ", ".join(f"{age / 12:g}" for age in ages)
    films = [_film(sex, float(age)) for sex, age in pairs]
    return montage(films, titles, f"""Simulated hand films of an average girl (upper row) and an average boy (lower
        row) at {years} years. The number of ossification centres on them: girls {", ".join(map(str, girls))}, boys
        {", ".join(map(str, boys))}. The bar in each lower left corner is 2 cm long.""", columns=len(ages))


def grow_a_hand() -> Any:
    """A slider over age and the two hands of `draw_hands`; the static twin where ipywidgets cannot be imported.

    Needs ipywidgets 7.7 or later. Below the picture stands its alt text, which follows the slider.
    """
    try:
        import ipywidgets
    except ImportError:
        return draw_growth()
    slider = ipywidgets.IntSlider(value=60, min=YOUNGEST, max=OLDEST, step=STEP, description="age, months")
    return with_picture(slider, draw_hands)


def with_picture(slider: Any, draw: Callable[[int], Picture]) -> Any:
    """The slider, the picture that `draw` makes of its value, and that picture's alt text: both follow the slider."""
    import ipywidgets

    slider.continuous_update = False
    slider.style, slider.layout = {"description_width": "initial"}, ipywidgets.Layout(width="90%")
    first = draw(slider.value)
    image = ipywidgets.Image(value=first.png, format="png")
    told = ipywidgets.HTML(value=first.alt)

    def follow(change: dict) -> None:
        picture = draw(change["new"])
        image.value, told.value = picture.png, picture.alt

    slider.observe(follow, names="value")
    return ipywidgets.VBox([slider, image, told])


def is_lead(guess: object) -> bool:
    """Whether `guess` is a pair such as ("girl", 6): who is first, and by how many months."""
    return (isinstance(guess, tuple | list) and len(guess) == 2 and guess[0] in ONE.values()
            and isinstance(guess[1], int | float) and 0 <= guess[1] <= OLDEST)


def draw_centres(guess: object = ...) -> Picture:
    """Centres that show against age for the average girl and boy, and the learner's guess of the gap at the top.

    `guess` is ("girl" or "boy", months of lead in showing all 30); anything else is not drawn.
    """
    ages = np.arange(YOUNGEST, OLDEST + 1)
    figure, ax = new_figure(7, 4)
    counts = {sex: np.array([centres_present(sex, age) for age in ages]) for sex in SEXES}
    complete = {sex: int(ages[counts[sex] == CENTRES][0]) for sex in SEXES}
    for sex in SEXES:
        ax.step(ages, counts[sex], where="post", color=SEX_COLOUR[sex], linestyle="-" if sex == "F" else "--",
                label=SEX_NAME[sex])
        ax.plot(complete[sex], CENTRES, SEX_MARKER[sex], color=SEX_COLOUR[sex])
    lead = complete["M"] - complete["F"]
    _span(ax, complete["F"], complete["M"], CENTRES + 1.2, f"measured: {lead} months", "black")
    told = ""
    if is_lead(guess):
        until = complete["M"] - guess[1] if guess[0] == "girl" else complete["M"] + guess[1]
        _span(ax, until, complete["M"], CENTRES + 4, f"your guess: the {guess[0]}, by {guess[1]:g} months", ACCENT)
        told = f" A bar above them shows the guess: the {guess[0]} first, by {guess[1]:g} months."
    ax.set(xlabel="age (months)", ylabel="centres on the film", ylim=(0, CENTRES + 7), xlim=(0, OLDEST + 4),
           xticks=range(0, OLDEST + 1, 24), yticks=range(0, CENTRES + 1, 5),
           title="When the ossification centres appear")
    ax.legend(loc="lower right")
    return Picture(figure, f"""Number of ossification centres on the film against age in months, for the average girl
        and boy. Both curves rise steeply in the first three years, then flatten. The girl's is never below the boy's;
        she reaches {CENTRES} at {complete["F"]} months and he at {complete["M"]}, {lead} months later.{told}""")


def _span(ax: Any, start: float, end: float, height: float, text: str, colour: str) -> None:
    ax.annotate("", (start, height), (end, height),
                arrowprops={"arrowstyle": "|-|,widthA=0.3,widthB=0.3", "shrinkA": 0, "shrinkB": 0, "color": colour})
    ax.text(max(start, end) + 3, height, text, color=colour, va="center", fontsize=9)


def tidy_guesses(guesses: object, count: int) -> np.ndarray:
    """`count` guesses in years as months, NaN where none (`...`, None) was made.

    What was made but is no age from 0 to 20 years is left out too, and a line is printed for it.
    """
    months = np.full(count, np.nan)
    values = list(guesses) if isinstance(guesses, list | tuple) else []
    if len(values) > count or (not values and guesses is not ... and guesses is not None):
        print(f"Expected a list of {count} guesses, one for each film; left out what is not.")
    for place, value in enumerate(values[:count]):
        number = isinstance(value, Real) and not isinstance(value, bool)
        if number and 0 <= value <= 20:
            months[place] = 12 * value
        elif value is not ... and value is not None:
            meant = " Did you mean months?" if number and value > 20 else ""
            print(f"Film {chr(ord('A') + place)}: {value!r} is no age in years from 0 to 20; left out.{meant}")
    return months


def draw_game(films: pd.DataFrame) -> Picture:
    """The game's result: films A, B, … with `sex`, and in months `months` (the label), `median`, `model` and `you`
    (NaN: not guessed)."""
    names = [chr(ord("A") + place) for place in range(len(films))]
    where = np.arange(len(films))
    figure, ax = new_figure(7, 4.4)
    for place, label in zip(where, films["months"] / 12, strict=True):
        ax.plot([place - 0.35, place + 0.35], [label, label], color="black", linewidth=3, solid_capstyle="butt",
                label="label" if not place else None)
    played = films["you"].notna().any()
    shown = [("median", "median by sex", MUTED, "s"), ("model", "the model", SEX_COLOUR["M"], "^")]
    shown += [("you", "you", ACCENT, "o")] if played else []
    for shift, (column, label, colour, marker) in zip((-0.2, 0.0, 0.2), shown, strict=False):
        ax.plot(where + shift, films[column] / 12, marker, color=colour, label=label, markersize=7)
    ax.set(xticks=where, xlabel="film", ylabel="age (years)", ylim=(0, 20.5), yticks=range(0, 21, 4),
           title="Six films: the label, and who came how close")
    ax.set_xticklabels([f"{name}\n{ONE[sex]}" for name, sex in zip(names, films["sex"], strict=True)])
    figure.legend(ncols=4, loc="outside lower center", fontsize=9)
    told = [f"film {name}: label {row['months'] / 12:.1f}, median {row['median'] / 12:.1f}, model "
            f"{row['model'] / 12:.1f}" + ("" if np.isnan(row["you"]) else f", you {row['you'] / 12:.1f}")
            for name, row in zip(names, films.to_dict("records"), strict=True)]
    return Picture(figure, f"The age in years of {len(films)} films, and the guesses. {'; '.join(told)}.")


# Notebook 01: the same labels in bins of another width.
WIDEST_BIN, TWIN_BINS = 24, (1, 6, 24)  # months


def draw_bins(films: pd.DataFrame, widths: tuple[int, ...] = TWIN_BINS) -> Picture:
    """Histograms of the labels of `films` (`months`, `sex`), girls upwards and boys downwards, one for each
    bin width in months."""
    figure, axes = new_figure(8, 0.7 + 1.9 * len(widths), len(widths), 1, sharex=True, squeeze=False)
    told = []
    for ax, width in zip(axes[:, 0], widths, strict=True):
        edges = np.arange(-0.5, OLDEST + 24 + width, width)  # half a month off, so that a whole month is inside a bin
        counts = np.histogram(films["months"], edges)[0]
        for sex, up in zip(SEXES, (1, -1), strict=True):
            mine = films.loc[films["sex"] == sex, "months"]
            ax.hist(mine, edges, weights=np.full(len(mine), up), color=SEX_COLOUR[sex], label=SEX_NAME[sex])
        ax.axhline(0, color="black", linewidth=0.8)
        ax.yaxis.set_major_formatter(lambda count, _: f"{abs(count):.0f}")
        ax.set(ylabel="films", xlim=(0, OLDEST + 24), xticks=range(0, OLDEST + 25, 12),
               title=f"bins of {width} month{'s' if width > 1 else ''}")
        empty = (counts[edges[:-1] < OLDEST + 23] == 0).mean()  # of the bins within the axis
        told.append(f"bins of {width}: {empty:.0%} of them empty, the fullest holds {counts.max()} films")
    axes[-1, 0].set_xlabel("label (months)")
    axes[0, 0].legend(loc="upper left")
    return Picture(figure, f"""Histograms of {len(films):,} labels in months, girls upwards and boys downwards.
        Girls and boys together: {'; '.join(told)}.""")


def choose_bins(films: pd.DataFrame) -> Any:
    """A slider over the bin width and the histogram of `draw_bins`; the static twin without ipywidgets."""
    try:
        import ipywidgets
    except ImportError:
        return draw_bins(films)
    slider = ipywidgets.IntSlider(value=6, min=1, max=WIDEST_BIN, step=1, description="bin, months")
    return with_picture(slider, lambda width: draw_bins(films, (width,)))


# Notebook 03: what one wrong label does to the guess that a loss prefers.
LOSSES = ("L2", "L1", "Huber")
HUBER_TURN = 12.0  # months: where `age_loss` turns from squared to absolute
HONEST_LABELS = (108.0, 114.0, 117.0, 123.0, 126.0, 132.0)  # months, about 120
FARTHEST_SLIP, TWIN_SLIPS = 96, (0, 36, 96)  # months
LOSS_STYLE = {"L2": (ACCENT, "-"), "L1": (SEX_COLOUR["M"], "--"), "Huber": ("black", ":")}


def best_guess(labels: np.ndarray, loss: str) -> np.ndarray:
    """The one number that makes the mean loss over the last axis of `labels` least, months (…, n) to (…).

    L2's is the mean, L1's the median. Huber's lies between; nobody has a formula for it, so it is iterated: go by the
    mean of the distances, none of which counts more than HUBER_TURN.
    """
    labels = np.asarray(labels, float)
    if loss == "L2":
        return labels.mean(-1)
    guess = np.median(labels, axis=-1)
    if loss == "Huber":
        for _ in range(100):
            guess = guess + np.clip(labels - guess[..., None], -HUBER_TURN, HUBER_TURN).mean(-1)
    return guess


def draw_slips(slips: tuple[float, ...] = TWIN_SLIPS) -> Picture:
    """Seven labels of one hand in a row each, the last off by that slip (months), and the best guess of each loss."""
    figure, axes = new_figure(7, 0.9 + 0.75 * len(slips), len(slips), 1, sharex=True, squeeze=False)
    told = []
    for ax, slip in zip(axes[:, 0], slips, strict=True):
        labels = np.array([*HONEST_LABELS, 120.0 + slip])
        ax.plot(labels[:-1], np.zeros(len(labels) - 1), "o", color=MUTED, markersize=5)
        ax.plot(labels[-1], 0, "X", color=MUTED, markersize=9)
        guesses = {loss: float(best_guess(labels, loss)) for loss in LOSSES}
        for loss, guess in guesses.items():
            colour, line = LOSS_STYLE[loss]
            ax.axvline(guess, color=colour, linestyle=line, linewidth=2, label=f"{loss}")
        ax.set(yticks=[], xlim=(100, 126 + FARTHEST_SLIP))
        ax.set_ylabel(f"a slip of\n{slip:g} months", rotation=0, ha="right", va="center")
        told.append(f"slip {slip:g}: " + ", ".join(f"{loss} {guess:.1f}" for loss, guess in guesses.items()))
    axes[-1, 0].set_xlabel("label (months)")
    axes[0, 0].legend(ncols=3, loc="upper right", fontsize=9)
    return Picture(figure, f"""Seven labels of one hand on a line in months, grey; the cross is the label that slipped.
        Three vertical lines: the best single guess under each loss. {'; '.join(told)}.""")


def slip_a_label() -> Any:
    """A slider over the slip of one label and the row of `draw_slips`; the static twin without ipywidgets."""
    try:
        import ipywidgets
    except ImportError:
        return draw_slips()
    slider = ipywidgets.IntSlider(value=36, min=0, max=FARTHEST_SLIP, step=6, description="slip, months")
    return with_picture(slider, lambda slip: draw_slips((slip,)))
