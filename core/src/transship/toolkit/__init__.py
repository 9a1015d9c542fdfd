"""Building blocks for authors of transports and sections.

A plugin may import from here; nothing here knows of URIs, hooks or migrations.
"""

from __future__ import annotations

from transship.toolkit.ancillary import descriptors_in, room_for_descriptors
from transship.toolkit.blocking_socket import BlockingSocketReceiver, BlockingSocketSender
from transship.toolkit.conflict import ConflictDetector
from transship.toolkit.filling import fill_targets
from transship.toolkit.socket_channel import SocketChannel
from transship.toolkit.socket_file import SocketFile
from transship.toolkit.socket_listener import SocketListener

__all__ = [
    "BlockingSocketReceiver",
    "BlockingSocketSender",
    "ConflictDetector",
    "SocketChannel",
    "SocketFile",
    "SocketListener",
    "descriptors_in",
    "fill_targets",
    "room_for_descriptors",
]
