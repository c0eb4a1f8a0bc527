"""How much prose a notebook has, and how long its sentences are: advice for whoever writes.

Most learners read English as a second language. A sentence of more than LONG words is often read twice. Only what is
open counts: a folded part (`<details>`) is for those who ask for it. Words are counted as they stand between spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt
from nbformat import NotebookNode

MOST_WORDS = 3_200  # of open prose in one notebook, its headings included
LONG = 25  # words: a sentence with more of them is long
MOST_LONG = 0.05  # share of long sentences that needs no advice
NAMED = 2  # of the longest sentences are shown
MARKDOWN = MarkdownIt("commonmark").enable("table")
FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$", re.DOTALL)
SHORTENED = re.compile(r"\b(?:e\.g|i\.e|et al|vs|cf|Fig|Dr|St)\.$")
# A point inside 12.5 has no space behind it.
END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9])")


def words(text: str) -> int:
    """How many words a text has; a sign that stands alone, such as ±, is none."""
    return sum(any(sign.isalnum() for sign in word) for word in text.split())


def sentences(text: str) -> list[str]:
    """The sentences of one paragraph of plain text. A colon or semicolon ends none."""
    found: list[str] = []
    for part in END.split(text.strip()):
        if found and SHORTENED.search(found[-1]):
            found[-1] += f" {part}"
        else:
            found.append(part)
    return [sentence for sentence in found if words(sentence)]


def open_texts(markdown: str) -> Iterator[tuple[str, str]]:
    """The texts of a Markdown cell that are read without unfolding anything, with the kind of block each stands in:
    `paragraph` (a list's items, too), `heading`, `th` or `td`. Code and a formula are one word each, a link is its
    text; comments, images and blocks of code are left out."""
    kind, folded = "", 0
    for token in MARKDOWN.parse(FORMULA.sub("formula", markdown)):
        if token.type.endswith("_open"):
            kind = token.type.removesuffix("_open")
        elif token.type == "html_block":
            folded += token.content.count("<details") - token.content.count("</details")
        elif token.type == "inline" and not folded:
            pieces = {"softbreak": " ", "hardbreak": " ", "code_inline": "Code"}
            text = "".join(pieces.get(piece.type, piece.content if piece.type == "text" else "")
                           for piece in token.children or [])
            yield kind, text


def hard_to_read(cells: list[NotebookNode]) -> Iterator[tuple[str, str]]:
    """What to advise on the prose of a notebook, and how to mend it: too many words, too many long sentences. The
    sources count among the words, not among the sentences."""
    total, said, sources = 0, [], False
    for place, cell in enumerate(cells, 1):
        for kind, text in open_texts(cell.source) if cell.cell_type == "markdown" else ():
            total += words(text)
            sources = text == "Sources" if kind == "heading" else sources
            if kind == "paragraph" and not sources:
                said += [(words(sentence), place, sentence) for sentence in sentences(text)]
    if total > MOST_WORDS:
        yield f"has {total:,} words of open prose, at most {MOST_WORDS:,}", "cut, or fold into <details>"
    long = sorted((one for one in said if one[0] > LONG), reverse=True)
    if len(long) > MOST_LONG * len(said):
        longest = "; ".join(f"{count} in cell {place} ({' '.join(sentence.split()[:6])} …)"
                            for count, place, sentence in long[:NAMED])
        yield f"{len(long)} of {len(said)} sentences have more than {LONG} words: {longest}", "make two of one"
