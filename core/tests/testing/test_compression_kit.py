"""Every check of compression fails on a method that breaks its rule, and passes on a good one."""

from __future__ import annotations

import bz2
import time
import zlib
from typing import TYPE_CHECKING

import pytest

from transship.abc import Compression, Compressor, Decompressor, Parameters
from transship.testing import COMPRESSION_CHECKS, check_compression, compression_checks as checks
from transship.toolkit import fill_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transship.buffers import Buffer
    from transship.testing import MakeMethod


class Squeeze(Compression, Compressor, Decompressor):
    """A good method: each packet is a stream of bzip2 of its own."""

    name = "squeeze"
    wire_flag = 0x30
    most_growth_bytes = 8192

    def compressor(self, parameters: Parameters) -> Compressor:
        return type(self)()

    def decompressor(self) -> Decompressor:
        return type(self)()

    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        return bz2.compress(b"".join(pages), 1)

    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        stream = bz2.BZ2Decompressor()
        try:
            pages = stream.decompress(data, sum(map(len, targets)) + 1)
        except OSError as error:
            raise ValueError(str(error)) from error
        if stream.unused_data or not stream.eof:
            raise ValueError("not one stream")
        fill_targets(targets, pages)


class Nameless(Squeeze):
    name = ""


class CalledNone(Squeeze):
    name = "none"


class Syncs(Squeeze):
    wire_flag = 0x01


class TakesTheFlagOfZlib(Squeeze):
    wire_flag = 0x02


class GrowsWithoutMeasure(Squeeze):
    most_growth_bytes = 1 << 40


class Reorders(Squeeze):
    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        return super().compress(pages[::-1])


class WantsBytes(Squeeze):
    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        super().decompress(data + b"", targets)  # type: ignore[operator]


class Grows(Squeeze):
    most_growth_bytes = 0


class SaysNothing(Squeeze):
    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        return b"" if not any(map(any, pages)) else super().compress(pages)


class CountsPackets(Squeeze):
    """Numbers its packets, and has one count for all channels."""

    sent = 0
    come = 0

    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        CountsPackets.sent += 1
        return bytes([CountsPackets.sent & 0xFF]) + bytes(super().compress(pages))

    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        self.come += 1
        if data[:1] != bytes([self.come & 0xFF]):
            raise ValueError("a packet is missing")
        super().decompress(data[1:], targets)


class Keeps(Squeeze):
    """Keeps a view of the last pages."""

    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        self.last = [memoryview(page) for page in pages]
        return super().compress(pages)


class CutsOff(Squeeze):
    """Takes what fits, and does not ask for the rest."""

    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        try:
            pages = bz2.decompress(data)
        except (OSError, ValueError) as error:
            raise ValueError(str(error)) from error
        fill_targets(targets, pages[: sum(map(len, targets))])


class LetsErrorsThrough(Squeeze):
    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        wanted = sum(map(len, targets))
        stream = bz2.BZ2Decompressor()
        fill_targets(targets, stream.decompress(data, wanted + 1))
        if stream.unused_data or not stream.eof:
            raise ValueError("not one stream")


class Swells(Squeeze):
    """Has everything in memory before it looks how much it is."""

    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        try:
            pages = bz2.decompress(data)
        except OSError as error:
            raise ValueError(str(error)) from error
        fill_targets(targets, pages)


class ReadsTwice(Squeeze):
    """Has a checksum of the pages as they are, and then the pages as they are by then."""

    def compress(self, pages: Sequence[Buffer]) -> Buffer:
        checksum = _checksum(b"".join(pages))
        time.sleep(0.002)  # the guest gets its turn, also on a busy machine
        return checksum + bytes(super().compress(pages))

    def decompress(self, data: Buffer, targets: Sequence[memoryview]) -> None:
        super().decompress(data[4:], targets)
        if _checksum(b"".join(targets)) != data[:4]:
            raise ValueError("the checksum is wrong")


def _checksum(pages: bytes) -> bytes:
    return zlib.crc32(pages).to_bytes(4, "big")


def test_good_method_passes_all() -> None:
    check_compression(Squeeze)


@pytest.mark.parametrize(
    ("check", "method"),
    [
        (checks.check_says_what_it_is, Nameless),
        (checks.check_says_what_it_is, CalledNone),
        (checks.check_says_what_it_is, Syncs),
        (checks.check_says_what_it_is, TakesTheFlagOfZlib),
        (checks.check_says_what_it_is, GrowsWithoutMeasure),
        (checks.check_carries_many_packets, Reorders),
        (checks.check_accepts_every_buffer, WantsBytes),
        (checks.check_keeps_packets_within_bounds, Grows),
        (checks.check_keeps_packets_within_bounds, SaysNothing),
        (checks.check_keeps_channels_apart, CountsPackets),
        (checks.check_holds_no_views, Keeps),
        (checks.check_refuses_what_does_not_fit, CutsOff),
        (checks.check_refuses_garbage, LetsErrorsThrough),
        (checks.check_bounds_its_memory, Swells),
        (checks.check_outlives_a_guest_that_writes, ReadsTwice),
    ],
)
def test_check_fails_on_a_method_that_breaks_its_rule(
    check: Callable[[MakeMethod], None], method: type[Compression]
) -> None:
    with pytest.raises((AssertionError, ValueError, TypeError, OSError)):
        check(method)


@pytest.mark.parametrize(
    ("method", "rule"),
    [
        (Nameless, "called '', which is no name"),
        (CalledNone, "what operators say for no method"),
        (Syncs, "wire flag 0x1, not of the bits 0x3e"),
        (TakesTheFlagOfZlib, "QEMU's for 'zlib': take two bits or more"),
        (GrowsWithoutMeasure, "not by 0 to 524288"),
    ],
)
def test_method_that_says_something_wrong_of_itself_is_told_what(
    method: type[Compression], rule: str
) -> None:
    with pytest.raises(AssertionError, match=rule):
        checks.check_says_what_it_is(method)


def test_failure_names_its_check() -> None:
    with pytest.raises(AssertionError) as caught:
        check_compression(Reorders)
    assert caught.value.__notes__ == ["in check_carries_many_packets"]


def test_every_check_has_a_method_that_it_fails_on() -> None:
    marks = test_check_fails_on_a_method_that_breaks_its_rule.pytestmark  # type: ignore[attr-defined]
    assert {check for check, _ in marks[0].args[1]} == set(COMPRESSION_CHECKS)
