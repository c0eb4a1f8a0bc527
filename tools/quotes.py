"""Whether the numbers in a notebook's prose are those that it printed.

A sentence that quotes a result is right on the day it is written. The next training prints other numbers, and nobody
reads every sentence again. So each number that may quote a result is looked up in the code cells just above it.

Tried on the eleven notebooks by changing each number found by 15 or 30 %: seven in ten of the changed ones are caught
with NEAR cells, five in ten with all cells above (a small whole number stands somewhere by chance).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from nbformat import NotebookNode

from tools.portable import output_texts

NEAR = 4  # code cells above a sentence in which its numbers are looked up
WORDS = {word: number for number, word in enumerate((
    "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"), 2)} | {
    "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}  # fmt: skip
UNIT = r"(?:%|per cent|(?:months?|points?|(?:in|of) a hundred|seconds?|GB|MB)\b)"
NUMBER = (rf"(?<![\w.,/^·-])(?:[+−-]?\d{{1,3}}(?:,\d{{3}})+|[+−-]?\d+(?:\.\d+)?|(?:{'|'.join(WORDS)})\b)"
          r"(?!\d|[:/]\d|\.\d|,\d{3})")  # fmt: skip
# In "5 to 8 months" both are months.
FOUND = re.compile(rf"(?P<n>{NUMBER})(?P<unit>(?=(?:\s*(?:to|and|or|–|,)\s*{NUMBER})?\s*{UNIT}))?", re.IGNORECASE)
PRINTED = re.compile(r"(?<![\w.])[+−-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?", re.IGNORECASE)
MARK = re.compile(r"<!--\s*from elsewhere:(.*?)-->", re.DOTALL)
# What quotes no result: the 95 % of an interval, the ends of all ages, formulas, code, links' targets, tags, headings,
# sources.
ASIDE = re.compile(
    r"\b95 %|(?:\b0 ?(?:to|and|or|–) ?)?\b240 months|```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]+\$|\]\([^)]*\)|<[^>]*>"
    r"|^## Sources.*|^#+ [^\n]*", re.DOTALL | re.MULTILINE)  # fmt: skip


class Quote(NamedTuple):
    """A number in prose, as it is written, with a few words around it."""

    text: str
    around: str


def value_of(text: str) -> float:
    """The number that a text stands for, with its sign."""
    if text.lower() in WORDS:
        return float(WORDS[text.lower()])
    return float(text.replace(",", "").replace("−", "-"))


def quotes(prose: str) -> Iterator[Quote]:
    """The numbers of a Markdown cell that may quote a result: with decimals, a sign, or a unit of results behind."""
    prose = ASIDE.sub(lambda aside: re.sub(r"\S", " ", aside.group()), prose)
    for found in FOUND.finditer(prose):
        if found["unit"] is not None or "." in found["n"] or found["n"][0] in "+−-":
            around = " ".join(prose[max(0, found.start() - 30) : found.end() + 30].split())
            yield Quote(found["n"], around)


def marked(prose: str) -> list[str]:
    """The numbers that a cell says come from elsewhere, without the reasons in brackets."""
    return re.findall(NUMBER, re.sub(r"\([^)]*\)", "", " ".join(MARK.findall(prose))), re.IGNORECASE)


def printed(text: str) -> list[float]:
    """Every number in a text."""
    return [value_of(found) for found in PRINTED.findall(text)]


def stands(quote: str, known: list[float]) -> bool:
    """Whether one of `known` is that number, rounded as the prose has it; 0.12 may be quoted as 12 %. A sign in the
    prose has to be right; without one, a sentence says in words what is above and what below."""
    value, decimals = value_of(quote), len(quote.partition(".")[2])
    half = 0.5 * 10.0**-decimals + 1e-9
    seen = known if quote[0] in "+−-" else [abs(number) for number in known]
    return any(abs(scale * number - value) <= half for number in seen for scale in (1, 100))


def drifted(cells: list[NotebookNode]) -> Iterator[tuple[int, str]]:
    """Place (from 1) and problem of each number in prose that stands in none of the cells above it and is not marked,
    and of each mark whose number is gone. The first cell is left out: it tells times, which differ."""
    near: list[list[float]] = []
    for place, cell in enumerate(cells, 1):
        if cell.cell_type == "code":
            texts = [cell.source, *(text for output in cell.outputs for text in output_texts(output))]
            near = [*near, [number for text in texts for number in printed(text)]][-NEAR:]
        elif place > 1:
            known, elsewhere = [number for numbers in near for number in numbers], marked(cell.source)
            quoted = list(quotes(cell.source))
            for quote in quoted:
                if quote.text not in elsewhere and not stands(quote.text, known):
                    yield place, f"quotes {quote.text} (… {quote.around} …), printed in none of the {NEAR} cells above"
            for number in sorted(set(elsewhere) - {quote.text for quote in quoted}):
                yield place, f"marks {number}, which it does not quote"
