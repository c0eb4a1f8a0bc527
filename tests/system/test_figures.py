"""A picture carries its alt text wherever it is shown, and there is none without."""

import io
import struct

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from bonexage_utils.figures import Picture, new_figure


def test_a_picture_carries_its_alt_text() -> None:
    picture = Picture(new_figure()[0], """Two empty
        "axes" """)
    data, metadata = picture._repr_mimebundle_()
    shown = data.pop("text/html")
    assert data == {"image/png": picture.png, "text/plain": 'Two empty "axes"'}
    assert picture.to_html() in shown
    assert "</summary>Two empty &quot;axes&quot;</details>" in shown
    assert picture.png.startswith(b"\x89PNG")
    assert metadata == {"image/png": {"alt": picture.alt}}
    assert picture.to_html().endswith('alt="Two empty &quot;axes&quot;">')
    with pytest.raises(ValueError, match="alt"):
        Picture(new_figure()[0], " ")


@pytest.mark.parametrize(("colours", "mode"), [(200, "P"), (400, "RGB")])
def test_a_palette_is_taken_where_it_loses_nothing(colours: int, mode: str) -> None:
    figure = Figure(figsize=(4, 1), dpi=100)
    reds = np.zeros((1, 400, 3), np.uint8)
    reds[0, :, 0], reds[0, :, 1] = np.arange(400) % colours % 256, np.arange(400) % colours // 256
    figure.figimage(np.repeat(reds, 100, axis=0))
    image = Image.open(io.BytesIO(Picture(figure, "reds").png))
    assert image.mode == mode
    assert np.isin(reds.reshape(-1, 3), np.asarray(image.convert("RGB")).reshape(-1, 3)).all()
    assert len(image.convert("RGB").getcolors(1000)) in (colours, colours + 1)  # and the white around it


def test_a_figure_is_stored_as_finely_as_it_was_told() -> None:
    sizes = []
    for dpi in (100, 50):
        figure, _ = new_figure(4, 3)
        figure.set_dpi(dpi)
        sizes.append(struct.unpack(">II", Picture(figure, "two axes").png[16:24]))
    assert sizes[0][0] == pytest.approx(2 * sizes[1][0], abs=2)
    assert sizes[0][1] == pytest.approx(2 * sizes[1][1], abs=2)
