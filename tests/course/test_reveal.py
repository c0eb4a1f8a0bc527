"""What answers a guess is folded where there is none, open where there is one, and folded in every stored notebook."""

import json

import pandas as pd
import pytest
from conftest import ROOT

from bonexage_utils.course.reveal import HIDDEN, after_guess, beside
from bonexage_utils.figures import Picture, new_figure

TABLE = beside({"months": 24}, [...])


@pytest.mark.parametrize("guess", [..., None, [..., ...], (None,)])
def test_without_a_guess_nothing_is_told(guess: object) -> None:
    told = after_guess(guess, TABLE, "24 <months>")._repr_mimebundle_()
    assert told["text/plain"] == HIDDEN
    assert told["text/html"].startswith("<details><summary>")
    assert "24 &lt;months&gt;" in told["text/html"]


@pytest.mark.parametrize("guess", [0, "", "girl", [..., 3], ("girl", 2)])
def test_with_a_guess_all_is_told(guess: object) -> None:
    told = after_guess(guess, TABLE, "24 months", pd.Series([7], name="n"))._repr_mimebundle_()
    assert told["text/html"].startswith("<details open><summary>")
    assert "24 months" in told["text/plain"]
    assert "none" in told["text/plain"]
    assert told["text/html"].count("<table") == 2


def test_a_picture_keeps_its_alt_text() -> None:
    told = after_guess(1, Picture(new_figure(1, 1)[0], "a line"))._repr_mimebundle_()
    assert 'alt="a line"' in told["text/html"]
    assert told["text/plain"] == "a line"


@pytest.mark.parametrize("number", range(7))
def test_stored_notebooks_give_nothing_away(number: int) -> None:
    (path,) = (ROOT / "notebooks").glob(f"{number:02}_*.ipynb")
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells if "after_guess(" in "".join(cell["source"]) for output in cell["outputs"]
               if "data" in output]
    assert outputs, "no answer is folded"
    for output in outputs:
        assert "".join(output["data"]["text/plain"]) == HIDDEN
        assert "".join(output["data"]["text/html"]).startswith("<details><summary>")
