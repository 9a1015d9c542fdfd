import mmap

import pytest

from transship.errors import LocalError, RemoteError
from transship.guests.scratch import ScratchGuest
from transship.wire.events import Configuration

PAGE = 4096


def test_guest_becomes_what_the_stream_says() -> None:
    guest = ScratchGuest()
    guest.configure(Configuration("pc", page_size=8192, uuid=bytes(16)))
    assert (guest.machine, guest.page_size, guest.uuid) == ("pc", 8192, bytes(16))
    block = guest.attach_ram_block("ram", 16384)
    assert block.page_size == 8192
    assert guest.attach_ram_block("ram", 16384) is block
    guest.close()
    assert not guest.ram_blocks()


@pytest.mark.parametrize(
    ("idstr", "length"), [("b", 0), ("b", 1), ("b", 9 * PAGE), ("b", 2**63), ("a", PAGE)]
)
def test_block_that_cannot_be_is_refused(idstr: str, length: int) -> None:
    guest = ScratchGuest(max_ram_bytes=10 * PAGE)
    guest.attach_ram_block("a", 2 * PAGE)
    with pytest.raises(RemoteError) as caught:
        guest.attach_ram_block(idstr, length)
    assert caught.value.expected
    assert caught.value.found
    guest.close()


def test_memory_that_cannot_be_had_is_a_local_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> mmap.mmap:
        raise OSError(12, "Cannot allocate memory")

    guest = ScratchGuest()
    monkeypatch.setattr(mmap, "mmap", refused)
    with pytest.raises(LocalError, match="no memory"):
        guest.attach_ram_block("a", PAGE)


def test_block_knows_what_has_come() -> None:
    guest = ScratchGuest()
    block = guest.attach_ram_block("a", 4 * PAGE)
    whole = [block.is_whole]
    block.reserve(0, 2)
    assert block.find_holes(1, 2) == b"\0\1"
    whole.append(block.is_whole)
    block.reserve(3, 1)
    whole.append(block.is_whole)
    assert whole == [False, False, True]
    assert block.find_holes(0, 4) == b"\0\0\1\0"
    guest.close()


async def test_what_is_looked_at_never_runs() -> None:
    guest = ScratchGuest()
    assert not guest.is_running
    await guest.pause()
    with pytest.raises(LocalError):
        await guest.resume()
    await guest.discard()
