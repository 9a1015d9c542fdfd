"""What the server remembers of one client. Knows no socket, and no trio."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from transship.control.descriptors import Descriptors
from transship.control.fdsets import FdSets


class QmpCapability(enum.Enum):
    """What a client may switch on when it greets."""

    OOB = "oob"


@dataclass(slots=True)
class Session:
    """One client, from its connection to its end.

    Attributes:
        peer: Who it is, for the log.
        descriptors: The file descriptors it sent.
        fdsets: The sets of them; all clients of a server have the same.
        is_negotiated: Whether ``qmp_capabilities`` has succeeded: until then there are no other
            commands, and no events.
        capabilities: What it has switched on.
    """

    peer: str
    descriptors: Descriptors = field(default_factory=Descriptors)
    fdsets: FdSets = field(default_factory=FdSets)
    is_negotiated: bool = False
    capabilities: frozenset[QmpCapability] = frozenset()

    @property
    def has_oob(self) -> bool:
        """Whether commands may overtake others."""
        return QmpCapability.OOB in self.capabilities
