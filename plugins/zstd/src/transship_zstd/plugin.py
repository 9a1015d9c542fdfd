"""The hook of the compression method; cheap to import, as ``transship plugins`` imports all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transship import hookimpl

if TYPE_CHECKING:
    from transship.abc import Compression


@hookimpl
def create_compression() -> Compression:
    """Make the method ``zstd``."""
    from transship_zstd._method import Zstd

    return Zstd()
