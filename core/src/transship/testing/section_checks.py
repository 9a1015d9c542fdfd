"""What every section must do, one function a rule; :func:`check_section` runs them all.

Each takes a :class:`SectionCase` and raises ``AssertionError`` with the rule that was broken. None
needs a test framework, and none needs an event loop.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Final

from transship.errors import RemoteError
from transship.testing.carrying import (
    LENT_BUFFERS,
    Carrier,
    EndedElsewhereError,
    buffer_of,
    content_of,
    in_another_thread,
    in_time,
    stream_of,
)
from transship.testing.checking import PATIENCE_S, naming, require
from transship.testing.hostile_section_checks import HOSTILE_SECTION_CHECKS
from transship.testing.live_section_checks import LIVE_SECTION_CHECKS
from transship.testing.section_case import (
    GoldenSection,
    MakeGuest,
    MakeSection,
    SavedRecord,
    SectionCase,
)
from transship.wire.limits import IDSTR_BYTES, MIB
from transship.wire.reader import InThread, StreamReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transship.abc.guest import Guest
    from transship.abc.section import Segments
    from transship.buffers import Buffer


def check_section(
    make_section: MakeSection,
    make_guest: MakeGuest,
    make_destination: MakeGuest,
    *,
    golden: Sequence[GoldenSection] = (),
) -> None:
    """Run every check; those of live sections where it is one.

    Args:
        make_section: Makes the section of one migration of a guest.
        make_guest: Makes the source's guest; called once or more for each check.
        make_destination: Makes the guest that is loaded into, in another state.
        golden: Streams of older versions, at least one of each that still loads.

    Raises:
        AssertionError: A rule is broken; a note names the check.
    """
    case = SectionCase(make_section, make_guest, make_destination, golden=golden)
    for check in (*SECTION_CHECKS, *LIVE_SECTION_CHECKS):
        with naming(check):
            check(case)


def check_says_what_it_is(case: SectionCase) -> None:
    """A section has a name and versions that fit the stream, and describes itself in JSON."""
    source = Carrier.of_source(case)
    section = source.section
    length = len(section.idstr.encode())
    require(0 < length <= IDSTR_BYTES, f"a name of {length} bytes does not fit the stream")
    require(
        0 <= section.minimum_version_id <= section.version_id < 1 << 32,
        f"writes version {section.version_id} and loads from {section.minimum_version_id}",
    )
    twin = Carrier.of_destination(case).section
    require(
        (section.idstr, section.instance_id, section.is_live)
        == (twin.idstr, twin.instance_id, twin.is_live),
        "the destination's section is another than the source's",
    )
    source.save()
    text = section.description()
    if text is not None:
        try:
            json.loads(text)
        except ValueError as error:
            raise AssertionError(f"the description is no JSON: {error}") from error
    for name, count in section.statistics().items():
        require(isinstance(count, int), f"the counter {name!r} is {count!r}")


def check_loads_what_it_saved(case: SectionCase) -> None:
    """What is saved while the guest works, and then loaded, is the same state."""
    _require_arrival(case, 1 << 20)


def check_loads_byte_by_byte(case: SectionCase) -> None:
    """The same when no two bytes arrive together."""
    _require_arrival(case, 1)


def check_works_in_any_thread(case: SectionCase) -> None:
    """The same when each step of saving and loading is another thread's."""
    source, destination = Carrier.of_source(case), Carrier.of_destination(case)
    records = source.save(case.step, call=in_another_thread)
    destination.load(records, call=in_another_thread)
    _require_the_same(case, source, destination)


_MOST_SHOWN: Final = 400
"""Characters of a state that a message shows."""


def _require_the_same(case: SectionCase, source: Carrier, destination: Carrier) -> None:
    saved, loaded = case.state_of(source.guest), case.state_of(destination.guest)
    if loaded != saved:
        raise AssertionError(
            "what was loaded is not what was saved\n"
            f"  saved:  {_shown(saved)}\n  loaded: {_shown(loaded)}"
        )


def _shown(state: object) -> str:
    text = repr(state)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _require_arrival(case: SectionCase, step_bytes: int) -> None:
    source, destination = Carrier.of_source(case), Carrier.of_destination(case)
    require(
        case.state_of(destination.guest) != case.state_of(source.guest),
        "both guests are in the same state, so that nothing can be seen to arrive",
    )
    records = source.save(case.step)
    try:
        in_time(
            "loading",
            lambda: destination.load(records, step_bytes=step_bytes),
            seconds=6 * PATIENCE_S,
        )
    except (RemoteError, EndedElsewhereError) as error:
        raise AssertionError(f"what was saved is refused: {error}") from error
    _require_the_same(case, source, destination)


def check_leaves_the_guest_as_it_was(case: SectionCase) -> None:
    """Saving changes nothing of a guest that stands still, so that it can go on here."""
    source = Carrier.of_source(case)
    before = case.state_of(source.guest)
    source.save()
    require(case.state_of(source.guest) == before, "saving has changed the guest")


def check_lends_its_buffers(case: SectionCase) -> None:
    """A buffer stays as it is until the next two have been asked for."""
    source = Carrier.of_source(case)
    for make in _records_of(source):
        segments = make()
        lent: list[tuple[bytes, Buffer]] = []
        try:
            for segment in segments:
                buffer = buffer_of(segment)
                if len(lent) == LENT_BUFFERS:
                    lent.pop(0)
                lent.append((bytes(buffer), buffer))
                for content, borrowed in lent:
                    require(content_of(borrowed) == content, "a buffer changed while it was lent")
        finally:
            segments.close()


def _records_of(source: Carrier) -> Iterator[Callable[[], Segments]]:
    """What makes the generators of all records, in order; guests stand still."""
    if source.section.is_live:
        yield source.begin
        for _ in range(3):
            yield lambda: source.iterate(MIB)
    yield source.complete


def check_holds_no_views_when_saved(case: SectionCase) -> None:
    """Left at whatever step, saving lets go of the guest: the generator is closed, then cancel."""
    for steps in _steps():
        source = Carrier.of_source(case)
        is_over = _save_until(source, steps)
        source.cancel()
        _require_free(source.guest, f"after {steps} steps of saving")
        if is_over:
            return


def check_holds_no_views_when_loaded(case: SectionCase) -> None:
    """Left at whatever step, loading lets go of the guest when its parser is closed."""
    records = Carrier.of_source(case).save(case.step)
    for steps in _steps():
        destination = Carrier.of_destination(case)
        is_over = _load_until(destination, records, steps)
        _require_free(destination.guest, f"after {steps} steps of loading")
        if is_over:
            return


def _steps() -> Iterator[int]:
    """Every small number of steps, then some."""
    yield from range(20)
    step = 20
    while step < 100_000:
        yield step
        step += step // 2


def _save_until(source: Carrier, steps: int) -> bool:
    """Take so many steps, close the record's generator; whether there are no more."""
    for make in _records_of(source):
        segments = make()
        try:
            while steps:
                steps -= 1
                if next(segments, None) is None:
                    break
            else:
                return False
        finally:
            segments.close()
    return True


def _load_until(destination: Carrier, records: Sequence[SavedRecord], steps: int) -> bool:
    """Take so many steps with 64 KiB at a time, close the parser; whether there are no more."""
    source = io.BytesIO(stream_of(records))
    reader = StreamReader()
    parsing = destination.parse(records, reader)
    try:
        for _ in range(steps):
            want = next(parsing, None)
            if want is None:
                return True
            if isinstance(want, memoryview):
                reader.landed(source.readinto(want))
            elif isinstance(want, InThread):
                want.do()
            elif want:
                with reader.writable()[:65_536] as room:
                    reader.received(source.readinto(room))
    finally:
        parsing.close()
    return False


def _require_free(guest: Guest, when: str) -> None:
    """Close the guest's memory: that fails while somebody holds a view of it."""
    for block in guest.ram_blocks():
        try:
            block.close()
        except BufferError as error:
            raise AssertionError(f"a view of {block.idstr!r} is held {when}") from error


def check_loads_old_versions(case: SectionCase) -> None:
    """Streams that were kept load to the state that they always had, whatever wrote them.

    There is one at least for each version that is older than the newest and still loads.
    """
    section = Carrier.of_destination(case).section
    old = range(section.minimum_version_id, section.version_id)
    missing = set(old) - {kept.version_id for kept in case.golden}
    require(not missing, f"no stream was kept of version {', '.join(map(str, sorted(missing)))}")
    for kept in case.golden:
        require(
            section.minimum_version_id <= kept.version_id <= section.version_id,
            f"version {kept.version_id} is no longer loaded",
        )
        for step_bytes in (1 << 20, 1):
            destination = Carrier.of_destination(case)
            try:
                destination.load(kept.records, step_bytes=step_bytes, version_id=kept.version_id)
            except (RemoteError, EndedElsewhereError) as error:
                raise AssertionError(f"version {kept.version_id} is refused: {error}") from error
            require(
                case.state_of(destination.guest) == kept.state,
                f"version {kept.version_id} loads to another state",
            )


SECTION_CHECKS: Final = (
    check_says_what_it_is,
    check_loads_what_it_saved,
    check_loads_byte_by_byte,
    check_works_in_any_thread,
    check_leaves_the_guest_as_it_was,
    check_lends_its_buffers,
    check_holds_no_views_when_saved,
    check_holds_no_views_when_loaded,
    *HOSTILE_SECTION_CHECKS,
    check_loads_old_versions,
)
"""In the order in which a new section comes to pass them."""
