"""RAMBlock: named, contiguous guest RAM in this process's address space."""

from __future__ import annotations

import errno
import mmap
import os

from transship.errors import RemoteError


class RAMBlock:
    """A block of guest RAM over a mapping.

    Args:
        idstr: Name in the stream.
        mapping: The memory, of ``max_length`` bytes. Owned by the block from now on.
        used_length: Bytes in use, a multiple of the page size; all of the mapping, if not given.
        page_size: Bytes of a page.
        descriptor: A file that the mapping shows, if any; owned by the block as well. Its holes
            become backed by storage before they are written (:meth:`reserve`), so that a full
            disk is an error here and not the end of the process.

    Raises:
        ValueError: A length is no number of whole pages, or more is in use than there is.
    """

    def __init__(
        self,
        idstr: str,
        mapping: mmap.mmap,
        used_length: int | None = None,
        *,
        page_size: int = 4096,
        descriptor: int | None = None,
    ) -> None:
        self.idstr = idstr
        self.page_size = page_size
        self.max_length = len(mapping)
        self.used_length = self.max_length if used_length is None else used_length
        if self.max_length % page_size or self.used_length % page_size:
            raise ValueError(
                f"RAM block {idstr!r} is not whole pages of {page_size} bytes: "
                f"{self.used_length} of {self.max_length} bytes in use"
            )
        if not 0 < self.used_length <= self.max_length:
            raise ValueError(f"{self.used_length} of {self.max_length} bytes cannot be in use")
        self._mapping = mapping
        self._view = memoryview(mapping)
        self._descriptor = descriptor
        pages_of_file = self.max_length // page_size if descriptor is not None else 0
        self._reserved = bytearray(pages_of_file)
        self._populated = bytearray(pages_of_file)

    @classmethod
    def anonymous(cls, idstr: str, length: int, *, page_size: int = 4096) -> RAMBlock:
        """A block over fresh memory, all zero; it costs nothing until it is written."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        return cls(idstr, mmap.mmap(-1, length, flags=flags), page_size=page_size)

    @property
    def pages(self) -> int:
        """How many pages are in use."""
        return self.used_length // self.page_size

    @property
    def view(self) -> memoryview:
        """The bytes in use.

        Guest memory changes under the reader; let go of views soon, since the block cannot be
        closed while one lives.
        """
        return self._view[: self.used_length]

    def reserve(self, first: int, count: int) -> None:
        """Make sure that pages can be written: called before every write but the guest's own.

        Raises:
            OSError: There is no room left on the disk.
        """
        if self._descriptor is None or self._reserved.find(0, first, first + count) < 0:
            return
        os.posix_fallocate(self._descriptor, first * self.page_size, count * self.page_size)
        self._reserved[first : first + count] = b"\x01" * count
        self._populated[first : first + count] = b"\x01" * count

    def find_holes(self, first: int, count: int) -> bytes:
        """Find the pages that are known to be zero because nothing was ever written to them.

        The pages themselves are not read, which would give storage to some of them. What the
        guest writes meanwhile may or may not be seen: ask after its dirty bit was cleared.

        Returns:
            One byte a page, 1 for a hole.
        """
        holes = bytearray(count)
        if self._descriptor is None:
            return bytes(holes)
        end = first + count
        page = self._populated.find(0, first, end)
        while page >= 0:
            data_first, data_end = self._next_data(self._descriptor, page)
            self._populated[data_first:data_end] = b"\x01" * (data_end - data_first)
            hole_end = self._populated.find(1, page, end)
            if hole_end < 0:
                hole_end = end
            holes[page - first : hole_end - first] = b"\x01" * (hole_end - page)
            page = self._populated.find(0, hole_end, end)
        return bytes(holes)

    def _next_data(self, descriptor: int, page: int) -> tuple[int, int]:
        """The first run of pages with data, at or after ``page``, as first and end.

        Where the file system knows of no holes everything is data.
        """
        last = len(self._populated)
        try:
            start = os.lseek(descriptor, page * self.page_size, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            return (last, last) if error.errno == errno.ENXIO else (page, last)
        return start // self.page_size, min(-(-end // self.page_size), last)

    def resize(self, used_length: int) -> None:
        """Change how much is in use.

        Raises:
            RemoteError: The mapping is too small, or it is no number of whole pages.
        """
        if used_length == self.used_length:
            return
        if not 0 < used_length <= self.max_length or used_length % self.page_size:
            raise RemoteError(
                f"RAM block {self.idstr!r} cannot have the source's length",
                expected=f"{self.used_length} bytes, or whole pages up to {self.max_length}",
                found=f"{used_length} bytes",
            )
        self.used_length = used_length

    def flush(self) -> None:
        """Write the mapping to its file and the file to the disk, if it has one."""
        if self._descriptor is not None:
            self._mapping.flush()
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Give the memory back; idempotent.

        Raises:
            BufferError: Somebody still holds a view. The file is closed all the same; the
                memory goes with the last view, or when this is called again.
        """
        self._view.release()
        try:
            self._mapping.close()
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
