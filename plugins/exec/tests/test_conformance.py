"""Commands do what every transport must do, as far as ``cat`` can."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from transship.abc import Address
from transship.testing.pytest_plugin import TransportConformance, TransportPlugin
from transship_exec import plugin as exec_plugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from transship.abc import Channel
    from transship.testing.checking import MakePair


class TestExec(TransportConformance):
    @pytest.fixture
    def plugin(self) -> TransportPlugin:
        return exec_plugin

    @pytest.fixture
    def incoming_uri(self) -> str:
        return "exec:cat"

    @pytest.fixture
    def make_pair(self, tmp_path: Path) -> MakePair:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)

        @asynccontextmanager
        async def make() -> AsyncIterator[tuple[Channel, Channel]]:
            """A writer and a reader; one byte begins to use the channel, as a listener wants it."""
            outgoing = exec_plugin.start_outgoing(Address("exec", f"cat > {fifo}"), {})
            incoming = exec_plugin.start_incoming(Address("exec", f"cat {fifo}"), {})
            async with outgoing as source, incoming as listener:
                await source.send_segments((b"!",))
                destination = await listener.accept()
                await destination.receive_into(memoryview(bytearray(1)))
                try:
                    yield source, destination
                finally:
                    await destination.aclose()

        return make
