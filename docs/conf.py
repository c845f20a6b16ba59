"""How Sphinx builds these pages: `make docs`."""

import re

from sphinx.application import Sphinx

from llm_toll_autopatch import __version__

project = "llm_toll_autopatch"
author = "The llm_toll_autopatch developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
myst_heading_anchors = 3
autodoc_typehints = "none"  # the docstrings say it
napoleon_use_ivar = True
highlight_language = "text"
suppress_warnings = ["misc.highlighting_failure"]  # the magics of IPython are no Python


def _to_repository(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Links to files of the repository, which are no pages, become their names."""
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", source[0])


def setup(app: Sphinx) -> None:
    """Add what these pages need."""
    app.connect("source-read", _to_repository)
