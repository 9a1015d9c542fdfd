"""Messages from destination to source."""

from __future__ import annotations

import io

import pytest

from transship.errors import StreamError
from transship.wire.constants import ReturnType
from transship.wire.reader import StreamReader, drive
from transship.wire.returnpath import ReturnMessage, pong, read_message, shut


def test_messages_of_a_real_precopy_are_read() -> None:
    data = bytes.fromhex("00070000 0002000400000001 0001000400000000")
    reader = StreamReader()
    readinto = io.BytesIO(data).readinto
    messages = []
    while message := drive(read_message(reader), reader, readinto):
        messages.append(message)
    assert messages == [ReturnMessage(ReturnType.SWITCHOVER_ACK), pong(1), shut(failed=False)]
    assert b"".join(message.encode() for message in messages) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("00000000", "unknown message"),
        ("00080000", "unknown message"),
        (b"TSRD\0\1".hex(), r"carries the greeting of rdma:.*both sides begin with rdma:"),
        ("15030300", "carries TLS.*set tls-creds at both sides"),
        ("00020003000000", "wrong length"),
        ("0002ffff", "wrong length"),
        ("000100", "ends early"),
    ],
)
def test_wrong_messages_are_refused(data: str, words: str) -> None:
    reader = StreamReader()
    with pytest.raises(StreamError, match=words):
        drive(read_message(reader), reader, io.BytesIO(bytes.fromhex(data)).readinto)
