"""Tunable numbers of a migration, and the two sets of defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from transship.wire.limits import MIB


@dataclass(frozen=True, slots=True)
class Parameters:
    """What an operator may tune.

    Args:
        max_bandwidth_bytes_per_s: Cap of the send rate while the guest runs; 0 is unlimited.
        downtime_limit_s: How long the guest may stand still for what is left to be sent.
        connect_timeout_s: Until the channel must be there.
        stall_timeout_s: How long a send, or a receive that is due, may make no progress.
        handover_timeout_s: How long the destination may take to load the last of it, to make it
            durable, and to say so.
        guest_timeout_s: How long the guest may take to pause, or to resume.
        cleanup_timeout_s: How long closing and telling the peer may take after a failure.
    """

    max_bandwidth_bytes_per_s: int = 128 * MIB
    downtime_limit_s: float = 0.3
    connect_timeout_s: float = 30.0
    stall_timeout_s: float = 30.0
    handover_timeout_s: float = 300.0
    guest_timeout_s: float = 10.0
    cleanup_timeout_s: float = 1.0


QEMU_10_0: Final = Parameters()
"""The defaults: QEMU 10.0's 128 MiB/s and 300 ms."""

SEED_2014: Final = Parameters(max_bandwidth_bytes_per_s=32 * MIB, downtime_limit_s=0.03)
"""The defaults of 2014: 32 MiB/s and 30 ms."""
