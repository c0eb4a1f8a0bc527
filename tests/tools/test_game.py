"""The opening game: its hands, what the players say of them, and a page that keeps to itself."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from bonexage_utils.cohort import Cohort
from bonexage_utils.course import frozen
from bonexage_utils.evaluation import median_by_sex
from tools.site import game
from tools.site.offsite import offsite_in_page

ANSWERS = {"network": list(range(20, 220, 20)), "median": {"F": 118, "M": 131}, "films": 1234}
MOST_BYTES = 1_500_000


@pytest.fixture(scope="module")
def hands() -> list[game.Hand]:
    return game.draw_hands()


@pytest.fixture(scope="module")
def data(hands: list[game.Hand]) -> dict:
    return game.game_data(hands, game.draw_atlas(), ANSWERS)


@pytest.fixture(scope="module")
def page(data: dict) -> str:
    return game.game_page(data)


def test_hands_are_spread_over_the_ages_and_the_sexes(hands: list[game.Hand]) -> None:
    assert [hand.child.sex for hand in hands].count("F") == game.HANDS / 2
    ages = np.array([hand.child.chronological_age_months for hand in hands])
    assert np.diff(np.sort(ages)) == pytest.approx(20.4)
    assert ages.min() >= 12
    assert ages.max() <= 216
    assert not (np.diff(ages) > 0).all()  # the order says nothing
    assert all(game.SLIDER["lowest"] < hand.months < game.SLIDER["highest"] for hand in hands)
    assert np.array_equal(game.draw_hands()[3].film, hands[3].film)


def test_the_atlas_has_the_bone_ages_it_names(data: dict) -> None:
    atlas = game.draw_atlas()
    wanted = [12 * years for _ in "FM" for years in game.ATLAS_YEARS]
    assert [hand.months for hand in atlas] == pytest.approx(wanted, abs=1)
    assert [each["age"] for each in data["atlas"]][:2] == ["1 year", "2 years"]


def test_players_say_what_they_said(data: dict, hands: list[game.Hand]) -> None:
    closed = json.loads(base64.b64decode(data["closed"]))
    said = {player["name"]: player["months"] for player in closed["players"]}
    assert closed["truth"] == [round(hand.child.bone_age_months) for hand in hands]
    assert said["The network"] == ANSWERS["network"]
    assert said["The median"] == [118 if hand.child.sex == "F" else 131 for hand in hands]
    six = game.readings(hands)
    assert six.shape == (6, len(hands))
    assert (said["One reader"] == six[0]).all()
    assert said["Six readers"] == pytest.approx(six.mean(0), abs=0.5)


def test_readers_differ_and_scatter_as_real_ones() -> None:
    hands = game.draw_hands()
    off = np.concatenate([game.readings(hands, seed) - [hand.months for hand in hands] for seed in range(40)])
    assert 4 < off.std() < 7.5  # RATER_SD_MONTHS, and the rounding to plates
    assert abs(off.mean()) < 1
    pairs = np.corrcoef(off.reshape(40, game.READERS, len(hands)).transpose(1, 0, 2).reshape(game.READERS, -1))
    assert np.abs(pairs[np.triu_indices(game.READERS, 1)]).max() < 0.25


def test_no_answer_is_in_plain_view(data: dict, page: str) -> None:
    for hand in data["hands"]:
        assert set(hand) == {"sex", "film", "alt"}
        assert not re.search(r"year|month", hand["alt"])
    assert data["closed"] in page
    shown = json.dumps({name: value for name, value in data.items() if name != "closed"})
    assert "truth" not in shown
    assert "players" not in shown


def test_the_page_asks_nobody_and_is_small(page: str) -> None:
    assert offsite_in_page(page) == []
    assert re.findall(r"https?://\S+", page) == ['http://www.w3.org/2000/svg",']  # a name, never fetched
    assert "default-src 'none'" in page
    assert len(page.encode()) < MOST_BYTES


def test_the_network_is_asked_once(hands: list[game.Hand], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(game, "ask_network", lambda films: asked.append(len(films)) or ANSWERS)
    first = game.network_answers(hands, tmp_path)
    assert game.network_answers(hands, tmp_path) == first
    assert asked == [len(hands)]
    game.network_answers(hands[::-1], tmp_path)
    assert len(asked) == 2


@pytest.mark.slow
def test_the_network_answers_from_what_it_learned(hands: list[game.Hand], cohort: Cohort,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(game, "find_cohort", lambda *_: (cohort, True))
    monkeypatch.setattr(game, "NETWORK_SIZE", 96)
    monkeypatch.setattr(frozen, "BATCH", 16)
    answers = game.ask_network(hands)
    train = cohort.split("train")
    assert answers["films"] == len(train)
    assert answers["median"] == pytest.approx(median_by_sex(train), abs=0.5)
    truth = [hand.months for hand in hands]
    # It has seen sixty films: enough to tell young from old, and nobody told it these ten ages.
    assert np.corrcoef(answers["network"], truth)[0, 1] > 0.7
    assert answers["network"] != truth
