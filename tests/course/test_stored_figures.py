"""The figures that stand in the notebooks are those that the code draws today."""

import json
import re
from html import unescape

import pytest
from conftest import ROOT

from bonexage_utils.course.nb00 import figures
from bonexage_utils.course.nb02 import pixels
from bonexage_utils.course.nb03 import losses
from bonexage_utils.course.nb05 import same_hand
from bonexage_utils.course.nb06 import bounds

ALT = re.compile(r'<img [^>]*alt="([^"]*)"')  # of a picture in a folded answer


@pytest.mark.slow
def test_stored_figures_tell_what_is_drawn_today() -> None:
    """Counts and best guesses, as alt text: a change of the phantom or of a loss that nobody executed would show."""
    outputs = [
        output["data"]
        for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", []) if "data" in output
    ]
    stored = {"".join(data["text/plain"]) for data in outputs if "image/png" in data}
    stored |= {unescape(alt) for data in outputs for alt in ALT.findall("".join(data.get("text/html", "")))}
    for draw in (figures.draw_growth, figures.draw_centres, losses.draw_slips, pixels.draw_squares, pixels.draw_sides,
                 pixels.draw_six_changes, same_hand.draw_centre_ages, same_hand.draw_same_hand,
                 same_hand.draw_in_spreads, bounds.draw_tangents):
        assert draw().alt in stored, f"{draw.__name__}: run `make notebooks`"
