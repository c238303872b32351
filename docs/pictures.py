"""Sphinx extension: pictures of the executed cells are drawings in the page, in the colours of its theme.

Matplotlib's SVG goes into the HTML itself, where what it draws in black takes the colour of the text, and
what it draws in white that of the paper; light, dark and in print. A picture without `alt` (a text in its
place, under `mystnb: image:` of the cell) fails the build.
"""

from __future__ import annotations

import html
import itertools
import os
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

PROFILE = """\
c.InlineBackend.figure_formats = {"svg"}
c.InlineBackend.print_figure_kwargs = {"bbox_inches": "tight", "metadata": {"Date": None}}
c.InlineBackend.rc = {"svg.hashsalt": "fp8sim"}
"""
#: What matplotlib writes -> what takes part in the theme.
COLOURS = {
    "#000000": "currentColor",
    "#666666": "color-mix(in srgb, currentColor 65%, transparent)",
    "#b0b0b0": "color-mix(in srgb, currentColor 40%, transparent)",  # grid lines
    "#cccccc": "color-mix(in srgb, currentColor 30%, transparent)",  # the frame of a legend
    "#ffffff": "var(--color-background-primary, #fff)",
}

logger = logging.getLogger(__name__)
number = itertools.count()


def inline(svg: str, alt: str, prefix: str) -> str:
    """Return matplotlib's SVG file as an element of a page: its own names, the page's colours.

    >>> print(inline('<svg><g id="a" style="fill: #000000"/>\\n<use href="#a"/></svg>', "A <b>", "p0"))
    <svg role="img" aria-label="A &lt;b&gt;" fill="currentColor"><g id="p0-a" style="fill: currentColor"/>
    <use href="#p0-a"/></svg>
    """
    body = svg[svg.index("<svg") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", body, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", body)
    body = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", body)
    for drawn, themed in COLOURS.items():
        body = body.replace(drawn, themed)
    label = html.escape(alt)
    return body.replace("<svg", f'<svg role="img" aria-label="{label}" fill="currentColor"', 1)


def place(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put the drawings of a page in the places of its images, where it is written as HTML."""
    if app.builder.format != "html":
        return
    for image in list(doctree.findall(nodes.image)):
        drawn = Path(app.srcdir, image["uri"])
        if drawn.suffix != ".svg" or "jupyter_execute" not in drawn.parts:
            continue
        if not image.get("alt"):
            logger.warning(f"{page}: a picture has no text in its place; give its cell mystnb: image: alt:")
        text = drawn.read_text(encoding="utf-8")
        shown = image.deepcopy()  # what matplotlib did not draw has colours of its own, and stays a file
        if "matplotlib" in text:
            shown = nodes.raw("", inline(text, image.get("alt", ""), f"p{next(number)}"), format="html")
        ends = [nodes.raw("", end, format="html") for end in ('<div class="picture" tabindex="0">', "</div>")]
        image.replace_self([ends[0], shown, ends[1]])


def write_profile(app: Sphinx) -> None:
    """Tell the kernels that execute the pages to draw SVG."""
    folder = Path(app.doctreedir, "ipython")
    profile = folder / "profile_default" / "ipython_kernel_config.py"
    profile.parent.mkdir(parents=True, exist_ok=True)
    profile.write_text(PROFILE, encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(folder)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both."""
    write_profile(app)
    app.connect("doctree-resolved", place)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
