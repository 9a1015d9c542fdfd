"""Move a ledger from one place in a program to another, without the command line."""

import trio
from ledger import Ledger

import transship


async def main(uri: str) -> dict[str, str | int | float | bool | None]:
    """Run a ledger for a second, move it through `uri`, and let it run where it arrived."""
    here, there = Ledger(), Ledger()
    await here.resume()
    await trio.sleep(1)
    async with trio.open_nursery() as nursery:
        is_listening = trio.Event()
        incoming = transship.receive(there, uri, on_listening=lambda _: is_listening.set())
        nursery.start_soon(incoming.run)
        await is_listening.wait()
        statistics = await transship.migrate(here, uri).run()
    print(f"moved {statistics.transferred_bytes} bytes in {statistics.dirty_syncs} passes")
    await trio.sleep(1)
    await there.pause()
    return there.report()


if __name__ == "__main__":
    print(trio.run(main, "unix:/tmp/ledger.sock"))
