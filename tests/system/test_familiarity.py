"""What is usual: one in a hundred usual films is called unlike the rest, odd ones are, and a file's numbers are held
against the network before they are believed."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.calibration import Calibration, learn_familiarity
from bonexage_utils.checkpoints import load_model, network_digest, set_calibration
from bonexage_utils.cohort import Cohort
from bonexage_utils.errors import BoneXageError
from bonexage_utils.familiarity import AXES, FEWEST, Familiarity, map_statistics
from bonexage_utils.notes import UNLIKE
from bonexage_utils.prediction import Predictor, predict_to_file

WIDTHS = Calibration(0.9, False, 240.0, 40, {"calibration": 40}, 20.0, [0, 60, 120, 180, 241],
                     {"F": [None] * 4, "M": [None] * 4})


def drawn(films: int, width: int = 60, seed: int = 0) -> torch.Tensor:
    """Statistics that hang together: six causes, and a little of their own."""
    rng = np.random.default_rng([seed, films])
    causes = np.random.default_rng(1).normal(size=(6, width))
    return torch.from_numpy(1 + rng.normal(size=(films, 6)) @ causes / 10 + rng.normal(0, 0.02, (films, width))).float()


def test_one_usual_film_in_a_hundred_is_unfamiliar() -> None:
    shares = [Familiarity.learn(drawn(200, seed=seed)).unfamiliar(drawn(2000, seed=seed)).mean() for seed in range(20)]
    assert np.mean(shares) <= 0.015
    assert np.mean(shares) >= 0.001


def test_what_breaks_the_usual_relations_is_unfamiliar_though_no_number_is() -> None:
    known = Familiarity.learn(drawn(300))
    broken = drawn(300, seed=5)
    for column in range(broken.shape[1]):
        broken[:, column] = broken[torch.randperm(300, generator=torch.Generator().manual_seed(column)), column]
    assert known.unfamiliar(broken).mean() > 0.9
    assert known.unfamiliar(torch.full((1, 60), torch.nan)).all()


def test_too_few_films_teach_nothing() -> None:
    assert Familiarity.learn(drawn(FEWEST - 1)) is None
    assert Familiarity.learn(drawn(FEWEST)) is not None


@pytest.mark.parametrize("width", [2, 10, 40, 400])
def test_maps_of_any_width_and_films_that_are_all_alike(width: int) -> None:
    known = Familiarity.learn(drawn(120, width))
    assert known.unfamiliar(drawn(500, width, seed=3)).mean() < 0.06
    Familiarity.from_tensors(known.tensors(), width // 2)
    alike = Familiarity.learn(torch.ones(100, width))
    assert not alike.unfamiliar(torch.ones(1, width)).any()
    assert alike.unfamiliar(2 * torch.ones(1, width)).all()


@given(st.floats(0.01, 100), st.integers(0, 2**31))
def test_contrast_does_not_count(factor: float, seed: int) -> None:
    maps = torch.rand(2, 5, 3, 4, generator=torch.Generator().manual_seed(seed)) + 0.01
    torch.testing.assert_close(map_statistics(maps), map_statistics(factor * maps), rtol=1e-3, atol=1e-4)
    assert map_statistics(maps).shape == (2, 10)


@pytest.fixture
def taught(run: Path, cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint calibrated on whatever films there are: 80, some of which it learned from, are enough to try it."""
    monkeypatch.setattr("bonexage_utils.familiarity.FEWEST", 60)
    monkeypatch.setattr("bonexage_utils.familiarity.KNOWN", 0.9)
    path = shutil.copy(run / "model.safetensors", tmp_path / "model.safetensors")
    known = learn_familiarity(path, cohort.table)
    set_calibration(path, network_digest(path), asdict(WIDTHS), replace(known, threshold=known.threshold.new_tensor(
        float(np.quantile(distances(path, known, cohort.table), 0.9)))))
    return path


def distances(path: Path, known: Familiarity, films: pd.DataFrame) -> np.ndarray:
    """Of all films at once, where `learn_familiarity` takes them one by one."""
    from bonexage_utils.decoding import read_gray
    from bonexage_utils.devices import to_network
    from bonexage_utils.images import letterbox

    model, preprocessing, _ = load_model(path)
    squares = np.stack([letterbox(read_gray(image), preprocessing.image_size) for image in films["image"]])
    with torch.inference_mode():
        return known.distance(map_statistics(model.features(to_network(torch.from_numpy(squares), preprocessing))))


def test_the_checkpoint_keeps_it_and_stays_the_same_network(run: Path, taught: Path, cohort: Cohort) -> None:
    assert network_digest(taught) == network_digest(run / "model.safetensors")
    model, _, description = load_model(taught)
    assert model.familiarity.axes.shape == (2 * model.features.channels, len(cohort) // 3)
    assert description["calibration"] is not None
    films = cohort.table[["id", "image", "sex"]].assign(error="")
    plain, noted = (Predictor(path, "cpu").predict(films) for path in (run / "model.safetensors", taught))
    pd.testing.assert_series_equal(plain["bone_age_months"], noted["bone_age_months"])
    assert (noted["note"].str.contains(UNLIKE)).sum() == 8
    assert not plain["note"].str.contains(UNLIKE).any()
    set_calibration(taught, network_digest(taught), asdict(WIDTHS))
    assert load_model(taught)[0].familiarity is None


def test_calibrating_in_between_looks_at_the_films_again(run: Path, taught: Path, cohort: Cohort,
                                                         tmp_path: Path) -> None:
    films = cohort.table[["id", "image", "sex"]].assign(error="")
    before = predict_to_file(Predictor(run / "model.safetensors", "cpu"), films, tmp_path / "p.csv")
    after = predict_to_file(Predictor(taught, "cpu"), films, tmp_path / "p.csv", resume=True)
    assert not before["note"].str.contains(UNLIKE).any()
    assert after["note"].str.contains(UNLIKE).any()


@pytest.mark.parametrize("change", [
    {"mean": torch.zeros(3)}, {"rest": torch.tensor(0.0)}, {"threshold": torch.tensor(torch.nan)},
    {"variances": torch.zeros(26)}, {"variances": torch.ones(AXES)},
    {"axes": torch.full((4, 4), torch.inf)}, {"spread": torch.tensor(1.0)},
    {"threshold": torch.tensor(1)},
])
def test_numbers_that_are_none_or_of_another_network_are_refused(taught: Path, change: dict) -> None:
    known = load_model(taught)[0].familiarity
    set_calibration(taught, network_digest(taught), asdict(WIDTHS), replace(known, **change))
    for use in (load_model, lambda path: learn_familiarity(path, pd.DataFrame())):  # so no calibrating mends it
        with pytest.raises(BoneXageError, match="copy it again, or use another"):
            use(taught)


def test_films_that_cannot_be_read_teach_nothing(run: Path, cohort: Cohort) -> None:
    assert learn_familiarity(run / "model.safetensors", cohort.table.assign(image="absent.png")) is None


def test_too_few_films_take_nothing_away(taught: Path, cohort: Cohort) -> None:
    kept = learn_familiarity(taught, cohort.table.head(20))
    assert kept.digest == load_model(taught)[0].familiarity.digest
