"""Sizes, rates and times as people write them. For the edges only: inside, bytes and seconds."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGTPE]?)(i?)(B?)\s*", re.IGNORECASE)
_BITS: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTPEkmgtpe]?[Ii]?)(?:b|[Bb]its?|[Bb]ps)(?:/s)?")
_TIME: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min|h)?\s*")
_STEPS: Final = "KMGTPE"
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def parse_size(text: str) -> int:
    """Read a size in bytes: ``64MiB``, ``64M`` (the same), ``64MB`` (decimal), ``4096``.

    Raises:
        ValueError: It is none.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size; write it like 64MiB, 2GiB or 4096")
    number, letter, binary, unit = match.groups()
    if binary and not letter:
        raise ValueError(f"{text!r} is not a size; write it like 64MiB, 2GiB or 4096")
    power = _STEPS.index(letter.upper()) + 1 if letter else 0
    decimal = bool(letter and unit and not binary)
    return int(float(number) * (1000 if decimal else 1024) ** power)


def parse_rate(text: str) -> int:
    """Read a rate in bytes per second: ``1GiB/s``, ``100MB/s``; ``0`` or ``unlimited`` is 0.

    Networks are sold in bits: what may mean them (``1Gb/s``) is no rate.

    Raises:
        ValueError: It is none.
    """
    stripped = text.strip()
    if stripped.lower() == "unlimited":
        return 0
    bits = _BITS.fullmatch(stripped)
    if bits:
        number, prefix = bits.groups()
        divided = f"{float(number) / 8:g}{prefix.upper().replace('I', 'i')}B/s"
        raise ValueError(
            f"{text!r} may mean bits, and rates are in bytes; "
            f"write {divided} for {number} {prefix}bit/s"
        )
    return parse_size(stripped.removesuffix("/s"))


def parse_time(text: str) -> float:
    """Read a time, as seconds: ``300ms``, ``2s``, ``1.5min``, ``0``.

    A number alone is none: some take it for seconds, and QEMU's tools for milliseconds.

    Raises:
        ValueError: It is none.
    """
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a time; write it like 300ms or 2s")
    number, unit = match.groups()
    if unit is None and float(number):
        raise ValueError(f"{text!r} has no unit; write {number}ms or {number}s")
    return float(number) * _SECONDS[unit or "s"]


def counted(count: int, one: str, several: str) -> str:
    """Write a number of things: ``1 pass``, ``2 passes``."""
    return f"{count} {one if count == 1 else several}"


def format_size(size: float) -> str:
    """Write a size of bytes with a binary unit and three digits: ``1.50 GiB``."""
    step = 0
    while abs(size) >= 1024 and step < len(_STEPS):
        size /= 1024
        step += 1
    if step == 0:
        return f"{size:.0f} B"
    digits = 2 if size < 10 else 1 if size < 100 else 0
    return f"{size:.{digits}f} {_STEPS[step - 1]}iB"


def format_rate(bytes_per_s: float) -> str:
    """Write a rate with a binary unit: ``1.50 GiB/s``."""
    return f"{format_size(bytes_per_s)}/s"


def format_time(seconds: float) -> str:
    """Write a time with the unit that suits it: ``812 µs``, ``35.1 ms``, ``2.41 s``."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.2f} s"
