"""Pretraining on phantoms: a stopped run goes on exactly, and a student's maps lie where its teacher's do."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bonexage_utils.model import Features
from tools.benchmarks.pretrain import CENTRES, STRIDE, Hints, Pretraining, stage_maps

STUDENT, TEACHER = "test_convnext", "resnet10t"


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Four films and the states of their centres, all made up."""
    random = torch.Generator().manual_seed(seed)
    films = torch.randn(4, 1, 2 * STRIDE, 3 * STRIDE, generator=random)
    return films, torch.rand(4, len(CENTRES), 3, generator=random).round()


def begin(teacher: str | None) -> Pretraining:
    torch.manual_seed(0)
    run = Pretraining(STUDENT, teacher, 1e-3, torch.device("cpu"))
    run.network.train()
    return run


@pytest.mark.parametrize("teacher", [None, pytest.param(TEACHER, marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_exactly(teacher: str | None, tmp_path: Path) -> None:
    through, stopped = begin(teacher), begin(teacher)
    losses = [through.step(*batch(number), updates=4) for number in range(4)]
    for number in range(2):
        stopped.step(*batch(number), updates=4)
    stopped.save(tmp_path / "state.safetensors")
    resumed = begin(teacher)
    resumed.restore(tmp_path / "state.safetensors")
    assert [resumed.step(*batch(number), updates=4) for number in (2, 3)] == losses[2:]
    for ours, theirs in ((resumed.learning, through.learning), (resumed.ema.module, through.ema.module)):
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize("name", [TEACHER, "convnext_atto", "convnext_atto_ols", "efficientnet_b0"])
def test_the_last_stage_map_is_the_networks_own(name: str) -> None:
    features = Features(name).eval()
    films, _ = batch(0)
    with torch.no_grad():
        maps = stage_maps(features, films)
        torch.testing.assert_close(maps[-1], features(films))
    sides = [tuple(part.shape[-2:]) for part in maps]
    assert sides == [tuple(side // stride for side in films.shape[-2:]) for stride in (4, 8, 16, 32)]


def test_hints_are_none_where_the_maps_are_the_teachers() -> None:
    """Read off channel by channel, a map explains itself; one that says nothing leaves all of the variance."""
    teacher = Features("test_resnet").eval()
    hints = Hints(teacher, teacher)
    with torch.no_grad():
        maps = stage_maps(teacher, batch(0)[0])
        for reader, part in zip(hints.readers, maps, strict=True):
            scale = (part.var((0, 2, 3), unbiased=False) + 1e-5).rsqrt()
            reader.weight.copy_(torch.diag(scale)[:, :, None, None])
            reader.bias.copy_(-part.mean((0, 2, 3)) * scale)
        assert hints(maps, maps).item() == pytest.approx(0.0, abs=1e-6)
        for reader in hints.readers:
            reader.weight.zero_()
            reader.bias.zero_()
        variances = [part.var((0, 2, 3), unbiased=False) for part in maps]
        nothing_read = sum((variance / (variance + 1e-5)).mean().item() for variance in variances)
        assert hints(maps, maps).item() == pytest.approx(nothing_read, rel=1e-4)
