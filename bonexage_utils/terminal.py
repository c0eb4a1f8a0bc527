"""What stands between a command and the terminal: streams that break, signals, and errors nobody foresaw."""

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TextIO

UNFORESEEN = 70  # EX_SOFTWARE of sysexits.h
REPORT_AT = "https://github.com/bonexage/bonexage/issues"


class SteadyStream:
    """A text stream whose failure (closed, a pipe that nobody reads, a full disk) stops no work and loses no table.

    `failure` is the first error of a write, None without one. Characters that the stream's encoding lacks are written
    as backslash escapes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | ValueError | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As of any text stream; what cannot be written is dropped."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """As of any text stream."""
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self.failure = self.failure or error
            with suppress(OSError, ValueError):  # what is still in its buffer goes nowhere, in silence
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    @property
    def lost(self) -> bool:
        """Whether words were lost that somebody waits for: a reader who has gone (`… | head`) does not."""
        return self.failure is not None and getattr(self.failure, "errno", None) != errno.EPIPE


def prepare() -> None:
    """Make this process's streams steady, and let SIGTERM and SIGHUP end it as Ctrl-C does: cleaning up behind it."""
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # a closed stream: else the next file that is opened would get its number, and the words of libraries
    os.close(lowest)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives as the process
        setattr(sys, name, stream if isinstance(stream, SteadyStream) else SteadyStream(stream))
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def unforeseen(command: str, error: Exception) -> str:
    """One line about an error that nobody foresaw; its traceback goes into a file, or to the terminal with
    BONEXAGE_DEBUG=1."""
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if os.environ.get("BONEXAGE_DEBUG") == "1":
        traceback.print_exception(error)
        where = "what is above"
    else:
        try:
            with tempfile.NamedTemporaryFile("w", prefix="bonexage-error-", suffix=".txt", delete=False,
                                             encoding="utf-8", errors="backslashreplace") as file:
                traceback.print_exception(error, file=file)
            where = file.name
        except OSError:
            where = "what BONEXAGE_DEBUG=1 prints"
    return (f"{command} stopped by an error that nobody foresaw ({reason}); please report it with {where} at "
            f"{REPORT_AT}")
