"""Answers that nobody sees before she has guessed.

The notebooks are stored with their outputs, so that they can be read on GitHub and on the course's pages. What answers
a *predict first* or an exercise is folded there, and opens when the cell is run with a guess.
"""

import html
from collections.abc import Iterable
from typing import Any

import pandas as pd

from bonexage_utils.course.exercise import NOT_ATTEMPTED
from bonexage_utils.figures import Picture

HIDDEN = "[Folded until you have guessed: replace the ... further up, run that cell, then this one again.]"


class Folded:
    """Pictures, tables and sentences that a notebook shows folded, or open once there is a guess."""

    def __init__(self, parts: tuple[Picture | pd.DataFrame | pd.Series | str, ...], guessed: bool) -> None:
        self.parts, self.guessed = parts, guessed

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.to_html(), "text/plain": self.to_text() if self.guessed else HIDDEN}

    def to_html(self) -> str:
        """A <details>, closed unless there is a guess."""
        inside = "\n".join(_as_html(part) for part in self.parts)
        title = "The answer" if self.guessed else "The answer. Guess first: it opens when you run the cell again."
        return f"<details{' open' * self.guessed}><summary>{title}</summary>\n{inside}\n</details>"

    def to_text(self) -> str:
        """The same as text; a picture by its alt text."""
        return "\n\n".join(part.alt if isinstance(part, Picture) else str(part) for part in self.parts)


def _as_html(part: Picture | pd.DataFrame | pd.Series | str) -> str:
    if isinstance(part, pd.Series):
        part = part.to_frame()
    if isinstance(part, Picture | pd.DataFrame):
        return part.to_html()
    return f'<p style="white-space: pre-line">{html.escape(part)}</p>'


def after_guess(guess: Any, *parts: Picture | pd.DataFrame | pd.Series | str) -> Folded:
    """`parts` (pictures, tables, sentences), folded while `guess` is `...`; of several guesses one is enough."""
    several = guess if isinstance(guess, list | tuple) else [guess]
    return Folded(parts, any(one is not NOT_ATTEMPTED and one is not None for one in several))


def beside(measured: dict[str, Any], guesses: Iterable[Any]) -> pd.DataFrame:
    """A table of the learner's guesses beside what was measured; `measured` maps the name of each row to its value."""
    told = ["none" if guess is NOT_ATTEMPTED else guess for guess in guesses]
    return pd.DataFrame({"your guess": told, "measured": list(measured.values())}, index=list(measured))
