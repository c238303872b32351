"""Check the built documentation offline: `python docs/check_links.py docs/_build/html`.

Every link within the site leads to a page and an anchor that exist, no page loads anything from another
host or shows a result as Python writes objects, and the files that README.md and CONTRIBUTING.md link to are
there.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parent.parent
READ_ON_GITHUB = (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
ADDRESSES = ("href", "src", "poster", "data", "action")
AS_PYTHON_WRITES = re.compile(r"^(Table|Page)\(\w+=|<fp8sim[\w.]* object at", re.MULTILINE)
PLAY = ("play", "index.html")  # the interactive page
MENTIONS = {"canonical", "author", "license"}  # what a <link> may say of another host without loading it


class Link(NamedTuple):
    """Where an element points to, and whether showing the page loads it."""

    address: str
    loads: bool


class Page(HTMLParser):
    """The anchors, the links and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {"", "top"}
        self.links: list[Link] = []
        self.text = ""
        self._style = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element names, what it links to and what it loads."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        mentions = tag in ("a", "form") or (tag == "link" and given.get("rel") in MENTIONS)
        self.links += [Link(given[name].strip(), not mentions) for name in ADDRESSES if given.get(name)]
        for part in filter(None, map(str.strip, given.get("srcset", "").split(","))):
            self.links.append(Link(part.split()[0], True))
        self.links += in_style(given.get("style", ""))
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        """Note the text, and what a style sheet within the page loads."""
        self.text += data
        if self._style:
            self.links += in_style(data)

    def handle_endtag(self, tag: str) -> None:
        """Leave a style sheet."""
        self._style = False


def in_style(css: str) -> list[Link]:
    """Return what CSS loads."""
    found = re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", css)
    return [Link((url or imported).strip(), True) for url, imported in found]


def faults_of_site(folder: Path) -> list[str]:
    """Return what is wrong with the links of all pages and style sheets in a folder."""
    site = folder.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    links = {path: page.links for path, page in pages.items()}
    links |= {path: in_style(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.css"))}
    if not pages:
        return [f"{folder} holds no page; build the documentation first"]
    written = [
        f"{path.relative_to(site)}: shows {found[0]}...), which has no HTML"
        for path, page in pages.items()
        if (found := AS_PYTHON_WRITES.search(page.text))
    ]
    return written + [
        f"{path.relative_to(site)}: {fault}"
        for path, of_file in links.items()
        for link in dict.fromkeys(of_file)
        if (fault := fault_of(link, path, pages))
    ]


def fault_of(link: Link, path: Path, pages: dict[Path, Page]) -> str:
    """Return what is wrong with a link that stands in the file `path`, or nothing."""
    parts = urlsplit(link.address)
    if parts.netloc or parts.scheme in ("http", "https"):
        return f"loads {link.address} from another host" if link.loads else ""
    if parts.scheme:  # data:, mailto:
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return f"{link.address} leads to no file"
    if target.parts[-2:] == PLAY:  # what is behind its # is a state, which its script reads
        return ""
    if target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return f"{link.address} leads to no anchor"
    return ""


def faults_of_markdown(file: Path) -> list[str]:
    """Return the relative links of a Markdown file that lead to no file."""
    text = re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    targets = [urlsplit(target) for target in re.findall(r"\]\(\s*<?([^)\s>]+)", text)]
    relative = [parts.path for parts in targets if parts.path and not parts.scheme and not parts.netloc]
    missing = [path for path in relative if not (file.parent / unquote(path)).exists()]
    return [f"{file.name}: {path} leads to no file" for path in missing]


def main(arguments: list[str]) -> int:
    """Print what is wrong; 1 if anything is."""
    folder = Path(arguments[0]) if arguments else ROOT / "docs" / "_build" / "html"
    faults = faults_of_site(folder)
    for file in READ_ON_GITHUB:
        faults += faults_of_markdown(file)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
