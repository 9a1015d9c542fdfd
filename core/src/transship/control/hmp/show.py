"""What ``info`` shows: replies of QMP as lines, with QEMU's labels, in QEMU's order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.control.commands.addresses import InetAddress
from transship.control.commands.parameters import PARAMETERS
from transship.hosting.runstate import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transship.abc.settings import Parameters
    from transship.control.commands.capabilities import CapabilityStatus
    from transship.control.commands.query_migrate import MigrationInfo, RamInfo, XbzrleCacheInfo

_STREAM: Final = (
    "globals:",
    "store-global-state: on",
    "only-migratable: off",
    "send-configuration: on",
    "send-section-footer: on",
    "send-switchover-start: off",
)
"""Properties of every stream of ours that QEMU lets one change."""

_UNITS: Final = {"ms": " ms", "bytes": " bytes", "bytes/s": " bytes/second"}


def status(run_state: RunState) -> str:
    """``info status``."""
    if run_state is RunState.RUNNING:
        return "VM status: running"
    why = "" if run_state is RunState.PAUSED else f" ({run_state.value})"
    return f"VM status: paused{why}"


def capabilities(states: Sequence[CapabilityStatus]) -> Iterator[str]:
    """``info migrate_capabilities``."""
    for one in states:
        yield f"{one.capability.value}: {_on(one.state)}"


def parameters(present: Parameters) -> Iterator[str]:
    """``info migrate_parameters``."""
    for name, parameter in PARAMETERS.items():
        value = parameter.read(present)
        shown = _on(value) if isinstance(value, bool) else str(value)
        yield f"{name}: {shown}{_UNITS.get(parameter.unit, '')}"


def migration(info: MigrationInfo) -> Iterator[str]:
    """``info migrate``."""
    yield from _STREAM
    if info.status is not None:
        reason = f" ({info.error_desc})" if info.error_desc else ""
        yield f"Migration status: {info.status.value}{reason}"
        yield f"total time: {info.total_time or 0} ms"
    if info.expected_downtime is not None:
        yield f"expected downtime: {info.expected_downtime} ms"
    if info.downtime is not None:
        yield f"downtime: {info.downtime} ms"
    if info.setup_time is not None:
        yield f"setup: {info.setup_time} ms"
    if info.ram is not None:
        yield from _ram(info.ram)
    if info.disk is not None:
        yield f"transferred disk: {_kbytes(info.disk.transferred)}"
        yield f"remaining disk: {_kbytes(info.disk.remaining)}"
        yield f"total disk: {_kbytes(info.disk.total)}"
    if info.xbzrle_cache is not None:
        yield from _xbzrle(info.xbzrle_cache)
    if info.cpu_throttle_percentage is not None:
        yield f"cpu throttle percentage: {info.cpu_throttle_percentage}"
    if info.socket_address:
        yield "socket address: ["
        for address in info.socket_address:
            if isinstance(address, InetAddress):
                yield f"\ttcp:{address.host}:{address.port}"
            else:
                yield f"\tunix:{getattr(address, 'path', '')}"
        yield "]"
    for reason in info.blocked_reasons or ():
        yield f"blocked: {reason}"


def _ram(ram: RamInfo) -> Iterator[str]:
    yield f"transferred ram: {_kbytes(ram.transferred)}"
    yield f"throughput: {ram.mbps:.2f} mbps"
    yield f"remaining ram: {_kbytes(ram.remaining)}"
    yield f"total ram: {_kbytes(ram.total)}"
    yield f"duplicate: {ram.duplicate} pages"
    yield f"skipped: {ram.skipped} pages"
    yield f"normal: {ram.normal} pages"
    yield f"normal bytes: {_kbytes(ram.normal_bytes)}"
    yield f"dirty sync count: {ram.dirty_sync_count}"
    yield f"page size: {_kbytes(ram.page_size)}"
    yield f"multifd bytes: {_kbytes(ram.multifd_bytes)}"
    yield f"pages-per-second: {ram.pages_per_second}"
    if ram.dirty_pages_rate:
        yield f"dirty pages rate: {ram.dirty_pages_rate} pages"
    if ram.precopy_bytes:
        yield f"precopy ram: {_kbytes(ram.precopy_bytes)}"
    if ram.downtime_bytes:
        yield f"downtime ram: {_kbytes(ram.downtime_bytes)}"


def _xbzrle(cache: XbzrleCacheInfo) -> Iterator[str]:
    yield f"cache size: {cache.cache_size} bytes"
    yield f"xbzrle transferred: {_kbytes(cache.bytes)}"
    yield f"xbzrle pages: {cache.pages} pages"
    yield f"xbzrle cache miss: {cache.cache_miss} pages"
    yield f"xbzrle cache miss rate: {cache.cache_miss_rate:.2f}"
    yield f"xbzrle encoding rate: {cache.encoding_rate:.2f}"
    yield f"xbzrle overflow: {cache.overflow}"


def _kbytes(size: int) -> str:
    return f"{size >> 10} kbytes"


def _on(is_on: bool) -> str:
    return "on" if is_on else "off"
