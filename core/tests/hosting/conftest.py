"""Hosts whose plugins are one, in this process, and which run in one thread on a virtual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import memory_transport
import pytest
import trio
from memory_transport import Network

pytest.register_assert_rewrite("engine_pair")

from engine_pair import in_place  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what belongs into worker threads in place: a virtual clock does not wait for threads."""
    monkeypatch.setattr(trio.to_thread, "run_sync", in_place)


@pytest.fixture(autouse=True)
def network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Network:
    """What ``memory:`` addresses lead through; no plugin of this environment is used."""
    _install(tmp_path_factory.mktemp("site-packages"), monkeypatch)
    monkeypatch.setattr(memory_transport, "NETWORK", Network())
    return memory_transport.NETWORK


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = folder / "transship_memory-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: transship-memory\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[transship.transports]\nmemory = memory_transport\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("TRANSSHIP_PLUGINS", "memory")
