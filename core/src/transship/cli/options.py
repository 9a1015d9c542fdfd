"""Options that several verbs share, and the units in which people write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from transship import units

F = TypeVar("F", bound=Callable[..., Any])


if TYPE_CHECKING:
    _ParamType = click.ParamType[float]
else:
    _ParamType = click.ParamType  # generic only for type checkers, and only in newer releases


class _Unit(_ParamType):
    """A value with a unit."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it; a value that is a number already stays as it is."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


SIZE = _Unit("size", units.parse_size)
RATE = _Unit("rate", units.parse_rate)
TIME = _Unit("time", units.parse_time)

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object."
)


def _more_than_nothing(context: click.Context, option: click.Parameter, value: float) -> float:
    if value <= 0:
        raise click.BadParameter("must be more than 0")
    return value


stall_timeout = click.option(
    "--stall-timeout",
    "stall_timeout_s",
    type=TIME,
    callback=_more_than_nothing,
    default="30s",
    show_default=True,
    help="Give up when the peer makes no progress for so long.",
)
max_ram = click.option(
    "--max-ram",
    "max_ram_bytes",
    type=SIZE,
    callback=_more_than_nothing,
    default="1TiB",
    show_default=True,
    help="Refuse a machine that claims more RAM.",
)


def bandwidth(default: str) -> Callable[[F], F]:
    """``--bandwidth``, with the verb's default."""
    return click.option(
        "--bandwidth",
        "max_bandwidth_bytes_per_s",
        type=RATE,
        default=default,
        show_default=True,
        help="Cap of the send rate while the guest runs, such as 1GiB/s, or unlimited.",
    )


downtime = click.option(
    "--downtime",
    "downtime_limit_s",
    type=TIME,
    default="300ms",
    show_default=True,
    help="How long the guest may stand still.",
)
