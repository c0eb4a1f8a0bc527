"""What is decided with a bone age: whether a child is further than two standard deviations from its age (notebook 08).

The standard deviations are those of the Brush Foundation's healthy children (Greulich & Pyle 1959), by sex and age.
"""

import numpy as np
import pandas as pd

from bonexage_utils.cohort import Cohort
from bonexage_utils.figures import ACCENT, BOYS, MUTED, Picture, new_figure
from bonexage_utils.phantom.dataset import TRUTH_FILE
from bonexage_utils.phantom.labels import read_by_rater
from bonexage_utils.phantom.maturity import brush

LIMIT = 2.0  # standard deviations to either side: beyond it a child is called early or late
REACH = 5.0  # where the figure ends; who is further off stands at its edge
SIDES = ("late", "in range", "early")


def with_ages(cohort: Cohort, films: pd.DataFrame) -> pd.DataFrame | None:
    """`films` (`id`, `sex`) of simulated children with `age` (chronological) and `true` (the bone age that a film was
    drawn at), months; None where nobody knows them, as for RSNA, whose table has no chronological age."""
    path = cohort.root / TRUTH_FILE
    if not path.is_file():
        return None
    known = pd.read_csv(path, dtype={"id": str}).set_index("id")
    names = {"age": "chronological_age_months", "true": "bone_age_months"}
    return films.assign(**{name: films["id"].map(known[column]) for name, column in names.items()})


def side(deviation: np.ndarray) -> np.ndarray:
    """Of `deviation` (n,), standard deviations of bone age minus age: which of SIDES; just at the limit is in range."""
    deviation = np.asarray(deviation, float)
    return np.select([deviation < -LIMIT, deviation > LIMIT], [SIDES[0], SIDES[2]], SIDES[1])


def normal_spread(children: pd.DataFrame) -> np.ndarray:
    """The standard deviation (n,), months, of bone age among healthy children of each one's `sex` and `age`."""
    return np.array([float(brush(sex, age)[1]) for sex, age in zip(children["sex"], children["age"], strict=True)])


def readings(children: pd.DataFrame, readers: int, seed: int = 0) -> np.ndarray:
    """What `readers` more readers, each as good as the one who labelled the phantom, say of the `true` bone age of each
    child: months (readers, n). They err independently of each other, which real readers of one film do not quite."""
    said = [[read_by_rater(true, sex, np.random.default_rng([seed, int(id_), reader])) for reader in range(readers)]
            for id_, true, sex in zip(children["id"], children["true"], children["sex"], strict=True)]
    return np.array(said, float).T


def draw_sides(label: np.ndarray, network: np.ndarray) -> Picture:
    """Both deviations (n,), in standard deviations, against each other; who is on another side is a red square."""
    figure, ax = new_figure(4.6, 4.2)
    changed = side(label) != side(network)
    label, network = (np.clip(each, 0.98 * -REACH, 0.98 * REACH) for each in (label, network))
    ax.plot(label[~changed], network[~changed], "o", color=BOYS, markersize=3, alpha=0.5, label="the same side")
    ax.plot(label[changed], network[changed], "s", color=ACCENT, markersize=4.5, label="another side")
    for line in (ax.axhline, ax.axvline):
        for limit in (-LIMIT, LIMIT):
            line(limit, color=MUTED, linewidth=0.8, linestyle="--")
    ax.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xlabel="label − age (SD)", ylabel="network − age (SD)",
           aspect="equal", xticks=range(-4, 5, 2), yticks=range(-4, 5, 2))
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return Picture(figure, f"""Bone age minus age in standard deviations of healthy children, by the network against by
        the label, {len(label)} children; dashed lines at {LIMIT:g} to either side; children beyond {REACH:g} are
        drawn at the edge.
        {changed.sum()} children are squares: label and network put them on different sides.""")
