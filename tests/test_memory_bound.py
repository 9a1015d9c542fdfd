"""What a migration takes above guest memory: so much for both sides, however large the guest is."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Final

import pytest
import trio
from support.between_us import Passage

from transship.abc import Parameters
from transship.guests.synthetic import SyntheticGuest
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("transship_ram")
pytest.importorskip("transship_unix")

RAM_BYTES: Final = 512 * MIB
BYTES_A_PAGE: Final = 6
"""Both sides and the dirty log, each a mark or two."""

WAYS: Final = {
    "stream": (frozenset[str](), "none", 12 * MIB),
    "changes": (frozenset({"xbzrle"}), "none", 16 * MIB),
    "extra channels": (frozenset({"multifd"}), "none", 24 * MIB),
    "compressed": (frozenset({"multifd"}), "zstd", 32 * MIB),
}


@pytest.mark.parametrize("way", WAYS)
async def test_memory_above_that_of_the_guest_is_bounded(way: str, place: Path) -> None:
    capabilities, method, bound_bytes = WAYS[way]
    if method != "none":
        pytest.importorskip(f"transship_{method}")
    parameters = Parameters(
        max_bandwidth_bytes_per_s=0, multifd_compression=method, xbzrle_cache_bytes=MIB
    )
    here = SyntheticGuest(RAM_BYTES, dirty_rate_bytes_per_s=32 * MIB, working_set_bytes=8 * MIB)
    there = SyntheticGuest(RAM_BYTES, fill=False)
    passage = Passage(here, there, f"unix:{place / 'in'}", parameters, capabilities=capabilities)
    tracemalloc.start()
    try:
        with trio.fail_after(60):
            await passage.run()
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"{peak_bytes / MIB:.1f} MiB")
    assert not passage.errors
    assert await passage.verdict() == "there"
    assert peak_bytes < bound_bytes + BYTES_A_PAGE * RAM_BYTES // 4096
