"""What the network sees, and that chance depends on the film alone."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bonexage_utils.augment import augment
from bonexage_utils.batches import EpochSampler, FilmDataset, eval_loader, film_key, train_loader
from bonexage_utils.devices import standardise, to_unit
from bonexage_utils.images import Preprocessing
from bonexage_utils.settings import Augmentation

NONE = Augmentation(0, 0, 0, 0, 0, 0, 0, 0, 0)


def dataset(count: int = 40, size: int = 16) -> FilmDataset:
    films = np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8)
    table = pd.DataFrame({"id": [str(i) for i in range(count)], "months": np.arange(count, dtype=float),
                          "sex": ["M", "F"] * (count // 2)})
    return FilmDataset(films, np.arange(count), table)


def test_an_item_is_bytes_with_its_label() -> None:
    item = dataset()[3]
    assert item["image"].shape == (1, 16, 16)
    assert item["image"].dtype == torch.uint8
    assert (item["months"].item(), item["sex"].item(), item["key"].item()) == (3.0, 0, film_key("3"))


def test_a_dataset_has_no_transform_to_share() -> None:
    """Fault 1: a transform on a data set shared by both halves of a split switches augmentation off or on for both."""
    assert not [name for name in vars(dataset()) if "transform" in name or "augment" in name]


@pytest.mark.parametrize("workers", [0, 2])
def test_worker_count_changes_no_number(workers: int) -> None:
    """Fault 18: unseeded workers."""
    def epoch(count: int) -> torch.Tensor:
        loader = train_loader(dataset(), 8, seed=5, workers=count)
        batches = [augment(to_unit(b["image"]), b["key"], 1, 5, Augmentation()) for b in loader]
        return torch.cat(batches)

    torch.testing.assert_close(epoch(workers), epoch(0), rtol=0, atol=0)


def test_orders_differ_by_epoch_and_repeat_by_seed() -> None:
    sampler = EpochSampler(50, seed=1)
    first = list(sampler)
    sampler.epoch = 1
    assert sorted(first) == list(range(50))
    assert list(sampler) != first
    sampler.epoch = 0
    assert list(sampler) == first


def test_evaluation_sees_every_film_once_in_order() -> None:
    months = torch.cat([b["months"] for b in eval_loader(dataset(), 12)])
    assert months.tolist() == list(range(40))


@given(st.integers(0, 2**31), st.integers(0, 100), st.permutations(range(6)))
@settings(max_examples=25, deadline=None)
def test_a_film_is_changed_the_same_in_any_company(seed: int, epoch: int, order: list[int]) -> None:
    images = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    keys = torch.tensor([film_key(str(i)) for i in range(6)])
    together = augment(images, keys, epoch, seed, Augmentation(flip=0.5))
    shuffled = augment(images[order], keys[order], epoch, seed, Augmentation(flip=0.5))
    alone = augment(images[2:3], keys[2:3], epoch, seed, Augmentation(flip=0.5))
    torch.testing.assert_close(shuffled, together[order])
    torch.testing.assert_close(alone, together[2:3])
    assert together.min() >= 0.0
    assert together.max() <= 1.0


def test_films_epochs_and_seeds_differ() -> None:
    images = torch.rand(1, 1, 16, 16).expand(2, 1, 16, 16)
    keys = torch.tensor([film_key("a"), film_key("b")])
    out = augment(images, keys, 0, 0, Augmentation())
    assert not torch.allclose(out[0], out[1])
    assert not torch.allclose(out, augment(images, keys, 1, 0, Augmentation()))
    assert not torch.allclose(out, augment(images, keys, 0, 1, Augmentation()))


def test_no_augmentation_changes_nothing() -> None:
    images = torch.rand(4, 1, 32, 32)
    keys = torch.arange(4)
    torch.testing.assert_close(augment(images, keys, 0, 0, NONE), images, atol=1e-5, rtol=0)


def centre(image: torch.Tensor) -> torch.Tensor:
    """The centre of mass of (1, S, S): x, y in units of the side from the middle."""
    size = image.shape[-1]
    place = (torch.arange(size) + 0.5) / size - 0.5
    mass = image[0]
    return torch.stack([(mass.sum(0) * place).sum(), (mass.sum(1) * place).sum()]) / mass.sum()


def test_shift_and_rotation_stay_within_their_limits() -> None:
    spot = torch.zeros(400, 1, 64, 64)
    spot[:, :, 29:35, 45:51] = 1.0  # at x = 0.25, y = 0 from the middle
    keys = torch.tensor([film_key(str(i)) for i in range(400)])
    shifted = augment(spot, keys, 0, 0, Augmentation(0, 0.1, 0, 0, 0, 0, 0, 0, 0))
    moves = torch.stack([centre(s) for s in shifted]) - torch.tensor([0.25, 0.0])
    assert moves.abs().max() <= 0.1 + 0.01
    assert moves.abs().amax(0).min() > 0.09  # the whole range is used, in both directions
    turned = augment(spot, keys, 0, 0, Augmentation(30, 0, 0, 0, 0, 0, 0, 0, 0))
    places = torch.stack([centre(s) for s in turned])
    angles = torch.rad2deg(torch.atan2(places[:, 1], places[:, 0]))
    assert 28 < angles.abs().max() <= 31
    torch.testing.assert_close(places.norm(dim=1), torch.full((400,), 0.25), atol=0.01, rtol=0)


def test_flip_mirrors_at_its_rate() -> None:
    images = torch.rand(400, 1, 8, 8)
    keys = torch.tensor([film_key(str(i)) for i in range(400)])
    out = augment(images, keys, 0, 0, Augmentation(0, 0, 0, 0.25, 0, 0, 0, 0, 0))
    mirrored = torch.tensor([torch.allclose(o, i.flip(-1), atol=1e-5) for o, i in zip(out, images, strict=True)])
    same = torch.tensor([torch.allclose(o, i, atol=1e-5) for o, i in zip(out, images, strict=True)])
    assert (mirrored | same).all()
    assert 0.25 - 4 * 0.022 < mirrored.float().mean() < 0.25 + 4 * 0.022  # four standard errors


def test_noise_has_the_stated_strength() -> None:
    flat = torch.full((300, 1, 32, 32), 0.5)
    keys = torch.tensor([film_key(str(i)) for i in range(300)])
    out = augment(flat, keys, 0, 0, Augmentation(0, 0, 0, 0, 0, 0, 0, 0.05, 0))
    spread = out.std((1, 2, 3))
    assert spread.max() < 0.055
    assert abs(spread.mean() - 0.025) < 0.003  # uniform between none and the largest
    assert abs(out.mean() - 0.5) < 0.001


def test_scaling_is_the_checkpoints() -> None:
    unit = to_unit(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert unit.flatten().tolist() == [0.0, 1.0]
    assert standardise(unit, Preprocessing(2, 0.5, 0.25)).flatten().tolist() == [-2.0, 2.0]
