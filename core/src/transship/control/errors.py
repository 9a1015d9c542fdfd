"""The errors that a client sees: a class, of which there are five, and a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from transship.errors import MigrationError

ErrorClass: TypeAlias = Literal[
    "GenericError", "CommandNotFound", "DeviceNotActive", "DeviceNotFound", "KVMMissingCap"
]
"""All there are. Nearly every refusal is a ``GenericError``; clients are told to look at the class
and never at the sentence."""

ERROR_CLASSES: Final[tuple[ErrorClass, ...]] = get_args(ErrorClass)


class CommandError(Exception):
    """A command is refused, or failed; its reply says so, and nothing else happens.

    Args:
        error_class: One of :data:`ERROR_CLASSES`.
        desc: What is wrong, as a clause without a final stop.
    """

    def __init__(self, error_class: ErrorClass, desc: str) -> None:
        if error_class not in ERROR_CLASSES:
            raise ValueError(f"{error_class!r} is no error class of QMP")
        super().__init__(desc)
        self.error_class: ErrorClass = error_class
        self.desc = desc

    @classmethod
    def of(cls, error: MigrationError) -> CommandError:
        """What a client is told of an error of ours: its whole sentence."""
        return cls("GenericError", str(error))


def generic(desc: str) -> CommandError:
    """A ``GenericError``, to be raised: the class that fits wherever no other does."""
    return CommandError("GenericError", desc)
