"""Building blocks for authors of transports and sections.

A plugin may import from here; nothing here knows of URIs, hooks or migrations.
"""

from __future__ import annotations

from transship.toolkit.ancillary import descriptors_in, room_for_descriptors
from transship.toolkit.blocking_socket import BlockingSocketReceiver, BlockingSocketSender
from transship.toolkit.conflict import ConflictDetector
from transship.toolkit.descriptor_channel import DescriptorSocketChannel
from transship.toolkit.file_channel import FileChannel, stored_or_not
from transship.toolkit.filling import fill_targets
from transship.toolkit.guarded_channel import GuardedChannel
from transship.toolkit.introductions import introducing_listener
from transship.toolkit.known_options import refuse_unknown_options
from transship.toolkit.network_address import AddressText, NetworkAddress, OptionReader
from transship.toolkit.network_sockets import (
    SocketAddress,
    connect_to,
    keep_alive,
    listen_on,
    new_socket,
    resolve,
    uri_of,
)
from transship.toolkit.owned_nursery import OwnedNursery
from transship.toolkit.peer import PeerProcess, peer_process
from transship.toolkit.pipe_channel import PipeChannel
from transship.toolkit.range_locks import RangeLocks
from transship.toolkit.single_listener import SingleListener
from transship.toolkit.socket_channel import SocketChannel
from transship.toolkit.socket_file import SocketFile
from transship.toolkit.socket_listener import SocketListener

__all__ = [
    "AddressText",
    "BlockingSocketReceiver",
    "BlockingSocketSender",
    "ConflictDetector",
    "DescriptorSocketChannel",
    "FileChannel",
    "GuardedChannel",
    "NetworkAddress",
    "OptionReader",
    "OwnedNursery",
    "PeerProcess",
    "PipeChannel",
    "RangeLocks",
    "SingleListener",
    "SocketAddress",
    "SocketChannel",
    "SocketFile",
    "SocketListener",
    "connect_to",
    "descriptors_in",
    "fill_targets",
    "introducing_listener",
    "keep_alive",
    "listen_on",
    "new_socket",
    "peer_process",
    "refuse_unknown_options",
    "resolve",
    "room_for_descriptors",
    "stored_or_not",
    "uri_of",
]
