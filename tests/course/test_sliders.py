"""A slider carries a picture for each of its values, and the first of them shows where no script runs."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from made_up import LABELS
from PIL import Image

from bonexage_utils.course.nb00 import figures
from bonexage_utils.course.nb01 import exploration
from bonexage_utils.course.nb02 import pixels
from bonexage_utils.course.nb03 import losses
from bonexage_utils.course.nb04 import pooling
from bonexage_utils.course.nb05 import fusion
from bonexage_utils.course.nb06 import bounds
from bonexage_utils.course.nb10 import clinic
from bonexage_utils.course.sliders import Slider, menu_and_slider, slider
from bonexage_utils.figures import Picture, new_figure

FILM, RESPONSE = np.zeros((32, 32), np.uint8), torch.rand(4, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.1
SAID = pd.DataFrame({"image": str(ROOT / "notebooks" / "cover.png"), "sex": list("FMFM"),
                     "months": [12.0, 60, 132, 216], "girl": [14.0, 50, 120, 190], "boy": [18.0, 70, 141, 215]})
VARIANTS = pd.DataFrame(np.random.default_rng(0).normal(9, 1, (200, 2)), columns=["test", "new"])
SLIDERS = {
    "grow_a_hand": (figures.grow_a_hand, figures.draw_hands, (12, 60, 216)),
    "slip_a_label": (losses.slip_a_label, lambda slip: losses.draw_slips((slip,)), (0, 36, 96)),
    "choose_bins": (lambda: exploration.choose_bins(LABELS), lambda width: exploration.draw_bins(LABELS, (width,)),
                    (1, 6, 24)),
    "choose_width": (pixels.choose_width, lambda width: pixels.draw_squares((width,)), (60, 80, 125)),
    "choose_p": (lambda: pooling.choose_p(FILM, RESPONSE),
                 lambda p: pooling.draw_responses(FILM, RESPONSE, powers=(p,)), (1, 3, 30)),
    "switch_the_sex": (lambda: fusion.switch_the_sex(SAID), lambda age: fusion.draw_films_switched(SAID, (age,)),
                       (12, 132, 216)),
    "choose_tried": (lambda: clinic.choose_tried(VARIANTS), lambda tried: clinic.draw_winner(VARIANTS, (tried,)),
                     (1, 20, 200)),
    "choose_age": (bounds.choose_age, lambda age: bounds.draw_tangents((age,)), (3, 57, 237)),
}
MOST_BYTES = 400_000  # of one slider; a notebook may have 1.5 MB
TOLD = re.compile(r'<script>.*\("[0-9a-f]{12}", (\{.*\})\)</script>', re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLIDERS)
def test_each_slider_has_its_pictures_from_end_to_end(name: str) -> None:
    make, draw, values = SLIDERS[name]
    made = make()
    (frames,), (start,) = made.frames.values(), made.starts.values()
    for value, frame in zip(values, (frames[0], frames[start], frames[-1]), strict=True):
        assert frame.alt == draw(value).alt
    told = {frame.alt for frame in frames}
    assert len({frame.webp for frame in frames}) == len(told)  # another text, another picture
    assert len(told) == len(frames) or name == "switch_the_sex"  # which has four films for eighteen ages
    assert len({frame.size for frame in frames}) == 1
    assert len(made.to_html()) < MOST_BYTES


def square(grey: int) -> Picture:
    """A figure of 55 × 55 px (0.5 inches at 110 px), of one grey, 0–255."""
    figure, ax = new_figure(0.5, 0.5)
    figure.set_facecolor((grey / 255,) * 3)
    ax.axis("off")
    return Picture(figure, f"grey </script> {grey}")


def told(made: Slider) -> dict:
    """What the page's script is given."""
    return json.loads(TOLD.search(made.to_html()).group(1))


def test_every_picture_is_drawn_once_and_kept() -> None:
    drawn = []

    def draw(grey: int) -> Picture:
        drawn.append(grey)
        return square(grey)

    made = slider(draw, (0, 100, 200), 100, "grey", "{} of 255".format, play=True)
    assert drawn == [0, 100, 200]
    for frame, grey in zip(made.frames[""], drawn, strict=True):
        picture = Image.open(io.BytesIO(frame.webp))
        assert picture.format == "WEBP"
        assert picture.size == frame.size == (55, 55)
        assert picture.convert("L").getpixel((27, 27)) == pytest.approx(grey, abs=3)
    page = told(made)
    assert (page["label"], page["play"], page["groups"][0]["start"]) == ("grey", True, 1)
    assert [frame["value"] for frame in page["groups"][0]["frames"]] == ["0 of 255", "100 of 255", "200 of 255"]
    shown = [page["pictures"][frame["picture"]] for frame in page["groups"][0]["frames"]]
    assert shown == [frame.src for frame in made.frames[""]]


def test_a_picture_that_several_entries_share_is_kept_once() -> None:
    made = menu_and_slider(lambda name, grey: square(grey), {"a": (0, 100), "b": (0, 200)}, 0, "kind", "grey")
    page = told(made)
    assert len(page["pictures"]) == 3
    places = {group["name"]: [frame["picture"] for frame in group["frames"]] for group in page["groups"]}
    assert places["a"][0] == places["b"][0] != places["a"][1]


def test_without_scripts_the_first_picture_and_its_text_stand_there() -> None:
    made = slider(square, (0, 100, 200), 100, "grey")
    data = made._repr_mimebundle_()
    assert data["text/plain"] == "grey </script> 100"
    still = data["text/html"].partition("<script>")[0]
    assert still.count("<img") == 1
    assert f'src="{made.first.src}" alt="grey &lt;/script&gt; 100" width="55" height="55"' in still
    assert ">grey &lt;/script&gt; 100</figcaption>" in still
    assert "<input" not in still  # a control that does nothing
    assert data["text/html"].count("</script>") == 1  # no text ends the script
    assert data["text/html"] == slider(square, (0, 100, 200), 100, "grey").to_html()  # the same on every machine


def test_a_menu_has_a_slider_of_its_own_for_each_entry() -> None:
    made = menu_and_slider(lambda name, value: square(100 + value), {"down": (-50, 0), "up": (0, 50)}, 0, "way", "by")
    page = told(made)
    assert (page["menu"], page["label"]) == ("way", "by")
    shown = [(group["name"], group["start"], [frame["value"] for frame in group["frames"]]) for group in page["groups"]]
    assert shown == [("down", 1, ["−50", "0"]), ("up", 0, ["0", "50"])]
    assert made.first.alt == "grey </script> 100"
    assert page["groups"][1]["frames"][1]["alt"] == "grey </script> 150"


def test_a_slider_begins_at_one_of_its_values() -> None:
    with pytest.raises(ValueError, match="not in"):
        slider(square, (0, 100), 50, "grey")
