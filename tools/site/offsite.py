"""Find what a page would fetch from elsewhere: the site works on a train and tells nobody who reads it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

# Tags whose address a browser fetches by itself; a link (<a>) is followed only by a reader's click.
FETCHED = {
    "script": ("src",), "link": ("href",), "img": ("src", "srcset"), "iframe": ("src",), "object": ("data",),
    "video": ("src", "poster"), "audio": ("src",), "source": ("src", "srcset"), "embed": ("src",),
    "image": ("href", "xlink:href"), "use": ("href", "xlink:href"), "base": ("href",), "input": ("src",),
}  # fmt: skip
AWAY = re.compile(r"\s*(https?:|wss?:)?//", re.IGNORECASE)
STYLE_AWAY = re.compile(r"(?:url\(|@import)\s*['\"]?\s*((?:https?:)?//[^'\")\s;]+)", re.IGNORECASE)
CODE_AWAY = re.compile(r"(?:https?:)?//[\w.-]+\.\w+/[^\s'\"]*\.m?(?:js|css)\b", re.IGNORECASE)
RELATIONS_NOT_FETCHED = {"canonical", "author", "license", "alternate", "next", "prev"}


class _Page(HTMLParser):
    """Collects the addresses one page would fetch from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.away: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the attributes that make a browser fetch."""
        values = dict(attrs)
        self._inside = tag if tag in ("style", "script") else ""
        if tag == "link" and (values.get("rel") or "") in RELATIONS_NOT_FETCHED:
            return
        for name in FETCHED.get(tag, ()):
            if AWAY.match(values.get(name) or ""):
                self.away.append(f"<{tag} {name}={values[name]}>")
        self.away += STYLE_AWAY.findall(values.get("style") or "")

    def handle_endtag(self, tag: str) -> None:
        """Text after a script or style is ordinary text again."""
        self._inside = ""

    def handle_data(self, data: str) -> None:
        """Styles import and scripts load; other text may name any address."""
        if self._inside == "style":
            self.away += STYLE_AWAY.findall(data)
        elif self._inside == "script":
            self.away += CODE_AWAY.findall(data)


def offsite_in_page(text: str) -> list[str]:
    """The addresses one HTML page would fetch from another host."""
    page = _Page()
    page.feed(text)
    page.close()
    return page.away


def offsite_references(folder: Path) -> list[str]:
    """`page: address` for all that the pages and style sheets in `folder` would fetch from another host."""
    found = []
    for path in sorted(folder.rglob("*.html")):
        found += [f"{path.name}: {address}" for address in offsite_in_page(path.read_text(encoding="utf-8"))]
    for path in sorted(folder.rglob("*.css")):
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.name}: {address}" for address in STYLE_AWAY.findall(text)]
    return found
