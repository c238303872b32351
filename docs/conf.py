"""Sphinx configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxTranslator

import fp8sim

sys.path.insert(0, str(Path(__file__).parent))  # of the extensions beside this file

from write_notebooks import LESSONS, write_notebook

project = "fp8sim"
author = "The fp8sim developers"
copyright = "2026, the fp8sim developers"
release = version = fp8sim.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "pictures",
    "deck",
    "lesson_pages",
]
exclude_patterns = ["_build", "jupyter_execute"]
nitpicky = False

html_theme = "furo"
html_title = "fp8sim"
html_static_path = ["_static"]
html_css_files = ["fp8sim.css"]
html_js_files = [("tables.js", {"defer": "defer"})]
html_math_renderer = "mathml"  # MathJax would be fetched from another host

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_url_schemes = {"http": None, "https": None, "mailto": None, "play": None}  # play: lesson_pages.py

# Every notebook is executed at every build; an error in one fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True

autodoc_mock_imports = ["torch"]  # documented without being installed
autodoc_typehints = "none"  # the docstrings say shapes and dtypes
autodoc_member_order = "bysource"
autosummary_generate = False
napoleon_google_docstring = False
napoleon_use_rtype = False

COLON = "\ue000"  # stands for one, where napoleon is not to see it


def add_download(app: Sphinx, doctree: nodes.document) -> None:
    """End a page that is a notebook with a link to it, as executed; a lesson with the student's copy."""
    notebook = Path(app.env.mystnb_config.output_folder, f"{app.env.docname}.ipynb")
    lesson = Path(app.env.docname).name
    if lesson in LESSONS:
        notebook = write_notebook(lesson, notebook.parent)
    if notebook.exists():
        target = "/" + os.path.relpath(notebook, app.srcdir)
        link = download_reference("", "", nodes.literal(text=notebook.name), reftarget=target)
        page = doctree.next_node(nodes.section) or doctree
        page += nodes.paragraph("", "", nodes.Text("This page as a notebook: "), link)


def write_mathml(translator: SphinxTranslator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw without a script."""
    translator.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode


def keep_sentences(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Hide the colons of a property's sentence from napoleon, which takes what is before one for its type."""
    if what in ("attribute", "property"):
        lines[:] = [line.replace(":", COLON) for line in lines]


def write_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Bring the colons back."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def setup(app: Sphinx) -> None:
    """Connect what is added here."""
    app.connect("autodoc-process-docstring", keep_sentences, priority=400)  # napoleon has 500
    app.connect("autodoc-process-docstring", write_colons, priority=600)
    app.connect("doctree-read", add_download, priority=400)  # before Sphinx collects what pages link to
    app.add_html_math_renderer("mathml", (write_mathml, None), (write_mathml, None))
