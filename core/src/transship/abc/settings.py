"""What an operator has set: capabilities, which stay as they are, and parameters, which may change.

Inside, times are seconds and sizes are bytes; the units that operators see belong to control.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from transship.errors import BlockedError
from transship.wire.limits import IDSTR_BYTES, MIB
from transship.wire.multifd import CHANNELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transship.abc.compression import Compression
    from transship.abc.security import ChannelSecurity


NO_COMPRESSION: Final = "none"


class Capability(StrEnum):
    """A yes or no that a migration is begun with; the values are the words that operators use.

    What a channel can do is called a capability too, and is a type: see ``Channel.capability``.
    """

    XBZRLE = "xbzrle"
    """Pages that were sent before are sent as what has changed of them."""
    AUTO_CONVERGE = "auto-converge"
    """The guest is slowed down, step by step, while it dirties faster than the channel carries."""
    EVENTS = "events"
    """Control reports every status and every pass."""
    RETURN_PATH = "return-path"
    """A channel without a return path is refused; where there is one it is always used."""
    PAUSE_BEFORE_SWITCHOVER = "pause-before-switchover"
    """The source waits, its guest paused, until it is told to go on."""
    MULTIFD = "multifd"
    """Memory goes over several channels at once; both sides have to agree on it."""
    RDMA_PIN_ALL = "rdma-pin-all"
    """Memory that is written remotely is registered all at once, not each part when it is due."""
    MAPPED_RAM = "mapped-ram"
    """Each page has a place of its own in the file that the stream goes to; both sides agree."""
    BLOCK = "block"
    """The contents of the guest's disks are sent as well, before its memory."""
    ZERO_BLOCKS = "zero-blocks"
    """Parts of disks that are all zero are sent as a mark."""
    DIRTY_BITMAPS = "dirty-bitmaps"
    """The named dirty bitmaps of the guest's disks are sent as well."""


def check_capabilities(names: Iterable[str]) -> None:
    """Make sure that capabilities exist, and that they can be on together.

    Raises:
        BlockedError: One is unknown, or two exclude each other.
    """
    on = frozenset(names)
    if unknown := on - frozenset(Capability):
        raise BlockedError(
            "no such capability",
            expected=" or ".join(Capability),
            found=", ".join(sorted(unknown)),
        )
    if on >= {Capability.MULTIFD, Capability.XBZRLE}:
        raise BlockedError("capabilities 'multifd' and 'xbzrle' exclude each other")
    if on >= {Capability.MAPPED_RAM, Capability.XBZRLE}:
        raise BlockedError("capabilities 'mapped-ram' and 'xbzrle' exclude each other")


@dataclass(frozen=True, slots=True)
class BitmapAlias:
    """What a dirty bitmap is called in the stream.

    Args:
        name: On this side.
        alias: In the stream.
        is_persistent: Whether it is to be stored with its disk; None leaves that as it is.
    """

    name: str
    alias: str
    is_persistent: bool | None = None


@dataclass(frozen=True, slots=True)
class NodeAlias:
    """What a disk is called where dirty bitmaps are sent, and which of its bitmaps are.

    Args:
        node_name: The disk's, on this side.
        alias: In the stream.
        bitmaps: Those that are sent, or taken.
    """

    node_name: str
    alias: str
    bitmaps: tuple[BitmapAlias, ...] = ()


def check_mapping(mapping: Iterable[NodeAlias]) -> None:
    """Make sure that each name has one alias, each alias one name, and that all fit the stream.

    Raises:
        ValueError: Two are the same, one is empty, or one is longer than 255 bytes.
    """
    nodes = list(mapping)
    _check_names("node name", [node.node_name for node in nodes])
    _check_names("node alias", [node.alias for node in nodes])
    for node in nodes:
        _check_names("bitmap name", [bitmap.name for bitmap in node.bitmaps])
        _check_names("bitmap alias", [bitmap.alias for bitmap in node.bitmaps])


def _check_names(kind: str, names: list[str]) -> None:
    for name in names:
        if not 0 < len(name.encode()) <= IDSTR_BYTES:
            raise ValueError(f"{kind} {name[:40]!r} must be 1 to {IDSTR_BYTES} bytes long")
        if names.count(name) > 1:
            raise ValueError(f"{kind} {name!r} is there twice")


_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "max_bandwidth_bytes_per_s": (0, math.inf),
    "downtime_limit_s": (0, math.inf),
    "switchover_bandwidth_bytes_per_s": (0, math.inf),
    "xbzrle_cache_bytes": (1, math.inf),
    "multifd_channels": (1, CHANNELS),
    "multifd_zlib_level": (0, 9),
    "multifd_zstd_level": (0, 20),
    "throttle_trigger_percent": (1, math.inf),
    "throttle_initial_percent": (1, 99),
    "throttle_increment_percent": (1, 99),
    "throttle_max_percent": (1, 99),
    "announce_initial_s": (0, math.inf),
    "announce_step_s": (0, math.inf),
    "announce_max_s": (0, math.inf),
    "announce_rounds": (0, math.inf),
}
"""Of each number, the least and the most; time-outs have no most, and are more than nothing."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What an operator may tune.

    All but the time-outs and those of multifd and of disks may be changed while a migration runs,
    and act within a slice; of a time-out, nobody says when. Those of multifd hold as they are when
    the channel is there, those of disks as they are when the first of them is sent or comes.

    Args:
        max_bandwidth_bytes_per_s: Cap of the send rate while the guest runs; 0 is unlimited.
        downtime_limit_s: How long the guest may stand still for what is left to be sent.
        switchover_bandwidth_bytes_per_s: What the channel is taken to carry at switchover; 0 is
            the lowest rate of the last five slices. Never a cap.
        xbzrle_cache_bytes: Size of the cache of sent pages; a power of two, at least one page.
        multifd_channels: Over how many channels memory goes, besides the one of the stream; the
            same on both sides.
        multifd_compression: The method by which memory is compressed on those, or ``none``; the
            same on both sides.
        multifd_zlib_level: How hard ``zlib`` tries, 0 to 9.
        multifd_zstd_level: How hard ``zstd`` tries, 0 to 20.
        throttle_trigger_percent: How much of what was sent a guest may dirty in the same time.
        throttle_initial_percent: The share of its time that is withheld from the guest at first.
        throttle_increment_percent: By how much that grows.
        throttle_max_percent: Up to what.
        throttle_tailslow: Whether it grows by less where less would do.
        announce_initial_s: Between the first announcement, made on arrival, and the second.
        announce_step_s: By how much the time between two announcements grows.
        announce_max_s: Up to what.
        announce_rounds: How many announcements there are.
        connect_timeout_s: Until the channel must be there.
        stall_timeout_s: How long a send, or a receive that is due, may make no progress.
        handover_timeout_s: How long the destination may take to load the last of it, to make it
            durable, and to say so.
        guest_timeout_s: How long the guest may take to wake, to pause, or to resume.
        cleanup_timeout_s: How long closing and telling the peer may take after a failure.
        tls_creds: What this side proves itself with: a folder of certificates, which has a slash
            in its name, or the name of an object of the host's; empty for no encryption.
        tls_hostname: The name that the destination's certificate must have; empty for the one in
            the address.
        tls_authz: Whom the destination lets in, besides having verified them: a file of rules,
            which has a slash in its name, or the name of an object; empty for everybody.
        block_incremental: Whether of a disk only what it does not have from a base is sent, with
            the capability ``block``; the destination has the same base.
        block_bitmap_mapping: What disks and dirty bitmaps are called in the stream, and which are
            sent or taken; None for all, by their own names.
    """

    max_bandwidth_bytes_per_s: int = 128 * MIB
    downtime_limit_s: float = 0.3
    switchover_bandwidth_bytes_per_s: int = 0
    xbzrle_cache_bytes: int = 64 * MIB
    multifd_channels: int = 2
    multifd_compression: str = NO_COMPRESSION
    multifd_zlib_level: int = 1
    multifd_zstd_level: int = 1
    throttle_trigger_percent: int = 50
    throttle_initial_percent: int = 20
    throttle_increment_percent: int = 10
    throttle_max_percent: int = 99
    throttle_tailslow: bool = False
    announce_initial_s: float = 0.05
    announce_step_s: float = 0.1
    announce_max_s: float = 0.55
    announce_rounds: int = 5
    connect_timeout_s: float = 30.0
    stall_timeout_s: float = 30.0
    handover_timeout_s: float = 300.0
    guest_timeout_s: float = 10.0
    cleanup_timeout_s: float = 1.0
    tls_creds: str = ""
    tls_hostname: str = ""
    tls_authz: str = ""
    block_incremental: bool = False
    block_bitmap_mapping: tuple[NodeAlias, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ValueError: A number is out of its range, or the cache's size no power of two.
        """
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                expected = f"{least} or more" if most == math.inf else f"{least} to {most}"
                raise ValueError(f"{name} is {value}, must be {expected}")
        if self.xbzrle_cache_bytes & (self.xbzrle_cache_bytes - 1):
            raise ValueError(f"xbzrle_cache_bytes is {self.xbzrle_cache_bytes}, no power of two")
        check_mapping(self.block_bitmap_mapping or ())
        for one in fields(self):
            if one.name.endswith("_timeout_s") and not getattr(self, one.name) > 0:
                raise ValueError(f"{one.name} is {getattr(self, one.name)}, must be more than 0")

    @property
    def alive_interval_s(self) -> float:
        """How often a side that has nothing to send says that it is there."""
        return self.stall_timeout_s / 3

    @property
    def notice_timeout_s(self) -> float:
        """How long those who are told of something may take, so that no peer loses patience."""
        return self.stall_timeout_s / 6


QEMU_10_0: Final = Parameters()
"""The defaults: QEMU 10.0's 128 MiB/s and 300 ms."""


@dataclass(slots=True)
class Settings:
    """The settings of one migration, shared by all that takes part in it.

    Args:
        capabilities: Names of those that are on; fixed when the migration begins.
        parameters: Replaced as a whole when one is changed; whoever reads it again a slice later
            sees the change.
        compression: The method that ``multifd_compression`` names; None for none.
        security: What ``tls_creds`` names, for this side; None for none.
    """

    capabilities: frozenset[str] = frozenset()
    parameters: Parameters = field(default=QEMU_10_0)
    compression: Compression | None = None
    security: ChannelSecurity | None = None

    def __post_init__(self) -> None:
        """Refuse capabilities that cannot be had.

        Raises:
            BlockedError: See :func:`check_capabilities`.
        """
        check_capabilities(self.capabilities)

    def has(self, capability: str) -> bool:
        """Whether a capability is on."""
        return capability in self.capabilities
