"""Sphinx settings; `make docs` builds with warnings as errors."""

import sys
from importlib.metadata import version as distribution_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Transship"
author = "The Transship authors"
copyright = "The Transship authors"
release = distribution_version("transship")
version = ".".join(release.split(".")[:2])

extensions = ["myst_parser", "code_reference"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

exclude_patterns = ["_build", "_ext", "examples"]

smartquotes = False  # an option begins with two dashes, also in a sentence

html_theme = "furo"
html_title = "Transship"
html_copy_source = False
