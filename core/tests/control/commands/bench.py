"""Two hosts in one process, joined by a transport without sockets, and the commands given to them.

The transport is installed for the test under the schemes of real ones, so that addresses are what
an operator would write; no other plugin is loaded, whatever is installed.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from transship.abc.channel import Channel, ReturnPath
from transship.abc.section import LiveCounters, Pending, Section, Segments
from transship.abc.settings import Parameters, Settings
from transship.abc.transport import Address, Listener
from transship.control.registry import CommandTable
from transship.control.server import protocol
from transship.control.server.dispatcher import Dispatcher
from transship.control.server.jsonstream import Message
from transship.control.service import all_commands
from transship.control.session import Session
from transship.engine.notifiers import Notice, StatusReached
from transship.engine.status import MigrationStatus
from transship.errors import BlockedError, ConnectError
from transship.hosting.host import Host, open_host
from transship.plugin.markers import hookimpl
from transship.plugin.selection import VARIABLE
from transship.testing import ChannelWrapper, FakeGuest, memory_channel_pair
from transship.wire.encoder import be32

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from transship.abc.disk import Disk
    from transship.abc.guest import Blocker, Device
    from transship.abc.transport import Options
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader

Json = dict[str, Any]

PAGE: Final = 4096
RAM: Final = 16 * PAGE
ADDRESS: Final = "unix:/run/there.sock"
BLIND: Final = "exec:/bin/true"
"""An address whose channel has no return path."""
CAP: Final = 10 * 8 * PAGE
"""Eight pages a slice: a migration that is held does next to nothing."""
LEFT: Final = 1 << 40
"""What a held guest has still to send."""
UNDER_WAY: Final = ("active", "pre-switchover", "device", "cancelling")
TABLE: Final = CommandTable.joined(protocol.TABLE, all_commands())

SCHEMES: Final = ("tcp", "unix", "fd", "file", "rdma", "vsock", "exec")
_DISTRIBUTION: Final = "transship-wires"


# The transport


class Wires:
    """What is joined to what in this process.

    Attributes:
        asked: The addresses that the transport was given, in order.
        options: What it was told beside each.
        waiting: Who listens, by address.
        may_connect: Replaced to keep sources in ``setup``.
        may_leave: Replaced to keep destinations from stopping to listen, when all is over else.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.options: list[Options] = []
        self.waiting: dict[str, trio.MemorySendChannel[Channel]] = {}
        self.may_connect = trio.Event()
        self.may_connect.set()
        self.may_leave = trio.Event()
        self.may_leave.set()


class _OneWay(ChannelWrapper):
    """A channel without a return path."""

    def capability(self, kind: type[Any]) -> Any:
        return None if kind is ReturnPath else super().capability(kind)


class _Ear(Listener):
    def __init__(self, uri: str, channels: trio.MemoryReceiveChannel[Channel]) -> None:
        self._uri = uri
        self._channels = channels

    @property
    def uri(self) -> str:
        return self._uri

    async def accept(self) -> Channel:
        return await self._channels.receive()


@hookimpl
def start_outgoing(address: Address, options: Options) -> Any:
    _check(address, options)
    return _connected(str(address))


@hookimpl
def start_incoming(address: Address, options: Options) -> Any:
    _check(address, options)
    return _listening(str(address))


def _check(address: Address, options: Options) -> None:
    if not (address.rest or options) or address.rest.endswith("malformed"):
        raise BlockedError(f"'{address}' is malformed")
    _wires[-1].asked.append(str(address))
    _wires[-1].options.append(options)


@asynccontextmanager
async def _connected(uri: str) -> AsyncIterator[Channel]:
    wires = _wires[-1]
    await wires.may_connect.wait()
    if uri not in wires.waiting:
        raise ConnectError(f"nobody listens at {uri}")
    ours, theirs = memory_channel_pair()
    wires.waiting[uri].send_nowait(_OneWay(theirs) if uri == BLIND else theirs)
    try:
        yield _OneWay(ours) if uri == BLIND else ours
    finally:
        await ours.aclose()


@asynccontextmanager
async def _listening(uri: str) -> AsyncIterator[Listener]:
    wires = _wires[-1]
    uri = uri.replace(":0", ":4444")
    if uri in wires.waiting:
        raise ConnectError(f"somebody else listens at {uri}")
    wires.waiting[uri], channels = trio.open_memory_channel[Channel](1)
    try:
        yield _Ear(uri, channels)
        await wires.may_leave.wait()
    finally:
        del wires.waiting[uri]


_wires: list[Wires] = []
"""Those of the test that runs; a plugin is a module, and has no other place for them."""


@contextmanager
def installed_wires() -> Iterator[Wires]:
    """The transport is installed, and nothing else is loaded, as long as the block lasts."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        information = Path(folder) / "transship_wires-1.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {_DISTRIBUTION}\nVersion: 1\n"
        )
        (information / "entry_points.txt").write_text(
            "[transship.transports]\n" + "".join(f"{one} = {__name__}\n" for one in SCHEMES)
        )
        patch.syspath_prepend(folder)
        patch.setenv(VARIABLE, _DISTRIBUTION)
        _wires.append(Wires())
        try:
            yield _wires[-1]
        finally:
            _wires.pop()


# The guest


class Machine(FakeGuest):
    """A guest that migrates when the test lets it, and can be kept in each of its methods.

    Attributes:
        is_held: Whether it dirties more than can be sent, so that it does not leave.
        figures: What its RAM section counts besides what it does.
        gates: What a method waits for, by its name.
        reasons: Why it must not be moved.
        stuck: Devices whose state cannot be moved.
        withheld: What it was slowed down by, each time.
        announced_s: When it announced itself.
        drives: Its disks.
    """

    def __init__(self) -> None:
        super().__init__({"ram": RAM}, is_running=False)
        self.is_held = False
        self.figures: dict[str, int] = {}
        self.gates: dict[str, trio.Event] = {}
        self.reasons: list[Blocker] = []
        self.stuck: list[Device] = []
        self.withheld: list[int] = []
        self.announced_s: list[float] = []
        self.drives: list[Disk] = []
        self.can_throttle = True

    def hold(self, method: str) -> trio.Event:
        """Keep the guest in a method from now on, until the event that is returned is set."""
        self.gates[method] = trio.Event()
        return self.gates[method]

    def sections(self) -> Sequence[Section]:
        return [_RAM(self), *(_Stuck(device.idstr) for device in self.stuck)]

    def devices(self) -> Sequence[Device]:
        return self.stuck

    def disks(self) -> Sequence[Disk]:
        return self.drives

    def blockers(self) -> Sequence[Blocker]:
        return self.reasons

    def throttle(self, percent: int) -> None:
        self.withheld.append(percent)

    def announce(self) -> None:
        self.announced_s.append(trio.current_time())

    async def pause(self) -> None:
        await self._pass("pause")
        await super().pause()

    async def resume(self) -> None:
        await self._pass("resume")
        await super().resume()

    async def prepare(self) -> None:
        await self._pass("prepare")
        await super().prepare()

    async def commit(self) -> None:
        await self._pass("commit")
        await super().commit()

    async def _pass(self, method: str) -> None:
        if method in self.gates:
            await self.gates[method].wait()


class _Stuck(Section):
    """What would carry a device, if that could be moved."""

    def __init__(self, idstr: str) -> None:
        self.idstr = idstr

    @hookimpl
    def complete(self) -> Segments:
        yield b""
        raise AssertionError(f"{self.idstr} cannot be moved")


class _RAM(Section):
    """Sends a page again and again while the guest is held; at the end, all of them."""

    idstr = "ram"
    is_live = True

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._block = machine.block("ram")
        self._syncs = 0
        self._pages = 0

    @hookimpl
    def begin(self) -> Segments:
        self._machine.log.start()
        self._syncs += 1
        yield be32(0)
        return True

    @hookimpl
    def iterate(self, budget_bytes: int) -> Segments:
        yield from self._send(1)
        return not self._machine.is_held

    @hookimpl
    def pending(self, exact: bool) -> Pending:
        self._syncs += exact
        return Pending(must_precopy=LEFT if self._machine.is_held else 0)

    @hookimpl
    def complete(self) -> Segments:
        self._syncs += 1
        yield from self._send(RAM // PAGE)
        self._machine.log.stop()
        return True

    @hookimpl
    def cancel(self) -> None:
        self._machine.log.stop()

    def _send(self, pages: int) -> Iterator[bytes]:
        self._pages += pages
        yield be32(pages)
        yield bytes(self._block.view[: pages * PAGE])

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        pages = yield from reader.be32()
        self._pages += pages
        if pages:
            yield from reader.fill(self._block.view[: pages * PAGE])

    def live_counters(self) -> LiveCounters:
        return LiveCounters(
            sent_bytes=self._pages * PAGE, handled_pages=self._pages, dirty_syncs=self._syncs
        )

    def statistics(self) -> dict[str, int]:
        counted = {
            "normal": self._pages,
            "normal_bytes": self._pages * PAGE,
            "page_size": PAGE,
            "total": RAM,
        }
        return counted | self._machine.figures


# The operator


class Refused(Exception):
    """A command was answered with an error.

    Attributes:
        error_class: Its class.
        text: Its sentence.
    """

    def __init__(self, error_class: str, text: str) -> None:
        super().__init__(error_class, text)
        self.error_class = error_class
        self.text = text


class Side:
    """A host, its guest, and an operator of it.

    Attributes:
        notices: All that the host has told so far.
        session: What is remembered of the operator.
    """

    def __init__(self, guest: Machine, host: Host) -> None:
        self.guest = guest
        self.host = host
        self.notices: list[Notice] = []
        self._changed = trio.Event()
        self.session = Session("an operator", is_negotiated=True)
        self._dispatcher = Dispatcher(host, self.session, TABLE)
        host.notifiers.add(self._note, "the test")

    def _note(self, notice: Notice) -> None:
        self.notices.append(notice)
        self._changed.set()
        self._changed = trio.Event()

    async def reached(self, status: str) -> None:
        """Wait until a migration has reached a status, or go on if one has already."""
        with trio.fail_after(5):
            while StatusReached(MigrationStatus(status)) not in self.notices:
                await self._changed.wait()

    async def execute(self, command: str, /, **arguments: object) -> Any:
        """Give a command; underscores in names of arguments become hyphens.

        Raises:
            Refused: It is answered with an error.
        """
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        message = Message({"execute": command, "arguments": named})
        answer = await self._dispatcher.answer(message, 1)
        reply = json.loads(answer)
        if "error" in reply:
            raise Refused(reply["error"]["class"], reply["error"]["desc"])
        return reply["return"]

    async def look(self) -> Json:
        """All that an operator can ask for."""
        return {
            command: await self.execute(command)
            for command in (
                "query-migrate",
                "query-migrate-capabilities",
                "query-migrate-parameters",
                "query-status",
            )
        }

    async def refusal(self, command: str, /, **arguments: object) -> str:
        """Give a command that is refused, with the class ``GenericError`` and no effect at all.

        Returns:
            What the operator is told.
        """
        before = await self.look()
        driven_before = self._driven()
        with pytest.raises(Refused) as caught:
            await self.execute(command, **arguments)
        assert caught.value.error_class == "GenericError"
        assert caught.value.text
        assert not caught.value.text.endswith(".")
        after = await self.look()
        if before["query-migrate"].get("status") in UNDER_WAY:
            for one in (before, after):  # times go on
                one["query-migrate"] = one["query-migrate"]["status"]
        assert after == before
        assert self._driven() == driven_before
        return caught.value.text

    def _driven(self) -> list[str]:
        """What was done to the guest, besides forgetting what was never loaded."""
        return [method for method in self.guest.history if method != "discard"]

    async def switch(self, **capabilities: bool) -> None:
        """Switch capabilities on or off."""
        await self.execute(
            "migrate-set-capabilities",
            capabilities=[
                {"capability": name.replace("_", "-"), "state": is_on}
                for name, is_on in capabilities.items()
            ],
        )

    async def info(self) -> Json:
        """What ``query-migrate`` says."""
        info: Json = await self.execute("query-migrate")
        return info

    async def until(self, condition: Callable[[Json], bool]) -> Json:
        """Ask until ``query-migrate`` says what is waited for; returns all that it says."""
        with trio.fail_after(5):
            while True:
                info = await self.info()
                if condition(info):
                    return info
                await trio.sleep(0.01)

    async def run_state(self) -> str:
        """What ``query-status`` says."""
        said: Json = await self.execute("query-status")
        assert said == {"status": said["status"], "running": said["status"] == "running"}
        assert self.guest.is_running == said["running"]
        return str(said["status"])


@dataclass
class Bench:
    """A guest that runs, and a place that waits for it.

    Attributes:
        here: The source.
        there: The destination; where the guest comes from, is told over QMP.
        wires: What joins them.
    """

    here: Side
    there: Side
    wires: Wires = field(default_factory=Wires)

    async def begin(self, uri: str = ADDRESS, *, held: bool = True) -> None:
        """Let the guest leave for a destination that waits for it; returns while it is sent.

        Args:
            uri: Where to.
            held: Whether it dirties its memory too fast; otherwise it is soon gone.
        """
        self.here.guest.is_held = held
        await self.there.execute("migrate-incoming", uri=uri)
        await self.here.execute("migrate", uri=uri)
        await self.here.reached("active")
        await self.there.reached("active")

    async def finish(self) -> None:
        """Let the guest leave, and wait until it has arrived."""
        self.here.guest.is_held = False
        await self.here.reached("completed")
        await self.there.reached("completed")
        assert self.there.guest.contents() == self.here.guest.contents()

    async def move(self, uri: str = ADDRESS) -> None:
        """Move the guest."""
        await self.begin(uri, held=False)
        await self.finish()


@asynccontextmanager
async def open_side(
    *, awaits_migration: bool = False, autostart: bool = True
) -> AsyncIterator[Side]:
    """A host, whose guest runs unless it is to arrive or not to be started."""
    guest = Machine()
    settings = Settings(parameters=Parameters(max_bandwidth_bytes_per_s=CAP))
    async with open_host(
        guest, settings, awaits_migration=awaits_migration, autostart=autostart
    ) as host:
        side = Side(guest, host)
        if not awaits_migration and autostart:
            for page in range(RAM // PAGE):
                guest.block("ram").view[page * PAGE : (page + 1) * PAGE] = bytes([page + 1]) * PAGE
            await host.cont()
            guest.history.clear()
            side.notices.clear()
        yield side
        for gate in guest.gates.values():
            gate.set()


@asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    """Two hosts."""
    with installed_wires() as wires:
        async with AsyncExitStack() as stack:
            here = await stack.enter_async_context(open_side())
            there = await stack.enter_async_context(open_side(awaits_migration=True))
            yield Bench(here, there, wires)
