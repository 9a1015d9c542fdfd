"""How much one client may ask of the server. Each limit names what it bounds and why the number.

Real clients stay far below all of them; they keep one that is broken, or hostile, from taking
memory or time from the migrations of this process. Those of a client's file descriptors stand in
:mod:`transship.control.descriptors`.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

MESSAGE_BYTES: Final = MIB
"""One message, from its first brace to its last. The largest sensible one maps a few thousand block
bitmaps to their aliases, at about 100 bytes each. QEMU takes 64 MiB."""

MESSAGE_DEPTH: Final = 128
"""Objects and arrays within each other. The deepest argument of a command has 6; the rest is for an
``id``, which may be any JSON. QEMU takes 1024, which is what Python's own parser cannot do."""

MESSAGE_TOKENS: Final = 64 * KIB
"""Brackets, commas and strings in one message. A Python value takes up to 200 bytes where its text
has 3, so the bytes alone do not bound memory. QEMU takes two million."""

READ_BYTES: Final = 64 * KIB
"""Taken from a socket at once. Finding the messages in it, and parsing the one that ends there,
keeps the event loop for 0.1 s at worst, and for less than 1 ms with any real client."""

COMMANDS_IN_FLIGHT: Final = 8
"""Commands of one client that are read and not answered; QEMU's number, which clients rely on."""

CLIENTS: Final = 64
"""Clients at once. Each may cost the memory that the limits here allow, some 4 MiB, and file
descriptors; real ones are a management layer and a few people."""

OUTPUT_BYTES: Final = MIB
"""Kept for a client that does not read, besides what the kernel keeps (some 200 KiB). An event has
about 150 bytes: whoever leaves 7000 of them unread will not come back for them."""

OUTPUT_LOW_BYTES: Final = 64 * KIB
"""A client with more than this unread gets no further command carried out until it reads."""

UNREAD_S: Final = 60.0
"""How long a client may take nothing of what is kept for it."""

FLUSH_S: Final = 1.0
"""How long the end of the server waits for clients to take their last replies: that to ``quit``."""

LINGER_S: Final = 5.0
"""How long a client that exceeded a limit is still listened to, without heed, so that it can read
why: closing at once would make TCP throw the reply away."""

ACCEPT_PAUSE_S: Final = 0.1
"""After a connection could not be accepted: there may be file descriptors again by then."""

BACKLOG: Final = 128
"""Connections that wait to be accepted, which takes no longer than the event loop's turn."""
