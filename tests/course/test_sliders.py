"""Sliders move their picture, and without ipywidgets a static twin stands there."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from made_up import LABELS

from bonexage_utils.course.nb00 import figures
from bonexage_utils.course.nb01 import exploration
from bonexage_utils.course.nb02 import pixels
from bonexage_utils.course.nb03 import losses
from bonexage_utils.course.nb04 import pooling
from bonexage_utils.course.nb05 import fusion
from bonexage_utils.course.nb06 import bounds
from bonexage_utils.course.nb10 import clinic
from bonexage_utils.course.sliders import slider_or_twin
from bonexage_utils.figures import Picture, new_figure

FILM, RESPONSE = np.zeros((32, 32), np.uint8), torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.1
SAID = pd.DataFrame({"image": str(ROOT / "notebooks" / "cover.png"), "sex": list("FMFM"),
                     "months": [12.0, 60, 132, 216], "girl": [14.0, 50, 120, 190], "boy": [18.0, 70, 141, 215]})
VARIANTS = pd.DataFrame(np.random.default_rng(0).normal(9, 1, (200, 2)), columns=["test", "new"])
SLIDERS = {
    "grow_a_hand": (figures.grow_a_hand, figures.draw_hands, figures.draw_growth, (12, 60, 216)),
    "slip_a_label": (losses.slip_a_label, lambda slip: losses.draw_slips((slip,)), losses.draw_slips, (0, 36, 96)),
    "choose_bins": (lambda: exploration.choose_bins(LABELS), lambda width: exploration.draw_bins(LABELS, (width,)),
                    lambda: exploration.draw_bins(LABELS), (1, 6, 24)),
    "choose_width": (pixels.choose_width, lambda width: pixels.draw_squares((width,)), pixels.draw_squares,
                     (60, 80, 125)),
    "choose_p": (lambda: pooling.choose_p(FILM, RESPONSE),
                 lambda p: pooling.draw_responses(FILM, RESPONSE, powers=(p,)),
                 lambda: pooling.draw_responses(FILM, RESPONSE), (1, 3, 30)),
    "switch_the_sex": (lambda: fusion.switch_the_sex(SAID), lambda age: fusion.draw_films_switched(SAID, (age,)),
                       lambda: fusion.draw_films_switched(SAID), (12, 132, 216)),
    "choose_tried": (lambda: clinic.choose_tried(VARIANTS), lambda tried: clinic.draw_winner(VARIANTS, (tried,)),
                     lambda: clinic.draw_winner(VARIANTS), (1, 20, 200)),
    "choose_age": (bounds.choose_age, lambda age: bounds.draw_tangents((age,)), bounds.draw_tangents, (3, 60, 237)),
}


@pytest.mark.parametrize("name", SLIDERS)
def test_slider_follows_at_both_ends(name: str) -> None:
    pytest.importorskip("ipywidgets")
    make, draw, _, (low, middle, high) = SLIDERS[name]
    slider, image, told = make().children
    assert (slider.min, slider.value, slider.max) == (low, middle, high)
    seen = {middle: image.value}
    for value in (low, high):
        slider.value = value
        picture = draw(value)
        assert (image.value, told.value) == (picture.png, picture.alt)
        seen[value] = image.value
    assert len(set(seen.values())) == 3


def test_picture_follows_while_dragged_and_is_drawn_once() -> None:
    pytest.importorskip("ipywidgets")
    drawn = []

    def draw(value: int) -> Picture:
        drawn.append(value)
        return Picture(new_figure(1, 1)[0], f"value {value}")

    slider, image, told = slider_or_twin(draw, lambda: draw(0), value=1, min=0, max=3).children
    assert slider.continuous_update
    assert image.layout.max_height == "55vh"
    for value in (2, 3, 2, 1):
        slider.value = value
        assert told.value == f"value {value}"
    assert drawn == [1, 2, 3]


@pytest.mark.parametrize("name", SLIDERS)
def test_without_ipywidgets_the_static_twin_is_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, _, twin, _ = SLIDERS[name]
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    shown = make()
    assert isinstance(shown, Picture)
    assert shown.alt == twin().alt
