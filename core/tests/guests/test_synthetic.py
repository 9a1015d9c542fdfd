import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from transship.errors import LocalError
from transship.guests.journal import judge_journal, read_journal
from transship.guests.synthetic import SyntheticGuest
from transship.memory.bitmap import DirtyBitmap

MIB = 1024 * 1024


@pytest.fixture
def guest() -> Iterator[SyntheticGuest]:
    with SyntheticGuest(
        8 * MIB,
        dirty_rate_bytes_per_s=64 * MIB,
        working_set_bytes=2 * MIB,
        seed=3,
        zero_fraction=0.5,
    ) as guest:
        yield guest


@pytest.fixture
def empty() -> Iterator[SyntheticGuest]:
    with SyntheticGuest(8 * MIB, fill=False) as guest:
        yield guest


def carry_ram(source: SyntheticGuest, destination: SyntheticGuest) -> None:
    for block in source.ram_blocks():
        with (
            block.view as old,
            destination.attach_ram_block(block.idstr, block.used_length).view as new,
        ):
            new[:] = old


def carry_devices(source: SyntheticGuest, destination: SyntheticGuest, **changes: int) -> None:
    """What the devstate plugin does, by hand."""
    saved, loaded = source.devices()[0], destination.devices()[0]
    assert saved.description.pre_save
    assert loaded.description.post_load
    saved.description.pre_save(saved.state)
    for field in saved.description.fields:
        value = getattr(saved.state, field.name)
        setattr(loaded.state, field.name, changes.get(field.name, value))
    loaded.description.post_load(loaded.state, 1)


async def run_for_ticks(guest: SyntheticGuest, ticks: int) -> None:
    goal = guest.counter + ticks
    await guest.resume()
    await until(lambda: guest.counter >= goal)
    await guest.pause()


async def until(has_happened: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not has_happened():  # noqa: ASYNC110 - a thread makes it happen
            await trio.sleep(0.001)


async def test_guest_counts_and_its_ram_stays_consistent(guest: SyntheticGuest) -> None:
    assert guest.verify().ok
    await run_for_ticks(guest, 50)
    verdict = guest.verify()
    assert verdict.ok, verdict.reason
    assert verdict.counter == guest.counter >= 50
    assert verdict.pages == sum(block.pages for block in guest.ram_blocks())


async def test_paused_guest_writes_nothing(guest: SyntheticGuest) -> None:
    await run_for_ticks(guest, 10)
    before = [bytes(block.view) for block in guest.ram_blocks()]
    await trio.sleep(0.02)
    assert [bytes(block.view) for block in guest.ram_blocks()] == before
    assert not guest.is_running


async def test_pause_returns_within_milliseconds(guest: SyntheticGuest) -> None:
    await guest.resume()
    await trio.sleep(0.02)
    started = time.monotonic()
    await guest.pause()
    assert time.monotonic() - started < 0.25
    assert not any("ticker" in thread.name for thread in threading.enumerate())


async def test_resume_of_a_running_guest_starts_no_second_processor(
    guest: SyntheticGuest,
) -> None:
    await guest.resume()
    await guest.resume()
    assert sum("ticker" in thread.name for thread in threading.enumerate()) == 1
    await guest.pause()


async def test_every_page_written_is_logged(guest: SyntheticGuest) -> None:
    copies = {block.idstr: bytes(block.view) for block in guest.ram_blocks()}
    log = guest.dirty_log()
    log.start()
    await run_for_ticks(guest, 30)
    for block in guest.ram_blocks():
        bitmap = DirtyBitmap(block.pages)
        log.sync(block, bitmap)
        copy = bytearray(copies[block.idstr])
        for first, count in bitmap.runs():
            copy[first * 4096 : (first + count) * 4096] = block.view[
                first * 4096 : (first + count) * 4096
            ]
        assert copy == block.view
    log.stop()


async def test_destination_adopts_everything_and_counts_on(
    guest: SyntheticGuest, empty: SyntheticGuest
) -> None:
    await run_for_ticks(guest, 20)
    carry_ram(guest, empty)
    carry_devices(guest, empty)
    assert empty.traits == guest.traits
    assert empty.verify().ok
    await run_for_ticks(empty, 20)
    assert empty.verify().ok
    assert empty.counter >= 40


async def test_downtime_is_measured_between_last_tick_there_and_first_here(
    guest: SyntheticGuest, empty: SyntheticGuest
) -> None:
    await run_for_ticks(guest, 5)
    carry_ram(guest, empty)
    carry_devices(guest, empty)
    seen_before = empty.observed_downtime_s
    await trio.sleep(0.05)
    await run_for_ticks(empty, 5)
    assert seen_before is None
    assert empty.observed_downtime_s is not None
    assert 0.05 <= empty.observed_downtime_s < 5
    assert guest.observed_downtime_s is None


async def test_downtime_is_unknown_across_machines(
    guest: SyntheticGuest, empty: SyntheticGuest
) -> None:
    carry_ram(guest, empty)
    carry_devices(guest, empty, boot_id=bytes(range(16)))  # type: ignore[arg-type]
    await run_for_ticks(empty, 5)
    assert empty.observed_downtime_s is None


@pytest.mark.parametrize("name", ["counter", "seed", "working_pages", "ram_bytes", "tick_ns"])
def test_device_that_does_not_fit_its_ram_is_refused(
    guest: SyntheticGuest, empty: SyntheticGuest, name: str
) -> None:
    carry_ram(guest, empty)
    with pytest.raises(ValueError, match=r"RAM|tick"):
        carry_devices(guest, empty, **{name: 0xABC000})
    assert empty.counter == 0


async def test_guest_that_waits_cannot_run(empty: SyntheticGuest) -> None:
    with pytest.raises(LocalError, match="not arrived"):
        await empty.resume()
    assert not empty.verify().ok


async def test_guest_that_was_half_overwritten_cannot_run(
    guest: SyntheticGuest, empty: SyntheticGuest
) -> None:
    await run_for_ticks(guest, 1)
    carry_ram(empty, guest)
    with pytest.raises(LocalError, match="not arrived"):
        await guest.resume()


@pytest.mark.parametrize("index", [0, 1, 2])
def test_wrong_byte_is_found_in_every_block(guest: SyntheticGuest, index: int) -> None:
    block = guest.ram_blocks()[index]
    with block.view as view:
        view[-1] ^= 0x80
    verdict = guest.verify()
    assert not verdict.ok
    assert verdict.block == block.idstr
    assert verdict.reason


async def test_journal_shows_one_place_after_another(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with (
        SyntheticGuest(MIB, journal=path) as source,
        SyntheticGuest(MIB, journal=path, fill=False) as destination,
    ):
        await run_for_ticks(source, 10)
        carry_ram(source, destination)
        carry_devices(source, destination)
        await run_for_ticks(destination, 10)
        verdict = judge_journal(path)
        assert verdict.ok, verdict.reason
        assert verdict.ticks == destination.counter
        assert verdict.passages == 1
        # Both at once, which no migration may ever let happen, shows.
        await run_for_ticks(source, 3)
        verdict = judge_journal(path)
        assert not verdict.ok
        assert str(destination.counter) in verdict.reason


async def test_journal_that_ends_inside_a_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(bytes(25))
    with pytest.raises(LocalError, match="inside a record"):
        list(read_journal(path))


async def test_processor_that_fails_is_seen(tmp_path: Path) -> None:
    with SyntheticGuest(MIB, journal=tmp_path / "journal") as guest:
        assert guest._journal
        guest._journal.close()
        await guest.resume()
        await until(lambda: not guest.is_running)
        verdict = guest.verify()
        assert not verdict.ok
        assert "processor failed" in verdict.reason


async def test_verify_of_a_running_guest_waits_for_the_tick_to_end(
    guest: SyntheticGuest,
) -> None:
    await guest.resume()
    for _ in range(10):
        verdict = await trio.to_thread.run_sync(guest.verify)
        assert verdict.ok, verdict.reason
    await guest.pause()
