"""Pages in one file that load nothing: their parts, a policy that lets nothing else in, and data in them."""

from __future__ import annotations

import base64
import hashlib
import html
import json
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


def content_policy(style: str, script: str) -> str:
    """Return a content security policy under which only this very style and script work.

    Examples
    --------
    >>> content_policy("", "").partition(";")[0]
    "default-src 'none'"
    """

    def source(text: str) -> str:
        digest = hashlib.sha256(text.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    return (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src {source(style)}; script-src {source(script)}"
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


def framed(page: str, title: str, height: str) -> str:
    """Return a page as a frame in another, whose scripts reach neither what is around it nor any host.

    Examples
    --------
    >>> framed('<p lang="en">x', "A page", "10em").partition(" srcdoc")[0]
    '<iframe title="A page" sandbox="allow-scripts" style="width:100%;height:10em;border:0"'
    """
    style = f"width:100%;height:{height};border:0"
    return (
        f'<iframe title="{html.escape(title)}" sandbox="allow-scripts" style="{style}" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )
