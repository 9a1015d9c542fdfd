"""Two hosts for each test of commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from transship.hosting.host import open_host

from .bench import Bench, Json, Machine, Side, open_bench, open_side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as bench:
        yield bench


@pytest.fixture
def here(bench: Bench) -> Side:
    """The source: a guest that runs."""
    return bench.here


@pytest.fixture
def there(bench: Bench) -> Side:
    """The destination: it waits for ``migrate-incoming``."""
    return bench.there


@pytest.fixture
async def prelaunch() -> AsyncIterator[Side]:
    """A guest that has not run yet."""
    async with open_side(autostart=False) as side:
        yield side


@pytest.fixture
async def fresh() -> AsyncIterator[Side]:
    """A host whose settings nobody has touched."""
    async with open_host(guest := Machine()) as host:
        yield Side(guest, host)


@pytest.fixture
async def schema(fresh: Side) -> dict[str, Json]:
    """What ``query-qmp-schema`` says, by name."""
    return {one["name"]: one for one in await fresh.execute("query-qmp-schema")}
