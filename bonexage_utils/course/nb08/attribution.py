"""Whether a network's attribution lies on bones: scored on simulated hands with known masks, compared with controls,
and the recorded comparison of two poolings."""

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from bonexage_utils.checks.attribution import attribute, share_inside
from bonexage_utils.course.bones import centre_region, film_and_region, letterbox_mask
from bonexage_utils.course.records import NOT_YET, RUNS, interval_text, read_runs
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, new_figure
from bonexage_utils.phantom import read_masks
from bonexage_utils.phantom.dataset import MASK_FOLDER
from bonexage_utils.phantom.maturity import CENTRES
from bonexage_utils.prediction import Predictor
from bonexage_utils.statistics import Interval, bootstrap_mean

SCORES = {"own": "the centres that decide", "other": "another child's", "untrained": "untrained network",
          "undecided": "the child's other centres"}
CLAIM = "GeM looks more at ossification centres than average pooling"
LOOKS_FILE = RUNS / "looks.csv"  # a row for each kind of training (`network`), pooling and seed


# --- against its controls ---

def against_controls(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of `bones.score_on_bones`: for each control the mean over films of `own` minus it, with its 95 %
    interval (`low`, `high`), whether the network scores `above` it (the whole interval above zero), and that in words
    (`said`)."""
    rows = {}
    for control, name in list(SCORES.items())[1:]:
        apart = bootstrap_mean((table["own"] - table[control]).to_numpy())
        rows[name] = {"control": table[control].mean(), "own minus control": apart.value, "low": apart.low,
                      "high": apart.high, "above": apart.low > 0,
                      "said": "above" if apart.low > 0 else "below" if apart.high < 0 else "not told apart"}
    return pd.DataFrame(rows).T.astype({"above": bool}).infer_objects()


def draw_scores(tables: dict[str, pd.DataFrame]) -> Picture:
    """Mean enrichment of the deciding centres and of each control, with 95 % interval: a panel for each of `tables`
    (method to a table of `bones.score_on_bones`). At the dashed line attribution is spread evenly."""
    figure, axes = new_figure(1.6 + 3.4 * len(tables), 2.6, 1, len(tables), squeeze=False, sharey=True, sharex=True)
    parts = []
    for ax, (method, table) in zip(axes[0], tables.items(), strict=True):
        means = {column: bootstrap_mean(table[column].to_numpy()) for column in SCORES}
        for place, (column, mean) in enumerate(means.items()):
            ax.errorbar(mean.value, place, xerr=[[mean.value - mean.low], [mean.high - mean.value]], capsize=4,
                        fmt="o" if column == "own" else "s", color=BOYS if column == "own" else MUTED)
        ax.axvline(1, color="black", linewidth=0.8, linestyle="--")
        ax.set(title=method.replace("_", " "), yticks=range(len(SCORES)), ylim=(len(SCORES) - 0.5, -0.5),
               xlabel="times its share of the area")
        ax.set_yticklabels(list(SCORES.values()))
        parts.append(f"{method.replace('_', ' ')}: " + ", ".join(
            f"{SCORES[column]} {mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]" for column, mean in means.items()))
    axes[0, 0].set_xlim(0, None)
    return Picture(figure, f"""How many times its share of the area a region gets of the attribution, mean over
        {len(next(iter(tables.values())))} hands with 95 % interval; an even map gives 1. {'; '.join(parts)}.""")


# --- two poolings ---

def claim_lines(folder: Path | None = None) -> str:
    """What was recorded about `CLAIM`, a line for each row of the table of claims, with how it was made."""
    lines = [f"{row['films']}: share of attribution on centres, GeM minus average {row['difference']:+.2f} "
             f"{interval_text(row['low'], row['high'])} points of a hundred → {row['verdict']}\n  ({row['backbone']}, "
             f"{row['seeds']} seeds, {row['measured_on']} hands, commit {row['commit']}, {row['date']})"
             for row in read_runs("claims", folder).query("claim == @CLAIM").to_dict("records")]
    return "\n".join([*(lines or [f"phantom: {NOT_YET}"]), "real films: nobody has outlined the centres there"])


def attribution_on_centres(predictor: Predictor, folder: Path, truth: pd.DataFrame) -> pd.DataFrame:
    """Per hand (rows of `truth`): the share (0–1) of attribution on all ossification centres, present or still to come,
    on the centres that `decide` at its age, and on `shafts` beside centres; and of each its share of the area."""
    size, rows = predictor.preprocessing.image_size, []
    for row in tqdm(truth.to_dict("records"), desc="attributing", unit="film", leave=False, mininterval=0.5):
        film, decide = film_and_region(folder, row, size)
        masks = read_masks(folder / MASK_FOLDER / f"{row['id']}.npz")
        centres = centre_region(masks, CENTRES, row["mm_per_px"], size)
        bones = np.any([mask for name, mask in masks.items() if name.startswith("bone_")], axis=0)
        regions = {"centres": centres, "decide": decide, "shafts": letterbox_mask(bones, size) & ~centres}
        attribution = attribute(predictor, film, row["sex"])
        shares = {name: share_inside(attribution.map, region) for name, region in regions.items()}
        rows.append({"id": row["id"], "off": abs(attribution.prediction - row["bone_age_months"]), **shares,
                     **{f"area_{name}": region.mean() for name, region in regions.items()}})
    return pd.DataFrame(rows)


def attribution_verdict(difference: Interval) -> str:
    """The verdict that the interval of "GeM's share on centres minus the average's" supports."""
    if difference.low > 0:
        return "GeM looks more at them"
    return "the average looks more at them" if difference.high < 0 else "no difference that these films can show"


def draw_difference_by_hand(looks: pd.DataFrame) -> Picture:
    """The table of LOOKS_FILE: GeM minus average pooling, the share of attribution on all centres in points of a
    hundred, a point for each hand (mean of the seeds), in order of size; a panel for each kind of training."""
    kinds = list(dict.fromkeys(looks["network"]))
    figure, axes = new_figure(2.4 + 3.4 * max(len(kinds), 1), 3.2, 1, max(len(kinds), 1), squeeze=False, sharey=True)
    parts = []
    for ax, kind in zip(axes[0], kinds, strict=False):
        group = looks[looks["network"] == kind].pivot_table("shares", "seed", "pooling", aggfunc="first").dropna()
        gem, average = (np.stack([np.array(text.split(), float) for text in group[pooling]])
                        for pooling in ("GeM", "average"))
        apart = np.sort(100 * (gem - average).mean(0))
        ax.plot(np.arange(1, len(apart) + 1), apart, "o", color=BOYS, markersize=4)
        ax.axhline(0, color="black", linewidth=0.8, linestyle="--")
        means = f"mean {apart.mean():+.2f}: GeM {100 * gem.mean():.1f}, average {100 * average.mean():.1f}"
        ax.axhline(apart.mean(), color=ACCENT, label=means.replace("-", "−"))
        ax.set(xlabel="hands, in order", title=kind)
        ax.legend()
        parts.append(f"{kind}, {len(group)} seeds: {int((apart > 0).sum())} of {len(apart)} hands lie above zero, from "
                     f"{apart[0]:+.1f} to {apart[-1]:+.1f}, {means}")
    axes[0, 0].set(ylabel="GeM − average (points of 100)")
    return Picture(figure, f"""The share of attribution that falls on the ossification centres, GeM minus average
        pooling, hand by hand. {'; '.join(parts) or NOT_YET.capitalize()}.""")
