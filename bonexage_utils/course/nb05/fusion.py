"""Predictions of heads with and without the sex as input: the errors without it, the gain with it, the change when it
is switched, and the errors of each way to treat a child whose sex is unknown."""


import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from bonexage_utils.course.nb05.same_hand import (
    OTHER,
    YEARS,
    ages_of,
    as_other_sex,
    band_of,
    error_without_sex,
    error_without_sex_by_band,
)
from bonexage_utils.course.sliders import ONE, SEXES, Slider, slider
from bonexage_utils.decoding import read_gray
from bonexage_utils.figures import ACCENT, MUTED, SEX_COLOUR, SEX_MARKER, SEX_NAME, Picture, new_figure
from bonexage_utils.images import letterbox
from bonexage_utils.statistics import SMALLEST_GROUP, bootstrap_mean, paired_over_seeds

TWIN_FILMS = (24, 60, 96, 132, 168, 204)  # months
FILM_SIDE = 200  # px
FAR = 6  # months: an answer that is so much younger for a boy is nonsense


def draw_residuals(films: pd.DataFrame) -> Picture:
    """Mean of `error` (predicted minus label, months) by `sex` and band of the label `months`, with 95 % interval over
    films. Groups of fewer than SMALLEST_GROUP films are left out."""
    figure, ax = new_figure(6.5, 3.8)
    bands, parts = band_of(films["months"]), []
    for sex, offset in (("F", -0.12), ("M", 0.12)):
        for place, band in enumerate(YEARS):
            errors = films.loc[(bands == band) & (films["sex"] == sex).to_numpy(), "error"].to_numpy()
            if len(errors) < SMALLEST_GROUP:
                continue
            mean = bootstrap_mean(errors)
            ax.errorbar(place + offset, mean.value, [[mean.value - mean.low], [mean.high - mean.value]], capsize=3,
                        fmt=SEX_MARKER[sex], color=SEX_COLOUR[sex],
                        label=None if SEX_NAME[sex] in " ".join(parts) else SEX_NAME[sex])
            ax.annotate(f"n={len(errors)}", (place + offset, mean.high), (0, 4), textcoords="offset points",
                        ha="center", fontsize=7)
            parts.append(f"{SEX_NAME[sex]} {band} years {mean.value:+.1f}")
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.margins(y=0.12)
    ax.set(xticks=range(len(YEARS)), xticklabels=YEARS, xlim=(-0.5, len(YEARS) - 0.5), xlabel="label (years)",
           ylabel="mean error (months)", title="Not told the sex: predicted minus label")
    if parts:
        figure.legend(loc="outside lower center", ncols=2)
    return Picture(figure, f"""Mean of prediction minus label in months, with 95 % interval, by age band and sex, for
        heads that are not told the sex: {'; '.join(parts) or 'no group is large enough'}.""")


def gain_by_band(with_sex: np.ndarray, without_sex: np.ndarray, months: np.ndarray) -> pd.DataFrame:
    """By band of the label `months` (films,): `n`, and the `gain` in MAE (without minus with the sex, months) with its
    95 % interval (`low`, `high`), from errors (seeds, films). A band of fewer than SMALLEST_GROUP films has n alone."""
    rows, bands = [], band_of(months)
    for band in YEARS:
        inside = np.flatnonzero(bands == band)
        row = {"n": len(inside), "gain": np.nan, "low": np.nan, "high": np.nan}
        if len(inside) >= SMALLEST_GROUP:
            gain = paired_over_seeds(np.abs(without_sex[:, inside]), np.abs(with_sex[:, inside]))
            row |= {"gain": gain.value, "low": gain.low, "high": gain.high}
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(YEARS, name="years"))


def within_reach(with_sex: np.ndarray, films: pd.DataFrame) -> pd.Series:
    """By band: the possible gain in MAE (months) for a reader who makes the errors `with_sex` (seeds, films) and who,
    without the sex, takes the mean of both readings of the tables. `films` has `sex` and `months`."""
    months = films["months"].to_numpy()
    shift = np.where(films["sex"] == "F", error_without_sex("F", months), error_without_sex("M", months))
    gain = (np.abs(with_sex + shift) - np.abs(with_sex)).mean(0)
    return pd.Series(gain).groupby(band_of(months), observed=True).mean()


def draw_gains(table: pd.DataFrame, reach: pd.Series) -> Picture:
    """`gain_by_band` beside the gain by the tables of a reader who makes no other error, and of one with the errors of
    these heads (`reach`, from `within_reach`)."""
    figure, ax = new_figure(6.5, 3.6)
    measured = table.dropna()
    places = [YEARS.index(band) for band in measured.index]
    ends = [measured["gain"] - measured["low"], measured["high"] - measured["gain"]]
    ax.errorbar(places, measured["gain"], ends, fmt="s", color="black", capsize=4, label="measured")
    for x, row in zip(places, measured.itertuples(), strict=True):
        ax.annotate(f"n={row.n}", (x, row.high), (0, 4), textcoords="offset points", ha="center", fontsize=8)
    expected = error_without_sex_by_band()
    ax.plot([YEARS.index(band) for band in expected.index], expected, "_", color=ACCENT, markersize=14,
            markeredgewidth=2.5, label="a reader who errs in nothing else")
    ax.plot(np.add(places, 0.25), reach.loc[list(measured.index)], "D", color=ACCENT, fillstyle="none",
            label="one who errs as these")
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.set(xticks=range(len(YEARS)), xticklabels=YEARS, xlim=(-0.5, len(YEARS) - 0.5), xlabel="label (years)",
           ylabel="gain in MAE (months)", title="What the sex is worth, by age")
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, handlelength=1)
    parts = "; ".join(f"{band} years {row.gain:.1f} [{row.low:.1f}, {row.high:.1f}], n {row.n:.0f}"
                      for band, row in measured.iterrows()) or "no band has films enough"
    return Picture(figure, f"""Gain in mean absolute error in months from being told the sex, with 95 % interval, by age
        band: {parts}. A red dash in each band marks what the tables would cost a reader who errs in nothing else:
        {', '.join(f'{band} {value:.1f}' for band, value in expected.items())}. A red diamond marks what they would cost
        one who errs as these heads: {', '.join(f'{band} {reach[band]:.1f}' for band in measured.index)}.""")


def _tables_switch(middle: np.ndarray | pd.Series) -> np.ndarray:
    """The boy's reading minus the girl's by the tables, months, for a film with `middle` as the mean of the two."""
    girl = ages_of("F")
    boy = as_other_sex("F", girl)
    return np.interp(middle, (girl + boy) / 2, boy - girl)


def switch_by_band(films: pd.DataFrame) -> pd.DataFrame:
    """By band of the mean of a film's two predictions: n, and the median change in months when the sex is switched, of
    the heads (`girl`, `boy`) and of the tables. A band of fewer than SMALLEST_GROUP films has n alone."""
    middle = ((films["girl"] + films["boy"]) / 2).to_numpy()
    change = pd.DataFrame({"heads": films["boy"] - films["girl"], "tables": _tables_switch(middle)})
    groups = change.groupby(band_of(middle), observed=False)
    table = groups.median()
    table.loc[groups.size() < SMALLEST_GROUP] = np.nan
    table.insert(0, "n", groups.size())
    return table.rename_axis("years")


def draw_switch(films: pd.DataFrame) -> Picture:
    """Prediction for a boy minus that for a girl against the mean of both, a point for each film; the line is from the
    tables. `films`: `sex`, `girl` and `boy` (months predicted under either sex)."""
    figure, ax = new_figure(6.5, 4)
    change, middle = films["boy"] - films["girl"], (films["boy"] + films["girl"]) / 2
    for sex in SEXES:
        of_sex = films["sex"] == sex
        ax.scatter(middle[of_sex], change[of_sex], s=14, color=SEX_COLOUR[sex], marker=SEX_MARKER[sex], alpha=0.6,
                   linewidths=0, label=f"films of {SEX_NAME[sex]}")
    middles = np.arange(2, 223)
    ax.plot(middles, _tables_switch(middles), color="black", label="the tables")
    ax.axhline(0, color=MUTED, linewidth=0.8)
    ax.set(xlabel="middle of the two answers (months)", ylabel="as a boy minus as a girl (months)", xlim=(0, 240),
           xticks=range(0, 241, 24), title="The same film, the sex switched")
    ax.legend(fontsize=8)
    low, half, high = np.percentile(change, [10, 50, 90])
    odd = films.assign(change=change, middle=middle)[change < -FAR].sort_values("change")
    told = ", ".join(f"{film.change:.0f} at {film.middle:.0f}" for film in odd.itertuples()) or "none"
    return Picture(figure, f"""The change in bone age when the same film is read as a boy's instead of a girl's, for
        {len(films)} films, against the middle of the two answers. The median change is {half:+.1f} months, four films
        in five lie from {low:+.1f} to {high:+.1f}; {(change > 0).sum()} of them are older as boys. A line
        shows the same from the tables; at 120 months it is {_tables_switch(120):.0f}. Films that are more
        than {FAR} months *younger* as boys, with the middle of the two answers: {told}.""")


def draw_films_switched(films: pd.DataFrame, ages: tuple[float, ...] = TWIN_FILMS) -> Picture:
    """For each age (months) the film whose label is nearest, above its predictions as a girl's and as a boy's. Where
    there are several ages, girls and boys take turns.

    `films`: `image` (path), `sex`, `months` (label), `girl`, `boy`.
    """
    several = len(ages) > 1
    figure, axes = new_figure(1.75 * len(ages) if several else 4.6, 2.9 if several else 4.8, 2, len(ages),
                              squeeze=False, height_ratios=[5, 1])
    parts = []
    for place, (film_ax, ax) in enumerate(axes.T):
        group = films[films["sex"] == SEXES[place % 2]] if several else films
        film = group.loc[(group["months"] - ages[place]).abs().idxmin()]
        film_ax.imshow(letterbox(read_gray(film["image"]), FILM_SIDE), cmap="gray", vmin=0, vmax=255)
        film_ax.axis("off")
        shown = film[["months", "girl", "boy"]].to_numpy(float)
        middle, reach = (shown.min() + shown.max()) / 2, max(24.0, np.ptp(shown) / 2 + 6)
        ax.axvline(film["months"], color="black", linewidth=2, zorder=0)
        for sex, name in ONE.items():
            ax.plot(film[name], 0, SEX_MARKER[sex], color=SEX_COLOUR[sex], markersize=8)
        ax.set(yticks=[], xlim=(middle - reach, middle + reach), xlabel="months")
        ax.spines["left"].set_visible(False)
        child = ONE[film["sex"]]
        film_ax.set_title(f"{child}, label {film['months']:.0f}\ngirl {film['girl']:.0f} or boy {film['boy']:.0f}",
                          fontsize=9, loc="center")
        parts.append(f"a {child}'s, label {film['months']:.0f}, read as a girl's {film['girl']:.0f} and as a boy's "
                     f"{film['boy']:.0f}")
    return Picture(figure, f"""{len(ages)} hand film{'s' if several else ''}, below each a line in months with the
        label (black), the answer for a girl (orange circle) and for a boy (blue triangle): {'; '.join(parts)}.""")


def switch_the_sex(films: pd.DataFrame) -> Slider:
    """A slider over the label's age and the film of `draw_films_switched`."""
    return slider(lambda age: draw_films_switched(films, (age,)), range(12, 217, 12), 132, "label, months")


# --- when the sex is unknown ---

def tables_reader(films: pd.DataFrame) -> pd.DataFrame:
    """`films` (`sex`, `months`) with `girl` and `boy`: the readings (months) of one whose only error is the sex."""
    readings = films[["sex", "months"]].reset_index(drop=True)
    for sex, name in (("F", "girl"), ("M", "boy")):
        readings[name] = np.where(readings["sex"] == sex, readings["months"],
                                  as_other_sex(OTHER[sex], readings["months"]))
    return readings


def policy_errors(films: pd.DataFrame) -> pd.DataFrame:
    """MAE in months by policy, of `girls`, `boys` and `all` films: `sex`, `months` (label), `girl`, `boy`
    (predicted under either sex)."""
    own = np.where(films["sex"] == "F", films["girl"], films["boy"])
    predicted = {"told the sex": own, "always girl": films["girl"], "always boy": films["boy"],
                 "mean of both": (films["girl"] + films["boy"]) / 2}
    errors = pd.DataFrame({name: np.abs(np.asarray(months) - films["months"].to_numpy())
                           for name, months in predicted.items()})
    groups = {"girls": films["sex"] == "F", "boys": films["sex"] == "M", "all": films["sex"].notna()}
    return pd.DataFrame({name: errors[inside.to_numpy()].mean() for name, inside in groups.items()})


def draw_policies(readers: dict[str, pd.DataFrame]) -> Picture:
    """`policy_errors` of one or more readers, a panel each."""
    figure, axes = new_figure(4.4 * len(readers), 3.4, 1, len(readers), squeeze=False, sharey=True)
    parts = []
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
        parts.append(f"{name}: {'; '.join(rows)}")
    axes[0, 0].set(ylabel="MAE (months)", ylim=(0, None))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return Picture(figure, f"Mean absolute error in months for girls, boys and all, by policy. {'. '.join(parts)}.")
