"""A number in prose is the one that was printed above it, or its cell says where it is from."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tools.quotes import NEAR, drifted, quotes


def printing(text: str, source: str = "show()") -> nbformat.NotebookNode:
    return new_code_cell(source, outputs=[new_output("stream", name="stdout", text=text)])


def found(*cells: nbformat.NotebookNode) -> list[str]:
    return [problem.split(" (…")[0] for _, problem in drifted([new_markdown_cell("# Title, 9.9 GB"), *cells])]


@pytest.mark.parametrize(("sentence", "right"), [
    ("The MAE is 8.6 months.", True), ("The MAE is 8.7 months.", False), ("Nearly nine months.", True),
    ("Seven months.", False), ("It is +8.6.", True), ("It is −8.6.", False), ("From 2 to 9 months.", False),
    ("Of all, 12 % lie there.", True), ("Of all, 13 % lie there.", False), ("14,036 months and 0.12", True),
    ("Bias −1.4 months.", True), ("Bias +1.4 months.", False), ("A bias of 1.4 months.", True),
    ("Twelve in a hundred.", True), ("Thirteen in a hundred.", False),
])  # fmt: skip
def test_a_sentence_fits_the_output_or_not(sentence: str, right: bool) -> None:
    above = printing("MAE 8.63 [8.1, 9.2] months, share 0.121, n 14,036, bias -1.38\n")
    assert (found(above, new_markdown_cell(sentence)) == []) is right


def test_tables_alt_text_and_settings_count_as_printed() -> None:
    table = new_code_cell("lr = 0.25", outputs=[
        new_output("execute_result", data={"text/html": "<td>7.21</td>", "text/plain": "7.21"}, execution_count=1),
        new_output("display_data", data={"image/png": "iVBO3.3", "text/plain": "A bar of 4.4 months."})])  # fmt: skip
    assert found(table, new_markdown_cell("7.2, 4.4 months and 0.25")) == []
    assert found(table, new_markdown_cell("3.3 months")) == ["quotes 3.3"]


def test_only_the_nearest_cells_above_count() -> None:
    sentence = new_markdown_cell("8.6 months")
    assert found(printing("8.6"), *[printing("")] * (NEAR - 1), sentence) == []
    assert found(printing("8.6"), *[printing("")] * NEAR, sentence) == ["quotes 8.6"]
    assert found(sentence, printing("8.6")) == ["quotes 8.6"]


def test_a_mark_names_the_number_and_goes_with_it() -> None:
    mark = "<!-- from elsewhere: 6.8 (Beheshtian 2023) -->"
    assert found(new_markdown_cell(f"The winner has 6.8 months. {mark}")) == []
    assert found(new_markdown_cell(f"The winner has 6.9 months. {mark}")) == [
        "quotes 6.9", "marks 6.8, which it does not quote"]  # fmt: skip
    assert found(printing("6.8"), new_markdown_cell(f"6.8 months. {mark}")) == []  # another run may print it by chance
    assert found(new_markdown_cell(f"2023.5 {mark}"))[0] == "quotes 2023.5"  # a reason marks nothing


@pytest.mark.parametrize("prose", [
    "95 % interval", "0 to 240 months", "# 7.5 months", "`lr=0.1`", "$p^{0.5}$", "$$0.5$$", "```\n0.5 months\n```",
    "in 2017, 200 films of 512 px", "notebook 08", "[a page](https://x.org/1.5)", '<img alt="5.5">',
    "at 12:30", "Lancet 1986;327:307", "## Sources\n\n- 4.27 months",
])  # fmt: skip
def test_what_is_no_result_is_let_be(prose: str) -> None:
    assert list(quotes(prose)) == []


def test_the_first_cell_tells_times_and_is_left_out() -> None:
    assert found() == []
