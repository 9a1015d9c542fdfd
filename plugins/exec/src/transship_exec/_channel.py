"""The standard streams of a command as a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from transship.abc import ReturnPath
from transship.errors import ChannelError
from transship.toolkit import PipeChannel
from transship_exec._process import failed

if TYPE_CHECKING:
    from transship.abc.channel import C
    from transship_exec._process import Process

_GLANCE_S: Final = 0.2
"""How long a command that may just have ended by itself has to be seen to."""

_EXIT_S: Final = 300.0
"""How long a command may go on when it has got everything: a compressor may be far behind."""


class ExecChannel(PipeChannel):
    """Carries the stream to a command, or from one.

    Args:
        process: What runs; owned by the channel from now on.
        sending: Its standard input, owned by the channel from now on, as is ``receiving``.
        receiving: Its standard output.
    """

    def __init__(self, process: Process, *, sending: int, receiving: int) -> None:
        super().__init__(str(process.command), sending=sending, receiving=receiving)
        self._process = process

    def capability(self, kind: type[C]) -> C | None:
        """The channel's implementation of an optional capability, or None."""
        return None if kind is ReturnPath else super().capability(kind)

    def return_path(self) -> ReturnPath:
        """The other direction; see :class:`~transship.abc.ReturnPathOnRequest`."""
        return self

    async def _end(self) -> None:
        """Let the command find its end, and see how it takes it.

        Raises:
            ChannelError: It failed, or does not end.
        """
        await super()._end()
        status = await self._process.wait(_EXIT_S)
        if status is None:
            raise ChannelError(
                f"the command {self._process.command.text!r} got all, and does not end",
                expected=f"its end within {_EXIT_S:g} s",
            )
        if status:
            raise failed(self._process)

    async def _close(self) -> None:
        with trio.CancelScope(shield=True):
            await self._process.wait(_GLANCE_S)
            await super()._close()
            await self._process.aclose()
