"""Sphinx settings; `make docs` builds with warnings as errors."""

from importlib.metadata import version as distribution_version

project = "Transship"
author = "The Transship authors"
copyright = "The Transship authors"
release = distribution_version("transship")
version = ".".join(release.split(".")[:2])

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "Transship"
html_copy_source = False
