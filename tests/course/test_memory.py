"""The memory of a training step: known bytes, and a law that holds for other steps."""

import pytest
import torch
from torch import nn

from bonexage_utils.course import memory
from bonexage_utils.model import BoneAgeNet


def test_known_bytes() -> None:
    """A convolution keeps its input; ReLU keeps its output, which is the next one's input and counts once."""
    net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    films = 2 * 64 * 64 * 4
    assert memory.kept_bytes(net, torch.zeros(2, 1, 64, 64)) == films + 8 * films
    assert memory.kept_bytes(net.requires_grad_(False), torch.zeros(2, 1, 64, 64)) == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_law_holds_for_other_steps(precision: str) -> None:
    net = BoneAgeNet("test_convnext")
    law = memory.memory_law(net, precision, 64)
    asked = memory.kept_bytes(net, torch.rand(3, 1, 128, 128), torch.zeros(3, dtype=torch.long), precision=precision)
    assert law.step(3, 128) - law.copies == pytest.approx(asked, rel=0.03)
    assert law.copies == 20 * sum(p.numel() for p in net.parameters())


def test_sixteen_bits_keep_about_half_and_a_copy_of_the_weights() -> None:
    """What notebook 07 shows of them."""
    net = BoneAgeNet("convnext_atto")
    full, half = (memory.memory_law(net, precision, 64) for precision in ("fp32", "bf16"))
    assert half.per_pixel == pytest.approx(full.per_pixel / 2, rel=0.1)
    assert half.fixed == pytest.approx(2 * full.parameters, rel=0.1)
    assert abs(full.fixed) < 0.1 * full.parameters
