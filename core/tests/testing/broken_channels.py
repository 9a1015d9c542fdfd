"""Channels that break a rule of every medium and every connection alike; the kit must notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from transship.testing import ChannelWrapper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transship.abc import Channel
    from transship.buffers import Buffer

C = TypeVar("C")


class AbleItself(ChannelWrapper):
    """Has the capabilities whose methods it has, whatever the channel within can do."""

    def capability(self, kind: type[C]) -> C | None:
        return self if isinstance(self, kind) else None


class Reordering(ChannelWrapper):
    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await super().send_segments(segments[::-1])


class CountsItems(ChannelWrapper):
    """Takes the length of a view for its bytes."""

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        await super().send_segments([bytes(segment)[: len(segment)] for segment in segments])


class KeepsViews(ChannelWrapper):
    def __init__(self, inner: Channel) -> None:
        super().__init__(inner)
        self.kept: list[memoryview] = []

    async def send_segments(self, segments: Sequence[Buffer]) -> None:
        self.kept += map(memoryview, segments)
        await super().send_segments(segments)
