"""The section on each kind of dirty log: it sends what the log vouches for, and nothing else."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final, get_args

import pytest
from ram_helpers import PAGE, OpenGuest, load, ram_section

from transship.abc import Capability, ChannelWork, FileWork, Parameters, RemoteWork, Settings
from transship.errors import LocalError
from transship.guests.choosing import DirtyLogKind, dirty_log_for
from transship.memory.ramblock import RAMBlock
from transship.testing.guests import FakeGuest
from transship_ram._section import RAMSection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transship.abc import DirtyLog, Segments

PAGES: Final = 64
UNLIMITED: Final = 1 << 40

WAYS: Final = {
    "full": Settings(),
    "xbzrle": Settings(frozenset({Capability.XBZRLE}), Parameters(xbzrle_cache_bytes=1 << 20)),
    "multifd": Settings(frozenset({Capability.MULTIFD}), Parameters(multifd_channels=1)),
}


class Logged(FakeGuest):
    """A guest whose memory is a memfd, with a dirty log of any kind.

    Raises:
        LocalError: There is no such log here.
    """

    def __init__(self, kind: DirtyLogKind) -> None:
        super().__init__([RAMBlock.allocate("a", PAGES * PAGE)])
        self.ram = self.block("a")
        self.chosen = dirty_log_for([self.ram], kind)

    def dirty_log(self) -> DirtyLog:  # type: ignore[override]
        return self.chosen

    def fill(self, page: int, text: bytes) -> None:
        """Write a whole page; the log is not told."""
        self.ram.view[page * PAGE : (page + 1) * PAGE] = text * (PAGE // len(text))


def logged(kind: DirtyLogKind) -> Logged:
    """Such a guest, if this kernel has what the log needs."""
    try:
        return Logged(kind)
    except LocalError as error:
        pytest.skip(str(error))


def everything(segments: Segments) -> bytes:
    """What a record sends, be it in the stream or over the one extra channel."""
    sent = bytearray()
    for segment in segments:
        if isinstance(segment, ChannelWork):
            sent += b"".join(piece for some in segment.make(0) for piece in some)
        else:
            assert not isinstance(segment, FileWork | RemoteWork)
            sent += segment
    return bytes(sent)


@pytest.fixture(params=["marked", "write-protect", "comparing"])
def guest(request: pytest.FixtureRequest) -> Iterator[Logged]:
    guest = logged(request.param)
    yield guest
    guest.chosen.stop()
    guest.ram.close()


def test_all_kinds_are_tested() -> None:
    assert set(get_args(DirtyLogKind)) == {"auto", "marked", "write-protect", "comparing"}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_page_was_between_two_comparisons_is_not_sent(way: str) -> None:
    """It changes and changes back while it is sent: nobody would notice, and send it again."""
    guest = logged("comparing")
    section = RAMSection(guest, WAYS[way])
    guest.fill(2, b"page 0. ")
    bodies = [everything(section.begin())]
    for lap in range(4):
        guest.fill(2, b"page %d. " % lap)
        section.pending(exact=True)
        guest.fill(2, b"UNSEEN#!")
        bodies.append(everything(section.iterate(UNLIMITED)))
        guest.fill(2, b"page %d. " % lap)
    assert section.pending(exact=True).must_precopy == 0
    bodies.append(everything(section.complete()))
    assert b"page 0. " in b"".join(bodies)
    assert b"UNSEEN" not in b"".join(bodies)
    if way != "multifd":
        copy = OpenGuest()
        load(ram_section(copy), *bodies)
        assert copy.contents() == guest.contents()
    guest.ram.close()


def test_writes_that_no_kernel_sees_arrive_when_they_are_marked(guest: Logged) -> None:
    assert guest.ram.memfd is not None
    for page in range(PAGES):
        guest.fill(page, b"old ")
    section = ram_section(guest)
    bodies = [everything(section.begin()), everything(section.iterate(UNLIMITED))]

    os.pwrite(guest.ram.memfd, b"new " * 1024, 3 * PAGE)
    guest.chosen.mark(guest.ram, 3)
    guest.ram.discard(8, 4)
    guest.chosen.mark(guest.ram, 8, 4)
    assert section.pending(exact=True).must_precopy == 5 * PAGE
    bodies.append(everything(section.iterate(UNLIMITED)))

    guest.ram.discard(20, 1)
    guest.chosen.mark(guest.ram, 20)
    bodies.append(everything(section.complete()))
    copy = OpenGuest()
    load(ram_section(copy), *bodies)
    assert copy.contents() == guest.contents()
    assert copy.contents()["a"][8 * PAGE : 12 * PAGE] == bytes(4 * PAGE)


def test_log_logs_while_the_guest_moves_and_can_be_used_again(guest: Logged) -> None:
    for _ in range(2):
        section = ram_section(guest)
        is_logging = [guest.chosen.is_logging]
        for make in (section.begin, partial(section.iterate, UNLIMITED), section.complete):
            everything(make())
            is_logging.append(guest.chosen.is_logging)
        assert is_logging == [False, True, True, False]
