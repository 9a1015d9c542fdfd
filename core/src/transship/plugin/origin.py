"""Where a plugin is from: the folder it is installed in, and its licence, as its metadata say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from importlib.metadata import Distribution


@dataclass(frozen=True, slots=True)
class Origin:
    """What an administrator asks before a plugin is let in.

    Args:
        licence: As its author named it, an SPDX expression as a rule; empty if unnamed.
        folder: Where it is installed; of an editable one, where its project lies. Empty if unknown.
        is_editable: Whether it is imported from where it is developed.
    """

    licence: str = ""
    folder: str = ""
    is_editable: bool = False


def origin_of(distribution: Distribution | None) -> Origin:
    """Read the metadata of a distribution; what they do not say stays empty."""
    if distribution is None:
        return Origin()
    project = _editable_project(distribution)
    folder = project or str(distribution.locate_file(""))
    return Origin(_licence(distribution), folder, project is not None)


def _licence(distribution: Distribution) -> str:
    metadata = distribution.metadata
    for key in ("License-Expression", "License"):
        lines = "".join(map(str, metadata.get_all(key) or ())).strip().splitlines()
        if lines and lines[0] != "UNKNOWN":  # what older build tools write for nothing
            return lines[0]
    classifiers = (str(one) for one in metadata.get_all("Classifier") or ())
    return ", ".join(
        one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License :: ")
    )


def _editable_project(distribution: Distribution) -> str | None:
    """The folder that an installer recorded for a project that is imported where it lies."""
    try:
        said: Any = json.loads(distribution.read_text("direct_url.json") or "{}")
        if said.get("dir_info", {}).get("editable"):
            return unquote(urlsplit(said["url"]).path)
    except (ValueError, AttributeError, KeyError, TypeError):  # written by a tool of its own mind
        return None
    return None
