"""What a migration counts and times, each figure defined here."""

from __future__ import annotations

from dataclasses import dataclass, field

from transship.engine.rates import Period


@dataclass(slots=True)
class Downtime:
    """Where the downtime went, in seconds; each part as the source sees it.

    Args:
        pause_s: Until the guest stood still.
        memory_s: For what was left of the live sections; waiting for ``continue`` included.
        devices_s: For gathering and sending the state of the devices.
        confirm_s: Until the destination said that it has loaded everything.
        start_s: Until it said that the guest is there.
    """

    pause_s: float = 0.0
    memory_s: float = 0.0
    devices_s: float = 0.0
    confirm_s: float = 0.0
    start_s: float = 0.0


@dataclass(slots=True)
class Statistics:
    """Figures of one migration, on either side; times in seconds, unknown ones None.

    Args:
        transferred_bytes: All bytes of the stream so far, headers and device state included.
        remaining_bytes: What is still to be sent, by the last estimate (source).
        total_bytes: Size of all RAM blocks.
        dirty_syncs: Synchronisations of the dirty log; the first and the final one count.
        dirty_log: Name of that log; None as long as no memory is being sent, and where all of it
            is handed over instead (source).
        bandwidth_bytes_per_s: Achieved in the last slice of 100 ms (source).
        pages_per_s: Pages handled in that slice, zero pages included (source).
        threshold_bytes: How much may be left at switchover: what the channel, at the lowest rate of
            the last five slices, carries within the downtime limit (source).
        expected_downtime_s: What was dirty at the last synchronisation, over that rate; the
            downtime limit until that can be told (source).
        downtime_bytes: Of memory, sent while the guest stood still (source).
        throttle_percent: The share of its time that is withheld from the guest (source).
        setup_s: How long the START records took (source).
        total_s: From the start (source) or the first contact (destination) to the end, or so far.
        downtime_s: From the pause of the guest to the destination's word that it runs; without
            a return path, to the last byte sent (source).
        downtime: Where it went (source).
        device_bytes: Device sections, headers included.
        period: The last whole period between two synchronisations (source).
        sections: What the live sections count for reports, by idstr.
    """

    transferred_bytes: int = 0
    remaining_bytes: int = 0
    total_bytes: int = 0
    dirty_syncs: int = 0
    dirty_log: str | None = None
    bandwidth_bytes_per_s: float = 0.0
    pages_per_s: float = 0.0
    threshold_bytes: int = 0
    expected_downtime_s: float | None = None
    downtime_bytes: int = 0
    throttle_percent: int = 0
    setup_s: float | None = None
    total_s: float = 0.0
    downtime_s: float | None = None
    downtime: Downtime = field(default_factory=Downtime)
    device_bytes: int = 0
    period: Period = field(default_factory=Period)
    sections: dict[str, dict[str, int]] = field(default_factory=dict)
