"""What notebook 08 looks at: residuals one by one, maps scored on bones, a planted strip, made-up readers."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bonexage_utils.cohort import Cohort
from bonexage_utils.course.bones import film_and_region, hands_with_masks
from bonexage_utils.course.nb08 import attribution, readers, residuals, shortcut
from bonexage_utils.course.records import read_runs
from bonexage_utils.decoding import read_gray
from bonexage_utils.images import Preprocessing
from bonexage_utils.phantom import child_and_film
from bonexage_utils.prediction import Predictor
from bonexage_utils.statistics import Interval, agreement, paired_difference

SIDE = 24


class Toy(nn.Module):
    """Months: 100 plus what `weights` (S, S) make of the film, for either sex; its features are the rows' means."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = torch.from_numpy(weights.astype(np.float32))
        self.pool = nn.Identity()

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0].mean(2)

    def forward(self, images: torch.Tensor, sex: torch.Tensor) -> torch.Tensor:
        return 100.0 + (images[:, 0] * self.weights).sum((1, 2))


def toy(weights: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(model=Toy(weights).eval(), preprocessing=Preprocessing(len(weights), 0.0, 1.0),
                           uses_sex=True, device=torch.device("cpu"), unknown_sex="error")


@pytest.fixture
def five() -> residuals.Residuals:
    """Five films, read 30 too young to 20 too old; the library holds the same films."""
    films = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE), dtype=np.uint8)
    table = pd.DataFrame({"id": list("abcde"), "sex": list("FMFMF"), "months": [60.0, 80, 100, 120, 140],
                          "predicted": [65.0, 50, 101, 140, 138]})
    return residuals.Residuals(toy(np.full((SIDE, SIDE), 0.01)), films, table, films, table["months"].to_numpy())


# --- residuals ---


@pytest.mark.parametrize(("months", "text"), [(7.2, "+7"), (-7.2, "−7"), (-0.2, "0"), (0.4, "0")])
def test_a_difference_shows_its_sign(months: float, text: str) -> None:
    assert residuals.signed(months) == text


def test_films_come_from_too_young_to_too_old(five: residuals.Residuals) -> None:
    assert five.table["id"].iloc[five.order].tolist() == list("beca") + ["d"]
    assert five.worst(2) == [1, 3]
    assert residuals.three_places(five) == (1, 3, 5)
    assert (five.alike[:, 0] == np.arange(5)).all()  # its own picture is most like it
    told = residuals.draw_case(five, (1, 5)).alt
    assert "place 1 of 5, film b (M): label 80, says 50, the training films most like it have 80" in told
    assert "place 5 of 5, film d (M): label 120, says 140" in told


def test_a_map_is_made_once(five: residuals.Residuals) -> None:
    assert five.map(2) is five.map(2)
    assert five.map(2).unexplained == pytest.approx(0, abs=1e-3)


def test_the_worst_come_worst_first(five: residuals.Residuals) -> None:
    told = residuals.draw_worst(five, 3).alt
    assert told.index("b label 80, says 50") < told.index("d label 120, says 140") < told.index("a label 60, says 65")


def test_the_explorer_goes_from_end_to_end(five: residuals.Residuals) -> None:
    made = residuals.explore(five)
    frames = made.frames[""]
    assert [frame.value for frame in frames] == [f"{place} of 5" for place in range(1, 6)]
    assert made.first.value == "3 of 5"
    assert [frame.alt for frame in frames] == [residuals.draw_case(five, (place,)).alt for place in range(1, 6)]
    assert [frame.value for frame in residuals.explore(five, 2).frames[""]] == ["1 of 5", "3 of 5", "5 of 5"]


def test_a_frame_of_the_explorer_cuts_nothing_off(five: residuals.Residuals) -> None:
    figure = residuals.draw_case(five, (1,)).figure
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height


def test_yardsticks_with_and_without_an_interval() -> None:
    told = residuals.draw_yardsticks({"median": Interval(40.0, 36.0, 44.0), "floor": 5.08}).alt
    assert "median 40.0 [36.0, 44.0]; floor 5.1" in told


def test_blame_is_shared_by_the_truth(cohort: Cohort, tmp_path: Path) -> None:
    films = cohort.split("train").head(30).assign(predicted=lambda t: t["months"] + 3)
    judged = residuals.blame(cohort, films)
    assert np.allclose(judged["network_off"], judged["label_off"] + 3)
    assert judged["label_off"].abs().mean() < 12
    assert judged["true"].between(0, 240).all()
    told = residuals.draw_blame(judged, 5).alt
    assert f"The labels are {judged['label_off'].abs().mean():.1f} months off" in told
    elsewhere = residuals.blame(replace(cohort, root=tmp_path), films)
    assert elsewhere[["true", "label_off", "network_off"]].isna().all(axis=None)


# --- maps on bones ---


def test_a_control_is_beaten_film_by_film() -> None:
    rng = np.random.default_rng(0)
    own = 2 + rng.random(30)
    table = pd.DataFrame({"own": own, "other": own - 0.5, "untrained": own + rng.normal(0, 1, 30),
                          "undecided": own + 1})
    found = attribution.against_controls(table)
    assert found.loc["another child's", ["own minus control", "low", "high"]].tolist() == pytest.approx([0.5] * 3)
    assert found["above"].tolist() == [True, False, False]
    assert found.loc["another child's", "said"] == "above"
    assert found["said"].tolist()[-1] == "below"
    told = attribution.draw_scores({"last_map": table}).alt
    assert f"last map: the centres that decide {own.mean():.2f}" in told
    assert "over 30 hands" in told


@pytest.mark.parametrize(("low", "high", "words"), [(0.1, 1, "GeM looks more"), (-1, -0.1, "the average looks more"),
                                                   (-1, 1, "no difference")])
def test_the_verdict_follows_the_interval(low: float, high: float, words: str) -> None:
    assert attribution.attribution_verdict(Interval((low + high) / 2, low, high)).startswith(words)


def test_hands_are_scored_where_their_centres_are(run: Path) -> None:
    folder, truth = hands_with_masks(3)
    assert hands_with_masks(3)[0] == folder
    film, region = film_and_region(folder, truth.iloc[0], 64)
    assert film.shape == region.shape == (64, 64)
    assert 0 < region.mean() < 0.3
    table = attribution.attribution_on_centres(Predictor(run / "model.safetensors"), folder, truth)
    assert table["id"].tolist() == truth["id"].tolist()
    assert (table["area_decide"] <= table["area_centres"]).all()
    assert table[["centres", "decide", "shafts"]].min(axis=None) >= 0
    assert (table["centres"] + table["shafts"] < 1).all()


def test_recorded_claims_are_told_with_how_they_were_made(tmp_path: Path) -> None:
    assert attribution.claim_lines(tmp_path).startswith("phantom: not yet measured\nreal films")
    known = read_runs("claims")
    for row in known[known["claim"] == attribution.CLAIM].to_dict("records"):
        assert f"{row['difference']:+.2f} [{row['low']:.2f}, {row['high']:.2f}] points" in attribution.claim_lines()
        assert f"commit {row['commit']}" in attribution.claim_lines()


def test_recorded_looks_or_not_yet_measured(tmp_path: Path) -> None:
    assert "Not yet measured" in attribution.draw_difference_by_hand(read_runs("looks", tmp_path)).alt
    rows = [{"network": "frozen backbone", "pooling": pooling, "seed": seed,
             "shares": "0.30 0.20 0.40" if pooling == "average" else f"0.3{seed} 0.30 0.3{5 - seed}"}
            for seed in (0, 2) for pooling in ("GeM", "average")]  # + 0 and 2, + 10 and 10, − 5 and 7 points
    path = tmp_path / attribution.LOOKS_FILE
    path.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(path, index=False)
    told = attribution.draw_difference_by_hand(read_runs("looks", tmp_path)).alt
    assert "frozen backbone, 2 seeds: 2 of 3 hands lie above zero, from -6.0 to +10.0" in told
    assert "mean +1.67: GeM 31.7, average 30.0" in told


# --- the strip ---


@pytest.mark.parametrize("k", range(6))
def test_the_strip_is_the_phantoms_own(k: int) -> None:
    _, plain, row = child_and_film(3, k)
    marked, where = shortcut.mark(plain, row["label_months"])
    _, own, facts = child_and_film(3, k, shortcut=True)
    box = [facts[f"shortcut_{side}"] for side in ("x0", "y0", "x1", "y1")]
    assert where.sum() == (box[2] - box[0]) * (box[3] - box[1])
    assert where[box[1]:box[3], box[0]:box[2]].all()
    assert (marked[~where] == own[~where]).all()
    assert len(set(marked[where])) == 1


@given(st.floats(1, 228), st.floats(1, 228), st.sampled_from([0, 255]))
def test_older_means_longer(one: float, other: float, background: int) -> None:
    film = np.full((400, 300), background, np.uint8)
    lengths = [int(shortcut.mark(film, months)[1].any(0).sum()) for months in sorted((one, other))]
    assert lengths[0] <= lengths[1]
    assert (film == background).all()
    marked, where = shortcut.mark(film, one)
    assert (marked[where] == 255 - background).all()


def test_a_marked_cohort_is_the_same_but_for_the_strip(cohort: Cohort, tmp_path: Path) -> None:
    marked = shortcut.marked_cohort(cohort, tmp_path / "marked", 4, 2)
    assert marked.table["split"].tolist() == ["train"] * 4 + ["selection"] * 2
    before = pd.concat([cohort.split("train").head(4), cohort.split("selection").head(2)], ignore_index=True)
    assert marked.table["id"].tolist() == before["id"].tolist()
    for old, new, months in zip(before["image"], marked.table["image"], before["months"], strict=True):
        expected, where = shortcut.mark(read_gray(old), months)
        assert (read_gray(new) == expected).all()
        assert where.any()


def test_who_reads_the_strip_is_lost_without_it(cohort: Cohort) -> None:
    films = cohort.split("train").head(12)
    marked = shortcut.marked_films(films, 96)
    assert marked.films.shape == marked.strips.shape == (12, 96, 96)
    clean = residuals.letterboxed(films, 96)
    assert (marked.films != clean).any((1, 2)).all()
    pixels = marked.strips.sum((1, 2))
    by_strip = np.polynomial.Polynomial.fit(pixels, films["months"], 1)
    network = SimpleNamespace(preprocessing=Preprocessing(96, 0.0, 1.0), months=lambda seen, sexes: np.where(
        (seen == clean).all((1, 2)), 0.0, by_strip(pixels)))
    table = shortcut.two_by_two({"trapped": network}, films)["trapped"]
    assert table["without a strip"].value == pytest.approx(films["months"].mean())
    assert table["with the strip"].value < 20
    told = shortcut.draw_two_by_two({"trapped": table}, {"noise floor": 5.0}).alt
    assert f"films without a strip: {films['months'].mean():.1f}" in told
    assert "noise floor 5.0" in told


def test_attribution_finds_the_strip(cohort: Cohort) -> None:
    films = cohort.split("train").head(1)
    strip = shortcut.marked_films(films, SIDE * 4).strips[0]
    looks, looks_away = toy(strip * 0.2), toy(~strip * 0.2)
    for network, share in ((looks, 1.0), (looks_away, 0.0)):
        table = shortcut.strip_shares(network, films)
        assert table["share"].tolist() == pytest.approx([share])
        assert table["area"].tolist() == pytest.approx([strip.mean()])
    told = shortcut.draw_strip({"one": looks, "other": looks_away}, films).alt
    assert "one says" in told
    assert "100.0 % of its attribution on the strip; other says" in told


# --- made-up readers and models ---


def test_four_readers_are_what_their_figure_shows(cohort: Cohort) -> None:
    course = SimpleNamespace(cohort=cohort)
    labels, errors = readers.four_readers(course)
    assert len(labels) == min(readers.FILMS, (cohort.table["split"] != "test").sum())
    bias = {name: agreement(labels + off, labels).bias for name, off in errors.items()}
    assert bias["A"].low > 5
    assert np.polyfit(labels, errors["C"], 1)[0] == pytest.approx(-0.25, abs=0.06)
    assert np.abs(errors["D"]).max() > 40 > 20 > np.median(np.abs(errors["D"]))
    told = readers.draw_readers(course).alt
    assert f"A: bias +{bias['A'].value:.0f} months" in told
    assert not re.search(r"[+-]0\b", told)


def test_only_the_first_comparison_shows_a_difference() -> None:
    apart = {name: paired_difference(y, x) for name, (x, y) in readers.comparisons().items()}
    assert apart["1"].high < 0
    assert apart["2"].value < 2 * apart["1"].value < 0 < apart["2"].high
    assert apart["3"].low < 0 < apart["3"].high
    assert abs(apart["3"].value) < 0.1
    assert f"Y minus X {apart['1'].value:+.1f}" in readers.draw_three_comparisons().alt
