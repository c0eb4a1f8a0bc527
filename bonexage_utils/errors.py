"""The one exception a user is meant to read."""

import unicodedata
from collections.abc import Iterable

DECODERS = "bonexage[dicom]"  # the extra, as a film says that takes it


def printable(text: str) -> str:
    """`text` in one line: what does not print is escaped as Python does, `\\n`, `\\x1b`.

    On Linux a file name is bytes; those that are not UTF-8 reach Python as lone surrogates, which nothing can print or
    write, and are escaped as `\\udcff`.
    """
    return text if text.isprintable() else "".join(
        sign if sign.isprintable() or unicodedata.category(sign) == "Zs" else sign.encode("unicode_escape").decode()
        for sign in text)


class BoneXageError(Exception):
    """Something the user can put right.

    The message is one line, made `printable`: what is wrong, where, and what to do next. The command line prints it
    without a traceback and ends with a non-zero exit status.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def decoders_wanted(reasons: Iterable[str]) -> str:
    """In a line, for how many of the films that cannot be read, for these reasons, the extra `dicom` is wanted."""
    count = sum(DECODERS in reason for reason in reasons)
    return f"films that take the decoders of an extra: {count:,}; pip install '{DECODERS}'" if count else ""
