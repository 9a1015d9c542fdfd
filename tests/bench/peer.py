"""One side of a move of ours, as a process: ``python -m bench.peer ORDER``, driven line by line.

It prepares, says ``ready``, does the move at the word ``go``, says ``done``, and then answers
``verify`` until its input ends. :mod:`bench.contestants.process` is the other end of that talk.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from bench.place import FIFO
from bench.prepared import PreparedGuest
from transship.abc.disk import Disk
from transship.abc.settings import Parameters
from transship.assembly import load_plugins, migrate, receive
from transship.disks import RawImage
from transship.guests.stored import StoredGuest
from transship.guests.synthetic import SyntheticGuest

if TYPE_CHECKING:
    from transship.abc.guest import Guest
    from transship.engine.migration import Migration

    Order = dict[str, Any]


def main(order: Order) -> None:
    """Carry out an order."""
    load_plugins()  # as every host does
    guest = _guest(order["guest"])
    settings = {
        "parameters": Parameters(**order["parameters"]),
        "capabilities": order["capabilities"],
    }
    if order["guest"].get("runs"):
        trio.run(guest.resume)
    if order["side"] == "source":
        _say(event="ready")
        if (uri := _hear()) is None:
            return
        migration = migrate(guest, _usable(uri, os.O_WRONLY), **settings)
        trio.run(migration.run)
        _say(event="done", statistics=_figures(migration))
    else:
        incoming = receive(
            guest,
            _usable(order["uri"], os.O_RDONLY | os.O_NONBLOCK),
            on_listening=lambda uri: _say(event="ready", uri=uri),
            **settings,
        )
        trio.run(incoming.run)
        _say(event="done", total_s=incoming.statistics.total_s)
    while _hear() == "verify":
        _say(event="verdict", **_verdict(guest, order["guest"]))


def _usable(uri: str, flags: int) -> str:
    """The address itself; or a named pipe, opened as if it had been inherited."""
    if not uri.startswith(FIFO):
        return uri
    descriptor = os.open(uri.removeprefix(FIFO), flags)
    os.set_inheritable(descriptor, True)
    return f"fd:{descriptor}"


def _guest(order: Order) -> Guest:
    match order:
        case {"kind": "synthetic", "options": options, "disk": image}:
            disk = Disk("disk0", RawImage.open(Path(image)))
            if options["fill"]:  # it is here, and so is its disk
                disk.activate()
            return SyntheticGuest(**options, disks=[disk])
        case {"kind": "synthetic", "options": options}:
            return SyntheticGuest(**options)
        case {"kind": "stored", "folder": folder}:
            guest = StoredGuest.open(Path(folder))
            for block in guest.ram_blocks():
                with block.view as view:  # in this process's tables from now on
                    sum(view[:: block.page_size])
            return guest
        case {"kind": "prepared", "blocks": blocks}:
            return PreparedGuest(blocks)
    raise ValueError(f"no such guest: {order}")


def _figures(migration: Migration) -> dict[str, Any]:
    return asdict(migration.statistics)


def _verdict(guest: Guest, order: Order) -> dict[str, Any]:
    if isinstance(guest, SyntheticGuest):
        trio.run(guest.pause)
        verdict = guest.verify()
        return {
            "is_right": verdict.ok,
            "reason": verdict.reason,
            "seen_downtime_s": guest.observed_downtime_s,
            "counter": guest.counter,
        }
    if isinstance(guest, PreparedGuest):
        wrong = [guest.wrong_pages(idstr, Path(path)) for idstr, path in order["expected"].items()]
        return {"is_right": not any(wrong), "reason": f"{sum(wrong)} pages are wrong"}
    return {}


def _say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def _hear() -> str | None:
    line = sys.stdin.readline()
    return line.strip() if line else None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
