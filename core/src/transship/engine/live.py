"""The live sections of one migration: their records on the wire, and what they still have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from transship.abc.section import Pending, Section, SectionSet, Segments
from transship.engine.failures import concerning
from transship.wire import encoder
from transship.wire.constants import RecordType
from transship.wire.events import SectionHeader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from transship.engine.sender import StreamSender


def live_sections(sections: Iterable[Section]) -> list[Section]:
    """Those that are sent while the guest runs, if they have anything to send."""
    return [section for section in sections if section.is_live and section.is_needed()]


class LiveSections:
    """Sends START, PART and END records.

    Args:
        sections: Of this migration; those that are not live, or not needed, are passed over.
        section_ids: The number of each section, by idstr and instance.
        sender: Borrowed.
        on_sent: Called after each record, also after one that failed.
    """

    def __init__(
        self,
        sections: SectionSet,
        section_ids: Mapping[tuple[str, int], int],
        sender: StreamSender,
        on_sent: Callable[[], None],
    ) -> None:
        self._sections = sections
        self._live = live_sections(sections)
        self._section_ids = section_ids
        self._sender = sender
        self._on_sent = on_sent

    async def begin(self) -> None:
        """Send all START records."""
        for section in self._live:
            await self._send(RecordType.SECTION_START, section, self._sections.begin(section))

    async def iterate(self, budget_bytes: Callable[[], int]) -> None:
        """Send a part of a pass: in order, each section once those before it are through.

        Args:
            budget_bytes: Asked before each record for its share.
        """
        for section in self._live:
            body = self._sections.iterate(section, max(1, budget_bytes()))
            if not await self._send(RecordType.SECTION_PART, section, body):
                return

    async def complete(self) -> None:
        """Send all END records."""
        for section in self._live:
            await self._send(RecordType.SECTION_END, section, self._sections.complete(section))

    async def pending(self, *, exact: bool) -> Pending:
        """What they all still have to send; ``exact`` synchronises first, in a worker thread."""

        def ask() -> Pending:
            pending = Pending()
            for section in self._live:
                with concerning(section):
                    pending += self._sections.pending(section, exact=exact)
            return pending

        return await trio.to_thread.run_sync(ask) if exact else ask()

    async def _send(self, kind: RecordType, section: Section, body: Segments) -> bool:
        """Send one record; returns what its body returned."""
        section_id = self._section_ids[section.idstr, section.instance_id]
        header = SectionHeader(
            kind, section_id, section.idstr, section.instance_id, section.version_id
        )
        try:
            with concerning(section):
                return await self._sender.send_record(
                    encoder.section_header(header),
                    body,
                    encoder.section_footer(section_id),
                    paced=kind is RecordType.SECTION_PART,
                )
        finally:
            self._on_sent()
