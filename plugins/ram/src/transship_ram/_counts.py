"""What the source counts about the pages that it has dealt with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SentCounts:
    """How many pages went as what; one that was dealt with twice counts twice.

    Args:
        normal: Sent in full.
        duplicate: Sent as zero.
        hits: Found in the cache of XBZRLE, and compared with what is there.
        misses: Not found there, though XBZRLE had started.
        overflows: Hits that were sent in full, since their change did not fit a page.
        changes: Hits that were sent as a change. All other hits were unchanged, and not sent.
        change_bytes: Of records of changes, without their words; and a page for each overflow.
        encoded_bytes: Of the encodings in those records.
        cache_bytes: The size of the cache; not counted, but told.
    """

    normal: int = 0
    duplicate: int = 0
    hits: int = 0
    misses: int = 0
    overflows: int = 0
    changes: int = 0
    change_bytes: int = 0
    encoded_bytes: int = 0
    cache_bytes: int = 0

    @property
    def handled(self) -> int:
        """Pages dealt with, each once; an overflow is one of those sent in full."""
        return self.normal + self.duplicate + self.hits - self.overflows

    def of_xbzrle(self, page_size: int) -> dict[str, int]:
        """See :meth:`transship_ram._section.RAMSection.statistics`."""
        return {
            "xbzrle_cache_size": self.cache_bytes,
            "xbzrle_bytes": self.change_bytes,
            "xbzrle_pages": self.hits,
            "xbzrle_cache_miss": self.misses,
            "xbzrle_overflow": self.overflows,
            "xbzrle_raw_bytes": self.changes * page_size,
            "xbzrle_encoded_bytes": self.encoded_bytes,
        }
