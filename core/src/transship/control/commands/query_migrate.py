"""``query-migrate``: the engine's figures, in the operator's words and units."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transship.abc.settings import Capability
from transship.control.commands.addresses import SocketAddress, socket_address
from transship.control.qapi.declaring import Object, UInt64
from transship.control.registry import CommandTable
from transship.engine.incoming import IncomingMigration
from transship.engine.status import MigrationStatus as EngineStatus
from transship.errors import CancelledError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transship.control.registry import Context
    from transship.engine.attempt import Attempt
    from transship.engine.migration import Migration

TABLE = CommandTable()


class MigrationStatus(enum.Enum):
    """Where a migration is, in QEMU's words and order; some of them are QEMU's alone so far."""

    NONE = "none"
    SETUP = "setup"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    ACTIVE = "active"
    POSTCOPY_ACTIVE = "postcopy-active"
    POSTCOPY_PAUSED = "postcopy-paused"
    POSTCOPY_RECOVER_SETUP = "postcopy-recover-setup"
    POSTCOPY_RECOVER = "postcopy-recover"
    COMPLETED = "completed"
    FAILED = "failed"
    COLO = "colo"
    PRE_SWITCHOVER = "pre-switchover"
    DEVICE = "device"
    WAIT_UNPLUG = "wait-unplug"


class RamInfo(Object):
    """Memory, on the source.

    ``transferred`` is all bytes of the stream so far; ``remaining``, what is dirty, 0 at the end;
    ``total``, the RAM blocks; ``duplicate`` pages were sent as zero, ``normal`` in full;
    ``dirty-pages-rate`` is that of the last period of at least a second between two
    synchronisations, 0 at the end; ``mbps``, 10^6 bits a second in the last slice of 100 ms, at the
    end on average without the setup; ``precopy-bytes`` and ``downtime-bytes``, page records sent
    while the guest ran, and while it stood still; ``multifd-bytes``, all that went over the
    channels of multifd. ``skipped``, ``postcopy-*`` and ``dirty-sync-missed-zero-copy`` are 0.
    ``shared-bytes``, which QEMU does not have and which is there only where it is not 0, is memory
    that was handed over within the host, and not sent.
    """

    transferred: int
    remaining: int
    total: int
    duplicate: int
    skipped: int
    normal: int
    normal_bytes: int
    dirty_pages_rate: int
    mbps: float
    dirty_sync_count: int
    postcopy_requests: int
    page_size: int
    multifd_bytes: UInt64
    pages_per_second: UInt64
    precopy_bytes: UInt64
    downtime_bytes: UInt64
    postcopy_bytes: UInt64
    dirty_sync_missed_zero_copy: UInt64
    shared_bytes: UInt64 | None = None


class DiskInfo(Object):
    """Disks, on the source, while they are copied.

    ``transferred``, what was sent of them, a part that was sent twice twice; ``remaining``, what is
    known to have to be sent; ``total``, their sizes. QEMU up to 9.0 has it.
    """

    transferred: int
    remaining: int
    total: int


class XbzrleCacheInfo(Object):
    """Pages sent as differences.

    ``bytes`` of records without their words; ``pages`` found in the cache; ``cache-miss`` not
    found; ``overflow``, found and changed too much. The rates are those of the last period between
    two synchronisations: of the pages handled, the share not found; and how many bytes of pages one
    byte of difference stood for.
    """

    cache_size: UInt64
    bytes: int
    pages: int
    cache_miss: int
    cache_miss_rate: float
    encoding_rate: float
    overflow: int


class ReceivedInfo(Object):
    """Memory, on the destination; QEMU has no such thing.

    ``transferred`` is all bytes of the stream so far; ``total``, the RAM blocks; then pages that
    came in full, as zero and as differences, again for each time that they came.
    """

    transferred: int
    total: int
    normal: int
    duplicate: int
    xbzrle: int
    page_size: int


class MigrationInfo(Object):
    """The last migration away from here, or else to here.

    ``dirty-log``, which QEMU does not have, is who notes what the guest writes, on the source: the
    guest itself (``marked``), the kernel (``write-protect``), or nobody, so that all of its memory
    is compared (``comparing``); ``none`` for a guest that cannot write, or a name that its author
    chose. It is left out where all memory is handed over instead of being sent.
    """

    status: MigrationStatus | None = None
    ram: RamInfo | None = None
    disk: DiskInfo | None = None
    received: ReceivedInfo | None = None
    xbzrle_cache: XbzrleCacheInfo | None = None
    dirty_log: str | None = None
    total_time: int | None = None
    expected_downtime: int | None = None
    downtime: int | None = None
    setup_time: int | None = None
    cpu_throttle_percentage: int | None = None
    error_desc: str | None = None
    blocked_reasons: list[str] | None = None
    socket_address: list[SocketAddress] | None = None


_WITH_FIGURES = frozenset(
    {
        EngineStatus.ACTIVE,
        EngineStatus.CANCELLING,
        EngineStatus.PRE_SWITCHOVER,
        EngineStatus.DEVICE,
        EngineStatus.COMPLETED,
    }
)


@TABLE.command("query-migrate")
async def query_migrate(context: Context) -> MigrationInfo:
    """What has become of the last migration, and the figures of one that is under way."""
    host = context.host
    info = MigrationInfo()
    if host.outgoing is not None:
        info = _of_source(host.outgoing)
    elif host.incoming is not None:
        info = _of_destination(host.incoming, host.incoming_options)
    info.blocked_reasons = host.blocked_reasons() or None
    return info


def shown_status(attempt: Attempt, status: EngineStatus) -> MigrationStatus:
    """A status that a migration has, as an operator is told.

    A destination has no ``device``: what QEMU calls ``active`` there lasts to the end.
    """
    if isinstance(attempt, IncomingMigration) and status is EngineStatus.DEVICE:
        return MigrationStatus.ACTIVE
    return MigrationStatus(status.value)


def _of_source(migration: Migration) -> MigrationInfo:
    status = shown_status(migration, migration.status)
    reason = _reason(migration)
    if migration.status not in _WITH_FIGURES:
        return MigrationInfo(status=status, error_desc=reason)
    statistics = migration.statistics
    is_over = migration.status is EngineStatus.COMPLETED
    return MigrationInfo(
        status=status,
        ram=_ram(migration),
        disk=None if is_over else _disk(migration),
        xbzrle_cache=_xbzrle(migration) if migration.settings.has(Capability.XBZRLE) else None,
        dirty_log=statistics.dirty_log,
        total_time=_ms(migration.elapsed_s),
        setup_time=_ms(statistics.setup_s or 0.0),
        expected_downtime=None if is_over else _ms(statistics.expected_downtime_s or 0.0),
        downtime=_ms(statistics.downtime_s or 0.0) if is_over else None,
        cpu_throttle_percentage=statistics.throttle_percent or None,
        error_desc=reason,
    )


def _of_destination(incoming: IncomingMigration, options: Mapping[str, object]) -> MigrationInfo:
    is_listening = incoming.address is not None and not incoming.is_over
    address = socket_address(incoming.address or "", options) if is_listening else None
    has_begun = incoming.status not in (EngineStatus.NONE, EngineStatus.SETUP)
    return MigrationInfo(
        status=shown_status(incoming, incoming.status),
        received=_received(incoming) if has_begun else None,
        total_time=_ms(incoming.elapsed_s) if has_begun else None,
        error_desc=_reason(incoming),
        socket_address=None if address is None else [address],
    )


def _ram(migration: Migration) -> RamInfo:
    statistics = migration.statistics
    ram = statistics.sections.get("ram", {})
    is_over = migration.status is EngineStatus.COMPLETED
    return RamInfo(
        transferred=statistics.transferred_bytes,
        remaining=0 if is_over else ram.get("remaining", 0),
        total=statistics.total_bytes,
        duplicate=ram.get("duplicate", 0),
        skipped=0,
        normal=ram.get("normal", 0),
        normal_bytes=ram.get("normal_bytes", 0),
        dirty_pages_rate=0 if is_over else int(statistics.period.dirtied_pages_per_s),
        mbps=_mbps(migration),
        dirty_sync_count=statistics.dirty_syncs,
        postcopy_requests=0,
        page_size=ram.get("page_size", 0),
        multifd_bytes=ram.get("multifd_bytes", 0),
        pages_per_second=int(statistics.pages_per_s),
        precopy_bytes=ram.get("transferred", 0) - statistics.downtime_bytes,
        downtime_bytes=statistics.downtime_bytes,
        postcopy_bytes=0,
        dirty_sync_missed_zero_copy=0,
        shared_bytes=ram.get("shared_bytes"),
    )


def _disk(migration: Migration) -> DiskInfo | None:
    block = migration.statistics.sections.get("block")
    if block is None:
        return None
    return DiskInfo(block["transferred"], block["remaining"], block["total"])


def _mbps(migration: Migration) -> float:
    statistics = migration.statistics
    if migration.status is not EngineStatus.COMPLETED:
        return statistics.bandwidth_bytes_per_s * 8 / 1e6
    sending_s = statistics.total_s - (statistics.setup_s or 0.0)
    return statistics.transferred_bytes * 8 / 1e6 / sending_s if sending_s > 0 else 0.0


def _xbzrle(migration: Migration) -> XbzrleCacheInfo:
    ram = migration.statistics.sections.get("ram", {})
    rates = _rates(migration)
    return XbzrleCacheInfo(
        cache_size=ram.get("xbzrle_cache_size", 0),
        bytes=ram.get("xbzrle_bytes", 0),
        pages=ram.get("xbzrle_pages", 0),
        cache_miss=ram.get("xbzrle_cache_miss", 0),
        cache_miss_rate=rates.cache_miss,
        encoding_rate=rates.encoding,
        overflow=ram.get("xbzrle_overflow", 0),
    )


@dataclass(frozen=True, slots=True)
class _Rates:
    cache_miss: float
    encoding: float


def _rates(migration: Migration) -> _Rates:
    period = migration.statistics.period
    handled = period.grown("ram", "handled_pages")
    encoded = period.grown("ram", "xbzrle_encoded_bytes")
    return _Rates(
        cache_miss=period.grown("ram", "xbzrle_cache_miss") / handled if handled else 0.0,
        encoding=period.grown("ram", "xbzrle_raw_bytes") / encoded if encoded else 0.0,
    )


def _received(incoming: IncomingMigration) -> ReceivedInfo:
    ram = incoming.statistics.sections.get("ram", {})
    return ReceivedInfo(
        transferred=incoming.statistics.transferred_bytes,
        total=ram.get("total", 0),
        normal=ram.get("normal", 0),
        duplicate=ram.get("duplicate", 0),
        xbzrle=ram.get("xbzrle", 0),
        page_size=ram.get("page_size", 0),
    )


def _reason(attempt: Attempt) -> str | None:
    if attempt.error is None or isinstance(attempt.error, CancelledError):
        return None
    return str(attempt.error)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
