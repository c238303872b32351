"""Pages in one file that load nothing: their parts, a policy that lets nothing else in, and data in them."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

from fp8sim._support.results import plain_data

__all__ = ["asset", "content_policy", "embedded_json", "framed"]


def asset(package: str, name: str) -> str:
    """Return the text of a file in the folder ``assets`` of a package.

    Examples
    --------
    >>> "prefers-color-scheme: dark" in asset("fp8sim.play", "colours.css")
    True
    """
    return (resources.files(package) / "assets" / name).read_text(encoding="utf-8")


def content_policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    """Return a content security policy under which only these very styles and scripts work.

    A page that is framed in another obeys the policy of both.

    Examples
    --------
    >>> content_policy([""], []).partition(";")[0], content_policy([""], [])[-17:]
    ("default-src 'none'", "script-src 'none'")
    """

    def sources(texts: Iterable[str]) -> str:
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
        return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"

    return (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src {sources(styles)}; script-src {sources(scripts)}"
    )


def embedded_json(data: Any) -> str:
    r"""Write JSON that no value can end early: the characters that mean something to HTML are escaped.

    Examples
    --------
    >>> embedded_json({"name": "</script>"})
    '{"name": "\\u003c/script\\u003e"}'
    """
    text = json.dumps(plain_data(data), ensure_ascii=True, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def framed(page: str, title: str, look: str) -> str:
    """Return a page as a frame in another, whose scripts reach neither what is around it nor any host.

    `look` is an attribute of the frame: a class or a style.

    Examples
    --------
    >>> framed("<p>x", "A page", 'class="play"')
    '<iframe title="A page" sandbox="allow-scripts" class="play" srcdoc="&lt;p&gt;x"></iframe>'
    """
    title, page = html.escape(title), html.escape(page)
    return f'<iframe title="{title}" sandbox="allow-scripts" {look} srcdoc="{page}"></iframe>'
