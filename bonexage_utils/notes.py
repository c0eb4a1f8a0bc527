"""Notes: in words, what is odd about a film that still gets an age."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from bonexage_utils.orientation import ASKEW, find_odd
from bonexage_utils.orientation import TWO_HANDS as PAIR

INVERTED, TURNED, MIRRORED, TWO_HANDS = "inverted", "turned", "mirrored or a right hand", "two hands"
UNLIKE = "unlike the training films"
NOTES = (INVERTED, TURNED, MIRRORED, TWO_HANDS, UNLIKE)
SEPARATOR = "; "
REFUSED = "no age, for --strict"


def orientation_notes(thumbnails: np.ndarray) -> list[str]:
    """The notes, "" for none, on how the hands lie in `orientation.thumbnail`s (n, PICTURE, PICTURE) of films.

    How a film lies is held against left hands, fingers up, bones bright, one a film.
    """
    return [_words(int(variant)) for variant in find_odd(thumbnails)]


def _words(variant: int) -> str:
    if variant == PAIR:
        return TWO_HANDS
    if variant == ASKEW:
        return TURNED
    odd = {INVERTED: variant // 8, TURNED: variant % 4, MIRRORED: variant // 4 % 2}
    return SEPARATOR.join(note for note, found in odd.items() if found)


def with_note(notes: pd.Series, note: str, where: np.ndarray) -> pd.Series:
    """`notes` with `note` behind them on the rows `where`, and on no other."""
    rest = [[one for one in text.split(SEPARATOR) if one and one != note] for text in notes]
    return pd.Series([SEPARATOR.join([*kept, *([note] if found else [])])
                      for kept, found in zip(rest, where, strict=True)], notes.index, dtype=str)


def count_notes(notes: Iterable[str]) -> dict[str, int]:
    """How many films have each note; the commonest first."""
    counts = pd.Series([one for text in notes for one in text.split(SEPARATOR) if one], dtype=str).value_counts()
    return {str(note): int(count) for note, count in counts.items()}
