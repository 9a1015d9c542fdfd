"""Move a guest with QEMU's own Python client (pip install qemu.qmp).

    python drive_with_qemu_qmp.py SOURCE DESTINATION URI

SOURCE and DESTINATION are the QMP sockets of the two processes, URI is where the guest goes over.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from qemu.qmp import EventListener, QMPClient

EVENTS = [{"capability": "events", "state": True}]


async def move(source: QMPClient, destination: QMPClient, uri: str) -> object:
    """Move the guest; returns what the source says of it afterwards."""
    await destination.execute("migrate-incoming", {"uri": uri})
    await source.execute("migrate-set-capabilities", {"capabilities": EVENTS})
    await source.execute("migrate-set-parameters", {"downtime-limit": 100})
    with source.listener("MIGRATION") as events:
        await source.execute("migrate", {"uri": uri})
        over = asyncio.create_task(until_over(events))
        gone = asyncio.create_task(source.runstate_changed())
        await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        gone.cancel()
    return await source.execute("query-migrate")  # an error if the source is gone


async def until_over(events: EventListener) -> None:
    """Print each status, until one is the last."""
    async for event in events:
        data: Any = event["data"]
        print(data["status"])
        if data["status"] in ("completed", "failed", "cancelled"):
            return


async def main(source_path: str, destination_path: str, uri: str) -> None:
    """Connect to both, move the guest, and say how it went."""
    source, destination = QMPClient("source"), QMPClient("destination")
    await source.connect(source_path)
    await destination.connect(destination_path)
    try:
        print(await move(source, destination, uri))
    finally:
        await source.disconnect()
        await destination.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
