"""A block device in memory: what tests of disks write to, and see who writes."""

from __future__ import annotations

from threading import Event, Lock
from typing import TYPE_CHECKING, Final

from transship.abc.disk import BlockDevice
from transship.errors import LocalError

if TYPE_CHECKING:
    from transship.buffers import Buffer

_PATIENCE_S: Final = 20.0


class Medium:
    """Bytes that several devices may share, as two hosts share storage.

    Args:
        size_bytes: How many.

    Attributes:
        data: What is written.
        owner: Who may write.
    """

    def __init__(self, size_bytes: int) -> None:
        self.data = bytearray(size_bytes)
        self.owner: MemoryDevice | None = None
        self.lock = Lock()


class MemoryDevice(BlockDevice):
    """A device over a medium. Writing what somebody else owns, or nobody, fails the test.

    Args:
        medium: Of its own, or shared; a size makes one.

    Attributes:
        calls: Names of what changed something, in order: ``acquire``, ``write``, ``flush`` ...
        failing: Names of the calls that fail from now on, with an ``OSError``.
    """

    def __init__(self, medium: Medium | int) -> None:
        self.medium = Medium(medium) if isinstance(medium, int) else medium
        self.calls: list[str] = []
        self.failing: set[str] = set()

    @property
    def size_bytes(self) -> int:
        return len(self.medium.data)

    @property
    def is_acquired(self) -> bool:
        """Whether it is the one that owns the medium."""
        return self.medium.owner is self

    def read_into(self, offset: int, target: memoryview) -> None:
        self.check_range(offset, len(target), self.size_bytes)
        self._do("read_into")
        target[:] = self.medium.data[offset : offset + len(target)]

    def write(self, offset: int, data: Buffer) -> None:
        self.check_range(offset, len(data), self.size_bytes)
        if not self.is_acquired:
            raise AssertionError("a write by somebody who does not own the medium")
        self._do("write")
        self.medium.data[offset : offset + len(data)] = data

    def flush(self) -> None:
        self._do("flush")

    def acquire(self) -> None:
        self._do("acquire")
        with self.medium.lock:
            if self.medium.owner not in (None, self):
                raise LocalError("the medium belongs to somebody else")
            self.medium.owner = self

    def release(self) -> None:
        self._do("release")
        self.flush()
        with self.medium.lock:
            if self.medium.owner is self:
                self.medium.owner = None

    def close(self) -> None:
        self.release()

    def _do(self, call: str) -> None:
        if call in self.failing:
            raise OSError(5, "Input/output error")
        if call != "read_into":
            self.calls.append(call)


class HeldDevice(MemoryDevice):
    """A device whose writes wait until the test lets them go on.

    Attributes:
        has_begun: Set by a write that waits.
        may_go_on: Lets writes go on.
    """

    def __init__(self, medium: Medium | int) -> None:
        super().__init__(medium)
        self.has_begun = Event()
        self.may_go_on = Event()
        self._is_interrupted = False

    def write(self, offset: int, data: Buffer) -> None:
        self.has_begun.set()
        if not self.may_go_on.wait(_PATIENCE_S):
            raise AssertionError("nobody let the write go on")
        if self._is_interrupted:
            raise OSError(103, "interrupted")
        super().write(offset, data)

    def interrupt(self) -> None:
        self._is_interrupted = True
        self.may_go_on.set()
