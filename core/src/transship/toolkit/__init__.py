"""Building blocks for authors of transports and sections.

A plugin may import from here; nothing here knows of URIs, hooks or migrations.
"""

from __future__ import annotations

from transship.toolkit.blocking_socket import BlockingSocketChannel
from transship.toolkit.conflict import ConflictDetector
from transship.toolkit.socket_channel import SocketChannel
from transship.toolkit.socket_file import SocketFile
from transship.toolkit.socket_listener import SocketListener

__all__ = [
    "BlockingSocketChannel",
    "ConflictDetector",
    "SocketChannel",
    "SocketFile",
    "SocketListener",
]
