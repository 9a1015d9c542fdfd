from __future__ import annotations

import trio
import trio.testing

from transship.toolkit import OwnedNursery


async def test_tasks_go_on_when_the_block_that_opened_them_was_left() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.sleep(0.001)
            ticks += 1

    async with trio.open_nursery() as nursery:
        owned = await OwnedNursery.open()
        owned.nursery.start_soon(tick)
        nursery.cancel_scope.cancel()
    before = ticks
    await trio.sleep(0.02)
    assert ticks > before
    await owned.aclose()
    before = ticks
    await trio.sleep(0.01)
    assert ticks == before
    await owned.aclose()


async def test_error_of_a_task_ends_the_others_and_is_kept() -> None:
    owned = await OwnedNursery.open()
    has_ended = trio.Event()

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            has_ended.set()

    async def fail() -> None:
        raise ValueError("out of order")

    owned.nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    owned.nursery.start_soon(fail)
    with trio.fail_after(1):
        await has_ended.wait()
        await owned.aclose()
    assert isinstance(owned.error, ExceptionGroup)


async def test_closing_ends_the_tasks_also_when_cancelled() -> None:
    owned = await OwnedNursery.open()
    has_ended = False

    async def linger() -> None:
        nonlocal has_ended
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            has_ended = True

    owned.nursery.start_soon(linger)
    await trio.testing.wait_all_tasks_blocked()
    with trio.CancelScope() as scope:
        scope.cancel()
        await owned.aclose()
    assert has_ended
    assert owned.error is None


async def test_cancelled_opening_leaves_no_task() -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    with trio.CancelScope() as scope:
        scope.cancel()
        await OwnedNursery.open()
    assert scope.cancelled_caught
    assert trio.lowlevel.current_statistics().tasks_living == before


def test_tasks_end_with_the_run() -> None:
    ended = []

    async def wait() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(True)

    async def main() -> None:
        owned = await OwnedNursery.open()
        owned.nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()

    trio.run(main)
    assert ended == [True]
