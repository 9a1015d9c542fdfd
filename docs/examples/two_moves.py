"""Move two guests at once, with limits that are shared and changed on the way."""

import dataclasses

import trio
from ledger import Ledger

import transship


async def warn_the_balancer(notice: object) -> None:
    """An async notifier: the migration waits for it, for a few seconds at most."""
    await trio.sleep(0.01)


async def move(guest: Ledger, uri: str, limiter: transship.BandwidthLimiter) -> Ledger:
    """Move a ledger to another place in this program."""
    there = Ledger()
    async with trio.open_nursery() as nursery:
        is_listening = trio.Event()
        incoming = transship.receive(there, uri, on_listening=lambda _: is_listening.set())
        nursery.start_soon(incoming.run)
        await is_listening.wait()
        migration = transship.migrate(
            guest,
            uri,
            parameters=transship.Parameters(downtime_limit_s=0.1),
            capabilities=[transship.Capability.XBZRLE],
            limiter=limiter,
        )
        migration.notifiers.add(warn_the_balancer, "the load balancer")
        nursery.start_soon(migration.run)
        await trio.sleep(0.2)
        # All parameters but the time-outs may be changed while it runs.
        migration.parameters = dataclasses.replace(migration.parameters, downtime_limit_s=1.0)
    return there


async def main(folder: str) -> list[Ledger]:
    """Move two at once; together they send no more than 100 MiB a second."""
    limiter = transship.BandwidthLimiter(100 << 20)
    guests = [Ledger(), Ledger()]
    arrived: list[Ledger] = []

    async def move_one(number: int) -> None:
        await guests[number].resume()
        arrived.append(await move(guests[number], f"unix:{folder}/{number}.sock", limiter))

    async with trio.open_nursery() as nursery:
        for number in range(len(guests)):
            nursery.start_soon(move_one, number)
    for guest in arrived:
        await guest.pause()
    return arrived


if __name__ == "__main__":
    print([guest.report() for guest in trio.run(main, "/tmp")])
