"""The options of a verb that copies disks beside a migration."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from transship.cli import options
from transship.cli.driving.storage.order import StorageOrder
from transship.control.address import QmpAddress

if TYPE_CHECKING:
    from collections.abc import Callable

_SWITCH: Final = "--copy-storage"
_FIELD: Final = "storage_"
"""How the parameters begin that are named after a field of an order."""


def _address(text: str) -> QmpAddress:
    try:
        address = QmpAddress.parse(text)
    except ValueError:
        raise ValueError(f"{text!r} is no address: write unix:PATH or tcp:HOST:PORT") from None
    if not address.path and not address.port:
        raise ValueError(f"{text!r} has no port: nobody would learn which one the server has")
    return address


_OPTIONS: Final = (
    click.option(
        _SWITCH,
        "copies_storage",
        is_flag=True,
        help="Copy the disks too: mirror them to the destination beside the migration.",
    ),
    click.option(
        "--destination-qmp",
        "storage_destination",
        metavar="ADDRESS",
        type=options.QMP_ADDRESS,
        help="The QMP server of the machine that waits for the guest.",
    ),
    click.option(
        "--storage-address",
        metavar="ADDRESS",
        callback=options.reading(_address),
        help="Where it is to serve its disks over NBD: unix:PATH or tcp:HOST:PORT.",
    ),
    click.option(
        "--disk",
        "storage_disks",
        multiple=True,
        metavar="NAME",
        help="Copy only this disk. Several times.",
    ),
    click.option(
        "--incremental",
        "storage_is_incremental",
        is_flag=True,
        help="Copy only what lies above the backing files, which both sides have.",
    ),
    click.option(
        "--write-blocking",
        "storage_is_write_blocking",
        is_flag=True,
        help="Let the guest's writes wait for the copy, which then always catches up.",
    ),
    click.option(
        "--storage-bandwidth",
        "storage_bandwidth_bytes_per_s",
        type=options.RATE,
        help="Cap of the copy's rate, all disks together, such as 200MiB/s, or unlimited.",
    ),
)


def copy_storage(verb: Callable[..., int]) -> Callable[..., int]:
    """Give a verb the options, and hand it what they ask for as ``storage``."""

    @wraps(verb)
    def with_storage(**given: Any) -> int:
        names = [name for name in given if name.startswith(_FIELD)]
        said = {name.removeprefix(_FIELD): given.pop(name) for name in names}
        is_asked_for: bool = given.pop("copies_storage")
        if not is_asked_for and any(said.values()):
            raise click.UsageError(f"what is said of the disks means nothing without {_SWITCH}")
        return verb(**given, storage=_order(said) if is_asked_for else None)

    wrapped: Callable[..., int] = with_storage
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _order(said: dict[str, Any]) -> StorageOrder:
    if said["destination"] is None or said["address"] is None:
        raise click.UsageError(f"{_SWITCH} needs --destination-qmp and --storage-address")
    return StorageOrder(**said)
