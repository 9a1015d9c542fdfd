"""A nursery that belongs to an object, for a channel whose library keeps tasks of its own.

A channel that was accepted outlives the block in which its listener listens, so that block's
nursery is no place for such tasks.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import final

import trio


@final
class OwnedNursery:
    """Tasks that run until their owner closes them, whatever block it was opened in.

    An exception in one of them ends the others, and is kept: nobody waits for them who could be
    told. With the run of trio they end at the latest.

    Args:
        nursery: Where the tasks are started.

    Attributes:
        nursery: The same.
        error: What ended the tasks, if it was not their owner.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.error: Exception | None = None
        self._is_over = trio.Event()

    @classmethod
    async def open(cls) -> OwnedNursery:
        """Open one; the caller closes it.

        Cancellation: there is none.
        """
        opened: list[OwnedNursery] = []
        is_open = trio.Event()

        async def run() -> None:
            owned: OwnedNursery | None = None
            try:
                async with trio.open_nursery() as nursery:
                    owned = cls(nursery)
                    opened.append(owned)
                    is_open.set()
                    await trio.sleep_forever()
            except Exception as error:
                if owned is not None:
                    owned.error = error
            finally:
                if owned is not None:
                    owned._is_over.set()

        trio.lowlevel.spawn_system_task(run, context=copy_context())
        with trio.CancelScope(shield=True):  # the task has begun at the next turn
            await is_open.wait()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            await opened[0].aclose()
            raise
        return opened[0]

    async def aclose(self) -> None:
        """Cancel the tasks, and wait until they have ended; idempotent.

        Cancellation: they have ended all the same.
        """
        self.nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await self._is_over.wait()
