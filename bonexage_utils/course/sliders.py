"""A slider with its picture, or the static twin of both; and the children in the pictures, the phantom's average girl
and boy.

In an average child every ossification centre follows the tables, the size is the median, and the film is neutral: the
same age always gives the same picture. Ages are in months.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from bonexage_utils.figures import Picture
from bonexage_utils.phantom import Child, grow

YOUNGEST, OLDEST = 12, 216  # months: the range of the course's phantoms
KEPT = 64  # pictures of a slider, so that moving it back and forth draws nothing twice
TALLEST = "55vh"  # of the window's height: slider and picture are seen at once
SEXES = ("F", "M")
ONE = {"F": "girl", "M": "boy"}  # the name of one child; of several: `SEX_NAME`


def average_child(sex: str, age_months: float) -> Child:
    """The average child of that sex (`"F"`, `"M"`) and age; nothing about it is random."""
    return grow(sex, age_months, np.random.default_rng(0), tempo=0.0, jitter=False)


def slider_or_twin(draw: Callable[[Any], Picture], twin: Callable[[], Picture], control: str = "IntSlider",
                   **traits: Any) -> Any:
    """A slider, the picture that `draw` makes of its value, and that picture's alt text, both of which follow it.

    `control` names the widget of ipywidgets (7.7 or later) and `traits` are its settings, as `value`, `min`, `max`,
    `step`, `description`. Where ipywidgets cannot be imported, the picture that `twin` draws: the same at some values,
    static.
    """
    try:
        import ipywidgets
    except ImportError:
        return twin()
    return with_picture(getattr(ipywidgets, control)(**traits), lru_cache(KEPT)(draw))


def with_picture(slider: Any, draw: Callable[[int], Picture]) -> Any:
    """The slider, the picture that `draw` makes of its value, and its alt text, both of which follow it, also while it
    is dragged: ipywidgets asks for the next picture when it has got the last."""
    import ipywidgets

    slider.style, slider.layout = {"description_width": "initial"}, ipywidgets.Layout(width="90%")
    first = draw(slider.value)
    image = ipywidgets.Image(value=first.png, format="png")
    image.layout = ipywidgets.Layout(max_height=TALLEST, max_width="100%", object_fit="contain")
    text = ipywidgets.HTML(value=first.alt)

    def update(change: dict) -> None:
        picture = draw(change["new"])
        image.value, text.value = picture.png, picture.alt

    slider.observe(update, names="value")
    return ipywidgets.VBox([slider, image, text])

