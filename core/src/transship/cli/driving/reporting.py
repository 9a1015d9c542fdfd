"""All that a peer says of its guest and its migration, in one report. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from transship.cli.driving.ends import guest_facts, limits_facts, statistics
from transship.cli.driving.peer import reach
from transship.cli.exits import ExitCode
from transship.errors import StalledError
from transship.units import counted, format_rate, format_size, format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from transship.cli.console import Console
    from transship.cli.driving.peer import Limits, MigrationInfo
    from transship.control.address import QmpAddress


_PATIENCE_S: Final = 60.0
"""For the whole report, whatever the peer says meanwhile. A QEMU whose main loop is blocked answers
late."""


async def report_on(address: QmpAddress, console: Console) -> int:
    """Ask a peer and print what it says. Returns the exit code.

    Raises:
        MigrationError: It cannot be reached, or does not answer.
    """
    with trio.move_on_after(_PATIENCE_S) as patience:
        async with reach(address) as peer:
            guest = await peer.status()
            info = await peer.migration()
            limits = await peer.limits()
            capabilities = [name for name, is_on in (await peer.capabilities()).items() if is_on]
            version = peer.version
    if patience.cancelled_caught:
        raise StalledError(f"{address} did not answer all questions within {_PATIENCE_S:g} s")
    addresses = [_uri(one) for one in info.socket_address]
    facts: dict[str, Any] = {
        "status": info.status,
        "guest": guest_facts(guest),
        "statistics": statistics(info),
        "limits": limits_facts(limits),
        "capabilities": capabilities,
        "error": info.error_desc,
        "blocked_reasons": info.blocked_reasons,
        "listening": addresses,
        "peer": {"address": str(address), "version": version or None},
    }
    rows = [
        ("peer", f"{address}, {version}" if version else str(address)),
        ("guest", guest.status),
        *_rows(info, limits),
        ("capabilities", ", ".join(capabilities) or "none"),
        *(("listening", one) for one in addresses),
    ]
    console.result(facts, "\n".join(f"{name:<14} {text}" for name, text in rows))
    return ExitCode.DONE


def _rows(info: MigrationInfo, limits: Limits) -> Iterator[tuple[str, str]]:
    yield "migration", info.status
    if info.error_desc:
        yield "error", info.error_desc
    for reason in info.blocked_reasons:
        yield "blocked", reason
    if info.total_time is not None:
        yield "total time", format_time(info.total_time / 1000)
    if info.downtime is not None:
        yield "downtime", format_time(info.downtime / 1000)
    if (received := info.received) is not None:
        size = format_size(received.transferred)
        yield "received", f"{size} for {format_size(received.total)} of memory"
    if (ram := info.ram) is not None:
        passes = counted(ram.dirty_sync_count, "pass", "passes")
        yield "moved", f"{format_size(ram.transferred)}, {passes}"
        yield "left", f"{format_size(ram.remaining)} of {format_size(ram.total)}"
        yield "send rate", format_rate(ram.mbps * 1e6 / 8)
        yield "dirty rate", format_rate(ram.dirty_pages_rate * ram.page_size)
    if info.cpu_throttle_percentage:
        yield "slowed by", f"{info.cpu_throttle_percentage} %"
    cap = limits.cap_bytes_per_s
    yield "cap", "none" if cap is None else format_rate(cap)
    yield "downtime limit", format_time(limits.downtime_limit_s)


def _uri(address: Mapping[str, Any]) -> str:
    """A ``SocketAddress`` as a source writes it."""
    match address:
        case {"type": "inet", "host": host, "port": port}:
            return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"
        case {"type": "unix", "path": path}:
            return f"unix:{path}"
        case _:
            return ", ".join(f"{name} {value}" for name, value in address.items())
