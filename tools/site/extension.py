"""What the site needs and Sphinx does not do: alt text of figures, and formulas without MathJax."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert as to_mathml
from myst_nb.core.render import MimeData, NbElementRenderer
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
# latex2mathml lays out align* well, numbers align and knows neither aligned nor split: draw them all as align*.
ALIGNED = re.compile(r"\\(begin|end)\{(?:aligned|align|split)\}")
# Browsers dropped the attribute of MathML 3 and centre every column: say the same in CSS. Chromium aligns the
# box of a cell only by the -webkit- word; others read the first.
ALIGNMENT = {
    'columnalign="right"': 'style="text-align: right; text-align: -webkit-right; padding-right: 0"',
    'columnalign="left"': 'style="text-align: left; text-align: -webkit-left; padding-left: 0.2em"',
}
# What it does not know it copies as it stands: a command keeps its backslash, a column mark its ampersand.
LEFT_OVER = re.compile(r"\\|>&(?:amp;)?<")


def _mathml(node: nodes.Element, display: str) -> str:
    """The formula as MathML, which browsers draw by themselves; what has none stays readable as TeX."""
    tex = node.astext()
    try:
        mathml = to_mathml(ALIGNED.sub(r"\\\1{align*}", tex), display=display)
    except Exception as error:  # the converter raises many types on TeX it cannot read
        logger.warning("formula %r cannot be drawn: %s", tex, error, location=node)
        return f"<code>{escape(tex)}</code>"
    if LEFT_OVER.search(mathml):
        logger.warning("formula %r uses TeX that cannot be drawn: rewrite it", tex, location=node)
    for attribute, style in ALIGNMENT.items():
        mathml = mathml.replace(attribute, style)
    return mathml.replace("<math ", f'<math alttext="{escape(tex, quote=True)}" ', 1)


def visit_inline(self: Any, node: nodes.math) -> None:
    """A formula in a line."""
    self.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(self: Any, node: nodes.math_block) -> None:
    """A formula on its own line; one wider than the page scrolls inside its box."""
    # Not the class `math`: the theme lays that out for MathJax, at the right margin.
    # With a stop for the Tab key: else nobody could scroll it by keyboard.
    how = {"CLASS": "formula", "style": "overflow-x: auto; margin: 1em 0", "tabindex": "0", "role": "group",
           "aria-label": "formula"}
    self.body.append(self.starttag(node, "div", **how))
    self.body.append(_mathml(node, "block") + "</div>\n")
    raise nodes.SkipNode


def carry_alt_text() -> None:
    """Give every figure the alt text in its output's metadata; myst-nb would write the file name there."""
    if getattr(NbElementRenderer.render_image, "carries_alt", False):
        return  # a second build in the same process
    original = NbElementRenderer.render_image

    def render_image(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
        rendered = original(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        for node in rendered:
            if alt and isinstance(node, nodes.image):
                node["alt"] = alt
        return rendered

    render_image.carries_alt = True  # type: ignore[attr-defined]
    NbElementRenderer.render_image = render_image  # type: ignore[method-assign]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    carry_alt_text()
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
