"""The decision at two standard deviations, and one reader against several: known answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonexage_utils.cohort import Cohort
from bonexage_utils.course.nb08 import decision


def test_the_sides_meet_at_two() -> None:
    assert decision.side([-2.01, -2.0, 0, 2.0, 2.01]).tolist() == ["late", "in range", "in range", "in range", "early"]


def test_the_spread_is_brushs() -> None:
    """Greulich & Pyle 1959: 9.0 months for boys of nine years, 11.73 for girls of ten, and half-way between rows."""
    children = pd.DataFrame({"sex": ["M", "F", "M"], "age": [108.0, 120.0, 114.0]})
    assert decision.normal_spread(children).tolist() == pytest.approx([9.0, 11.73, (9.0 + 9.79) / 2])


def test_ages_are_known_of_phantoms_alone(cohort: Cohort, tmp_path: Path) -> None:
    films = cohort.split("train").head(40)
    known = decision.with_ages(cohort, films)
    assert known["id"].tolist() == films["id"].tolist()
    assert (known["true"] - known["months"]).abs().mean() < 12
    assert known["age"].between(12, 216).all()
    assert decision.with_ages(replace(cohort, root=tmp_path), films) is None


def test_the_mean_of_six_readers_is_root_six_as_far_off() -> None:
    n = 3000
    children = pd.DataFrame({"id": np.arange(n).astype(str), "sex": "M", "true": np.linspace(80, 130, n)})
    six = decision.readings(children, 6)
    assert six.shape == (6, n)
    off = six - children["true"].to_numpy()
    assert off[0].std() == pytest.approx(7.4, rel=0.1)  # a reader's 7 months there, and plates a year apart
    assert off.mean(0).std() == pytest.approx(off[0].std() / 6**0.5, rel=0.1)
    assert (decision.readings(children.tail(5), 6) == six[:, -5:]).all()  # a child's readers are its own


def test_who_changes_side_is_counted_in_words() -> None:
    told = decision.draw_sides(np.array([0.0, 1.9, -3.0, 2.5]), np.array([1.0, 2.1, -2.2, -2.5])).alt
    assert "4 children" in told
    assert "2 children are squares" in told
