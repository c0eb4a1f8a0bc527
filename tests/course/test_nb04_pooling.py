"""What notebook 04 looks at: shares add up and mean what is said of them, regions are weighed, bits run out on time."""


import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.course import bones
from bonexage_utils.course.frozen import BACKBONE, frozen_backbone
from bonexage_utils.course.nb04 import pooling
from bonexage_utils.course.nb04.pooling import (
    Hands,
    cover,
    mean_share,
    places_for_half,
    region_shares,
    shares,
    wrong_values,
)
from bonexage_utils.course.start import PROFILES
from bonexage_utils.errors import BoneXageError
from bonexage_utils.model import GeM

POWERS = st.floats(0.5, 60)


def some_map(seed: int, shape: tuple[int, ...] = (2, 3, 4, 5)) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 5 + 0.01


@given(st.integers(0, 999), POWERS)
def test_shares_are_what_a_place_contributes(seed: int, p: float) -> None:
    x = some_map(seed).double()
    found = shares(x, p)
    wanted = x**p / (x**p).sum((-2, -1), keepdim=True)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.sum((-2, -1)), torch.ones(2, 3))


@given(st.integers(0, 999), st.floats(0.5, 20))
def test_a_share_is_the_say_of_a_place(seed: int, p: float) -> None:
    """d log GeM / d log x: by how many per cent the pooled value rises with one per cent of the place."""
    log_x = some_map(seed).double().log().requires_grad_()
    GeM(p).double()(log_x.exp()).log().sum().backward()
    torch.testing.assert_close(log_x.grad.float(), shares(log_x.detach().exp(), p), rtol=1e-3, atol=1e-5)


def test_the_ends_are_even_average_and_maximum() -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    torch.testing.assert_close(shares(x, 0), torch.full((2, 2), 0.25))
    torch.testing.assert_close(shares(x, 1), x / 8)
    assert shares(x, float("inf")).tolist() == [[0, 0], [0, 1]]
    assert shares(torch.ones(2, 2), float("inf")).tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert torch.isfinite(shares(some_map(0) * 1e4, 500.0)).all()


@pytest.mark.parametrize(("share", "places"), [([[0.5, 0.5], [0, 0]], 1), ([[0.25] * 2] * 2, 2), ([[1, 0], [0, 0]], 1),
                                               ([[0.4, 0.3], [0.2, 0.1]], 2)])
def test_the_places_that_hold_half(share: list, places: int) -> None:
    assert places_for_half(torch.tensor([share]).float(), 1) == places


def test_channels_that_say_nothing_are_not_counted() -> None:
    loud, silent = torch.tensor([[3.0, 1.0], [0.0, 0.0]]), torch.zeros(2, 2)
    torch.testing.assert_close(mean_share(torch.stack([loud, silent]), 1), shares(loud, 1))
    assert places_for_half(torch.stack([silent, loud, silent]), 1) == 1


def two_hands() -> Hands:
    """One centre in the upper left quarter; a shaft over the right half; nothing elsewhere. Twice."""
    centres, shafts = np.zeros((2, 8, 8), bool), np.zeros((2, 8, 8), bool)
    centres[:, :4, :4] = True
    shafts[:, :, 4:] = True
    return Hands(np.zeros((2, 8, 8), np.uint8), centres, shafts, np.array([60.0, 120.0]))


def test_cells_are_covered_in_part() -> None:
    centres = two_hands().centres
    assert cover(centres, (2, 2))[0].tolist() == [[1, 0], [0, 0]]
    assert cover(centres, (1, 1)).flatten().tolist() == [0.25, 0.25]


def test_a_response_lies_where_it_is_loud() -> None:
    loud = torch.ones(2, 3, 2, 2)
    loud[:, :, 0, 0] = 2
    assert region_shares(two_hands(), loud, 0).iloc[0].tolist() == pytest.approx([0.25, 0.5, 0.25])
    assert region_shares(two_hands(), loud, 1).iloc[0].tolist() == pytest.approx([0.4, 0.4, 0.2])
    assert region_shares(two_hands(), loud, 3)["centres"].tolist() == pytest.approx([8 / 11] * 2)
    assert region_shares(two_hands(), loud, float("inf")).iloc[1].tolist() == pytest.approx([1, 0, 0])


def test_the_hand_nearest_in_age() -> None:
    assert two_hands().shown() in (0, 1)


def test_drawn_hands_are_films_with_their_own_masks() -> None:
    hands = pooling.load_hands(3)
    assert hands.films.shape == hands.centres.shape == hands.shafts.shape == (3, pooling.SIDE, pooling.SIDE)
    assert not (hands.centres & hands.shafts).any()
    for film, centre, shaft in zip(hands.films, hands.centres, hands.shafts, strict=True):
        assert film[shaft].mean() > film.mean()
        assert film[centre].mean() > film.mean()
    assert 0 < hands.preprocessing.mean < 1


def test_a_cohort_with_masks_is_drawn_once_for_each_seed() -> None:
    folder, truth = bones.hands_with_masks(2, 4)
    assert bones.hands_with_masks(2, 4)[0] == folder
    other_folder, other = bones.hands_with_masks(2, 8)
    assert other_folder != folder
    assert not truth["bone_age_months"].equals(other["bone_age_months"])


def test_float16_runs_out_where_its_largest_number_says() -> None:
    """65,504 is 10 to the power 4.8, and float32 ends at 10 to the power 38.5."""
    tens = torch.full((1, 1, 2, 2), 10.0)
    wrong = {way: [wrong_values(tens, p, way) for p in (4.5, 5.0, 37.5, 39.0)] for way in pooling.WAY_NAMES}
    assert wrong == {"float16": [0, 1, 1, 1], "float32": [0, 0, 0, 1], "package": [0, 0, 0, 0]}


def test_a_dot_marks_the_first_wrong_value() -> None:
    """One value in thousands is not seen as a height; what is right at every p has no dot."""
    ax = pooling.draw_precision(torch.full((1, 1, 2, 2), 10.0)).figure.axes[0]
    dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
    assert [len(dot) for dot in dots] == [1, 1, 0]
    assert 4.5 < dots[0][0] < 5.5
    assert 38 < dots[1][0] < 43


def test_figures_say_in_words_what_they_show() -> None:
    hands, loud = two_hands(), some_map(1, (3, 2, 2))
    assert "p = 10: the loudest place" in pooling.draw_responses(hands.films[0], loud, hands.centres[0]).alt
    assert "float16: wrong values from" in pooling.draw_precision(loud[None] * 10).alt
    even = region_shares(hands, loud.expand(2, 3, 2, 2), 0)
    assert "even: centres 1.00, shafts 1.00" in pooling.draw_region_shares(even, {"even": even}).alt
    assert "its maximum is 1.50 times" in pooling.draw_from_mean_to_max({"row": torch.tensor([1.0, 3.0])}).alt
    signed = torch.tensor([-1.0, 1.0, 2.0, 3.0])
    assert "25% of it below" in pooling.draw_signed(signed, torch.nn.functional.softplus(signed)).alt


def test_without_a_connection_the_shipped_backbone_serves(monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    def offline(*_: object) -> None:
        raise BoneXageError("backbone 'convnext_tiny': ImageNet weights could not be loaded")

    assert [frozen_backbone(PROFILES[name]) for name in ("fast", "cpu")] == [
        (BACKBONE, "phantom", 96), (BACKBONE, "phantom", 160)]
    monkeypatch.setattr("bonexage_utils.course.frozen.create_backbone", offline)
    assert frozen_backbone(PROFILES["gpu"]) == (BACKBONE, "phantom", 160)
    assert "could not be loaded" in capsys.readouterr().out
    monkeypatch.setattr("bonexage_utils.course.frozen.create_backbone", lambda *_: None)
    assert frozen_backbone(PROFILES["gpu"])[:2] == ("convnext_tiny", "imagenet")
