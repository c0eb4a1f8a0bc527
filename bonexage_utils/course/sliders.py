"""A slider that changes a picture in the browser; and the children in the pictures, the phantom's average girl and boy.

All pictures are drawn when the cell runs and travel with the notebook. So they move at once, also while another cell
computes, and on a page without a kernel.

In an average child every ossification centre follows the tables, the size is the median, and the film is neutral: the
same age always gives the same picture. Ages are in months.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from bonexage_utils.figures import Picture, style
from bonexage_utils.phantom import Child, grow

YOUNGEST, OLDEST = 12, 216  # months: the range of the course's phantoms
SEXES = ("F", "M")
ONE = {"F": "girl", "M": "boy"}  # the name of one child; of several: `SEX_NAME`
QUALITY = 80  # of WebP, 0–100: two films of 320 px take about 11 kB, and letters stay sharp
SLOW_SECONDS = 2  # of drawing, after which a bar shows
# Controls, picture and two lines of text take at most 60 % of the window's height.
SHOWN = """<figure data-slider="{key}" style="margin: 0">
<div style="display: flex; flex-direction: column; align-items: flex-start; gap: 0.3em; max-height: 52vh">
<img src="{src}" alt="{alt}" width="{width}" height="{height}" style="max-width: 100%; height: auto; min-height: 0; \
object-fit: contain; object-position: left">
</div>
<figcaption aria-hidden="true" style="color: inherit">{alt}</figcaption>
</figure>
<script>({script})("{key}", {told})</script>"""


def average_child(sex: str, age_months: float) -> Child:
    """The average child of that sex (`"F"`, `"M"`) and age; nothing about it is random."""
    return grow(sex, age_months, np.random.default_rng(0), tempo=0.0, jitter=False)


@dataclass(frozen=True)
class Frame:
    """One picture of a slider: the value it shows as text, its alt text, and itself as WebP of `size` (w, h) px."""

    value: str
    alt: str
    webp: bytes = field(repr=False)
    size: tuple[int, int]

    @classmethod
    def of(cls, value: str, picture: Picture) -> "Frame":
        """The whole figure, not cut to what is drawn: all frames are of one size."""
        drawn = io.BytesIO()
        with style():
            picture.figure.savefig(drawn, format="rgba", dpi=picture.figure.dpi)
        size = picture.figure.canvas.get_width_height()
        packed = io.BytesIO()
        Image.frombytes("RGBA", size, drawn.getvalue()).convert("RGB").save(packed, "WEBP", quality=QUALITY)
        return cls(value, picture.alt, packed.getvalue(), size)

    @property
    def src(self) -> str:
        """The picture as an address that holds it."""
        return f"data:image/webp;base64,{base64.b64encode(self.webp).decode()}"


@dataclass(frozen=True)
class Slider:
    """What a notebook shows: a slider, its value, the picture and its alt text, both of which follow it.

    `frames` of each entry of a menu, which shows only where there are several; `starts`: the place of each entry's
    first frame to show. Where scripts do not run, as on GitHub, that frame and its text stand there alone.
    """

    label: str
    frames: dict[str, list[Frame]]
    starts: dict[str, int]
    menu: str = ""
    play: bool = False

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.to_html(), "text/plain": self.first.alt}

    @property
    def first(self) -> Frame:
        """The frame that shows before anything is moved."""
        name = next(iter(self.frames))
        return self.frames[name][self.starts[name]]

    def to_html(self) -> str:
        """All of it, without anything to fetch."""
        pictures = list(dict.fromkeys(each.src for frames in self.frames.values() for each in frames))  # each one once
        groups = [{"name": name, "start": self.starts[name],
                   "frames": [{"value": each.value, "alt": each.alt, "picture": pictures.index(each.src)}
                              for each in frames]}
                  for name, frames in self.frames.items()]
        told = json.dumps({"label": self.label, "menu": self.menu, "play": self.play, "groups": groups,
                           "pictures": pictures})
        told = told.replace("<", "\\u003c")  # nothing in a text may end the script
        script = files(__package__).joinpath("slider.js").read_text(encoding="utf-8")
        script = script[script.index("(key"):].strip()  # without the comment above
        key = hashlib.sha256(told.encode()).hexdigest()[:12]
        width, height = self.first.size
        return SHOWN.format(key=key, src=self.first.src, alt=html.escape(self.first.alt), width=width, height=height,
                            script=script, told=told)


def slider(draw: Callable[[Any], Picture], values: Sequence[Any], start: Any, label: str,
           tell: Callable[[Any], str] = str, play: bool = False) -> Slider:
    """A slider over `values`, in that order, and the picture that `draw` makes of each; it begins at `start`, one of
    them. `label` names the slider, `tell` gives a value as text, `play` adds a button that runs through all."""
    frames = [Frame.of(tell(value), draw(value)) for value in _watched(values)]
    return Slider(label, {"": frames}, {"": list(values).index(start)}, play=play)


def menu_and_slider(draw: Callable[[str, Any], Picture], values: Mapping[str, Sequence[Any]], start: Any, menu: str,
                    label: str) -> Slider:
    """A `menu` of the names in `values`, a slider over the values of the one chosen, and the picture that `draw` makes
    of both. Each begins at `start`, which is one of its values."""
    pairs = [(name, value) for name, own in values.items() for value in own]
    frames: dict[str, list[Frame]] = {name: [] for name in values}
    for name, value in _watched(pairs):
        frames[name].append(Frame.of(f"{value:g}".replace("-", "−"), draw(name, value)))
    return Slider(label, frames, {name: list(own).index(start) for name, own in values.items()}, menu)


def _watched(values: Sequence[Any]) -> tqdm:
    return tqdm(values, desc="drawing", unit="picture", leave=False, delay=SLOW_SECONDS)
