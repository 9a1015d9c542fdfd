"""Addresses of QMP servers, as text and back. Connects to nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

_TCP: Final = re.compile(r"(\[[^\[\]]+\]|[^:]*):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class QmpAddress:
    """Where a QMP server listens.

    Args:
        path: Of its unix socket; empty if it has none.
        host: Name or number of its host; empty if it has a path.
        port: Its port there.
    """

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``unix:PATH``, ``tcp:HOST:PORT``, or just a path.

        Raises:
            ValueError: It is none of them.
        """
        scheme, colon, rest = text.partition(":")
        if text and (not colon or "/" in scheme):
            return cls(path=text)
        if scheme == "unix" and rest:
            return cls(path=rest)
        tcp = _TCP.fullmatch(rest) if scheme == "tcp" else None
        if tcp is not None and int(tcp[2]) < 1 << 16:
            return cls(host=tcp[1].strip("[]") or "localhost", port=int(tcp[2]))
        raise ValueError(
            f"{text!r} is no address of a QMP server; write unix:PATH or tcp:HOST:PORT, "
            "with an IPv6 address in brackets"
        )

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp:{host}:{self.port}"
