"""Host a ledger in a program of our own, and let operators command it over QMP."""

import sys

import trio
from ledger import Ledger

import transship
from transship.abc import Blocker


class Obliging(Ledger):
    """A ledger that can be slowed down, has a say in when it moves, and says where it is."""

    can_throttle = True

    def __init__(self) -> None:
        super().__init__()
        self.is_being_audited = False
        self.withheld_percent = 0

    def throttle(self, percent: int) -> None:
        self.withheld_percent = percent  # the processor's thread would sleep so much longer

    def blockers(self) -> list[Blocker]:
        return [Blocker("the books are being audited", "audit")] if self.is_being_audited else []

    def announce(self) -> None:
        print("here I am")


def tell(notice: object) -> None:
    """Called with each status, pass, pause and resume."""
    print(notice)


async def main(qmp: str) -> None:
    """Run a ledger until somebody says `quit` at the address `qmp`."""
    async with transship.open_host(Obliging()) as host, trio.open_nursery() as nursery:
        host.notifiers.add(tell)
        address = await nursery.start(transship.serve_host, qmp, host)
        print(f"qmp {address}")
        await host.cont()
        await host.wait_for_quit()
        await host.stop()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
