"""What a notebook shows that holds on one machine only: absolute paths, the host, the user."""

from __future__ import annotations

import getpass
import json
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# A path starts after a space, a quote or a bracket; "https://x.org/home/" and base64 text must not count.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w./+:-])/(?:home|root|work|tmp|Users|mnt|opt|var/folders|private)/[^\s'\"<>,)\]]*"
    r"|(?<![A-Za-z])[A-Za-z]:\\[^\s'\"<>,)\]]*"
)
BASE64 = re.compile(r";base64,[A-Za-z0-9+/=]+")
TEXT_TYPES = ("text/", "application/json", "image/svg+xml")


def output_texts(output: dict[str, Any]) -> Iterator[str]:
    """Every readable text in one output, images in base64 left out."""
    if output["output_type"] == "stream":
        yield output["text"]
    elif output["output_type"] == "error":
        yield from (*output["traceback"], output["evalue"])
    else:
        for mime, value in output["data"].items():
            if mime.startswith(TEXT_TYPES):
                yield BASE64.sub("", value if isinstance(value, str) else json.dumps(value))


def machine_traces(text: str, this_machine: bool = False) -> list[str]:
    """What ties `text` to one machine; `this_machine` adds the names of the one it runs on."""
    found = [match.group() for match in ABSOLUTE_PATH.finditer(text)]
    if this_machine:
        found += [match.group() for match in _own_names().finditer(text)]
    return found


def _own_names() -> re.Pattern[str]:
    """Host and user as they show up in text.

    Names such as `root` or `radius` are also words of this course, so a plain one counts only beside an @ or
    inside a path; one with a digit or a hyphen is nobody's word and counts wherever it stands.
    """
    host, home = platform.node(), str(Path.home())
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # containers may run under a number that has no name
        user = ""
    patterns = [rf"{re.escape(home)}[/\\]\w+"] if len(home) > 1 else []
    patterns += [rf"@{re.escape(host)}\b"] if host else []
    patterns += [rf"\b{re.escape(host)}\b"] if len(host) > 5 and re.search(r"[\d-]", host) else []
    patterns += [rf"\b{re.escape(user)}@\w+"] if user else []
    return re.compile("|".join(patterns) or r"(?!)")
