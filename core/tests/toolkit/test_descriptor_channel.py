"""Who is at the other end of a Unix socket, and whether that one may have files of ours."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

import pytest

from transship.abc import DescriptorPassing
from transship.toolkit import DescriptorSocketChannel, PeerProcess, peer_process

HIGH = 3_000_000_000
"""A user that a signed number does not hold; containers that map users have such ones."""


class ConnectionOf(socket.socket):
    """The kernel says that another user is at its other end."""

    user = os.geteuid()

    def getsockopt(self, level: int, option: int, *rest: int) -> Any:
        if option == socket.SO_PEERCRED:
            return struct.pack("=iII", 42, self.user, self.user)
        return super().getsockopt(level, option, *rest)


def connection_of(user: int) -> tuple[ConnectionOf, socket.socket]:
    one, other = socket.socketpair()
    connection = ConnectionOf(fileno=one.detach())
    connection.user = user
    return connection, other


def test_process_at_the_other_end_is_the_kernels_word() -> None:
    one, other = socket.socketpair()
    with one, other:
        process = peer_process(one)
    assert process == PeerProcess(os.getpid(), os.geteuid())
    assert process.is_ours


def test_high_user_is_told_by_its_number() -> None:
    connection, other = connection_of(HIGH)
    with connection, other:
        process = peer_process(connection)
    assert str(process) == "process 42, user 3000000000"
    assert process is not None
    assert not process.is_ours


@pytest.mark.parametrize("user", [os.geteuid() + 1, HIGH])
async def test_files_are_for_the_same_user_only(user: int) -> None:
    connection, other = connection_of(user)
    with other:
        channel = DescriptorSocketChannel(connection, "another's")
        assert channel.capability(DescriptorPassing) is None
        await channel.aclose()


async def test_the_same_user_may_have_files_whatever_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: HIGH)
    connection, other = connection_of(HIGH)
    with other:
        channel = DescriptorSocketChannel(connection, "our own")
        assert channel.capability(DescriptorPassing) is channel
        await channel.aclose()
