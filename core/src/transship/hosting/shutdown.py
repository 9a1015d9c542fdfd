"""Why the process that hosts a guest ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from transship.engine.notifiers import Notice


class ShutdownCause(Enum):
    """Who wanted the end; the values are QEMU's words."""

    HOST_QMP_QUIT = "host-qmp-quit"
    """An operator, over QMP."""
    HOST_SIGNAL = "host-signal"
    """Whoever sent a signal."""


@dataclass(frozen=True, slots=True)
class ShuttingDown(Notice):
    """The process is about to end."""

    cause: ShutdownCause
