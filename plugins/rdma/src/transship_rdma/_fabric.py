"""libfabric as this plugin uses it: which providers there are, and an endpoint with one peer.

This file knows neither messages nor trio. Opening may take a tenth of a second and belongs in a
worker thread; nothing else here waits.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from transship.errors import ChannelError, ConnectError, PluginError
from transship_rdma._signals import handlers_kept

# How often, in microseconds, ofi_rxm looks after connections. With its own 10 ms an endpoint that
# is closed right after somebody has come leaves that connection open for ever.
os.environ.setdefault("FI_OFI_RXM_CM_PROGRESS_INTERVAL", "100")

# How many buffers of 16 KiB ofi_rxm receives into for each connection, beside those of our own
# endpoint. Its own 128, touched at every connection, take 100 MiB and a third of a short migration.
os.environ.setdefault("FI_OFI_RXM_MSG_RX_SIZE", "16")

try:
    with handlers_kept():
        from transship_rdma._native import ffi, lib
except ImportError as missing:
    raise PluginError(
        f"RDMA cannot be used: {missing}",
        distribution="transship-rdma",
        hint="install libfabric (Debian: libfabric1)",
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFERRED: Final = ("verbs;ofi_rxm", "tcp;ofi_rxm")
"""Hardware first, then the software provider that is tested most. Others follow in libfabric's
order."""

LONGEST_NAME_BYTES: Final = 255
"""Most that the address of an endpoint may take; those of hosts take 16 or 28."""

MOST_PROVIDERS: Final = 16

_EASILY_STUCK: Final = ("sockets",)
"""These leave the start of a header with the kernel until the rest has come. Where that fills the
kernel's buffer the rest cannot come: TCP's window stays closed for ever. (Seen with libfabric 1.17:
24 bytes are peeked at, again and again.)"""

_TRY_AGAIN: Final = -11
_NAMES_ROOM: Final = 4096
_EVENTS_AT_A_TIME: Final = 64


class Event(NamedTuple):
    """What came of an operation on a slot.

    Args:
        slot: Which one; it is free again.
        received_bytes: How long the message in it is; None if the slot was sent from.
    """

    slot: int
    received_bytes: int | None


class Region(NamedTuple):
    """Registered memory.

    Args:
        number: What this side calls it.
        key: What the peer must show.
        address: How the peer names the first byte.
    """

    number: int
    key: int
    address: int


class Write(NamedTuple):
    """Some bytes to write to the peer.

    Args:
        from_: Their address here.
        length: How many.
        to: Their address there, counted as :attr:`Region.address` is.
        key: That of the region there.
        region: Number of the region here; -1 if there need not be one.
    """

    from_: int
    length: int
    to: int
    key: int
    region: int


def providers_at(host: str) -> list[str]:
    """The providers with endpoints on the interface that has an IP address, the best first."""
    names = ffi.new("char[]", _NAMES_ROOM)
    if lib.transship_providers(host.encode(), names, _NAMES_ROOM):
        return []
    found = dict.fromkeys(ffi.string(names).decode("ascii", "replace").split())
    best = [name for name in PREFERRED if name in found]
    return [*best, *(name for name in found if name not in best)][:MOST_PROVIDERS]


@final
class Endpoint:
    """An endpoint and the slots of its messages, of which the first half receives.

    Args:
        provider: The name of the provider.
        host: IP address of the interface.
        slot_count: How many slots; even.
        slot_bytes: How much each holds.
        write_count: Most remote writes at a time; 0 if there are to be none.

    Attributes:
        is_easily_stuck: Whether no more may be on its way than TCP's smallest window takes; a
            write of any length counts as more, so it must be alone.

    Raises:
        ConnectError: The provider has no such endpoint.
    """

    def __init__(
        self, provider: str, host: str, slot_count: int, slot_bytes: int, write_count: int = 0
    ) -> None:
        self.slot_count = slot_count
        self.slot_bytes = slot_bytes
        self.is_easily_stuck = provider in _EASILY_STUCK
        self._slots = ffi.new("uint8_t[]", slot_count * slot_bytes)
        self.memory = memoryview(ffi.buffer(self._slots))
        self._events = ffi.new("transship_event[]", _EVENTS_AT_A_TIME)
        self._written = ffi.new("uint32_t *")
        self._views: list[Any] = []
        opened = ffi.new("transship_endpoint **")
        code = lib.transship_open(
            provider.encode(),
            host.encode(),
            self._slots,
            slot_count,
            slot_bytes,
            write_count,
            opened,
        )
        if code:
            raise ConnectError(
                f"libfabric opens no {provider} endpoint at {host}: {_explain(code)}"
            )
        self._endpoint = ffi.gc(opened[0], lib.transship_close)
        self.is_open = True
        try:
            self.name = self._own_name()
            self.descriptor = self._checked(lib.transship_descriptor(self._endpoint))
            self.needs_local_regions = bool(lib.transship_needs_local_regions(self._endpoint))
        except BaseException:
            self.close()
            raise

    def _own_name(self) -> bytes:
        room = ffi.new("uint8_t[]", LONGEST_NAME_BYTES)
        length = self._checked(lib.transship_name(self._endpoint, room, LONGEST_NAME_BYTES))
        return bytes(ffi.buffer(room, length))

    def close(self) -> None:
        """Give up everything but the contents of the slots; idempotent.

        Then nothing reads or writes any memory that was registered, and all views are released.
        """
        if self.is_open:
            self.is_open = False
            ffi.release(self._endpoint)
            for view in self._views:
                ffi.release(view)
            self._views.clear()

    def connect(self, name: bytes) -> None:
        """Say who the peer is.

        Raises:
            ChannelError: That is no endpoint's name.
        """
        self._checked(lib.transship_connect(self._endpoint, name, len(name)))

    # Messages

    def receive(self, slot: int) -> bool:
        """Let a message come to a slot; False if that must be tried again after :meth:`poll`."""
        return self._did(lib.transship_receive(self._endpoint, slot))

    def send(self, slot: int, length: int) -> bool:
        """Send the start of a slot; False if that must be tried again after :meth:`poll`."""
        return self._did(lib.transship_send(self._endpoint, slot, length))

    def poll(self) -> tuple[list[Event], int]:
        """Make progress.

        Returns:
            What became of messages, and how many writes are through.

        Raises:
            ChannelError: An operation failed.
        """
        count = self._checked(
            lib.transship_poll(self._endpoint, self._events, _EVENTS_AT_A_TIME, self._written)
        )
        events = [
            Event(event.slot, event.length if event.kind == lib.TRANSSHIP_RECEIVED else None)
            for event in self._events[0:count]
        ]
        return events, self._written[0]

    def may_wait(self) -> bool:
        """Whether :attr:`descriptor` may be waited for now; if not, :meth:`poll` first."""
        return bool(self._checked(lib.transship_may_wait(self._endpoint)))

    # Memory

    def address_of(self, memory: memoryview, *, writable: bool) -> int:
        """Borrow memory until the endpoint is closed; returns its address."""
        view = ffi.from_buffer("uint8_t[]", memory, writable)
        self._views.append(view)
        return int(ffi.cast("uintptr_t", view))

    def register(self, address: int, length: int, *, is_target: bool) -> Region:
        """Register memory that was borrowed: to be written to by the peer, or from here.

        Raises:
            ChannelError: It cannot be registered.
        """
        made = ffi.new("transship_region *")
        memory = ffi.cast("uint8_t *", address)
        code = lib.transship_register(
            self._endpoint, memory, length, is_target, secrets.randbits(64), made
        )
        if code:
            raise ChannelError(
                f"{length} bytes of guest memory cannot be registered: {_explain(code)}",
                hint="the limit of locked memory may be too low (ulimit -l)",
            )
        return Region(made.index, made.key, made.address)

    def begin_writes(self, writes: Sequence[Write]) -> int:
        """Begin as many writes as there is room for; returns how many."""
        return self._checked(lib.transship_begin_writes(self._endpoint, writes, len(writes)))

    # The one place where libfabric's numbers become ours

    def _did(self, code: int) -> bool:
        return code != _TRY_AGAIN and self._checked(code) == 0

    def _checked(self, code: int) -> int:
        if code < 0:
            raise ChannelError(f"RDMA failed: {_explain(code)}")
        return code


def _explain(code: int) -> str:
    text: bytes = ffi.string(lib.transship_explain(code))
    return text.decode("ascii", "replace")
