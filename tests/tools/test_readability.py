"""Words of open prose and long sentences are counted as a reader would count them."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from tools.readability import LONG, MOST_WORDS, hard_to_read, open_texts, sentences, words


@pytest.mark.parametrize(("text", "lengths"), [
    ("One two three. Four five.", [3, 2]),
    ("Off by 12.5 months. Better.", [4, 1]),
    ("Halabi et al. Radiology, e.g. Fig. 3. Next.", [7, 1]),
    ("Is it? Yes! (Or not.) So.", [2, 1, 2, 1]),
    ("It is ± 5 months, or 100 × 20 pixels; one colon: one sentence.", [12]),
    ("The file a.py. lower case goes on", [7]),
    ("… ± –", []),
])  # fmt: skip
def test_sentences_of_a_paragraph(text: str, lengths: list[int]) -> None:
    assert [words(sentence) for sentence in sentences(text)] == lengths


@pytest.mark.parametrize(("markdown", "kinds", "count"), [
    ("# 00 · Title here\n\nTwo words.", ["heading", "paragraph"], 5),
    ("- one\n- two words", ["paragraph", "paragraph"], 3),
    ("| a | b |\n|---|---|\n| one two | 3 |", ["th", "th", "td", "td"], 5),
    ("Before\n\n```\nsix words of code not counted\n```", ["paragraph"], 1),
    ("Call `f(a, b, c)` now", ["paragraph"], 3),
    ("So $a + b = c$ and $$x = y$$ hold", ["paragraph"], 5),
    ("See [the very page](https://x.org/a/b) **now**", ["paragraph"], 5),
    ("![alt text](x.png) seen", ["paragraph"], 1),
    ("Here <!-- from elsewhere: 5 (a source) --> now", ["paragraph"], 2),
    ("<!-- a comment alone -->", [], 0),
    ("Open.\n\n<details><summary>For the curious: more</summary>\n\nFolded\nprose.\n</details>\n\nOpen again.",
     ["paragraph", "paragraph"], 3),
])  # fmt: skip
def test_what_a_reader_sees_without_unfolding(markdown: str, kinds: list[str], count: int) -> None:
    texts = list(open_texts(markdown))
    assert [kind for kind, _ in texts] == kinds
    assert sum(words(text) for _, text in texts) == count


def test_code_may_begin_a_sentence() -> None:
    ((_, text),) = open_texts("Write `f(x)` now. `x` is a number.")
    assert [words(sentence) for sentence in sentences(text)] == [3, 4]


def advice(*prose: str) -> list[str]:
    cells: list[nbformat.NotebookNode] = [new_code_cell("a = 'code is not prose'")]
    return [problem for problem, _ in hard_to_read(cells + [new_markdown_cell(text) for text in prose])]


def test_too_many_words_are_told() -> None:
    prose = "Three short words. " * (MOST_WORDS // 3)
    at_most = MOST_WORDS - MOST_WORDS // 3 * 3
    assert advice(prose, "word " * at_most) == []
    assert advice(prose, "word " * (at_most + 1)) == ["has 3,201 words of open prose, at most 3,200"]


def test_the_longest_sentences_are_named() -> None:
    longer, long, allowed = (f"{name}{' word' * more}." for name, more in [("B", 29), ("A", 25), ("C", 24)])
    told = advice("Short one.", f"{long} {allowed}", f"{long} {longer}")
    assert told == ["3 of 5 sentences have more than 25 words: 30 in cell 4 (B word word word word word …); "
                    "26 in cell 4 (A word word word word word …)"]
    assert LONG == 25
    assert advice("Short. " * 19 + long) == []  # one in twenty may be long
    assert advice("Short. " * 18 + long) != []
    assert advice(f"## Sources\n\n- {long}") == []
    assert len(advice(f"## Sources\n\n- {long}\n\n## More\n\n{long}")) == 1
