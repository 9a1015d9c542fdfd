"""What the server remembers of one client. Knows no socket, and no trio."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from transship.control.server.descriptors import Descriptors


class Capability(enum.Enum):
    """What a client may switch on when it greets."""

    OOB = "oob"


@dataclass(slots=True)
class Session:
    """One client, from its connection to its end.

    Attributes:
        peer: Who it is, for the log.
        descriptors: The file descriptors it sent.
        is_negotiated: Whether ``qmp_capabilities`` has succeeded: until then there are no other
            commands, and no events.
        capabilities: What it has switched on.
        command: Which of its commands is being carried out, counted from 1.
    """

    peer: str
    descriptors: Descriptors = field(default_factory=Descriptors)
    is_negotiated: bool = False
    capabilities: frozenset[Capability] = frozenset()
    command: int = 0

    @property
    def has_oob(self) -> bool:
        """Whether commands may overtake others."""
        return Capability.OOB in self.capabilities
