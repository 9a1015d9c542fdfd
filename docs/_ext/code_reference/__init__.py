"""Puts reference text made from the code into pages: a Sphinx extension.

A page says where with a line such as ``<!-- from the code: hooks -->``. The words around it are
written by hand; what takes its place is Markdown, made when the documentation is built. The
modules beside this one make it, each one kind; they know nothing of Sphinx.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import (
    channels,
    cli,
    control,
    dialogue,
    errors,
    fields,
    grammar,
    hooks,
    limits,
    seed,
    statuses,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from sphinx.application import Sphinx

PARTS: Final[dict[str, Callable[[], str]]] = {
    "channel contracts": channels.contracts,
    "compression conformance": channels.conformance_of_compression,
    "compression contracts": channels.compressions,
    "compression test kit": channels.checks_of_compression,
    "conformance": channels.conformance,
    "control capabilities": control.capabilities,
    "control commands": control.commands,
    "control differences": dialogue.differences,
    "control events": control.events,
    "control objects": control.objects,
    "control parameters": control.parameters,
    "control parameters lacking": control.lacking_parameters,
    "device fields": fields.text,
    "device declarations": fields.declarations,
    "disk conformance": channels.conformance_of_disks,
    "disk contracts": channels.disks,
    "disk images": channels.images_of_disks,
    "disk test kit": channels.checks_of_disks,
    "error facts": errors.facts,
    "error tree": errors.tree,
    "errors": errors.text,
    "exit codes": errors.exit_codes,
    "grammar": grammar.text,
    "hooks": hooks.text,
    "limits": limits.text,
    "run states": statuses.run_states,
    "section conformance": channels.conformance_of_sections,
    "section contracts": channels.sections,
    "section test kit": channels.checks_of_sections,
    "security of channels": channels.security_of_channels,
    "security of connections": channels.security_of_connections,
    "seed coverage": seed.text,
    "test kit": channels.checks,
    "toolkit": channels.tools,
    "transitions": statuses.text,
    "transport contracts": channels.transports,
    "verbs": cli.text,
}
"""What may stand in a marker, and what makes the text."""

_MARKER: Final = re.compile(r"^<!-- from the code: (.+) -->$", re.MULTILINE)


def fill(source: str) -> str:
    """Replace the markers of a page.

    Raises:
        KeyError: A marker names nothing that is known.
    """
    return _MARKER.sub(lambda found: PARTS[found[1]](), source)


def has_marker(source: str) -> bool:
    """Whether a page takes text from the code."""
    return _MARKER.search(source) is not None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _fill_page)
    app.connect("env-get-outdated", _pages_with_markers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _fill_page(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = fill(source[0])


def _pages_with_markers(app: Sphinx, env: object, added: object, *others: object) -> list[str]:
    """Read such pages again at every build: the code may have changed, where they have not."""
    return [
        page
        for page in app.project.docnames
        if has_marker(Path(app.project.doc2path(page, absolute=True)).read_text(encoding="utf-8"))
    ]
