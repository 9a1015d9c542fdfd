"""The hook of the compression method; cheap to import, as ``transship plugins`` imports all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl

if TYPE_CHECKING:
    from transship.abc import Compression


@hookimpl
def create_compression() -> Compression:
    """Make the method ``zlib``."""
    from transship_zlib._method import Zlib

    return Zlib()
