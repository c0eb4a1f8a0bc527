"""A picture carries its alt text wherever it is shown, and there is none without."""

import struct

import pytest

from bonexage_utils.figures import Picture, new_figure


def test_a_picture_carries_its_alt_text() -> None:
    picture = Picture(new_figure()[0], """Two empty
        "axes" """)
    data, metadata = picture._repr_mimebundle_()
    assert data == {"image/png": picture.png, "text/plain": 'Two empty "axes"'}
    assert picture.png.startswith(b"\x89PNG")
    assert metadata == {"image/png": {"alt": picture.alt}}
    assert picture.to_html().endswith('alt="Two empty &quot;axes&quot;">')
    with pytest.raises(ValueError, match="alt"):
        Picture(new_figure()[0], " ")


def test_a_figure_is_stored_as_finely_as_it_was_told() -> None:
    sizes = []
    for dpi in (100, 50):
        figure, _ = new_figure(4, 3)
        figure.set_dpi(dpi)
        sizes.append(struct.unpack(">II", Picture(figure, "two axes").png[16:24]))
    assert sizes[0][0] == pytest.approx(2 * sizes[1][0], abs=2)
    assert sizes[0][1] == pytest.approx(2 * sizes[1][1], abs=2)
