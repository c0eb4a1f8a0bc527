"""What notebook 09 does to a network from outside: the same children twice, nine views, one film spoilt bit by bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bonexage_utils.calibration import Calibration
from bonexage_utils.checks.stress import PERTURBATIONS
from bonexage_utils.cohort import Cohort
from bonexage_utils.course.nb09 import robustness
from bonexage_utils.course.nb09.robustness import GRIDS, KINDS, WATCHED, Watch
from bonexage_utils.course.start import PROFILES, SEED, Course
from bonexage_utils.decoding import read_gray
from bonexage_utils.figures import Picture
from bonexage_utils.images import letterbox
from bonexage_utils.prediction import Predictor


@pytest.fixture(scope="module")
def course(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Course:
    return Course(PROFILES["fast"], torch.device("cpu"), cohort, True, 0, tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module")
def films(course: Course, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    return robustness.draw_films(course, tmp_path_factory.mktemp("drawn"), 12)


@pytest.fixture
def predictor(run: Path) -> Predictor:
    return Predictor(run / "model.safetensors", device="cpu")


# --- films ---


def test_the_same_children_stand_at_both_hospitals(films: dict[str, pd.DataFrame], cohort: Cohort) -> None:
    assert tuple(films) == KINDS
    home, away = films["new"], films["B"]
    assert len(home)
    assert home["id"].tolist() == away["id"].tolist()
    assert home["sex"].tolist() == away["sex"].tolist()
    assert (home["months"] != away["months"]).any()
    assert (home["months"] - away["months"]).abs().max() < 40
    for one, other in zip(home["image"], away["image"], strict=True):
        assert not np.array_equal(read_gray(one), read_gray(other))
    assert not set(home["id"]) & set(cohort.table["id"])
    assert robustness.NEW_SEED != SEED
    assert set(films["calibration"]["split"]) == {"calibration"}


def test_of_ones_own_films_half_the_calibration_split_is_new(course: Course, cohort: Cohort, tmp_path: Path) -> None:
    own = robustness.draw_films(replace(course, embedded=False), tmp_path, 2)
    assert set(own["calibration"]["id"]) | set(own["new"]["id"]) == set(cohort.split("calibration")["id"])
    assert not set(own["calibration"]["id"]) & set(own["new"]["id"])
    assert len(own["B"]) == 2
    assert isinstance(robustness.draw_pairs(own["calibration"], own["B"], 32, 2), Picture)


def test_pairs_are_the_same_children(films: dict[str, pd.DataFrame]) -> None:
    told = robustness.draw_pairs(films["new"], films["B"], 48, 3).alt
    by_id = films["B"].set_index("id")["months"]
    above = films["new"].sort_values(["months", "id"]).iloc[[0, 6, 11]]
    assert f"labels {', '.join(f'{m:.0f}' for m in above['months'])} months. Below" in told
    assert f"hospital B: labels {', '.join(f'{by_id[i]:.0f}' for i in above['id'])} months." in told


def test_scanner_and_reader_are_told_apart() -> None:
    """A film 5 months too high at B, a reader 4 months older there."""
    home = pd.DataFrame({"id": list("abcd"), "months": [60.0, 90, 120, 150], "predicted": [61.0, 89, 121, 149]})
    away = home.assign(months=home["months"] + 4, predicted=home["predicted"] + 5)
    table = robustness.by_hospital(home, away).set_index(["film", "reader"])
    assert table["n"].tolist() == [4] * 4
    assert table["bias"].to_dict() == {("here", "here"): 0, ("here", "B"): -4, ("B", "here"): 5, ("B", "B"): 1}
    assert table["mae"].to_dict() == {("here", "here"): 1, ("here", "B"): 4, ("B", "here"): 5, ("B", "B"): 1}
    told = robustness.draw_hospitals(table.reset_index()).alt
    assert "film B, reader here: MAE 5.0 [4.0, 6.0], bias +5.0 [+4.0, +6.0]" in told
    others = robustness.by_hospital(home, away.assign(id=list("wxyz")))
    assert others[["film", "reader"]].to_numpy().tolist() == [["here", "here"], ["B", "B"]]


# --- trained with the fault ---


def test_two_networks_meet_on_the_same_films() -> None:
    """A first network that a turn takes 30 months up, a second that it takes 5 up, and that is 2 worse at home."""
    films = pd.DataFrame({"id": list("abcd") * 3, "months": [60.0, 90, 120, 150] * 3,
                          "perturbation": ["rotation"] * 8 + ["marker"] * 4,
                          "strength": [90.0] * 4 + [180.0] * 4 + [5.0] * 4})
    first = films.assign(predicted=films["months"] + 1, stressed=films["months"] + 30)
    second = films.assign(predicted=films["months"] - 3, stressed=films["months"] + 5)
    table = robustness.before_and_after(first, second, ("rotation",))
    assert table.index.tolist() == [("as it is", 0), ("rotation", 90), ("rotation", 180)]
    assert table["MAE before"].tolist() == [1, 30, 30]
    assert table["MAE after"].tolist() == [3, 5, 5]
    assert table[["change", "low", "high"]].to_numpy().tolist() == [[2, 2, 2], [-25, -25, -25], [-25, -25, -25]]
    with pytest.raises(ValueError, match="not the same films"):
        robustness.before_and_after(first, second.iloc[::-1], ("rotation",))


# --- nine views ---


def test_nine_answers_are_those_of_the_package(predictor: Predictor, run: Path, films: dict[str, pd.DataFrame]) -> None:
    part = films["new"]
    answers = robustness.nine_answers(predictor, part, batch=5)
    steady = Predictor(run / "model.safetensors", device="cpu", tta=True)
    squares = np.stack([letterbox(read_gray(image), 64) for image in part["image"]])
    assert answers.shape == (len(part), 9)
    np.testing.assert_allclose(answers[:, 0], predictor.months(squares, part["sex"].tolist()), atol=1e-3)
    np.testing.assert_allclose(answers.mean(1), steady.months(squares, part["sex"].tolist()), atol=1e-3)


def test_spread_that_ranks_the_errors_is_told() -> None:
    rng = np.random.default_rng(0)
    spread = rng.uniform(0, 4, 300)
    related, unrelated = spread + rng.uniform(0, 1, 300), rng.uniform(0, 4, 300)
    said = robustness.spread_and_error(spread, -related)
    assert float(said.split(" [")[0]) > 0.9
    assert said.endswith("]: a hint")
    interval, verdict = robustness.spread_and_error(spread, unrelated).split(" [")[1].split("]: ")
    low, high = interval.split(", ")
    assert float(low) < 0 < float(high)
    assert verdict == "no hint that these films can show"
    assert robustness.spread_and_error(spread, 9 - related).endswith(": the wrong way round")
    told = robustness.draw_spread(spread, related).alt
    maes = [float(part.split("MAE ")[1].split(" ")[0]) for part in told.split("Thirds by spread: ")[1].split(";")]
    assert maes == sorted(maes)
    assert len(maes) == 3


# --- perturb and watch ---


@pytest.fixture
def watch(predictor: Predictor, films: dict[str, pd.DataFrame]) -> Watch:
    groups = {sex: [None] * 4 for sex in "FM"}
    calibration = Calibration(0.9, False, 240.0, 99, {"calibration": 99}, 30.0, [0, 60, 120, 180, 241], groups)
    return Watch(predictor, films["new"].iloc[0], calibration)


@pytest.mark.parametrize("name", GRIDS)
def test_every_change_begins_with_the_film_as_it_is(watch: Watch, name: str) -> None:
    assert set(PERTURBATIONS[name].strengths) | {0} <= set(GRIDS[name])
    assert np.array_equal(watch.version(name, 0), letterbox(watch.image, 64))
    found = watch.predictions(name)
    assert found["strength"].tolist() == list(GRIDS[name])
    assert np.ptp([watch.predictions(other).set_index("strength")["predicted"][0] for other in GRIDS]) < 1e-3
    width = found["high_months"] - found["low_months"]
    whole = found["predicted"].between(30, 210)
    np.testing.assert_allclose(width[whole], 60, atol=0.02)


@pytest.mark.slow
def test_the_slider_has_some_changes_and_begins_with_the_film_as_it_is(watch: Watch) -> None:
    made = robustness.perturb_and_watch(watch)
    assert set(made.frames) == set(WATCHED) <= set(GRIDS)
    for name, strengths in WATCHED.items():
        assert set(strengths) <= set(GRIDS[name])
        assert made.frames[name][made.starts[name]].value == "0"
        for frame, strength in zip(made.frames[name], strengths, strict=True):
            assert f"{name} {strength:g}: answer" in frame.alt
        assert made.frames[name][-1].alt == robustness.draw_watched(watch, ((name, strengths[-1]),)).alt
        assert len({frame.webp for frame in made.frames[name]}) == len(strengths)
