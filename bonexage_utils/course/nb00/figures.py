"""What notebook 00 draws: a growing hand, when its ossification centres appear, the guessing game. Ages are months."""

import re
from functools import lru_cache
from itertools import chain
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from bonexage_utils.course.answers import Unreadable, number
from bonexage_utils.course.sliders import OLDEST, ONE, SEXES, YOUNGEST, Slider, average_child, slider
from bonexage_utils.figures import ACCENT, MUTED, SEX_COLOUR, SEX_MARKER, SEX_NAME, Picture, montage, new_figure
from bonexage_utils.labels import parse_sex
from bonexage_utils.phantom import Nuisances, anatomy, render
from bonexage_utils.prediction import format_age

# Months, of the slider: half years while a hand changes fast. Each is a picture to draw and to store.
AGES = (*range(YOUNGEST, 60, 6), *range(60, OLDEST + 1, 12))
FILM_HEIGHT = 320  # px
TWIN_AGES = (12, 24, 60, 108, 156, 204)  # months
CENTRES = len(anatomy.APPEARANCE)
THREE = {"A": 108, "B": 180, "C": 36}  # months: the girls of the exercise on order
SCALE_BAR_MM, BAR_PLACE_PX, BAR_THICKNESS_PX = 20.0, 10, 4


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


def draw_three() -> Picture:
    """The films of `THREE`, each average girl's hand filling its film, for the exercise on their order."""
    films = [_film("F", age) for age in THREE.values()]
    return montage(films, list(THREE), f"""Films of three girls, {', '.join(THREE)}, on each of which the hand fills the
        film. A: a full wrist, and dark gaps in every finger. B: a full wrist, and hardly a gap left. C: loose sticks,
        and few small bones in the wrist.""", columns=3, side=1.9)


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
    """The same without a slider: the average girl (upper row) and boy (lower row) at several ages in months."""
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


def grow_a_hand() -> Slider:
    """A slider over age and the two hands of `draw_hands`, with a button that lets them grow."""
    return slider(draw_hands, AGES, 60, "age", format_age, play=True)


def read_lead(guess: object) -> tuple[str, float] | None:
    """Who is first ("girl" or "boy") and by how many months, of ("girl", 6), ("F", "2 years") or "the girl by 6".

    None if it names nobody, or not one number. Who stands behind "before", "after" or "than" is the other one.
    """
    try:
        parts = [guess] if isinstance(guess, str) else chain(*guess.items()) if isinstance(guess, dict) else list(guess)
    except TypeError:
        return None
    text = " ".join(map(str, parts)).lower()
    alone = re.sub(r"\b(before|after|than|ahead of|behind) (the )?[a-z]+", "", text)
    words = re.findall(r"[^\W\d_]+", alone)
    sex = next(filter(None, map(_sex, words)), None)
    if sex and re.search(r"\b(after|later|behind)\b", text):
        sex = "M" if sex == "F" else "F"
    try:
        lead = number(alone)
    except Unreadable:
        return None
    unsure = {"or", "not", "both", "neither"} & set(words)
    return (ONE[sex], lead) if sex and not unsure and 0 <= lead <= OLDEST else None


def _sex(who: object) -> str | None:
    """F for a girl, M for a boy, in whatever words."""
    word = str(who).strip().lower().removesuffix("s")
    return {"she": "F", "he": "M", **{name: sex for sex, name in ONE.items()}}.get(word) or parse_sex(word)


def draw_centres(guess: object = ...) -> Picture:
    """Visible centres against age for the average girl and boy, and the learner's guess of the gap at the top.

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
    guessed = ""
    read = read_lead(guess)
    if read:
        who, months = read
        until = complete["M"] - months if who == "girl" else complete["M"] + months
        _span(ax, until, complete["M"], CENTRES + 4, f"your guess: the {who}, by {months:g} months", ACCENT)
        guessed = f" A bar above them shows the guess: the {who} first, by {months:g} months."
    ax.set(xlabel="age (months)", ylabel="centres on the film", ylim=(0, CENTRES + 7), xlim=(0, OLDEST + 4),
           xticks=range(0, OLDEST + 1, 24), yticks=range(0, CENTRES + 1, 5),
           title="When the ossification centres appear")
    ax.legend(loc="lower right")
    return Picture(figure, f"""Number of ossification centres on the film against age in months, for the average girl
        and boy. Both curves rise steeply in the first three years, then flatten. The girl's is never below the boy's;
        she reaches {CENTRES} at {complete["F"]} months and he at {complete["M"]}, {lead} months later.{guessed}""")


def _span(ax: Any, start: float, end: float, height: float, text: str, colour: str) -> None:
    ax.annotate("", (start, height), (end, height),
                arrowprops={"arrowstyle": "|-|,widthA=0.3,widthB=0.3", "shrinkA": 0, "shrinkB": 0, "color": colour})
    ax.text(max(start, end) + 3, height, text, color=colour, va="center", fontsize=9)


def tidy_guesses(guesses: object, count: int) -> np.ndarray:
    """`count` guesses in years as months, NaN where none (`...`, None) was made.

    A guess that is not an age from 0 to 20 years is left out too, and a line is printed for it.
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
    """The result of the guessing game on films A, B, …: the label and each prediction.

    `films`: `sex`, and in months `months` (the label), `median`, `model` and `you` (NaN: no guess).
    """
    names = [chr(ord("A") + place) for place in range(len(films))]
    places = np.arange(len(films))
    figure, ax = new_figure(7, 4.4)
    for place, label in zip(places, films["months"] / 12, strict=True):
        ax.plot([place - 0.35, place + 0.35], [label, label], color="black", linewidth=3, solid_capstyle="butt",
                label="label" if not place else None)
    played = films["you"].notna().any()
    shown = [("median", "median by sex", MUTED, "s"), ("model", "the model", SEX_COLOUR["M"], "^")]
    shown += [("you", "you", ACCENT, "o")] if played else []
    for shift, (column, label, colour, marker) in zip((-0.2, 0.0, 0.2), shown, strict=False):
        ax.plot(places + shift, films[column] / 12, marker, color=colour, label=label, markersize=7)
    ax.set(xticks=places, xlabel="film", ylabel="age (years)", ylim=(0, 20.5), yticks=range(0, 21, 4),
           title="Six films: the label, and who came how close")
    ax.set_xticklabels([f"{name}\n{ONE[sex]}" for name, sex in zip(names, films["sex"], strict=True)])
    figure.legend(ncols=4, loc="outside lower center", fontsize=9)
    parts = [f"film {name}: label {row['months'] / 12:.1f}, median {row['median'] / 12:.1f}, model "
             f"{row['model'] / 12:.1f}" + ("" if np.isnan(row["you"]) else f", you {row['you'] / 12:.1f}")
             for name, row in zip(names, films.to_dict("records"), strict=True)]
    return Picture(figure, f"The age in years of {len(films)} films, and the guesses. {'; '.join(parts)}.")
