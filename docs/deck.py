"""Sphinx extension: what teachers print and show, written beside the pages at every build.

`teach/deck.html` holds the sections of the page `teach/slides`, one a slide, with pictures and styles in the
file itself: it needs no host, no network and no other file. `teach/handout.html` is the handout.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

FOLDER = Path(__file__).parent
SOURCE = "teach/slides"

sys.path.insert(0, str(FOLDER / "teach"))


def slides(app: Sphinx, doctree: nodes.document) -> list[str]:
    """Return the sections below the title as HTML, one each."""
    title = next(iter(doctree.findall(nodes.section)))
    parts = [
        app.builder.render_partial(part)["fragment"] for part in title if isinstance(part, nodes.section)
    ]
    without_anchors = (re.sub(r'<a class="headerlink".*?</a>', "", part) for part in parts)
    return [
        re.sub(r'<a [^>]*href="(?!https?:)[^"]*"[^>]*>(.*?)</a>', r"\1", part, flags=re.DOTALL)
        for part in without_anchors
    ]


def write(
    app: Sphinx, page: str, template: str, context: dict[str, object], doctree: nodes.document | None
) -> None:
    """Write the deck when its page is written, and the handout with it."""
    if page != SOURCE or doctree is None or app.builder.format != "html":
        return
    import handout  # takes fp8sim, and no other page needs it

    style, script = (
        (FOLDER / "_static" / name).read_text(encoding="utf-8") for name in ("deck.css", "deck.js")
    )
    parts = slides(app, doctree)
    shown = "\n".join(
        f'<div class="slide" id="{n}" role="group" aria-label="Slide {n} of {len(parts)}">'
        f'{part}<p class="number">{n} / {len(parts)}</p></div>'
        for n, part in enumerate(parts, 1)
    )
    folder = Path(app.outdir, "teach")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deck.html").write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>What a bit is worth: slides</title><style>{style}</style></head>\n<body>\n"
        f"<main>{shown}</main>\n"
        f"<script>{script}</script></body></html>\n",
        encoding="utf-8",
    )
    (folder / "handout.html").write_text(handout.handout(), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect it."""
    app.connect("html-page-context", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
