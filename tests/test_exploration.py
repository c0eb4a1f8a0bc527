"""What notebook 01 looks at: tables with a known comb, a folder with known faults, a leak with a known size."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.audit import audit
from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.course import exploration


@given(st.lists(st.one_of(st.integers(0, 240).map(float), st.just(float("nan"))), min_size=1), st.integers(1, 24))
def test_the_share_of_multiples_counts_given_labels_only(months: list[float], step: int) -> None:
    given_labels = [label for label in months if label == label]
    if given_labels:
        expected = sum(int(label) % step == 0 for label in given_labels) / len(given_labels)
        assert exploration.share_of_multiples(np.array(months), step) == pytest.approx(expected)


def test_four_tables_differ_in_what_they_say() -> None:
    tables = exploration.four_tables(np.r_[np.repeat(np.arange(12.0, 217.0, 6.0), 40), np.nan])
    share = {name: exploration.share_of_multiples(labels, 6) for name, labels in tables.items()}
    assert share["C"] == share["D"] == 1
    assert share["A"] == pytest.approx(1 / 6, abs=0.04)
    assert (tables["B"] < 12).mean() == pytest.approx(1 / 8 * 20 / 35, abs=0.03)  # 1 to 11 years as months
    assert (tables["D"].min(), tables["D"].max()) == (60, 144)
    assert f"A: {share['A']:.0%} multiples of six" in exploration.draw_four_tables(tables["C"]).alt


def test_the_hospital_has_twelve_bad_films_and_the_audit_finds_most() -> None:
    folder = exploration.hospital()
    assert exploration.hospital() == folder
    planted = pd.read_csv(folder / "planted_faults.csv", dtype=str)
    assert len(planted) == planted["fault"].nunique() == 12
    findings = audit(load_cohort(folder))
    told = set(zip(findings["id"], findings["finding"], strict=True))
    assert sum((row.id, row.finding) in told for row in planted.itertuples()) >= 9


def test_a_second_export_flatters_a_split_by_film_only(cohort: Cohort) -> None:
    table = exploration.leak(cohort).set_index("twice")
    assert table.equals(exploration.leak(cohort).set_index("twice"))
    honest, claimed = table["by child"], table["by film"]
    assert claimed[0.0] == pytest.approx(honest[0.0], rel=0.2)
    # half exported twice: 2/3 of the rows have a twin, and 3/4 of the twins are known; the rest errs as before
    assert claimed[0.5] == pytest.approx(0.5 * honest[0.5], rel=0.2)
    assert honest.max() < 1.3 * honest.min()
    assert f"by film {claimed[0.5]:.1f}" in exploration.draw_leak(table.reset_index()).alt


def test_sizes_are_told_with_their_tie_to_age() -> None:
    films = pd.DataFrame({"width": [100, 200, 300], "height": 400, "months": [10.0, 20.0, 30.0]})
    told = exploration.draw_sizes(films).alt
    assert "Widths go from 100 to 300, heights from 400 to 400" in told
    assert "width 1.00, height 0.00" in told
