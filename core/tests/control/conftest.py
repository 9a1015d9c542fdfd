"""A server on a socket of its own for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .control_helpers import Workshop, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from transship.control.server.serving import Server


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    """Where nobody listens yet."""
    return tmp_path / "qmp"


@pytest.fixture
async def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
async def server(socket_path: Path, workshop: Workshop) -> AsyncIterator[Server]:
    async with serving(f"unix:{socket_path}", workshop) as server:
        yield server


@pytest.fixture
async def path(server: Server, socket_path: Path) -> Path:
    """Where the server of the workshop listens."""
    return socket_path
