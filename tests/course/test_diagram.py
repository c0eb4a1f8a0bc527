"""The diagram of the way from a film to months."""

import pytest

from bonexage_utils.course.diagram import PARTS, draw_way


@pytest.mark.parametrize("marked", [None, *PARTS])
def test_the_diagram_names_every_part_and_the_one_that_is_marked(marked: str | None) -> None:
    picture = draw_way(marked)
    assert all(title in picture.alt for title, _, _ in PARTS.values())
    assert ("Marked" in picture.alt) == (marked is not None)
    assert marked is None or f"Marked: {marked}." in picture.alt


def test_marking_shows_and_an_unknown_part_is_refused() -> None:
    assert draw_way().png != draw_way("sex").png
    with pytest.raises(KeyError, match="use one of backbone, pooling"):
        draw_way("loss")
