"""What a migration counts and times, each figure defined here."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Statistics:
    """Figures of one migration, on either side; times in seconds, unknown ones None.

    Args:
        transferred_bytes: All bytes of the stream so far, headers and device state included.
        remaining_bytes: What is still to be sent, by the last estimate (source).
        total_bytes: Size of all RAM blocks.
        rounds: Synchronisations of the dirty log; the final one counts.
        bandwidth_bytes_per_s: Achieved in the last slice of 100 ms (source).
        setup_s: How long the START records took (source).
        total_s: From the start (source) or the first contact (destination) to the end.
        downtime_s: From the pause of the guest to the destination's word that it runs; without
            a return path, to the last byte sent (source).
        device_bytes: Device sections, headers included.
        sections: Counters of the live sections, by idstr.
    """

    transferred_bytes: int = 0
    remaining_bytes: int = 0
    total_bytes: int = 0
    rounds: int = 0
    bandwidth_bytes_per_s: float = 0.0
    setup_s: float | None = None
    total_s: float = 0.0
    downtime_s: float | None = None
    device_bytes: int = 0
    sections: dict[str, dict[str, int]] = field(default_factory=dict)
