"""Packets of multifd: what a source makes a destination takes, and nothing else gets through."""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ram_helpers import fenced_block

from transship.abc import NO_DESCRIPTOR, ChannelWork, FromDescriptor, Settings
from transship.errors import StreamError
from transship.memory.packets import packet_kernel
from transship.memory.ramblock import RAMBlock
from transship.plugin.discovery import install_kernels
from transship.wire.multifd import HEADER_BYTES, SYNC, PacketHeader, packet_bytes
from transship.wire.reader import Rendezvous
from transship_ram._multifd import rules_of
from transship_ram._packets_in import PacketLoader
from transship_ram._packets_out import PacketMaker
from transship_ram._target import LoadedBlock

if TYPE_CHECKING:
    from collections.abc import Iterable

PAGE = 4096
PACKET = packet_bytes(PAGE)
BLOCK_PAGES = 300


def filled_block(seed: int, idstr: str = "a") -> RAMBlock:
    """Every third page is zero."""
    source = random.Random(seed)
    block = RAMBlock.anonymous(idstr, BLOCK_PAGES * PAGE)
    for page in range(BLOCK_PAGES):
        if page % 3:
            block.view[page * PAGE : (page + 1) * PAGE] = source.randbytes(PAGE)
    return block


@pytest.fixture(autouse=True, params=["views", "descriptor"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a channel takes and fills views, or lets a kernel use its descriptor."""
    install_kernels()
    if request.param == "descriptor" and packet_kernel() is None:
        pytest.skip("there are no compiled kernels")
    monkeypatch.setattr(f"{__name__}.has_descriptor", request.param == "descriptor")


has_descriptor = False


def load(block: RAMBlock, data: bytes, loader: PacketLoader | None = None) -> int:
    """Feed a channel to its end; returns how often it waited for the stream."""
    loader = loader or PacketLoader(PAGE, {block.idstr: LoadedBlock(block)}, None)
    parsing = loader.load()
    meetings = 0
    near, far = socket.socketpair()
    sending = threading.Thread(target=send_all, args=(far, data))
    sending.start()
    try:
        want = next(parsing)
        while True:
            if isinstance(want, Rendezvous):
                meetings += 1
                count = 0
            elif isinstance(want, FromDescriptor):
                count = want.receive(near.fileno()) if has_descriptor else NO_DESCRIPTOR
            else:
                count = near.recvmsg_into(list(want), 0, socket.MSG_WAITALL)[0]
            want = parsing.send(count)
    except StopIteration:
        return meetings
    finally:
        parsing.close()
        near.close()
        sending.join()


def send_all(channel: socket.socket, data: bytes) -> None:
    """As a source that does not mind when the other side closes."""
    with channel, suppress(BrokenPipeError, ConnectionResetError):
        channel.sendall(data)


def made(block: RAMBlock, pages: Iterable[int], *, finds_zeros: bool = True) -> bytes:
    maker = PacketMaker(PAGE, 1, Settings(), finds_zeros=finds_zeros)
    return sent(maker.work(block, np.array(list(pages), np.int64)))


def sent(work: ChannelWork) -> bytes:
    """What goes over a channel."""
    if work.send is None or not has_descriptor:
        return b"".join(segment for some in work.make(0) for segment in some)
    near, far = socket.socketpair()
    came = bytearray()

    def receive_all() -> None:
        while some := far.recv(1 << 20):
            came.extend(some)

    receiving = threading.Thread(target=receive_all)
    receiving.start()
    with near:
        size = work.send(0, near.fileno())
    receiving.join()
    far.close()
    assert size == len(came)
    return bytes(came)


def packet(
    *,
    flags: int = 0,
    capacity: int = 128,
    normal: int = 0,
    size: int = 0,
    zero: int = 0,
    name: bytes = b"a",
    offsets: Iterable[int] = (),
) -> bytes:
    header = PacketHeader(flags, capacity, normal, size, 0, zero, name).pack()
    listed = b"".join(offset.to_bytes(8, "big") for offset in offsets)
    return (header + listed).ljust(PACKET, b"\0")


@pytest.mark.parametrize(
    "pages",
    [range(BLOCK_PAGES), range(0, BLOCK_PAGES, 2), [0], [1], [0, 299], range(127, 257)],
    ids=str,
)
@pytest.mark.parametrize("finds_zeros", [True, False])
def test_pages_arrive(pages: Iterable[int], finds_zeros: bool) -> None:
    source, target = filled_block(1), filled_block(2)
    before = bytes(target.view)
    load(target, made(source, pages, finds_zeros=finds_zeros))
    for page in range(BLOCK_PAGES):
        part = slice(page * PAGE, (page + 1) * PAGE)
        expected = source.view[part] if page in pages else before[part]
        assert target.view[part] == expected


def test_views_are_let_go_of() -> None:
    source, target = filled_block(1), filled_block(2)
    load(target, made(source, range(BLOCK_PAGES)))
    target.close()
    source.close()


def test_channel_waits_for_the_stream_after_a_sync() -> None:
    block = filled_block(1)
    maker = PacketMaker(PAGE, 1, Settings(), finds_zeros=True)
    sync = sent(maker.sync())
    assert load(block, sync + made(block, [5]) + sync) == 2


def test_sync_of_qemu_7_2_comes_with_pages() -> None:
    source, target = filled_block(1), filled_block(2)
    data = packet(flags=SYNC, normal=1, size=PAGE, offsets=[PAGE]) + bytes(
        source.view[PAGE : 2 * PAGE]
    )
    stale = packet(size=PAGE, offsets=[PAGE])
    assert load(target, data + stale) == 1
    assert target.view[PAGE : 2 * PAGE] == source.view[PAGE : 2 * PAGE]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"QEVM" + bytes(PACKET), "does not begin like one"),
        (packet(normal=1, name=b"b", offsets=[0]), "the table does not list"),
        (packet(normal=1, name=b"\xff", offsets=[0]), "the table does not list"),
        (packet(normal=129, capacity=129, offsets=[0] * 128), "more pages than it has room"),
        (packet(normal=100, zero=29, offsets=[0] * 128), "more pages than it has room"),
        (packet(normal=(1 << 32) - 1, zero=2), "more pages than it has room"),
        (packet(normal=1, offsets=[BLOCK_PAGES * PAGE]), "not in RAM block"),
        (packet(zero=1, offsets=[BLOCK_PAGES * PAGE]), "not in RAM block"),
        (packet(normal=1, offsets=[1]), "not in RAM block"),
        (packet(normal=1, offsets=[(1 << 64) - PAGE]), "not in RAM block"),
        (packet(flags=0x02, normal=1, offsets=[0]), r"method none \(0x0\); found method zlib"),
        (packet(normal=1, offsets=[0]) + bytes(PAGE - 1), "ends early"),
        (packet()[:-1], "ends early"),
        (packet(normal=1, offsets=[0]) + bytes(PAGE) + b"\x11", "ends early"),
    ],
)
def test_faulty_packet_is_refused_and_nothing_is_written_elsewhere(data: bytes, says: str) -> None:
    block = filled_block(3)
    before = bytes(block.view[PAGE:])
    with pytest.raises(StreamError, match=says):
        load(block, data)
    assert block.view[PAGE:] == before


def test_any_byte_of_a_header_may_be_wrong() -> None:
    source = random.Random(7)
    good = made(filled_block(1), range(3))
    block = filled_block(3)
    for _ in range(400):
        data = bytearray(good)
        for _ in range(source.randint(1, 4)):
            data[source.randrange(HEADER_BYTES + 32)] = source.randrange(256)
        try:
            load(block, bytes(data))
        except StreamError:
            pass
    assert len(block.view) == BLOCK_PAGES * PAGE


def test_damaged_packets_write_nothing_outside_of_the_block() -> None:
    chance = random.Random(9)
    good = b"".join(made(filled_block(1), range(first, first + 50)) for first in range(0, 300, 50))
    for _ in range(100):
        block, mapping = fenced_block("a", BLOCK_PAGES)
        data = bytearray(good)
        for _ in range(chance.randint(1, 9)):
            at = chance.randrange(len(good))
            data[at : at + chance.randrange(9)] = chance.randbytes(chance.randrange(9))
        with suppress(StreamError):
            load(block, bytes(data[: chance.randrange(len(data))]))
        assert mapping[BLOCK_PAGES * PAGE :] == b"\xee" * (4 * PAGE)


@pytest.mark.parametrize(
    ("machine", "syncs_each_record", "zeros_in_stream"),
    [
        ("pc-i440fx-7.2", True, True),
        ("pc-q35-8.0", True, True),
        ("pc-q35-8.1", False, True),
        ("pc-i440fx-8.2", False, True),
        ("pc-i440fx-9.0", False, False),
        ("virt-10.0", False, False),
        ("transship-synthetic-1", False, False),
        ("pc-mine", False, False),
    ],
)
def test_rules_follow_the_machine_type(
    machine: str, syncs_each_record: bool, zeros_in_stream: bool
) -> None:
    assert rules_of(machine) == (syncs_each_record, zeros_in_stream)


def test_many_packets_arrive_in_any_order() -> None:
    """Full ones, zero ones where something was, and pages that come again."""
    first, second, target = (
        filled_block(1),
        filled_block(2),
        RAMBlock.anonymous("a", BLOCK_PAGES * PAGE),
    )
    data = b"".join(made(first, range(start, start + 50)) for start in range(0, BLOCK_PAGES, 50))
    data += b"".join(made(second, [page]) for page in range(BLOCK_PAGES - 1, -1, -1))
    loader = PacketLoader(PAGE, {"a": LoadedBlock(target)}, None)
    load(target, data, loader)
    assert target.view == second.view
    assert (loader.counts.normal, loader.counts.duplicate) == (400, 200)


def test_block_changes_from_packet_to_packet() -> None:
    blocks = {name: RAMBlock.anonymous(name, BLOCK_PAGES * PAGE) for name in ("a", "b")}
    sources = {name: filled_block(seed, name) for seed, name in enumerate("ab")}
    loaded = {name: LoadedBlock(block) for name, block in blocks.items()}
    data = b"".join(
        made(sources[name], range(start, start + 10))
        for start in range(0, BLOCK_PAGES, 10)
        for name in "ab"
    )
    load(blocks["a"], data, PacketLoader(PAGE, loaded, None))
    for name, block in blocks.items():
        assert block.view == sources[name].view


def test_fresh_memory_is_believed_to_be_zero() -> None:
    source, target = RAMBlock.anonymous("a", BLOCK_PAGES * PAGE), LoadedBlock(filled_block(3))
    target._touched[:] = bytes(BLOCK_PAGES)
    load(source, made(source, range(BLOCK_PAGES)), PacketLoader(PAGE, {"a": target}, None))
    assert target._block.view == filled_block(3).view
