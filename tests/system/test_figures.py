"""A picture carries its alt text wherever it is shown, and there is none without."""

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
