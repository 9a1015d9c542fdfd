"""What can go wrong between a QMP client and its peer, as one tree.

::

    QmpError
    ├── QmpConnectError     nobody listens there, or we may not talk to it
    ├── QmpProtocolError    what answers is no QMP server, or breaks its rules
    ├── QmpClosedError      the connection is lost
    ├── QmpTimeoutError     no answer came in time
    └── QmpCommandError     a command was answered with an error

They say nothing of a migration: whoever gave the command knows what its failure means.
"""

from __future__ import annotations


class QmpError(Exception):
    """Something is wrong with the conversation."""


class QmpConnectError(QmpError):
    """Nobody listens there, or we may not talk to it."""


class QmpProtocolError(QmpError):
    """What answers is no QMP server, or breaks its rules."""


class QmpClosedError(QmpError):
    """The connection is lost: the peer has ended, or has closed it."""


class QmpTimeoutError(QmpError):
    """No answer came in time; what was asked for may happen nevertheless."""


class QmpCommandError(QmpError):
    """A command was answered with an error.

    Attributes:
        command: The command.
        error_class: The peer's word for the kind, mostly ``GenericError``.
        description: Its sentence; for people, programs must not read it.
    """

    def __init__(self, command: str, error_class: str, description: str) -> None:
        super().__init__(command, error_class, description)
        self.command = command
        self.error_class = error_class
        self.description = description

    def __str__(self) -> str:
        return f"{self.command}: {self.description}"
