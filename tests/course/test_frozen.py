"""Heads on frozen maps: the same network as without freezing, the same result for the same seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bonexage_utils.batches import eval_loader, film_sets
from bonexage_utils.cohort import Cohort
from bonexage_utils.course.frozen import Maps, compare_heads, fit_head, frozen_maps, head_errors, head_only, yardsticks
from bonexage_utils.devices import standardise, to_unit
from bonexage_utils.images import Preprocessing
from bonexage_utils.model import BoneAgeNet
from bonexage_utils.phantom.dataset import read_noise_floor
from bonexage_utils.statistics import Interval, paired_over_seeds

PREPROCESSING = Preprocessing(64, 0.2, 0.25)


@pytest.fixture(scope="module")
def toy_maps() -> Maps:
    """Maps whose brightest place tells the age, and its channel the sex."""
    rng = np.random.default_rng(0)
    months, sex = rng.uniform(20, 220, 512).astype(np.float32), rng.integers(0, 2, 512)
    maps = rng.uniform(0, 0.2, (512, 512, 2, 2)).astype(np.float16)
    maps[np.arange(512), sex, 0, 0] += (months / 100).astype(np.float16)
    return Maps(torch.from_numpy(maps), torch.from_numpy(sex), torch.from_numpy(months))


def test_a_head_on_maps_says_what_the_whole_network_says(cohort: Cohort) -> None:
    films = film_sets(cohort, ("train",), 64)[0]["train"]
    torch.manual_seed(0)
    whole = BoneAgeNet("resnet10t", weights="phantom").eval()
    maps = frozen_maps("resnet10t", "phantom", films, PREPROCESSING)
    assert len(maps) == len(films)
    assert maps.maps.min() >= 0
    head = head_only("resnet10t", maps.months).eval()
    head.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("features")})
    batch = next(iter(eval_loader(films, 8)))
    with torch.no_grad():
        wanted = whole(standardise(to_unit(batch["image"]), PREPROCESSING), batch["sex"])
        said = head(maps.maps[:8].float(), maps.sex[:8])
    torch.testing.assert_close(said, wanted, atol=0.05, rtol=0)
    np.testing.assert_allclose(head_errors(head, maps)[:8], (said - batch["months"]).numpy(), atol=1e-3)


def test_the_seed_decides_everything(toy_maps: Maps) -> None:
    one, again, other = (head_errors(fit_head("resnet10t", toy_maps, seed, epochs=2), toy_maps)
                         for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("pooling", ["gem", "avg", "max"])
def test_a_head_learns_what_the_maps_tell(toy_maps: Maps, pooling: str) -> None:
    spread = (toy_maps.months - toy_maps.months.median()).abs().mean().item()
    errors = head_errors(fit_head("resnet10t", toy_maps, 0, epochs=15, pooling=pooling), toy_maps)
    assert np.abs(errors).mean() < spread / 3


def test_a_comparison_pairs_films_and_seeds(toy_maps: Maps) -> None:
    arms = {"with sex": {}, "without": {"use_sex": False}, "the same again": {}}
    errors = compare_heads("resnet10t", toy_maps, toy_maps, arms, seeds=2, epochs=1)
    assert {name: found.shape for name, found in errors.items()} == dict.fromkeys(arms, (2, 512))
    assert np.array_equal(errors["with sex"], errors["the same again"])
    assert paired_over_seeds(errors["with sex"], errors["the same again"]) == Interval(0.0, 0.0, 0.0)


def test_yardsticks_are_the_median_and_the_noise_of_the_labels(cohort: Cohort, tmp_path: Path) -> None:
    films, train = cohort.split("calibration"), cohort.split("train")
    guess = [train.loc[train["sex"] == sex, "months"].median() for sex in films["sex"]]
    marks = yardsticks(cohort, films)
    assert marks == pytest.approx({"median by sex": np.abs(films["months"] - guess).mean(),
                                   "noise floor": read_noise_floor(cohort.root)})
    assert list(yardsticks(replace(cohort, root=tmp_path), films)) == ["median by sex"]
