"""What every figure is made with: one style, alt text, colours that colour-blind readers can tell apart."""

import base64
import html
import io
from contextlib import AbstractContextManager
from functools import cached_property

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from PIL import Image

# Okabe & Ito's palette (2008), made for colour-blind readers; girls and boys differ in lightness and marker too. In
# words they are orange, blue, red and grey, everywhere.
GIRLS, BOYS, ACCENT, MUTED = "#E69F00", "#0072B2", "#D55E00", "#777777"
SEX_COLOUR = {"F": GIRLS, "M": BOYS}
SEX_MARKER = {"F": "o", "M": "^"}
SEX_NAME = {"F": "girls", "M": "boys"}

STYLE = {
    **sns.axes_style("ticks"), "figure.dpi": 110, "savefig.dpi": 110, "font.size": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.titlelocation": "left", "legend.frameon": False, "image.cmap": "gray",
    "patch.force_edgecolor": False,  # white edges would eat the thin bars of a comb
    "axes.prop_cycle": mpl.cycler(color=sns.color_palette("colorblind")),
}


def style() -> AbstractContextManager:
    """The one style of all figures, as a `with` block or a decorator; put back afterwards."""
    return mpl.rc_context(STYLE)


def use_style() -> None:
    """The same style until the program ends, for a notebook that draws in its cells."""
    mpl.rcParams.update(STYLE)


class Picture:
    """A finished figure with its alt text. Shown by a notebook as its last value, with the alt text below it, folded.

    JupyterLab gives no alt text to an image, so it gets the picture as HTML, too; `tools.execution` takes that away
    from the notebooks that are stored, where it would double the size.
    """

    def __init__(self, figure: Figure, alt: str) -> None:
        if not alt.strip():
            raise ValueError("a figure needs alt text: describe what one sees in it")
        self.figure, self.alt = figure, " ".join(alt.split())

    @cached_property
    def png(self) -> bytes:
        """The figure, cut to what is drawn; with a palette where 256 colours are enough, which saves a quarter."""
        drawn, packed = io.BytesIO(), io.BytesIO()
        with style():  # ticks get their looks when they are drawn
            self.figure.savefig(drawn, format="png", dpi=self.figure.dpi, bbox_inches="tight",
                                pil_kwargs={"compress_level": 0})
        image = Image.open(drawn).convert("RGB")
        if image.getcolors(256) and (few := image.quantize(256, dither=Image.Dither.NONE)).convert("RGB") == image:
            image = few
        # No metadata: the version of matplotlib would change the file without changing the picture.
        image.save(packed, "PNG")
        return packed.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        shown = (f'<figure style="margin: 0">{self.to_html()}<figcaption style="color: inherit"><details>'
                 f"<summary>The picture in words</summary>{html.escape(self.alt)}</details></figcaption></figure>")
        return ({"text/html": shown, "image/png": self.png, "text/plain": self.alt},
                {"image/png": {"alt": self.alt}})

    def to_html(self) -> str:
        """An <img> that carries the picture in itself."""
        data = base64.b64encode(self.png).decode()
        return f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}">'


@style()
def new_figure(width: float = 6.0, height: float = 4.0, rows: int = 1, columns: int = 1, **kwargs):
    """Axes in the course's style, sizes in inches; outside pyplot, so that nothing is shown twice or kept open."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **kwargs)


@style()
def drawable(text: str) -> str:
    """`text` with escapes for the letters that the figures' font lacks, such as "\\u624b"."""
    letters = get_font(findfont(FontProperties())).get_charmap()
    return "".join(sign if sign == "\n" or ord(sign) in letters else ascii(sign)[1:-1] for sign in text)


def montage(films: list[np.ndarray], titles: list[str], alt: str, columns: int = 6, side: float = 1.7) -> Picture:
    """Grey films (height, width), 0–255, in rows, each under its title, any text."""
    rows = -(-len(films) // columns)
    figure, axes = new_figure(columns * side, rows * (side + 0.35), rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, film, title in zip(axes.flat, films, titles, strict=False):
        ax.imshow(film, cmap="gray", vmin=0, vmax=255)
        ax.set_title(drawable(title), fontsize=9, loc="center", parse_math=False)  # a film may be named $1
    return Picture(figure, alt)
