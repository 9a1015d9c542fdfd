"""What a section must do with what nobody should send it: refuse it, and harm nothing else."""

from __future__ import annotations

import random
import tracemalloc
from typing import TYPE_CHECKING, Final

from transship.errors import RemoteError
from transship.testing.carrying import (
    Carrier,
    EndedElsewhereError,
    in_time,
    stream_of,
    stretches_of,
)
from transship.testing.checking import require
from transship.testing.guests import FakeGuest
from transship.wire.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.testing.section_case import SavedRecord, SectionCase

_SEED: Final = 20_261_127
"""Makes the damage the same in every run."""

_DAMAGED: Final = 250
"""Streams of each kind of damage: every place of a short one, some of a long one."""

_HEAD_BYTES: Final = 16
"""At the start of a record; each of their bits is changed."""

_MOST_BYTES: Final = 80 * MIB
"""What loading may take besides the guest: the largest buffer of device state, and some."""


def check_refuses_cut_streams(case: SectionCase) -> None:
    """A body that ends early is refused, wherever it ends."""
    records = Carrier.of_source(case).save(case.step)
    whole = stream_of(records)
    places = [place for stretch in stretches_of(records) for place in stretch]
    for place in _some(places):
        what = f"a stream cut at byte {place}"
        refusal = _load_hostile(case, records, whole[:place], what)
        require(isinstance(refusal, RemoteError), f"{what} was taken for whole")


def check_refuses_damage(case: SectionCase) -> None:
    """Changed bytes are refused, or are another state; nothing else is harmed."""
    records = Carrier.of_source(case).save(case.step)
    whole = stream_of(records)
    stretches = stretches_of(records)
    for place in [place for stretch in stretches for place in stretch[:_HEAD_BYTES]]:
        for bit in range(8):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            _load_hostile(case, records, bytes(data), f"a stream with bit {bit} of {place} changed")
    places = [place for stretch in stretches for place in stretch]
    chance = random.Random(_SEED)
    for number in range(_DAMAGED):
        data = bytearray(whole)
        changed = sorted(chance.sample(places, min(len(places), 1 + number % 4)))
        for place in changed:
            data[place] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        _load_hostile(case, records, bytes(data), f"a stream changed at {changed}")


def check_bounds_its_memory(case: SectionCase) -> None:
    """Numbers as large as they come, wherever they are, cost no memory and no time."""
    records = Carrier.of_source(case).save(case.step)
    whole = stream_of(records)
    places = [place for stretch in stretches_of(records) for place in stretch]
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        for number, place in enumerate(_some(places)):
            width = (1, 2, 4, 8)[number % 4]
            data = whole[:place] + b"\xff" * width + whole[place + width :]
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            _load_hostile(case, records, data, f"{width} bytes 0xff at {place}")
            _, peak = tracemalloc.get_traced_memory()
            require(
                peak - before <= _MOST_BYTES + 4 * len(whole),
                f"{peak - before} bytes of memory were taken for {width} bytes 0xff at {place}",
            )
    finally:
        if not was_tracing:
            tracemalloc.stop()


def _some(places: Sequence[int]) -> Sequence[int]:
    """All places of a few, and else the first ones and some of the others, in order."""
    if len(places) <= _DAMAGED:
        return places
    chosen = random.Random(_SEED).sample(places[_DAMAGED // 2 :], _DAMAGED // 2)
    return [*places[: _DAMAGED // 2], *sorted(chosen)]


def _load_hostile(
    case: SectionCase, records: Sequence[SavedRecord], data: bytes, what: str
) -> RemoteError | EndedElsewhereError | None:
    """Load what may be wrong; returns how it was refused."""
    destination = Carrier.of_destination(case)
    refusal: RemoteError | EndedElsewhereError | None = None
    try:
        in_time(f"loading {what}", lambda: destination.load(records, data=data))
    except RemoteError as error:
        require(bool(error.cause), f"{what} was refused without a reason")
        refusal = error
    except EndedElsewhereError as error:
        refusal = error
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what} is no StreamError but {error!r}") from error
    guest = destination.guest
    if isinstance(guest, FakeGuest):
        require(guest.has_whole_fences(), f"{what} was written beyond the guest's memory")
    return refusal


HOSTILE_SECTION_CHECKS: Final = (
    check_refuses_cut_streams,
    check_refuses_damage,
    check_bounds_its_memory,
)
"""In the order in which a new section comes to pass them."""
