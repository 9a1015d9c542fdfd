"""RAMBlock: named, contiguous guest RAM in this process's address space."""

from __future__ import annotations

import errno
import mmap
import os
from typing import Literal

from transship.errors import LocalError, RemoteError
from transship.memory.holes import HoleMap
from transship.memory.mappings import (
    address_of,
    advise_huge_pages,
    create_memfd,
    empty,
    is_sealed_against_shrinking,
    map_anonymous,
    prefault as prefault_mapping,
)
from transship.memory.overlay import (
    is_written_here,
    pages_moved_away,
    show_nothing,
    show_private_copy,
    show_shared,
)

Backing = Literal["memfd", "anonymous"]
"""What guest RAM is made of: a file in memory that can be handed to another process of this host,
or memory of this process alone, which takes a stream more quickly."""


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
        memfd: A memfd that the mapping shows, if any, from its first byte; owned by the block as
            well.

    Raises:
        ValueError: A length is no number of whole pages, or more is in use than there is.

    Attributes:
        is_lent: Whether another process shows the same memory, and may become its owner.
        is_borrowed: Whether the memory is still another process's.
    """

    def __init__(
        self,
        idstr: str,
        mapping: mmap.mmap,
        used_length: int | None = None,
        *,
        page_size: int = 4096,
        descriptor: int | None = None,
        memfd: int | None = None,
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
        self._memfd = memfd
        self.is_lent = False
        self.is_borrowed = False
        self._is_untouched = False
        self._reserved = bytearray(0 if descriptor is None else self.max_length // page_size)
        self._holes = self._hole_map()

    @classmethod
    def allocate(
        cls,
        idstr: str,
        length: int,
        *,
        backing: Backing = "memfd",
        huge_pages: bool = True,
        prefault: bool = False,
        page_size: int = 4096,
    ) -> RAMBlock:
        """A block over fresh memory, all zero.

        Args:
            idstr: Name in the stream.
            length: Bytes, whole pages.
            backing: Of what.
            huge_pages: Whether to ask for huge pages; for a memfd the system's policy is mostly
                against it. First writes then cost much less, and single pages more memory.
            prefault: Whether to take all of the memory now, instead of when it is written.
            page_size: Bytes of a page.

        Raises:
            OSError: There is no memory, or no descriptor.
            ValueError: The length is no number of whole pages.
        """
        memfd = create_memfd(idstr, length) if backing == "memfd" else None
        try:
            mapping = map_anonymous(length) if memfd is None else mmap.mmap(memfd, length)
            if huge_pages:
                advise_huge_pages(mapping)
            if prefault:
                prefault_mapping(mapping)
            block = cls(idstr, mapping, page_size=page_size, memfd=memfd)
            block._is_untouched = True
            return block
        except BaseException:
            if memfd is not None:
                os.close(memfd)
            raise

    @classmethod
    def anonymous(cls, idstr: str, length: int, *, page_size: int = 4096) -> RAMBlock:
        """A block over fresh memory of this process alone; it costs nothing until it is written."""
        return cls.allocate(idstr, length, backing="anonymous", page_size=page_size)

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
        self._is_untouched = False
        return self._view[: self.used_length]

    @property
    def address(self) -> int:
        """Where it begins in this process."""
        self._is_untouched = False
        return address_of(self._mapping)

    @property
    def memfd(self) -> int | None:
        """The memfd that holds it, if one does: whoever gets it shares the memory. Borrowed."""
        self._is_untouched = False
        return self._memfd

    @property
    def is_untouched(self) -> bool:
        """Whether all of it is zero for certain: nobody has been shown where it is yet."""
        return self._is_untouched

    @property
    def is_plain(self) -> bool:
        """Whether its pages may be written without :meth:`reserve`, and it knows of no holes."""
        kind = type(self)
        is_as_made_here = (
            kind.reserve is RAMBlock.reserve and kind.find_holes is RAMBlock.find_holes
        )
        return self._holes is None and is_as_made_here

    def reserve(self, first: int, count: int) -> None:
        """Make sure that pages can be written: called before every write but the guest's own.

        Raises:
            OSError: There is no room left on the disk.
        """
        if self._descriptor is None or self._reserved.find(0, first, first + count) < 0:
            return
        os.posix_fallocate(self._descriptor, first * self.page_size, count * self.page_size)
        self._reserved[first : first + count] = b"\x01" * count
        if self._holes is not None:
            self._holes.add_data(first, count)

    def find_holes(self, first: int, count: int) -> bytes:
        """Find the pages that are known to be zero because nothing was ever written to them.

        The pages themselves are not read, which would give storage to some of them. What the
        guest writes meanwhile may or may not be seen: ask after its dirty bit was cleared.

        Returns:
            One byte a page, 1 for a hole.
        """
        return bytes(count) if self._holes is None else self._holes.find(first, count)

    def discard(self, first: int, count: int) -> None:
        """Make pages zero, and give their memory back where that is possible.

        Where the memory is a file, write protection by the kernel does not see this: mark the
        pages in the dirty log afterwards.

        Args:
            first: Index of the first page.
            count: How many.

        Raises:
            IndexError: There are no such pages.
        """
        if first < 0 or count < 0 or first + count > self.pages:
            raise IndexError(f"pages {first} to {first + count} are not all in 0 to {self.pages}")
        start, length = first * self.page_size, count * self.page_size
        if not self._can_give_back(start, length):
            self._view[start : start + length] = bytes(length)
            return
        if self._descriptor is not None:
            self._reserved[first : first + count] = bytes(count)
        if self._holes is not None:
            self._holes.forget(first, count)

    def _can_give_back(self, start: int, length: int) -> bool:
        """Take the memory away from whole pages of this host; False if nothing has happened.

        What a shared mapping shows is removed. Private memory has nothing to remove, and then
        there is nothing below it that could show through.
        """
        if start % mmap.PAGESIZE or length % mmap.PAGESIZE:
            return False
        for advice, means_next in ((mmap.MADV_REMOVE, errno.EINVAL), (mmap.MADV_DONTNEED, None)):
            try:
                self._mapping.madvise(advice, start, length)
            except OSError as error:
                if error.errno != means_next:
                    return False
            else:
                return True
        return False

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

    # Memory that goes from one process of this host to another, without being copied.

    def lend(self) -> int:
        """Let another process have the memory as well; whatever it shows there need not be sent.

        Returns:
            The memfd; borrowed.

        Raises:
            LocalError: It is none.
        """
        if self._memfd is None or not self.can_be_lent:
            raise LocalError(f"RAM block {self.idstr!r} is no memory that can be handed over")
        self.is_lent = True
        return self._memfd

    @property
    def can_be_lent(self) -> bool:
        """Whether :meth:`lend` may be used."""
        return self._memfd is not None and not self.is_borrowed

    def take_back(self) -> None:
        """The other process did not become its owner; idempotent."""
        self.is_lent = False

    def give_away(self) -> None:
        """The other process is its owner: what is written here from now on stays here.

        Raises:
            OSError: The kernel refuses.
        """
        assert self._memfd is not None
        with pages_moved_away(self._mapping, self.max_length):
            show_private_copy(self._mapping, self._memfd, self.max_length)
        os.close(self._memfd)
        self._memfd = self._holes = None
        self.is_lent = False

    def adopt(self, memfd: int) -> None:
        """Show what a memfd from elsewhere holds, which is its owner's until :meth:`own`.

        What was in the block is gone. Its address stays, and so does every view of it. Its maximum
        length becomes that of the memfd, if that is less.

        Args:
            memfd: Sealed against shrinking, or whoever shares it could end this process. Owned by
                the block once this has returned.

        Raises:
            LocalError: It is no block that can be exchanged, or the kernel refuses.
            RemoteError: The memfd is none, not sealed, too small, or cannot be written. In both
                cases the block is as it was.
        """
        if not self.can_adopt:
            raise LocalError(
                f"RAM block {self.idstr!r} cannot become the memory of another process",
                expected="memory that belongs to nothing else",
                found="a file",
            )
        length = self._usable_length(memfd)
        try:
            mmap.mmap(memfd, length).close()
            show_private_copy(self._mapping, memfd, length)
        except OSError as error:
            refused = RemoteError if error.errno in (errno.EACCES, errno.EPERM) else LocalError
            raise refused(
                f"the memory for RAM block {self.idstr!r} cannot be mapped",
                expected="a memfd that can be written",
                found=error.strerror or str(error),
            ) from error
        if self._memfd is not None:
            empty(self._memfd)  # the module mmap keeps a descriptor of its own
            os.close(self._memfd)
        self._memfd, self.max_length = memfd, length
        self._holes = self._hole_map()
        self._is_untouched = False
        self.is_borrowed = True

    def check_unwritten(self) -> None:
        """Make sure that what was adopted can be owned.

        Raises:
            LocalError: Something was written here while the memory was another's; it is lost.
        """
        if self.is_borrowed and is_written_here(self._mapping, self.max_length):
            raise LocalError(
                f"RAM block {self.idstr!r} was written while it was still the source's",
                expected="a guest that is loaded without writing to its memory",
                found="pages that were written here",
                hint="let the source's guest have anonymous memory, which is copied",
            )

    def own(self) -> None:
        """Be the owner of what was adopted: the guest may write to it from now on.

        Raises:
            LocalError: Something was written here before.
            OSError: The kernel refuses.
        """
        if not self.is_borrowed:
            return
        assert self._memfd is not None
        self.check_unwritten()
        show_shared(self._mapping, self._memfd, self.max_length)
        self.is_borrowed = False

    def abandon(self) -> None:
        """Forget what was adopted, if it is not owned: the block is fresh memory; idempotent."""
        if not self.is_borrowed:
            return
        assert self._memfd is not None
        show_nothing(self._mapping, self.max_length)
        os.close(self._memfd)
        self._memfd = self._holes = None
        self.max_length = len(self._mapping)
        self.is_borrowed = False

    @property
    def can_adopt(self) -> bool:
        """Whether :meth:`adopt` may be used."""
        return self._descriptor is None and not self.is_borrowed

    def _usable_length(self, memfd: int) -> int:
        """How much of a memfd from elsewhere this block maps.

        Raises:
            RemoteError: It is not sealed, or too small.
        """
        if not is_sealed_against_shrinking(memfd):
            raise RemoteError(
                f"the memory for RAM block {self.idstr!r} could vanish",
                expected="a memfd sealed against shrinking",
                found="one without F_SEAL_SHRINK, or no memfd",
            )
        size = os.fstat(memfd).st_size
        if size < self.used_length or size % self.page_size:
            raise RemoteError(
                f"the memory for RAM block {self.idstr!r} has the wrong size",
                expected=f"whole pages, {self.used_length} bytes or more",
                found=f"{size} bytes",
            )
        return min(size, self.max_length)

    def _hole_map(self) -> HoleMap | None:
        file = self._memfd if self._descriptor is None else self._descriptor
        if file is None:
            return None
        return HoleMap(file, self.page_size, self.max_length // self.page_size)

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
            for descriptor in (self._descriptor, self._memfd):
                if descriptor is not None:
                    os.close(descriptor)
            self._descriptor = self._memfd = self._holes = None
