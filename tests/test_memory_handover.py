"""Memory that is handed over on one host: the guest is on exactly one side, whatever happens."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
import trio.lowlevel
from faults_support import Relay
from qemu_peer.boot import assert_consecutive
from qemu_peer.find import QemuBinary, qemu_binaries
from support.between_us import Passage
from support.passages import guest, listen, take, waiting_guest

from transship.abc import Device, Parameters
from transship.assembly import migrate
from transship.engine import adopting, lending
from transship.engine.source import Source
from transship.guests.stored import StoredGuest
from transship.guests.synthetic import SyntheticGuest
from transship.memory.ramblock import RAMBlock
from transship.wire import encoder
from transship.wire.constants import CommandType, ReturnType
from transship.wire.fields import VMState, uint16
from transship.wire.limits import OFFERED_BLOCKS
from transship.wire.offer import OfferedBlock, offer, wanted
from transship.wire.returnpath import ReturnMessage, adopted, pong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

pytest.importorskip("transship_ram")
pytest.importorskip("transship_unix")
pytest.importorskip("transship_tcp")

RAM_BYTES: Final = 48 << 20
PARAMETERS: Final = Parameters(max_bandwidth_bytes_per_s=0, stall_timeout_s=5)


class Handover(Passage):
    """A guest that writes, whose memory may be handed over."""

    def __init__(
        self,
        uri: str,
        *,
        capabilities: frozenset[str] = frozenset(),
        devices: tuple[Device, ...] = (),
        there_devices: tuple[Device, ...] = (),
        **there: Any,
    ) -> None:
        options: dict[str, Any] = {"dirty_rate_bytes_per_s": 64 << 20}
        options |= {"working_set_bytes": 8 << 20, "memory": "memfd", "devices": devices}
        super().__init__(
            SyntheticGuest(RAM_BYTES, **options),
            SyntheticGuest(RAM_BYTES, fill=False, devices=there_devices, **there),
            uri,
            PARAMETERS,
            capabilities=capabilities,
        )

    @property
    def shared_bytes(self) -> int:
        """How much was handed over."""
        return self.outgoing.statistics.sections["ram"].get("shared_bytes", 0)

    async def verdict(self) -> str:
        """Which side has the guest, once it has run on for a moment."""
        await trio.sleep(0.02)
        return await super().verdict()

    def disturb(self, other: SyntheticGuest) -> None:
        """Nothing of the other's memory is left in the guest: what is written there stays there."""
        for block in other.ram_blocks():
            block.view[:] = b"\xff" * len(block.view)

    def look_at_memory(self) -> None:
        """It can be moved on."""
        for block in (*self.here.ram_blocks(), *self.there.ram_blocks()):
            assert not block.is_lent
            assert self.is_unconfirmed or not block.is_borrowed


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Any:
    before = memfds()
    yield
    assert memfds() == before


def memfds() -> int:
    """How many descriptors of guest memory this process has."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "memfd:synthetic" in os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return count


@pytest.mark.parametrize("memory", ["anonymous", "memfd"])
async def test_memory_is_handed_over_and_not_sent(memory: str, place: Path) -> None:
    passage = Handover(f"unix:{place / 'in'}", memory=memory)
    await passage.run()
    assert not passage.errors
    total = passage.outgoing.statistics.total_bytes
    assert passage.shared_bytes == total > RAM_BYTES
    assert passage.outgoing.statistics.dirty_log is None
    assert passage.outgoing.statistics.transferred_bytes < 8192
    assert all(block.memfd is not None for block in passage.there.ram_blocks())
    assert await passage.verdict() == "there"


async def test_memory_is_handed_over_beside_extra_channels(place: Path) -> None:
    passage = Handover(f"unix:{place / 'in'}", capabilities=frozenset({"multifd"}))
    await passage.run()
    assert not passage.errors
    assert passage.shared_bytes > RAM_BYTES
    assert await passage.verdict() == "there"


async def test_guest_that_moved_in_moves_on(place: Path) -> None:
    """Twice, and then to where it is copied."""
    guest = None
    shared = []
    for uri in (f"unix:{place / '0'}", f"unix:{place / '1'}", "tcp:127.0.0.1:0"):
        passage = Handover(uri)
        if guest is not None:
            passage.here.close()
            passage.here = guest
        await passage.run()
        assert not passage.errors
        shared.append(passage.shared_bytes > 0)
        passage.here.close()
        guest = passage.there
    assert guest is not None
    await guest.pause()
    assert (await trio.to_thread.run_sync(guest.verify)).ok
    guest.close()
    assert shared == [True, True, False]


async def test_over_tcp_memory_is_copied() -> None:
    passage = Handover("tcp:127.0.0.1:0")
    await passage.run()
    assert passage.shared_bytes == 0
    assert await passage.verdict() == "there"


async def test_to_a_process_of_another_user_memory_is_copied(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    passage = Handover(f"unix:{place / 'in'}")
    await passage.run()
    assert passage.shared_bytes == 0
    assert await passage.verdict() == "there"


async def test_through_a_relay_memory_is_copied(place: Path) -> None:
    """Between two ends of a forwarded socket descriptors do not get through."""
    passage = Handover(f"unix:{place / 'in'}")
    relay = Relay(str(place / "relay"), passage.uri)
    passage.target = relay.uri
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        await passage.run()
    assert not passage.errors
    assert passage.shared_bytes == 0
    assert await passage.verdict() == "there"


@pytest.mark.qemu
@pytest.mark.parametrize("qemu", qemu_binaries(), ids=lambda qemu: qemu.label)
async def test_qemu_that_is_asked_what_it_can_do_is_sent_the_memory(
    qemu: QemuBinary, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place / "vm"
    async with guest(qemu, place, "source", "pc") as source:
        await source.wait_sweeps(3)
        await source.stop()
        await take(source, place, folder)
        life = source.serial_bytes()
    stored = StoredGuest.open(folder)
    blocks = [_in_a_memfd(block) for block in stored.ram_blocks()]
    monkeypatch.setattr(stored, "ram_blocks", lambda: blocks)
    async with waiting_guest(qemu, place, "destination", "pc") as waiting:
        migration = migrate(stored, await listen(waiting, place), parameters=PARAMETERS)
        await migration.run()
        await waiting.wait_migration()
        await waiting.cont()
        await waiting.wait_sweeps(3)
        assert_consecutive(life + waiting.serial_bytes())
    assert "shared_bytes" not in migration.statistics.sections["ram"]
    for block in blocks:
        block.close()
    stored.close()


def _in_a_memfd(block: RAMBlock) -> RAMBlock:
    copy = RAMBlock.allocate(block.idstr, block.used_length)
    copy.view[:] = block.view
    return copy


async def test_only_memory_that_can_be_handed_over_is(place: Path) -> None:
    """A block that is no memfd any more, since it had been given away once, is sent."""
    passage = Handover(f"unix:{place / 'in'}")
    rom = passage.here.ram_blocks()[1]
    rom.lend()
    rom.give_away()
    await passage.run()
    assert not passage.errors
    assert 0 < passage.shared_bytes < passage.outgoing.statistics.total_bytes
    assert passage.outgoing.statistics.dirty_log == "marked"
    assert await passage.verdict() == "there"


@pytest.mark.parametrize("side", ["source", "destination"])
async def test_cancelled_at_any_moment_the_guest_is_on_one_side(side: str, place: Path) -> None:
    chance = random.Random(side)
    seen = set()
    for number in range(25):
        passage = Handover(f"unix:{place / str(number)}")
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(passage.run)
                await passage.listening.wait()
                await trio.sleep(chance.uniform(0, 0.02))
                (passage.outgoing if side == "source" else passage.incoming).cancel()
        seen.add(await passage.verdict())
    assert "here" in seen


class _Register:
    value = 1


def register(**hooks: Any) -> Device:
    """A device with one register, and something that happens when it loads."""
    return Device("register", VMState("register", fields=(uint16("value"),), **hooks), _Register())


async def test_destination_that_fails_late_leaves_the_memory_as_it_was(place: Path) -> None:
    def fail(state: object, version_id: int) -> None:
        raise ValueError("the device does not like it")

    passage = Handover(
        f"unix:{place / 'in'}", devices=(register(),), there_devices=(register(post_load=fail),)
    )
    await passage.run()
    assert len(passage.errors) == 2
    assert await passage.verdict() == "here"


async def test_device_that_writes_memory_while_it_loads_is_refused(place: Path) -> None:
    """The source could not be resumed if that reached its memory."""
    guest: list[SyntheticGuest] = []

    def write(state: object, version_id: int) -> None:
        with guest[0].ram_blocks()[0].view as ram:
            ram[:2] = b"xx"

    passage = Handover(
        f"unix:{place / 'in'}", devices=(register(),), there_devices=(register(post_load=write),)
    )
    guest.append(passage.there)
    await passage.run()
    assert any("was written while it was still the source's" in str(e) for e in passage.errors)
    assert await passage.verdict() == "here"


async def test_guest_that_stayed_moves_later(place: Path) -> None:
    """After a failure nothing of the hand-over is left: the same guest is handed over again."""
    passage = Handover(f"unix:{place / 'in'}")

    async def cancel() -> None:
        await passage.listening.wait()
        while passage.outgoing.status.value in ("none", "setup"):
            await trio.lowlevel.checkpoint()
        passage.incoming.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(passage.run)
        nursery.start_soon(cancel)
    if not passage.here.is_running:
        pytest.skip("the guest had moved before the cancellation came")
    again = Handover(f"unix:{place / 'again'}")
    again.here.close()
    again.here = passage.here
    passage.there.close()
    await again.run()
    assert not again.errors
    assert again.shared_bytes > RAM_BYTES
    assert await again.verdict() == "there"


async def test_memory_that_could_not_be_given_away_would_be_sent_the_next_time(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(block: RAMBlock) -> None:
        raise OSError(12, "the kernel refuses")

    passage = Handover(f"unix:{place / 'in'}")
    monkeypatch.setattr(RAMBlock, "give_away", refuse)
    await passage.run()
    assert "is still the same memory here and there" in caplog.text
    assert not passage.errors
    assert not any(block.is_lent for block in passage.here.ram_blocks())
    await passage.there.pause()
    passage.here.close()
    passage.there.close()


def _unsealed(descriptors: list[int]) -> list[int]:
    return [os.memfd_create("synthetic.unsealed") for _ in descriptors]


def _pipes(descriptors: list[int]) -> list[int]:
    ends = [end for _ in descriptors for end in os.pipe()]
    for end in ends[1::2]:
        os.close(end)
    return ends[::2]


@pytest.mark.parametrize(
    ("forge", "expected"),
    [
        (_unsealed, "sealed against shrinking"),
        (_pipes, "sealed against shrinking"),
        (lambda descriptors: [os.dup(d) for d in descriptors[1:]], "3"),
        (lambda descriptors: [os.dup(d) for d in descriptors[::-1]], "bytes or more"),
    ],
    ids=["unsealed", "pipes", "too few", "too small"],
)
async def test_descriptors_that_are_no_such_memory_are_refused(
    forge: Callable[[list[int]], list[int]],
    expected: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transship.toolkit import DescriptorSocketChannel

    send = DescriptorSocketChannel.send_descriptors

    async def send_forged(self: DescriptorSocketChannel, descriptors: list[int]) -> None:
        forged = forge(descriptors)
        await send(self, forged)
        for descriptor in forged:
            os.close(descriptor)

    monkeypatch.setattr(DescriptorSocketChannel, "send_descriptors", send_forged)
    passage = Handover(f"unix:{place / 'in'}")
    await passage.run()
    assert any(expected in (error.expected or "") for error in passage.errors)
    assert await passage.verdict() == "here"


@pytest.mark.parametrize(
    ("forge", "expected"),
    [
        (lambda message: wanted([True]), "0 or 1 for each of 3"),
        (lambda message: wanted([True] * 4), "0 or 1 for each of 3"),
        (lambda message: ReturnMessage(ReturnType.WANTED, b"\2\0\0"), "0 or 1 for each of 3"),
        (lambda message: adopted(3), "PONG to a PING"),
        (lambda message: pong(2), "PONG to a PING"),
    ],
    ids=["too few", "too many", "no mark", "too early", "another answer"],
)
async def test_answer_to_another_offer_leaves_the_guest_here(
    forge: Callable[[ReturnMessage], ReturnMessage],
    expected: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adopting, "wanted", lambda marks: forge(wanted(marks)))
    passage = Handover(f"unix:{place / 'in'}")
    with trio.fail_after(20):
        await passage.run()
    assert any(expected in (error.expected or "") for error in passage.errors)
    assert await passage.verdict() == "here"


async def test_destination_that_adopts_another_number_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopting, "adopted", lambda blocks: adopted(blocks - 1))
    passage = Handover(f"unix:{place / 'in'}")
    await passage.run()
    assert any("3 RAM blocks, or none" in (e.expected or "") for e in passage.errors)
    assert await passage.verdict() == "here"


def _entry(name: bytes, length: int) -> bytes:
    return bytes([len(name)]) + name + length.to_bytes(8, "big")


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b"\x03ram",
        _entry(b"synthetic.ram", RAM_BYTES)[:-1],
        _entry(b"synthetic.ram", RAM_BYTES) * 2,
        b"".join(_entry(b"%d" % number, 4096) for number in range(OFFERED_BLOCKS + 1)),
    ],
    ids=["a name that is missing", "no length", "cut", "twice the same", "too many"],
)
async def test_malformed_offer_is_refused(
    payload: bytes, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = encoder.command(CommandType.OFFER_MEMORY, payload)
    monkeypatch.setattr(lending, "offer", lambda blocks: command)
    passage = Handover(f"unix:{place / 'in'}")
    with trio.fail_after(20):
        await passage.run()
    assert any("a malformed offer of memory" in str(error) for error in passage.errors)
    assert await passage.verdict() == "here"


@pytest.mark.parametrize(
    "forge",
    [
        lambda block: OfferedBlock("nobody's", block.used_length),
        lambda block: OfferedBlock(block.idstr, 0),
        lambda block: OfferedBlock(block.idstr, 1),
        lambda block: OfferedBlock(block.idstr, block.used_length + 4096),
        lambda block: OfferedBlock(block.idstr, (1 << 64) - 4096),
    ],
    ids=["unknown", "empty", "no whole page", "too long", "endless"],
)
async def test_memory_that_does_not_fit_is_not_wanted_and_is_sent(
    forge: Callable[[OfferedBlock], OfferedBlock], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offer_first_wrong(blocks: Iterable[OfferedBlock]) -> bytes:
        first, *others = blocks
        return offer([forge(first), *others])

    monkeypatch.setattr(lending, "offer", offer_first_wrong)
    passage = Handover(f"unix:{place / 'in'}")
    with trio.fail_after(20):
        await passage.run()
    assert not passage.errors
    assert 0 < passage.shared_bytes < RAM_BYTES
    assert await passage.verdict() == "there"


@pytest.mark.parametrize("when", ["behind the first section", "with more behind it"])
async def test_offer_at_the_wrong_time_is_refused(
    when: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = offer([OfferedBlock("synthetic.ram", RAM_BYTES)])
    if when == "with more behind it":
        monkeypatch.setattr(lending, "offer", lambda blocks: offer(blocks) + encoder.ping(9))
    else:
        send_setup = Source._send_setup

        async def send_offer_behind_setup(self: Source) -> None:
            await send_setup(self)
            await self._sender.send(late)

        monkeypatch.setattr(Source, "_send_setup", send_offer_behind_setup)
    passage = Handover(f"unix:{place / 'in'}")
    with trio.fail_after(20):
        await passage.run()
    assert any("an offer of memory that comes too late" in str(e) for e in passage.errors)
    assert await passage.verdict() == "here"


async def test_page_of_memory_that_was_handed_over_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that sends what it has lent does not change what the destination shows."""
    monkeypatch.setattr(RAMBlock, "lend", lambda block: block.memfd)
    passage = Handover(f"unix:{place / 'in'}")
    await passage.run()
    assert any("whose memory was handed over" in str(error) for error in passage.errors)
    assert await passage.verdict() == "here"
