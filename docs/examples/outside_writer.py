"""A machine whose memory another process writes, and a dirty log that sees it all the same.

The other process stands for whatever is not ours: a device model, a hypervisor, a helper. It maps
the machine's memory itself, and lets the machine watch that mapping.
"""

import mmap
import os
import socket
import struct
import subprocess
import sys
import threading

import trio

import transship
from transship import Device, Guest, RAMBlock
from transship.engine.notifiers import PassBegun
from transship.errors import LocalError
from transship.guests.choosing import dirty_log_for
from transship.guests.writeprotect import MappingElsewhere
from transship.memory.protection import WriteProtection
from transship.wire.fields import VMState, uint64

PAGE = 4096
PAGES = 4096
SPARE_PAGES = 16
"""At the end of memory; nobody counts there."""

STEP_S = 0.0005
NUMBER = struct.Struct("<Q")
RUN, PAUSE, END = b"r", b"p", b"e"


class Writer:
    """The other process: it counts, and writes the number to one page after another."""

    def __init__(self, lead: socket.socket, memfd: int) -> None:
        self._lead = lead
        self._memory = RAMBlock("outside", mmap.mmap(memfd, 0))
        self._number = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def offer_mapping(self) -> None:
        """Tell where the memory is here, and hand over what lets the machine watch it."""
        address = NUMBER.pack(self._memory.address)
        try:
            protection = WriteProtection.of_this_process()
        except LocalError:
            self._lead.sendall(address)  # this kernel has no such thing
            return
        socket.send_fds(self._lead, [address], protection.descriptors)
        protection.close()  # what was sent is enough

    def serve(self) -> None:
        """Do what the machine says, until it says no more."""
        while (command := self._lead.recv(1)) and command != END:
            if command == RUN:
                (self._number,) = NUMBER.unpack(self._lead.recv(NUMBER.size, socket.MSG_WAITALL))
                self._stopping.clear()
                self._thread = threading.Thread(target=self._count)
                self._thread.start()
            else:
                self._stop()
                self._lead.sendall(NUMBER.pack(self._number))
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _count(self) -> None:
        while not self._stopping.wait(STEP_S):
            self._number += 1
            with self._memory.view as view:
                NUMBER.pack_into(view, self._number % PAGES * PAGE, self._number)


class Processor:
    """What is not in RAM."""

    number = 0


PROCESSOR = VMState("outside-cpu", version_id=1, fields=[uint64("number")])


class Machine(Guest):
    """Its memory is a memfd, and its processor is the other process."""

    machine = "outside-1"

    def __init__(self) -> None:
        self._processor = Processor()
        memfd = os.memfd_create("outside.ram", os.MFD_CLOEXEC)
        os.ftruncate(memfd, (PAGES + SPARE_PAGES) * PAGE)
        # Not RAMBlock.allocate: memory that could be handed over would be exchanged on arrival, and
        # the other process would still have the old one.
        self._ram = RAMBlock("outside.ram", mmap.mmap(memfd, 0))
        self._lead, far = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(far.fileno()), str(memfd)],
            pass_fds=(far.fileno(), memfd),
        )
        far.close()
        os.close(memfd)
        address, descriptors, _, _ = socket.recv_fds(self._lead, NUMBER.size, 2)
        self._protection = WriteProtection(*descriptors) if descriptors else None
        if self._protection is not None:
            start = int.from_bytes(address, "little")
            mapping = MappingElsewhere(self._ram, start, self._protection)
            self._log = dirty_log_for([self._ram], elsewhere=[mapping])
        else:
            self._log = dirty_log_for([self._ram], "comparing")
        self._is_running = False

    def ram_blocks(self) -> list[RAMBlock]:
        return [self._ram]

    def dirty_log(self) -> transship.DirtyLog:
        return self._log

    def devices(self) -> list[Device]:
        return [Device("outside-cpu", PROCESSOR, self._processor)]

    @property
    def is_running(self) -> bool:
        return self._is_running

    async def pause(self) -> None:
        if self._is_running:
            self._lead.sendall(PAUSE)
            answer = await trio.to_thread.run_sync(self._lead.recv, NUMBER.size)
            (self._processor.number,) = NUMBER.unpack(answer)
            self._is_running = False

    async def resume(self) -> None:
        self._lead.sendall(RUN + NUMBER.pack(self._processor.number))
        self._is_running = True

    def use_spare_pages(self) -> None:
        """Write from this process, which is seen without further ado."""
        with self._ram.view as ram:
            ram[PAGES * PAGE :] = b"spare" * (SPARE_PAGES * PAGE // 5) + b"!"

    def give_spare_pages_back(self) -> None:
        """Empty them. Write protection does not notice, so they are marked: afterwards."""
        self._ram.discard(PAGES, SPARE_PAGES)
        self._log.mark(self._ram, PAGES, SPARE_PAGES)

    def report(self) -> dict[str, str | int | float | bool | None]:
        """Every page must hold the last number that belongs there."""
        last = self._processor.number
        with self._ram.view as ram:
            spare_bytes = len(bytes(ram[PAGES * PAGE :]).strip(b"\0"))
            wrong = sum(
                NUMBER.unpack_from(ram, number % PAGES * PAGE) != (number,)
                for number in range(max(1, last - PAGES + 1), last + 1)
            )
        return {"numbers": last, "wrong": wrong, "spare_bytes": spare_bytes}

    def close(self) -> None:
        """End the other process, and let go of what it gave."""
        self._lead.sendall(END)
        self._process.wait()
        self._lead.close()
        if self._protection is not None:
            self._protection.close()


async def main(uri: str) -> dict[str, str | int | float | bool | None]:
    """Move a machine through `uri` while the other process writes."""
    here, there = Machine(), Machine()

    def tell(notice: object) -> None:
        if isinstance(notice, PassBegun) and notice.number == 1:
            here.give_spare_pages_back()

    here.use_spare_pages()
    await here.resume()
    await trio.sleep(0.5)
    async with trio.open_nursery() as nursery:
        is_listening = trio.Event()
        incoming = transship.receive(there, uri, on_listening=lambda _: is_listening.set())
        nursery.start_soon(incoming.run)
        await is_listening.wait()
        migration = transship.migrate(here, uri)
        migration.notifiers.add(tell)
        statistics = await migration.run()
    print(f"the dirty log was {statistics.dirty_log}")
    await trio.sleep(0.5)
    await there.pause()
    for machine in (here, there):
        machine.close()
    return there.report()


if __name__ == "__main__":
    if len(sys.argv) == 3:
        writer = Writer(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
        writer.offer_mapping()
        writer.serve()
    else:
        print(trio.run(main, "unix:/tmp/outside.sock"))
