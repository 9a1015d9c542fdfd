"""The ``globalstate`` section: whether the guest ran before the migration stopped it.

The last section of every stream. Its 104 bytes are QEMU's: length of the run state's name, the
name in 32 bytes, two bytes about suspension, padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from transship.abc.section import Body, Section
from transship.plugin.markers import hookimpl
from transship.wire.encoder import be32

if TYPE_CHECKING:
    from transship.wire.events import SectionHeader
    from transship.wire.reader import Parsing, StreamReader

_NAME_BYTES: Final = 32
_PADDING_BYTES: Final = 66
_DESCRIPTION: Final = (
    '{"name": "globalstate", "instance_id": 0, "vmsd_name": "globalstate", "version": 1, '
    '"fields": [{"name": "size", "type": "uint32", "size": 4}, '
    '{"name": "runstate", "type": "buffer", "size": 32}, '
    '{"name": "has_vm_was_suspended", "type": "uint8", "size": 1}, '
    '{"name": "vm_was_suspended", "type": "uint8", "size": 1}, '
    '{"name": "unused", "type": "buffer", "size": 66}]}'
)


class GlobalState(Section):
    """Carries the guest's run state.

    Attributes:
        run_state: ``running`` or ``paused``, in QEMU's words; set by the source before the
            section is sent, by loading on the destination.
    """

    idstr = "globalstate"

    def __init__(self) -> None:
        self.run_state = "paused"

    @property
    def was_running(self) -> bool:
        """Whether the guest is to run on the destination."""
        return self.run_state == "running"

    @hookimpl
    def complete(self) -> Body:
        """Yield the section's body."""
        name = self.run_state.encode()
        yield be32(len(name) + 1)
        yield name.ljust(_NAME_BYTES, b"\0") + b"\x01\x00" + bytes(_PADDING_BYTES)
        return True

    @hookimpl
    def load(self, header: SectionHeader, reader: StreamReader) -> Parsing[None]:
        """Parse the section's body."""
        offset = reader.offset
        size = yield from reader.be32()
        text = yield from reader.take(_NAME_BYTES + 2 + _PADDING_BYTES)
        if not 1 < size <= _NAME_BYTES or text[size - 1] != 0:
            raise reader.error(
                "the run state has no sensible length",
                offset=offset,
                expected=f"2 to {_NAME_BYTES}, with a zero byte at the end",
                found=str(size),
            )
        name = text[: size - 1]
        if not name.isascii():
            raise reader.error(
                "the run state is not text", offset=offset + 4, expected="ASCII", found=name.hex()
            )
        self.run_state = name.decode("ascii")

    def description(self) -> str:
        """As QEMU 10.0 describes it."""
        return _DESCRIPTION
