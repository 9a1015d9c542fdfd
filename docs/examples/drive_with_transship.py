"""Move a guest with Transship's own client, which is made for trio.

    python drive_with_transship.py SOURCE DESTINATION URI

SOURCE and DESTINATION are the QMP addresses of the two processes, such as unix:/run/a.qmp, and URI
is where the guest goes over. Either process may be a QEMU.
"""

from __future__ import annotations

import sys

import trio

from transship.control.client import QmpClient, QmpError, open_qmp

EVENTS = [{"capability": "events", "state": True}]


async def move(source: QmpClient, destination: QmpClient, uri: str) -> object:
    """Move the guest; returns what the source says of it afterwards."""
    await destination.execute("migrate-incoming", uri=uri)
    await source.execute("migrate-set-capabilities", capabilities=EVENTS)
    await source.execute("migrate-set-parameters", downtime_limit=100)
    with source.subscribe() as events:
        await source.execute("migrate", uri=uri)
        async for event in events:
            if event.name == "MIGRATION":
                print(event.data["status"])
                if event.data["status"] in ("completed", "failed", "cancelled"):
                    break
    return await source.execute("query-migrate")


async def main(source_address: str, destination_address: str, uri: str) -> None:
    """Connect to both, move the guest, and say how it went."""
    async with open_qmp(source_address) as source, open_qmp(destination_address) as destination:
        print(await move(source, destination, uri))


if __name__ == "__main__":
    source_address, destination_address, uri = sys.argv[1:]
    try:
        trio.run(main, source_address, destination_address, uri)
    except QmpError as error:
        sys.exit(str(error))
