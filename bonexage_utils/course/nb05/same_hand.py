"""Girls and boys in the phantom's tables: how mature a hand is at an age, at which age the hand of the other sex is as
mature, and the error of a reader who does not know the sex and makes no other error."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd

from bonexage_utils.course.sliders import SEXES, YOUNGEST
from bonexage_utils.evaluation import AGE_BANDS
from bonexage_utils.figures import ACCENT, MUTED, SEX_COLOUR, SEX_MARKER, SEX_NAME, Picture, new_figure
from bonexage_utils.phantom import anatomy, maturity

YEARS = [f"{low // 12} to {high // 12}" for low, high in pairwise(AGE_BANDS)]  # names of the age bands
OTHER = {"F": "M", "M": "F"}
LINE = {"F": "-", "M": "--"}
MONTHS = np.arange(1.0, 229.0)  # bone ages: to the last plate of the boys' atlas
UNUSUAL = 2.0  # SD: a bone age further from the mean is unusual, as in notebook 00
SHOWN_LEVELS = (0.3, 0.5, 0.7, 0.9)  # of maturity; the figure joins girl and boy there


def centre_ages() -> pd.DataFrame:
    """Bone ages (months) at which each of the 30 centres appears and has fused (NaN: never) in the average girl and
    boy; columns (event, sex), rows in the order of the girls' appearance."""
    rows = {}
    for name in maturity.CENTRES:
        clocks = {sex: maturity.clock(name, sex) for sex in SEXES}
        fused = {sex: clock.fusion_complete if np.isfinite(clock.fusion_complete) else np.nan
                 for sex, clock in clocks.items()}
        rows[name] = [clocks[sex].appears for sex in SEXES] + [fused[sex] for sex in SEXES]
    columns = pd.MultiIndex.from_product([["appears", "fused"], SEXES])
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).sort_values(("appears", "F"))


def draw_centre_ages() -> Picture:
    """`centre_ages`, a row for each centre, girl and boy joined by a line."""
    table = centre_ages()
    figure, ax = new_figure(7.5, 6)
    for event, alpha in (("appears", 1.0), ("fused", 0.5)):
        ax.hlines(range(len(table)), table[event, "F"], table[event, "M"], color=MUTED, linewidth=1.2, zorder=1)
        for sex in SEXES:
            ax.scatter(table[event, sex], range(len(table)), color=SEX_COLOUR[sex], marker=SEX_MARKER[sex], s=28,
                       alpha=alpha, linewidths=0, label=f"{SEX_NAME[sex]}: {event}")
    ax.set(yticks=range(len(table)), xlabel="bone age (months)", xlim=(0, 236), xticks=range(0, 229, 24),
           title="Every centre, girl and boy")
    ax.set_yticklabels(table.index, fontsize=7)
    ax.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    lead = (table["appears", "M"] - table["appears", "F"], (table["fused", "M"] - table["fused", "F"]).dropna())
    return Picture(figure, f"""Thirty ossification centres, a row each, against bone age in months. In every row the
        girl's marker stands left of the boy's. The centres appear {lead[0].min():.0f} to {lead[0].max():.0f} months
        earlier in her, half of them at least {lead[0].median():.0f}; the {len(lead[1])} that fuse do so
        {lead[1].min():.0f} to {lead[1].max():.0f} months earlier.""")


def hand_maturity(sex: str, months: float) -> float:
    """How mature the average hand of that sex (`"F"`, `"M"`) is at a bone age in months, 0 to 1.

    The mean over the 30 centres of: presence, width relative to its bone, and fusion, for the centres that fuse.
    """
    scores = []
    for name in maturity.CENTRES:
        centre = maturity.state(name, sex, months, maturity.clock(name, sex))
        states = [float(centre.present), min(centre.emr, 1.0)]
        scores.append(np.mean(states if name in anatomy.ROUND_BONES else [*states, centre.fusion]))
    return float(np.mean(scores))


@lru_cache
def curves() -> dict[str, np.ndarray]:
    """`hand_maturity` at each of MONTHS, by sex."""
    return {sex: np.array([hand_maturity(sex, age) for age in MONTHS]) for sex in SEXES}


def as_other_sex(sex: str, months: np.ndarray | float) -> np.ndarray:
    """Bone ages at which the average hand of the other sex is as mature as one of `sex` at `months`, both months.

    Not below the age at which the other curve starts to rise, not above the age at which it reaches its maximum.
    """
    own, other = curves()[sex], curves()[OTHER[sex]]
    end = int(np.argmax(other == other.max())) + 1
    return np.interp(np.interp(months, MONTHS, own), other[:end], MONTHS[:end])


def error_without_sex(sex: str, months: np.ndarray | float) -> np.ndarray:
    """Error in months of the mean of both readings for a child of `sex`; above zero: read too old."""
    return (as_other_sex(sex, months) - months) / 2


def ages_of(sex: str) -> np.ndarray:
    """The bone ages of MONTHS that the atlas covers for that sex."""
    return MONTHS[: anatomy.GP_STANDARDS[sex][-1]]


def band_of(months: np.ndarray | pd.Series) -> pd.Categorical:
    """The age band (one of `YEARS`) of each bone age in months."""
    return pd.cut(np.asarray(months, float), AGE_BANDS, right=False, labels=YEARS)


@lru_cache
def error_without_sex_by_band() -> pd.Series:
    """Mean absolute `error_without_sex`, months, over the ages of each band and both sexes."""
    ages = {sex: ages_of(sex)[YOUNGEST - 1:] for sex in SEXES}
    errors = np.concatenate([np.abs(error_without_sex(sex, ages[sex])) for sex in SEXES])
    return pd.Series(errors).groupby(band_of(np.concatenate(list(ages.values()))), observed=True).mean()


def worst() -> tuple[float, str]:
    """The largest absolute `error_without_sex` from YOUNGEST on, months, and the band where the mean is largest."""
    errors = [np.abs(error_without_sex(sex, ages_of(sex)[YOUNGEST - 1:])).max() for sex in SEXES]
    return float(max(errors)), str(error_without_sex_by_band().idxmax())


def draw_same_hand() -> Picture:
    """Left: maturity of both sexes against bone age. Right: the error of the mean of both readings."""
    figure, (left, right) = new_figure(9, 3.8, 1, 2)
    for sex in SEXES:
        ages = ages_of(sex)
        style = {"color": SEX_COLOUR[sex], "linestyle": LINE[sex]}
        left.plot(ages, curves()[sex][:len(ages)], label=SEX_NAME[sex], **style)
        right.plot(ages, error_without_sex(sex, ages), label=SEX_NAME[sex], **style)
    parts = []
    for level in SHOWN_LEVELS:
        girl, boy = (float(np.interp(level, curves()[sex], MONTHS)) for sex in SEXES)
        left.annotate("", (boy, level), (girl, level), arrowprops={
            "arrowstyle": "<->", "shrinkA": 0, "shrinkB": 0, "color": "black"})
        left.text(boy + 5, level - 0.03, f"{girl:.0f} or {boy:.0f}", fontsize=8)
        parts.append(f"{level:g}: a girl of {girl:.0f} or a boy of {boy:.0f} months")
    right.axhline(0, color=MUTED, linewidth=0.8)
    left.set(ylabel="maturity of the hand (0 to 1)", title="Same hand, two ages")
    right.set(ylabel="read too old by (months)", title="A reader in the middle")
    for ax in (left, right):
        ax.set(xlabel="bone age (months)", xlim=(0, 240), xticks=range(0, 241, 24))
    left.legend(loc="upper left")
    means = ", ".join(f"{band} years {error:.0f}" for band, error in error_without_sex_by_band().items())
    return Picture(figure, f"""Left: maturity of the average girl's and boy's hand against bone age in months; hers is
        never below his. The same maturity means, at {'; at '.join(parts)}. Right: what the middle between the two
        readings is off by. Girls are read too old, boys too young, in months on the mean: {means}.""")


def in_spreads(sex: str, months: np.ndarray | float) -> np.ndarray:
    """Absolute `error_without_sex` over the standard deviation of bone age of healthy children (Brush Foundation)."""
    return np.abs(error_without_sex(sex, months)) / maturity.brush(sex, months)[1]


def draw_in_spreads() -> Picture:
    """`in_spreads` against bone age for both sexes, with a line at UNUSUAL standard deviations."""
    figure, ax = new_figure(6.5, 3.5)
    parts = []
    for sex in SEXES:
        ages = ages_of(sex)[YOUNGEST - 1:]
        deviations = in_spreads(sex, ages)
        ax.plot(ages, deviations, color=SEX_COLOUR[sex], linestyle=LINE[sex], label=SEX_NAME[sex])
        some = ", ".join(f"{deviations[age - YOUNGEST]:.1f} at {age}" for age in (12, 24, 60, 132, 192))
        parts.append(f"{SEX_NAME[sex]} {some}")
    ax.axhline(UNUSUAL, color=ACCENT, linewidth=1, label="unusual from here on")
    ax.set(xlabel="bone age (months)", ylabel="off by (SD of healthy children)", xlim=(0, 240), ylim=(0, None),
           xticks=range(0, 241, 24), yticks=np.arange(0, 2.6, 0.5),
           title="A missing sex, against the spread of healthy children")
    ax.legend(loc="lower right")
    return Picture(figure, f"""How far a reader who is not told the sex is off by the tables, in standard deviations of
        healthy children, against bone age in months: {'; '.join(parts)}. A line marks {UNUSUAL:g} standard
        deviations.""")
