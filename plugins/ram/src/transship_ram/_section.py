"""The section ``ram``: guest memory, live."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from transship import hookimpl
from transship.abc import (
    ChannelParsing,
    Guest,
    LiveCounters,
    Pending,
    Section,
    Segments,
    Settings,
)
from transship.wire.constants import RAM_SECTION_VERSION
from transship_ram._load import RAMLoader
from transship_ram._multifd import channel_count
from transship_ram._save import RAMSaver

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader
    from transship_ram._target import LoadedBlock


class RAMSection(Section):
    """Carries the RAM of one guest in one migration, to it or from it.

    Args:
        guest: The machine that moves, or that is filled.
        settings: Of the migration.
    """

    idstr = "ram"
    version_id = RAM_SECTION_VERSION
    minimum_version_id = RAM_SECTION_VERSION
    is_live = True

    def __init__(self, guest: Guest, settings: Settings) -> None:
        self._settings = settings
        self._saver = RAMSaver(guest, settings)
        self._loader = RAMLoader(guest, settings)

    @cached_property
    def extra_channels(self) -> int:
        """As many as the operator had set when this was first asked, with multifd; else none."""
        return channel_count(self._settings)

    @hookimpl
    def begin(self) -> Segments:
        """Yield the table of blocks, and begin to log writes."""
        return self._saver.begin(self.extra_channels)

    @hookimpl
    def iterate(self, budget_bytes: int) -> Segments:
        """Yield dirty pages up to the budget; the return value says whether none is left."""
        return self._saver.iterate(budget_bytes)

    @hookimpl
    def pending(self, exact: bool) -> Pending:
        """Say how many bytes of pages are dirty."""
        return self._saver.pending(exact)

    @hookimpl
    def complete(self) -> Segments:
        """Yield all pages that are still dirty, and end the logging."""
        return self._saver.complete()

    @hookimpl
    def cancel(self) -> None:
        """End the logging."""
        self._saver.end_logging()

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        """Parse the body of a record; pages go straight to the guest's blocks."""
        return self._loader.load(reader)

    @hookimpl
    def load_channel(self, number: int) -> ChannelParsing:
        """Parse what comes over an extra channel; pages are received into the guest's blocks."""
        return self._loader.load_channel()

    def remote_memory(self) -> Mapping[str, memoryview]:
        """The blocks, where their pages are sent one by one, and can be written one by one."""
        return self._loader.remote_memory() if self._loader.blocks else self._saver.remote_memory()

    def write_remotely(self) -> None:
        """Write pages that are not zero remotely, from now on."""
        self._saver.write_remotely()

    @property
    def loaded_blocks(self) -> Sequence[LoadedBlock]:
        """What has been loaded into each block, in the order of the table (destination)."""
        return self._loader.blocks

    def statistics(self) -> dict[str, int]:
        """Counters; all of them grow, but ``remaining``.

        On the source, as in QMP's ``query-migrate``: ``total`` and ``remaining`` bytes of RAM;
        ``transferred``, the bytes of page records and of the end word of each PART; ``normal``
        pages sent in full, ``normal_bytes`` of them, ``duplicate`` pages sent as zero;
        ``handled_pages``, all pages dealt with, each as one of sent in full, as zero, as a change,
        or not at all; ``dirty_sync_count``, 1 after the setup; ``dirtied_pages``, pages that became
        dirty as found by all syncs so far (its growth in a period is the dirty rate);
        ``page_size``.

        With XBZRLE also, and never without it: ``xbzrle_cache_size``, bytes of its cache, which
        does not only grow; ``xbzrle_pages``, pages found in the cache; ``xbzrle_cache_miss``,
        pages that were not zero and not found there, once XBZRLE had started;
        ``xbzrle_overflow``, pages found there that were sent in full, because their change takes
        more than a page; ``xbzrle_bytes``, bytes of records of changes, less 8 for each, and the
        page size for each overflow. A page found and not changed counts as found, and as nothing
        else. ``xbzrle_raw_bytes`` and ``xbzrle_encoded_bytes``: for pages sent as a change the
        bytes of the pages, and of their encodings alone. By their growth in a period, the one by
        the other is the encoding rate, and ``xbzrle_cache_miss`` by ``handled_pages`` the cache
        miss rate.

        With multifd also ``multifd_bytes``, all that went over the extra channels. Where memory is
        written remotely ``remote_bytes``, what of it was. Where memory was
        handed over on one host, ``shared_bytes``, that of it which was not sent.

        On the destination: ``total``, ``page_size``, and pages received as ``normal``, as
        ``duplicate``, which are zero, as ``xbzrle`` and as ``compressed``; a page that came twice
        counts twice.
        """
        return self._loader.statistics() if self._loader.blocks else self._saver.statistics()

    def live_counters(self) -> LiveCounters:
        """The same as ``transferred``, ``handled_pages``, ``remaining`` and so on (source)."""
        return self._saver.live_counters()
