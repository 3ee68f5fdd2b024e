"""Formulas as MathML, made while the site is built."""

import re
from xml.sax.saxutils import escape

from docutils import nodes
from latex2mathml import converter
from sphinx.util.logging import getLogger

MISSING = {r"\arg": r"\operatorname{arg}"}  # commands that the converter does not know


def convert(node, display: str = "inline") -> str:
    """Turn a formula into MathML; a command that nobody understands is a fault of the page."""
    text = re.sub(
        r"\\[A-Za-z]+", lambda command: MISSING.get(command[0], command[0]), node.astext()
    )
    made = converter.convert(text, display=display)
    if "\\" in made:
        getLogger(__name__).warning(
            "cannot write this formula as MathML: %s", node.astext(), location=node
        )
    return made


def inline(translator, node):
    """Write a formula within a line."""
    translator.body.append(f'<span class="math">{convert(node)}</span>')
    raise nodes.SkipNode


def block(translator, node):
    """Write a formula on lines of its own, and its number where it has one."""
    number = (
        f'<span class="eqno">({escape(str(node["number"]))})</span>' if node.get("number") else ""
    )
    translator.body.append(f'<div class="math">{number}{convert(node, "block")}</div>')
    raise nodes.SkipNode


def setup(app):
    """Tell Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
