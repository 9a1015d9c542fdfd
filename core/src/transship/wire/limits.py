"""How long anything in a stream may be: no length from the wire is believed before it passed here.

Each limit names what it bounds and why the number. They bound memory as well: a reader of a
stream keeps at most :data:`READER_BYTES` plus the one object it is reading.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
TIB: Final = 1024 * 1024 * MIB

READER_BYTES: Final = 2 * MIB
"""Window of undecoded bytes. Holds several hundred page records, which are taken in runs."""

IDSTR_BYTES: Final = 255
"""Names travel as counted strings: one length byte."""

MACHINE_NAME_BYTES: Final = 256
"""Machine type in the configuration section; QEMU's longest is below 64."""

CAPABILITIES: Final = 64
"""Names in ``configuration/capabilities``; QEMU 10.0 knows 22 and lists two of them."""

SECTIONS: Final = 65_536
"""Sections that one stream may open; a large machine has a few hundred."""

PACKAGE_BYTES: Final = 16 * MIB
"""Bytes inside one PACKAGED command; the most that QEMU accepts."""

DESCRIPTION_BYTES: Final = 2 * MIB
"""VMDESCRIPTION text; a q35 machine with many devices has about 100 KiB."""

DESCRIPTION_DEPTH: Final = 64
"""Nesting of the VMDESCRIPTION's objects and lists; QEMU's own is below 20."""

DESCRIPTION_VALUES: Final = 1 << 18
"""Values in the VMDESCRIPTION; QEMU's own have one in about 12 bytes of text."""

DEVICE_BYTES: Final = 16 * MIB
"""All device sections of a stream that only its description can delimit, kept until it arrives."""

RAM_BYTES: Final = 16 * TIB
"""Total of the RAM blocks; the size of the largest file on ext4."""

RAM_BLOCKS: Final = 4096
"""Entries in the RAM block table; a block has at least a page, a large machine has below 300."""

DISK_BYTES: Final = 16 * TIB
"""A disk that is received into a file, whose size the stream does not tell; the size of the largest
file on ext4."""

DISKS: Final = 256
"""Disks that a checkpoint holds; a large machine has a few dozen."""

OFFERED_BLOCKS: Final = 128
"""RAM blocks in one OFFER_MEMORY. So many names fit into a command, and so many descriptors beside
a byte of a Unix socket; a large machine has a few dozen blocks that are worth it."""

REASON_BYTES: Final = 4 * KIB
"""Payload of the message that says why the destination failed: a sentence and its facts."""

ELEMENTS: Final = 1 << 20
"""Elements of a list, tree or variable array in device state."""

BUFFER_BYTES: Final = 64 * MIB
"""A buffer field in device state; video memory of that size travels as RAM, not as a field."""
