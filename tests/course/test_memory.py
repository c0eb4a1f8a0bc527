"""What notebook 10 computes of a training step: known bytes, a law that holds elsewhere, operations that are known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bonexage_utils.course import memory
from bonexage_utils.course.memory import COPIES, GB, GPU, SPARE, Law
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
    """What notebook 10 says of bfloat16."""
    net = BoneAgeNet("convnext_atto")
    full, half = (memory.memory_law(net, precision, 64) for precision in ("fp32", "bf16"))
    assert half.per_pixel == pytest.approx(full.per_pixel / 2, rel=0.1)
    assert half.fixed == pytest.approx(2 * full.parameters, rel=0.1)
    assert abs(full.fixed) < 0.1 * full.parameters


@given(st.integers(1, 64), st.integers(4, 25).map(lambda cells: 32 * cells), st.floats(1e6, 2e8), st.floats(100, 5000))
def test_the_most_films_fit_and_one_more_does_not(films: int, side: int, parameters: float, per_pixel: float) -> None:
    law = Law(int(parameters), 0.0, per_pixel)
    most = law.most_films(side)
    assert most >= 1  # of the largest of these films and networks, too
    assert law.step(most, side) <= GPU * (1 - SPARE) * (1 + 1e-9)
    assert law.step(most + 1, side) > GPU * (1 - SPARE) * (1 - 1e-9)
    assert law.step(films + 1, side) > law.step(films, side) > law.copies


def test_known_operations() -> None:
    """ResNet-18 takes 1.8 billion multiplications and as many additions for 224 × 224 px of three colours (He 2016)."""
    found = memory.operations_per_film(BoneAgeNet("resnet18"), 224, probe=64)
    assert found == pytest.approx(3 * 2 * 1.8e9, rel=0.07)


def test_the_table_and_its_figure_agree() -> None:
    table, laws = memory.compare_costs(8, 64, {"ConvNeXt": "test_convnext", "ResNet": "test_resnet"}, probe=64)
    assert table.index.tolist() == ["ConvNeXt", "ResNet"]
    law = laws["ConvNeXt"]["fp32"]
    assert table.loc["ConvNeXt", "GB a step, float32"] == pytest.approx(law.step(8, 64) / GB)
    assert (table["GB a step, bfloat16"] < table["GB a step, float32"]).all()
    told = memory.draw_memory({"fp32": Law(28_000_000, 0.0, 2000.0)}, (16,)).alt
    assert "with 16 films a step it fits all in float32 up to 608 px" in told
    assert "never" in memory.draw_memory({"fp32": Law(700_000_000, 0.0, 2000.0)}, (1,)).alt
    assert sum(COPIES.values()) == 20
