"""What notebook 01 looks at: tables with a known comb, a folder with known faults, a leak with a known size."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import LABELS

from bonexage_utils.checks.audit import audit
from bonexage_utils.cohort import Cohort, load_cohort
from bonexage_utils.course.nb01 import exploration
from bonexage_utils.phantom.faults import unusual_films


@given(st.lists(st.one_of(st.integers(0, 240).map(float), st.just(float("nan")))), st.integers(0, 240).map(float),
       st.integers(1, 24))
def test_the_share_of_multiples_counts_given_labels_only(months: list[float], last: float, step: int) -> None:
    given_labels = [label for label in [*months, last] if label == label]
    expected = sum(int(label) % step == 0 for label in given_labels) / len(given_labels)
    assert exploration.share_of_multiples(np.array([*months, last]), step) == pytest.approx(expected)


def test_four_tables_differ_in_what_they_say() -> None:
    tables = exploration.four_tables(np.r_[np.repeat(np.arange(12.0, 217.0, 6.0), 40), np.nan])
    share = {name: exploration.share_of_multiples(labels, 6) for name, labels in tables.items()}
    assert share["C"] == share["D"] == 1
    assert share["A"] == pytest.approx(1 / 6, abs=0.04)
    assert set(range(60, 200)) <= set(tables["A"])  # no month left out
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


def test_the_hospitals_unusual_films_are_right_hands_with_a_letter() -> None:
    folder = exploration.hospital()
    truth = pd.read_csv(folder / "ground_truth.csv", dtype={"id": str}).set_index("id")
    assert not truth[["flipped", "quarter_turns", "inverted"]].any(axis=None)
    right_hands = truth.index[truth["right_hand"]].tolist()
    planted = pd.read_csv(folder / "planted_faults.csv", dtype=str).set_index("fault")["id"]
    mirrored = planted["left and right swapped"]
    assert truth.loc[[*right_hands, mirrored], "marker"].all()
    assert unusual_films(folder) == set(right_hands)
    told = exploration.draw_closer([right_hands[0], mirrored]).alt
    assert f"{right_hands[0]} R; {mirrored} L, mirrored" in told
    assert f"upside down: {planted['turned upside down']};" in exploration.tell_sheet()
    assert set(exploration.tell_sheet().rsplit(": ", 1)[1].split(", ")) == {*right_hands, mirrored}


def test_a_label_costs_more_than_its_naming(tmp_path: Path) -> None:
    """Two girls and a boy: plates at 120 and 132 months for both sexes; the test film is not counted."""
    pd.DataFrame({"id": [1, 2, 3, 4], "bone_age_months": [121.0, 129.0, 130.0, 50.0]}).to_csv(
        tmp_path / "ground_truth.csv", index=False)
    films = pd.DataFrame({"id": ["1", "2", "3", "4"], "sex": list("FFMM"), "months": [120.0, 120.0, 138.0, 240.0],
                          "split": ["train", "selection", "train", "test"]})
    costs = exploration.label_costs(Cohort(tmp_path, films, {}))
    assert costs.tolist() == pytest.approx([(1 + 3 + 2) / 3, (1 + 9 + 8) / 3, 100 / 3])
    assert exploration.label_costs(Cohort(tmp_path / "real", films, {})).empty


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


def test_bins_count_every_label_and_show_the_comb() -> None:
    """Labels at every sixth month: five of six bins of a month are empty, and no bin of six."""
    told = exploration.draw_bins(LABELS, (1, 6)).alt
    assert "60 labels" in told
    assert "the fullest holds 2 films; bins of 6" in told
    # from 0 to 239 months there are 40 bins of six, 30 of them with labels; of 240 bins of a month, 30
    assert "bins of 1: 88% of them empty" in told
    assert "bins of 6: 25% of them empty" in told
    assert "bins of 24: 20% of them empty" in exploration.draw_bins(LABELS, (24,)).alt  # two of ten: 192 to 239 months


def test_a_second_export_looks_like_its_film_and_like_no_other() -> None:
    films = np.random.default_rng(0).normal(100, 40, (6, 256)).astype(np.float32)
    copies = exploration.exported_again(films, np.random.default_rng(1))
    alike = exploration.looks(copies) @ exploration.looks(films).T
    assert (alike.argmax(axis=1) == np.arange(6)).all()
    assert (alike.max(axis=1) > 0.95).all()
    assert np.allclose(exploration.looks(2 * films + 7), exploration.looks(films), atol=1e-5)  # exposure does not count
