"""What heads say of the same film under either sex: their errors when not told, the gain when told, the change when
it is switched, and the cost of each way to treat a child whose sex is unknown."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from bonexage_utils.course.nb05.same_hand import OTHER, YEARS, ages_of, as_other_sex, band_of, untold, untold_by_band
from bonexage_utils.course.sliders import ONE, SEXES, slider_or_twin
from bonexage_utils.decoding import read_gray
from bonexage_utils.figures import ACCENT, MUTED, SEX_COLOUR, SEX_MARKER, SEX_NAME, Picture, new_figure
from bonexage_utils.images import letterbox
from bonexage_utils.statistics import SMALLEST_GROUP, bootstrap_mean, paired_over_seeds

TWIN_FILMS = (24, 60, 96, 132, 168, 204)  # months
FILM_SIDE = 200  # px


def draw_residuals(films: pd.DataFrame) -> Picture:
    """Mean of `error` (predicted minus label, months) by `sex` and band of the label `months`, with 95 % interval over
    films; fewer than SMALLEST_GROUP films do not speak."""
    figure, ax = new_figure(6.5, 3.8)
    bands, told = band_of(films["months"]), []
    for sex, offset in (("F", -0.12), ("M", 0.12)):
        for place, band in enumerate(YEARS):
            errors = films.loc[(bands == band) & (films["sex"] == sex).to_numpy(), "error"].to_numpy()
            if len(errors) < SMALLEST_GROUP:
                continue
            mean = bootstrap_mean(errors)
            ax.errorbar(place + offset, mean.value, [[mean.value - mean.low], [mean.high - mean.value]], capsize=3,
                        fmt=SEX_MARKER[sex], color=SEX_COLOUR[sex],
                        label=None if SEX_NAME[sex] in " ".join(told) else SEX_NAME[sex])
            ax.annotate(f"n={len(errors)}", (place + offset, mean.high), (0, 4), textcoords="offset points",
                        ha="center", fontsize=7)
            told.append(f"{SEX_NAME[sex]} {band} years {mean.value:+.1f}")
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.margins(y=0.12)
    ax.set(xticks=range(len(YEARS)), xticklabels=YEARS, xlim=(-0.5, len(YEARS) - 0.5), xlabel="label (years)",
           ylabel="mean error (months)", title="Not told the sex: predicted minus label")
    if told:
        figure.legend(loc="outside lower center", ncols=2)
    return Picture(figure, f"""Mean of prediction minus label in months, with 95 % interval, by age band and sex, for
        heads that are not told the sex: {'; '.join(told) or 'no group is large enough'}.""")


def gain_by_band(told: np.ndarray, not_told: np.ndarray, months: np.ndarray) -> pd.DataFrame:
    """By band of the label `months` (films,): `n`, and the `gain` in MAE (not told minus told, months) with its 95 %
    interval (`low`, `high`), from errors (seeds, films). Fewer than SMALLEST_GROUP films give n alone."""
    rows, bands = [], band_of(months)
    for band in YEARS:
        mine = np.flatnonzero(bands == band)
        row = {"n": len(mine), "gain": np.nan, "low": np.nan, "high": np.nan}
        if len(mine) >= SMALLEST_GROUP:
            apart = paired_over_seeds(np.abs(not_told[:, mine]), np.abs(told[:, mine]))
            row |= {"gain": apart.value, "low": apart.low, "high": apart.high}
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(YEARS, name="years"))


def within_reach(told: np.ndarray, films: pd.DataFrame) -> pd.Series:
    """By band: the gain in MAE (months) of a reader who makes the errors `told` (seeds, films) when told the sex, and
    takes the tables' middle of both readings when not. `films` has `sex` and `months`."""
    months = films["months"].to_numpy()
    push = np.where(films["sex"] == "F", untold("F", months), untold("M", months))
    rise = (np.abs(told + push) - np.abs(told)).mean(0)
    return pd.Series(rise).groupby(band_of(months), observed=True).mean()


def draw_gains(table: pd.DataFrame, reach: pd.Series) -> Picture:
    """`gain_by_band`, beside what the tables cost a reader who errs in nothing else, and one who errs as these heads do
    (`reach`, from `within_reach`)."""
    figure, ax = new_figure(6.5, 3.6)
    spoken = table.dropna()
    where = [YEARS.index(band) for band in spoken.index]
    ax.errorbar(where, spoken["gain"], [spoken["gain"] - spoken["low"], spoken["high"] - spoken["gain"]], fmt="s",
                color="black", capsize=4, label="measured")
    for x, row in zip(where, spoken.itertuples(), strict=True):
        ax.annotate(f"n={row.n}", (x, row.high), (0, 4), textcoords="offset points", ha="center", fontsize=8)
    expected = untold_by_band()
    ax.plot([YEARS.index(band) for band in expected.index], expected, "_", color=ACCENT, markersize=14,
            markeredgewidth=2.5, label="a reader who errs in nothing else")
    ax.plot(np.add(where, 0.25), reach.loc[list(spoken.index)], "D", color=ACCENT, fillstyle="none",
            label="one who errs as these")
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.set(xticks=range(len(YEARS)), xticklabels=YEARS, xlim=(-0.5, len(YEARS) - 0.5), xlabel="label (years)",
           ylabel="gain in MAE (months)", title="What the sex is worth, by age")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, handlelength=1)
    told = "; ".join(f"{band} years {row.gain:.1f} [{row.low:.1f}, {row.high:.1f}], n {row.n:.0f}"
                     for band, row in spoken.iterrows()) or "no band has films enough"
    return Picture(figure, f"""Gain in mean absolute error in months from being told the sex, with 95 % interval, by age
        band: {told}. A red dash in each band marks what the tables would cost a reader who errs in nothing else:
        {', '.join(f'{band} {value:.1f}' for band, value in expected.items())}. A red diamond marks what they would cost
        one who errs as these heads: {', '.join(f'{band} {reach[band]:.1f}' for band in spoken.index)}.""")


def _tables_switch(middle: np.ndarray | pd.Series) -> np.ndarray:
    """As a boy minus as a girl by the tables, months, for a film the middle of whose two readings is `middle`."""
    girl = ages_of("F")
    boy = as_other_sex("F", girl)
    return np.interp(middle, (girl + boy) / 2, boy - girl)


def switch_by_band(films: pd.DataFrame) -> pd.DataFrame:
    """By band of the middle of a film's two readings: n, and the median change when the sex is switched, of the heads
    (`girl`, `boy`) and of the tables, months. Fewer than SMALLEST_GROUP films give n alone."""
    middle = ((films["girl"] + films["boy"]) / 2).to_numpy()
    change = pd.DataFrame({"heads": films["boy"] - films["girl"], "tables": _tables_switch(middle)})
    groups = change.groupby(band_of(middle), observed=False)
    table = groups.median()
    table.loc[groups.size() < SMALLEST_GROUP] = np.nan
    table.insert(0, "n", groups.size())
    return table.rename_axis("years")


def draw_switch(films: pd.DataFrame) -> Picture:
    """Each film read as a boy's minus as a girl's, against the middle of both. `films`: `sex`, `girl`, `boy` (months
    said under either sex). The line is what the tables say."""
    figure, ax = new_figure(6.5, 4)
    change, middle = films["boy"] - films["girl"], (films["boy"] + films["girl"]) / 2
    for sex in SEXES:
        mine = films["sex"] == sex
        ax.scatter(middle[mine], change[mine], s=14, color=SEX_COLOUR[sex], marker=SEX_MARKER[sex], alpha=0.6,
                   linewidths=0, label=f"films of {SEX_NAME[sex]}")
    middles = np.arange(2, 223)
    ax.plot(middles, _tables_switch(middles), color="black", label="the tables")
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.set(xlabel="middle of the two answers (months)", ylabel="as a boy minus as a girl (months)", xlim=(0, 240),
           xticks=range(0, 241, 24), title="The same film, the sex switched")
    ax.legend(fontsize=8)
    low, half, high = np.percentile(change, [10, 50, 90])
    return Picture(figure, f"""The change in bone age when the same film is read as a boy's instead of a girl's, for
        {len(films)} films, against the middle of the two answers. The median change is {half:+.1f} months, four films
        in five lie from {low:+.1f} to {high:+.1f}; {(change > 0).mean():.0%} of the films are older as boys. A line
        shows the same from the tables; at 120 months it is {_tables_switch(120):.0f}.""")


def draw_films_switched(films: pd.DataFrame, ages: tuple[float, ...] = TWIN_FILMS) -> Picture:
    """For each age (months) the film whose label is nearest, over what is said of it as a girl's and as a boy's; of
    several ages, girls and boys in turn.

    `films`: `image` (path), `sex`, `months` (label), `girl`, `boy`.
    """
    several = len(ages) > 1
    figure, axes = new_figure(1.75 * len(ages) if several else 4.6, 2.9 if several else 4.8, 2, len(ages),
                              squeeze=False, height_ratios=[5, 1])
    told = []
    for place, (film_ax, ax) in enumerate(axes.T):
        mine = films[films["sex"] == SEXES[place % 2]] if several else films
        film = mine.loc[(mine["months"] - ages[place]).abs().idxmin()]
        film_ax.imshow(letterbox(read_gray(film["image"]), FILM_SIDE), cmap="gray", vmin=0, vmax=255)
        film_ax.axis("off")
        said = film[["months", "girl", "boy"]].to_numpy(float)
        middle, reach = (said.min() + said.max()) / 2, max(24.0, np.ptp(said) / 2 + 6)
        ax.axvline(film["months"], color="black", linewidth=2, zorder=0)
        for sex, name in ONE.items():
            ax.plot(film[name], 0, SEX_MARKER[sex], color=SEX_COLOUR[sex], markersize=8)
        ax.set(yticks=[], xlim=(middle - reach, middle + reach), xlabel="months")
        ax.spines["left"].set_visible(False)
        who = ONE[film["sex"]]
        film_ax.set_title(f"{who}, label {film['months']:.0f}\ngirl {film['girl']:.0f} or boy {film['boy']:.0f}",
                          fontsize=9, loc="center")
        told.append(f"a {who}'s, label {film['months']:.0f}, read as a girl's {film['girl']:.0f} and as a boy's "
                    f"{film['boy']:.0f}")
    return Picture(figure, f"""{len(ages)} hand film{'s' if several else ''}, below each a line in months with the
        label (black), the answer for a girl (orange circle) and for a boy (blue triangle): {'; '.join(told)}.""")


def switch_the_sex(films: pd.DataFrame) -> Any:
    """A slider over the label's age and the film of `draw_films_switched`; the static twin without ipywidgets."""
    return slider_or_twin(lambda age: draw_films_switched(films, (age,)), lambda: draw_films_switched(films), value=132,
                          min=12, max=216, step=12, description="label, months")


# --- when the sex is unknown ---

def tables_reader(films: pd.DataFrame) -> pd.DataFrame:
    """`films` (`sex`, `months`) with `girl` and `boy`: what a reader says who errs in nothing but the sex, months."""
    told = films[["sex", "months"]].reset_index(drop=True)
    for sex, name in (("F", "girl"), ("M", "boy")):
        told[name] = np.where(told["sex"] == sex, told["months"], as_other_sex(OTHER[sex], told["months"]))
    return told


def policy_errors(films: pd.DataFrame) -> pd.DataFrame:
    """MAE in months by policy, of `girls`, `boys` and `all` films: `sex`, `months` (label), `girl`, `boy`
    (said under either sex)."""
    own = np.where(films["sex"] == "F", films["girl"], films["boy"])
    said = {"told the sex": own, "always girl": films["girl"], "always boy": films["boy"],
            "mean of both": (films["girl"] + films["boy"]) / 2}
    off = pd.DataFrame({name: np.abs(np.asarray(values) - films["months"].to_numpy()) for name, values in said.items()})
    groups = {"girls": films["sex"] == "F", "boys": films["sex"] == "M", "all": films["sex"].notna()}
    return pd.DataFrame({name: off[mine.to_numpy()].mean() for name, mine in groups.items()})


def draw_policies(readers: dict[str, pd.DataFrame]) -> Picture:
    """`policy_errors` of one or more readers, a panel each."""
    figure, axes = new_figure(4.4 * len(readers), 3.4, 1, len(readers), squeeze=False, sharey=True)
    told = []
    for ax, (name, table) in zip(axes[0], readers.items(), strict=True):
        for sex, offset in (("F", -0.2), ("M", 0.2)):
            ax.bar(np.arange(len(table)) + offset, table[SEX_NAME[sex]], 0.38, color=SEX_COLOUR[sex],
                   label=SEX_NAME[sex])
        ax.plot(range(len(table)), table["all"], "D", color="black", markersize=5, label="all")
        ax.set(xticks=range(len(table)), title=name)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xticklabels([text.replace(" ", "\n", 1) for text in table.index])
        rows = [f"{policy} {row.girls:.1f}, {row.boys:.1f} and {row.all:.1f}" for policy, row in
                zip(table.index, table.itertuples(), strict=True)]
        told.append(f"{name}: {'; '.join(rows)}")
    axes[0, 0].set(ylabel="MAE (months)", ylim=(0, None))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return Picture(figure, f"Mean absolute error in months for girls, boys and all, by policy. {'. '.join(told)}.")
