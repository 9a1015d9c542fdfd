"""SyntheticGuest: a machine made up for demonstrations, tests and measurements.

Its processor is a thread that counts, and writes the counter all over a working set, and to its
disks. All of its RAM is a pure function of a few traits and that counter
(:mod:`transship.guests.pattern`), and so is all that it has written to its disks
(:mod:`transship.guests.diskpattern`); so it can tell after any journey whether a single byte went
wrong, or a single write was lost.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from uuid import UUID

import trio

from transship.abc.guest import Device, DirtyLog, Guest
from transship.errors import LocalError
from transship.guests.choosing import DirtyLogKind, dirty_log_for
from transship.guests.diskpattern import WHOLE_DISK, DiskTraits
from transship.guests.diskwriter import DiskWriter
from transship.guests.journal import Journal
from transship.guests.pattern import HEADER_BYTES, PAGE, ROM_BYTES, Traits
from transship.guests.ticker import Ticker
from transship.memory.ramblock import Backing, RAMBlock
from transship.wire.fields import VMState, buffer, uint16, uint64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc.disk import Disk

MACHINE: Final = "transship-synthetic-1"
"""The last digit is the version of what is in RAM and in the device."""

_UNKNOWN_BOOT: Final = bytes(16)
_SEEDS: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a synthetic guest found out about itself.

    Args:
        ok: Whether every byte of RAM is as it must be, and every write on the disks.
        counter: At which counter.
        pages: How many pages of RAM were compared.
        block: The first RAM block with a wrong page, or the first disk with a wrong block.
        wrong_page: That page, or block.
        reason: What is wrong; empty if nothing is.
        disk_blocks: How many blocks that it has written were found on the disks. Those of a disk
            that is not active here were not looked for.
    """

    ok: bool
    counter: int
    pages: int
    block: str | None = None
    wrong_page: int | None = None
    reason: str = ""
    disk_blocks: int = 0


class SyntheticGuest(Guest):
    """A guest that counts.

    As a destination it needs as much RAM as the source, or more; everything else it adopts.

    Args:
        ram_bytes: Size of main RAM, whole pages.
        dirty_rate_bytes_per_s: How fast it writes.
        working_set_bytes: How much of RAM it writes, round and round; whole pages.
        seed: Of what RAM holds.
        zero_fraction: How much of RAM is zero at first, from 0 to 1.
        tick_s: Time between two ticks.
        memory: Of what RAM is made: a memfd, which is handed over on one host instead of being
            copied, or anonymous memory, which is copied more quickly.
        huge_pages: Whether to ask for huge pages.
        prefault: Whether main RAM takes its memory now, instead of when it is written.
        dirty_log: Who notes what it writes: itself (``marked``), or one that finds out without
            its help (:func:`~transship.guests.choosing.dirty_log_for`).
        journal: A file to which every tick is appended (:mod:`transship.guests.journal`).
        devices: Devices that travel besides its own.
        disks: Its disks, inactive; its own from now on, closed with it. As a destination it needs
            as many as the source, and of the same sizes.
        disk_rate_bytes_per_s: How fast it writes to each, in blocks here and there.
        disk_working_set_bytes: How much of each it writes, from its beginning.
        fill: Whether to fill RAM (about a second a GiB); False for one that waits for a
            migration.

    Raises:
        LocalError: There is no such dirty log here.
        OSError: There is no memory.
        ValueError: A number is out of range.

    Attributes:
        counter: How many ticks there have been, wherever it ran.
        announcements: How often it has announced itself here.
        traits: What it adopted, or was given.
    """

    machine = MACHINE
    can_throttle = True

    def __init__(
        self,
        ram_bytes: int,
        *,
        dirty_rate_bytes_per_s: int = 0,
        working_set_bytes: int = 0,
        seed: int = 0,
        zero_fraction: float = 0.0,
        tick_s: float = 0.001,
        memory: Backing = "anonymous",
        huge_pages: bool = True,
        prefault: bool = False,
        dirty_log: DirtyLogKind = "marked",
        journal: Path | None = None,
        devices: Sequence[Device] = (),
        disks: Sequence[Disk] = (),
        disk_rate_bytes_per_s: int = 0,
        disk_working_set_bytes: int = WHOLE_DISK,
        fill: bool = True,
    ) -> None:
        if not 0 <= disk_rate_bytes_per_s <= 1 << 50:
            raise ValueError("the disks' rate is out of range")
        if not 0 <= disk_working_set_bytes <= WHOLE_DISK:
            raise ValueError("the disks' working set is out of range")
        if not 0 <= zero_fraction <= 1:
            raise ValueError(f"a fraction lies between 0 and 1, not at {zero_fraction}")
        self.traits = Traits(
            seed=seed,
            ram_bytes=ram_bytes,
            working_pages=-(-working_set_bytes // PAGE),
            dirty_rate_bytes_per_s=dirty_rate_bytes_per_s,
            tick_ns=round(tick_s * 1e9),
            zero_pages=round(zero_fraction * 256),
        )
        self.counter = 0
        self.announcements = 0
        self._ram = RAMBlock.allocate(
            "synthetic.ram", ram_bytes, backing=memory, huge_pages=huge_pages, prefault=prefault
        )
        self._rom = RAMBlock.allocate("synthetic.rom", ROM_BYTES, backing=memory)
        self._header = RAMBlock.allocate("synthetic.header", HEADER_BYTES, backing=memory)
        self._log = dirty_log_for(self.ram_blocks(), dirty_log)
        self._marks_writes = dirty_log == "marked"
        self._journal = None if journal is None else Journal(journal)
        self._ticker = Ticker(self._tick)
        self._between_ticks = threading.Lock()
        self._last_tick_ns = 0
        self._departure_ns: int | None = None
        self._arrival_ns: int | None = None
        self._is_whole = False
        self._writers = [
            DiskWriter(
                disk,
                DiskTraits(
                    seed + number & _SEEDS,
                    disk.size_bytes,
                    disk_rate_bytes_per_s,
                    self.traits.tick_ns,
                    disk_working_set_bytes,
                ),
            )
            for number, disk in enumerate(disks)
        ]
        self._devices = (
            Device("synthetic-cpu", _DESCRIPTION, _Registers(self)),
            *(writer.device(number) for number, writer in enumerate(self._writers)),
            *devices,
        )
        if fill:
            self._fill()

    def _fill(self) -> None:
        with self._ram.view as ram, self._rom.view as rom, self._header.view as header:
            self.traits.fill(ram)
            rom[:] = self.traits.rom
            header[:] = self.traits.header(0)
        self._is_whole = True

    # The contract.

    def ram_blocks(self) -> Sequence[RAMBlock]:
        """Main RAM, one that never changes, and one page that changes at each tick."""
        return self._ram, self._rom, self._header

    def attach_ram_block(self, idstr: str, used_length: int) -> RAMBlock:
        """Give a block to be loaded into; until the processor has come too, nothing runs here."""
        block = super().attach_ram_block(idstr, used_length)
        self._is_whole = False
        return block

    def dirty_log(self) -> DirtyLog:
        """What notes the processor's writes."""
        return self._log

    def devices(self) -> Sequence[Device]:
        """The processor first."""
        return self._devices

    def disks(self) -> Sequence[Disk]:
        """As given."""
        return [writer.disk for writer in self._writers]

    @property
    def is_running(self) -> bool:
        """Whether the processor runs."""
        return self._ticker.is_running

    async def pause(self) -> None:
        """Stop the processor between two ticks; takes about one."""
        await trio.to_thread.run_sync(self._ticker.stop)

    async def resume(self) -> None:
        """Let the processor run.

        Raises:
            LocalError: This guest waits for a migration, or one has ended half-way; or one of its
                disks is not active.
        """
        if not self._is_whole:
            raise LocalError("the synthetic guest has not arrived whole, and cannot run")
        for disk in self.disks():
            if not disk.is_active:
                raise LocalError(f"the synthetic guest cannot run: disk {disk.name!r} is inactive")
        self._ticker.start(self.traits.tick_ns)

    def throttle(self, percent: int) -> None:
        """Tick so much more slowly."""
        self._ticker.withheld_percent = percent

    def announce(self) -> None:
        """Count the announcement."""
        self.announcements += 1

    # The processor.

    def _tick(self) -> None:
        with self._between_ticks, self._ram.view as ram, self._header.view as header:
            counter = self.counter + 1
            for run in self.traits.runs(counter):
                self.traits.stamp(ram, run, counter)
                self._mark(self._ram, run.first, run.count)
            for writer in self._writers:
                writer.tick(counter)
            header[:] = self.traits.header(counter)
            self._mark(self._header, 0, 1)
            self.counter = counter
            self._last_tick_ns = time.monotonic_ns()
            if self._arrival_ns is None:
                self._arrival_ns = self._last_tick_ns
            if self._journal is not None:
                self._journal.append(counter, self._last_tick_ns)

    def _mark(self, block: RAMBlock, first: int, count: int) -> None:
        if self._marks_writes:
            self._log.mark(block, first, count)

    # What it knows about itself.

    @property
    def observed_downtime_s(self) -> float | None:
        """How long it stood still on its last journey, as it saw it itself.

        From the last tick on the source to the first one here; None before that tick, and when
        the two machines have different clocks.
        """
        if self._departure_ns is None or self._arrival_ns is None:
            return None
        return (self._arrival_ns - self._departure_ns) / 1e9

    def report(self) -> dict[str, str | int | float | bool | None]:
        """Its counter, what it saw of its last journey, and the verdict of :meth:`verify`."""
        verdict = self.verify()
        return {
            "counter": self.counter,
            "consistent": verdict.ok,
            "reason": verdict.reason,
            "observed_downtime_s": self.observed_downtime_s,
            **({"disk_blocks": verdict.disk_blocks} if self._writers else {}),
        }

    def verify(self) -> Verdict:
        """Compare all of RAM and disks with what must be there; it ticks on only afterwards.

        Takes about a fifth of a second a GiB of RAM, and blocks: for a worker thread.
        """
        with self._between_ticks:
            return self._verify()

    def _verify(self) -> Verdict:
        if self._ticker.failure is not None:
            return self._wrong(None, None, f"the processor failed: {self._ticker.failure}")
        with self._header.view as header:
            if self.traits.header(self.counter) != bytes(header):
                return self._wrong(self._header, 0, "the header is of another guest or counter")
        with self._rom.view as rom:
            if self.traits.rom != bytes(rom):
                return self._wrong(self._rom, None, "the block that never changes has changed")
        with self._ram.view as ram:
            wrong = self.traits.first_wrong_page(ram, self.counter)
        if wrong is not None:
            return self._wrong(self._ram, wrong, "a page of main RAM is wrong")
        return self._verify_disks(sum(block.pages for block in self.ram_blocks()))

    def _verify_disks(self, pages: int) -> Verdict:
        blocks = 0
        for writer in self._writers:
            if not writer.disk.is_active:
                continue
            wrong = writer.first_wrong_block(self.counter)
            if wrong is not None:
                reason = f"a write to disk {writer.disk.name!r} is lost, counter {self.counter}"
                return Verdict(False, self.counter, pages, writer.disk.name, wrong, reason)
            blocks += writer.traits.written_blocks(self.counter)
        return Verdict(True, self.counter, pages, disk_blocks=blocks)

    def _wrong(self, block: RAMBlock | None, page: int | None, reason: str) -> Verdict:
        idstr = block.idstr if block else None
        return Verdict(False, self.counter, 0, idstr, page, f"{reason}, counter {self.counter}")

    def _adopt(self, traits: Traits, counter: int, last_tick_ns: int, boot_id: bytes) -> None:
        """Become the guest whose RAM has been loaded.

        Raises:
            ValueError: RAM is that of another guest, or of another moment.
        """
        if traits.ram_bytes != self._ram.used_length:
            raise ValueError(
                f"the device has {traits.ram_bytes} bytes of RAM, the block {self._ram.used_length}"
            )
        with self._header.view as header:
            if traits.header(counter) != bytes(header):
                raise ValueError(f"RAM is not that of counter {counter}, seed {traits.seed}")
        is_same_clock = boot_id == _boot_id() != _UNKNOWN_BOOT
        self.traits = traits
        self.counter = counter
        self._last_tick_ns = last_tick_ns
        self._departure_ns = last_tick_ns if is_same_clock else None
        self._arrival_ns = None
        self._is_whole = True

    def close(self) -> None:
        """Stop it and give its memory back; memory still looked at goes with its last view."""
        self._ticker.stop()
        if self._journal is not None:
            self._journal.close()
        for disk in self.disks():
            disk.device.close()
        for block in self.ram_blocks():
            with suppress(BufferError):
                block.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Registers:
    """What travels of the processor: copied from the guest to be saved, adopted after loading."""

    counter: int
    last_tick_ns: int
    boot_id: bytes
    seed: int
    ram_bytes: int
    working_pages: int
    dirty_rate_bytes_per_s: int
    tick_ns: int
    zero_pages: int

    def __init__(self, guest: SyntheticGuest) -> None:
        self._guest = guest
        self.copy()

    def copy(self) -> None:
        guest, traits = self._guest, self._guest.traits
        self.counter = guest.counter
        self.last_tick_ns = guest._last_tick_ns
        self.boot_id = _boot_id()
        self.seed = traits.seed
        self.ram_bytes = traits.ram_bytes
        self.working_pages = traits.working_pages
        self.dirty_rate_bytes_per_s = traits.dirty_rate_bytes_per_s
        self.tick_ns = traits.tick_ns
        self.zero_pages = traits.zero_pages

    def adopt(self) -> None:
        traits = Traits(
            seed=self.seed,
            ram_bytes=self.ram_bytes,
            working_pages=self.working_pages,
            dirty_rate_bytes_per_s=self.dirty_rate_bytes_per_s,
            tick_ns=self.tick_ns,
            zero_pages=self.zero_pages,
        )
        self._guest._adopt(traits, self.counter, self.last_tick_ns, self.boot_id)


def _boot_id() -> bytes:
    """Of this run of the machine: only within one do two processes share CLOCK_MONOTONIC."""
    try:
        return UUID(Path("/proc/sys/kernel/random/boot_id").read_text().strip()).bytes
    except (OSError, ValueError):
        return _UNKNOWN_BOOT


_DESCRIPTION: Final = VMState(
    "synthetic-cpu",
    version_id=1,
    minimum_version_id=1,
    fields=[
        uint64("counter"),
        uint64("last_tick_ns"),
        buffer("boot_id", 16),
        uint64("seed"),
        uint64("ram_bytes"),
        uint64("working_pages"),
        uint64("dirty_rate_bytes_per_s"),
        uint64("tick_ns"),
        uint16("zero_pages"),
    ],
    pre_save=lambda registers: registers.copy(),
    post_load=lambda registers, version_id: registers.adopt(),
)
