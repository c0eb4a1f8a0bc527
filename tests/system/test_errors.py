"""Messages are one line, whatever stands in the name of a file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonexage_utils.errors import BoneXageError, printable


@given(st.text() | st.binary().map(lambda name: name.decode(errors="surrogateescape")))
def test_any_text_becomes_one_line_that_can_be_written(text: str) -> None:
    line = printable(text)
    assert line.encode("utf-8").decode() == line
    assert len(line.splitlines()) <= 1
    assert printable(line) == line
    assert str(BoneXageError(text)) == line


@pytest.mark.parametrize(("text", "line"), [
    ("hand 1.png", "hand 1.png"), ("é骨", "é骨"), ("a\nb\r\t", r"a\nb\r\t"), ("\x1b[31m", r"\x1b[31m"),
    ("\udcff", r"\udcff"), ("\u202e", r"\u202e"), ("\u2028", r"\u2028"), ("a\u202fb", "a\u202fb"),
    ("C:\\new", "C:\\new"),
])
def test_what_does_not_print_is_escaped(text: str, line: str) -> None:
    assert printable(text) == line
