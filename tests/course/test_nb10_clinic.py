"""Notebook 10's critique clinic: the data are what the cards say, and what refutes a card really does."""

import numpy as np
import pytest
import torch
from conftest import ROOT

from bonexage_utils.cohort import Cohort
from bonexage_utils.course.nb10 import clinic
from bonexage_utils.course.nb10.clinic import Evidence
from bonexage_utils.course.start import PROFILES, Course

N, TRAIN, P = 900, 600, 200


@pytest.fixture(scope="module")
def found() -> Evidence:
    """Films whose numbers tell the age, with noise, and a second film of half of them; no network, no film."""
    rng = np.random.default_rng(0)
    truth, boy = rng.uniform(24, 200, N), rng.random(N) < 0.5
    child = rng.normal(size=(N, P))
    signal = ((truth - truth.mean()) / truth.std())[:, None] * rng.normal(size=P) * 0.4
    films = [child + signal + 0.2 * rng.normal(size=(N, P)) for _ in range(2)]
    label = np.round(truth + rng.normal(0, 5, N))
    return Evidence(films[0], label, truth, boy, np.arange(N) < TRAIN, films[1][: TRAIN // 2])


def test_a_line_is_found() -> None:
    rng = np.random.default_rng(0)
    x, slope = rng.normal(size=(50, 3)), np.array([1.0, -2.0, 3.0])
    x -= x.mean(0)
    said = clinic.fit_line(x, 100 + x @ slope, 1e-9, np.eye(3))
    assert said == pytest.approx(100 + slope)
    assert np.abs(clinic.fit_line(x, 100 + x @ slope, 1e9, np.eye(3)) - 100).max() < 0.1


def test_films_learned_by_heart(found: Evidence) -> None:
    card = clinic.trained_on(found)
    error = (card.data["predicted"] - card.data["label"]).abs()
    by_heart, new = error[card.data["learned"]].mean(), error[~card.data["learned"]].mean()
    assert f"off by {by_heart:.1f} months" in card.card
    assert "600 films" in card.card
    assert new > 1.2 * by_heart


def test_the_winner_of_many_is_lucky(found: Evidence) -> None:
    card = clinic.chosen_by(found)
    best = card.data["test"].idxmin()
    lead_shown = card.data["test"].mean() - card.data["test"][best]
    lead_kept = card.data["new"].mean() - card.data["new"][best]
    assert f"{card.data['test'][best]:.1f} months" in card.card
    assert len(card.data) == clinic.VARIANTS
    assert lead_shown > 1.5 * lead_kept


def test_one_recipe_under_two_names(found: Evidence) -> None:
    card = clinic.one_seed(found)
    gain = card.data["ours"] - card.data["theirs"]
    assert f"{-gain.min():.1f} months better" in card.card
    assert f"seed {gain.idxmin()}" in card.card
    assert 2 < (gain < 0).sum() < clinic.SEEDS  # neither is better for every seed


def test_a_known_child_is_known(found: Evidence) -> None:
    data = clinic.twins(found).data
    tested = ~data["learned"]
    known = data["child"].isin(data["child"][data["learned"]])
    error = (data["predicted"] - data["label"]).abs()
    assert error[~tested].isna().all()
    assert error[tested].notna().all()
    assert error[tested & ~known].mean() > 3 * error[tested & known].mean()
    assert data.groupby("child")["label"].nunique().eq(1).all()
    assert data["child"].value_counts().max() == 2


def test_intervals_that_hold_only_at_home(found: Evidence) -> None:
    data = clinic.calibrated_on(found).data
    inside = data["label"].between(data["low"], data["high"])
    assert inside[data["learned"]].mean() == pytest.approx(clinic.COVERAGE, abs=0.01)
    assert inside[~data["learned"]].mean() < clinic.COVERAGE - 0.05


def test_a_second_reader_is_nearer_than_a_poor_network(found: Evidence) -> None:
    card = clinic.second_reader(found)
    off = {name: (card.data[name] - card.data["label"]).abs().mean() for name in ("second_reader", "network")}
    assert len(card.data) == N - TRAIN
    assert 4 < off["second_reader"] < 10  # two readings, each about five months off
    assert off["network"] > off["second_reader"]
    assert "as good as a radiologist" in card.card


@pytest.mark.slow
def test_the_cards_are_of_the_cohort_and_the_same_every_time(cohort: Cohort, cache_dir: object) -> None:
    course = Course(PROFILES["fast"], torch.device("cpu"), cohort, True, 0, ROOT)
    cards = clinic.claims(course)
    assert list(cards) == list("ABCDEF")
    assert clinic.claims(course) is cards
    again = clinic.gather(cohort.root, clinic.FILMS)
    assert clinic.trained_on(again).data.equals(cards["A"].data)
    assert set(cards["A"].data["label"]) == set(cohort.table["months"])
    assert again.learned.sum() == len(cohort.split("train"))
    twin = np.corrcoef(again.again.ravel(), again.numbers[: len(again.again)].ravel())[0, 1]
    other = np.corrcoef(again.again.ravel(), again.numbers[1 : len(again.again) + 1].ravel())[0, 1]
    assert twin > other + 0.2  # the second film of a child is more like its first than like another child's
