"""A QMP client on trio, for whoever drives a QEMU or a host of ours."""

from __future__ import annotations

from transship.control.client.client import QmpClient, open_qmp
from transship.control.client.errors import (
    QmpClosedError,
    QmpCommandError,
    QmpConnectError,
    QmpError,
    QmpProtocolError,
    QmpTimeoutError,
)
from transship.control.client.events import QmpEvent, QmpEvents

__all__ = [
    "QmpClient",
    "QmpClosedError",
    "QmpCommandError",
    "QmpConnectError",
    "QmpError",
    "QmpEvent",
    "QmpEvents",
    "QmpProtocolError",
    "QmpTimeoutError",
    "open_qmp",
]
