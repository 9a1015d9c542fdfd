"""Which event may follow which, as a table; it knows nothing of bytes or of sides.

``BODY`` is left only by the footer, ``ENDED`` only by a description: after it nothing comes.
A package holds the same records as the stream between configuration and EOF, but no command, and
so no package either.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from transship.wire.events import (
    Command,
    Configuration,
    EndOfStream,
    Event,
    Header,
    Package,
    SectionFooter,
    SectionHeader,
    VMDescription,
)


class Place(Enum):
    """Where in a stream we are."""

    BEGINNING = "the beginning of the stream"
    HEADED = "after the header"
    RECORDS = "between records"
    BODY = "in a section's body"
    PACKAGE = "in a package, between records"
    PACKAGE_BODY = "in a package, in a section's body"
    ENDED = "after EOF"
    DESCRIBED = "after the description"


GRAMMAR: Final[dict[Place, dict[type[Event], Place]]] = {
    Place.BEGINNING: {Header: Place.HEADED},
    Place.HEADED: {Configuration: Place.RECORDS},
    Place.RECORDS: {
        SectionHeader: Place.BODY,
        Command: Place.RECORDS,
        Package: Place.RECORDS,
        EndOfStream: Place.ENDED,
    },
    Place.BODY: {SectionFooter: Place.RECORDS},
    Place.PACKAGE: {
        SectionHeader: Place.PACKAGE_BODY,
        EndOfStream: Place.ENDED,
    },
    Place.PACKAGE_BODY: {SectionFooter: Place.PACKAGE},
    Place.ENDED: {VMDescription: Place.DESCRIBED},
    Place.DESCRIBED: {},
}


def allowed(place: Place) -> str:
    """What may come at a place, for an error message."""
    names = [event.__name__ for event in GRAMMAR[place]]
    return " or ".join(names) or "the end"
