"""Commands of 2014, which scripts still give: the same settings under other names and units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.control.errors import generic
from transship.control.qapi.declaring import DEPRECATED, Object
from transship.control.registry import CommandTable

if TYPE_CHECKING:
    from transship.control.registry import Context

TABLE = CommandTable()

_SIZE_MAX: Final = (1 << 63) - 1
"""The largest number that the commands take; larger than any address space."""

_ADDRESS_SPACE: Final = 1 << 48
"""What a process can map on the machines that we run on."""

_TOP_NS: Final = (1 << 64) - 1


class Value(Object):
    """A number."""

    value: int


class Seconds(Object):
    """A time in seconds, with fractions."""

    value: float


@TABLE.command("migrate_set_speed", features=(DEPRECATED,))
async def migrate_set_speed(context: Context, arguments: Value) -> None:
    """Cap the bandwidth, in bytes per second; less than 0 is 0, which is no cap."""
    value = min(max(arguments.value, 0), _SIZE_MAX)
    context.host.set_parameters({"max_bandwidth_bytes_per_s": value})


@TABLE.command("migrate_set_downtime", features=(DEPRECATED,))
async def migrate_set_downtime(context: Context, arguments: Seconds) -> None:
    """Limit the downtime, in seconds; kept in whole nanoseconds of at most 64 bits."""
    nanoseconds = min(max(arguments.value * 1e9, 0.0), float(_TOP_NS))
    context.host.set_parameters({"downtime_limit_s": int(nanoseconds) / 1e9})


@TABLE.command("migrate-set-cache-size", features=(DEPRECATED,))
async def migrate_set_cache_size(context: Context, arguments: Value) -> None:
    """Set the size of the XBZRLE cache, in bytes; rounded down to a power of two."""
    guest = context.host.guest
    size = arguments.value
    if not 0 <= size <= _ADDRESS_SPACE:
        raise generic("invalid value of 'cache size': it does not fit the address space")
    if size > sum(block.used_length for block in guest.ram_blocks()):
        raise generic("invalid value of 'cache size': it is larger than the guest's RAM")
    if size < guest.page_size:
        raise generic(f"invalid value of 'cache size': a page has {guest.page_size} bytes")
    context.host.set_parameters({"xbzrle_cache_bytes": 1 << (size.bit_length() - 1)})


@TABLE.command("query-migrate-cache-size", features=(DEPRECATED,))
async def query_migrate_cache_size(context: Context) -> int:
    """The size of the XBZRLE cache, in bytes."""
    return context.host.settings.parameters.xbzrle_cache_bytes
