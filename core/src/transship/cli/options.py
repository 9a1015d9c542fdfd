"""Options that several verbs share, and the units in which people write them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from transship import units
from transship.cli.addresses import parse_options
from transship.cli.settings import parse_capabilities, parse_parameters
from transship.control.address import QmpAddress
from transship.disks.raw import SECTOR_BYTES
from transship.wire.limits import DISK_BYTES

QMP_VARIABLE: Final = "TRANSSHIP_QMP"
"""Environment variable: the address for ``--qmp`` where the option is not given."""

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S")
T = TypeVar("T")


if TYPE_CHECKING:
    _ParamType = click.ParamType[float]
    _AddressType = click.ParamType[QmpAddress]
else:
    _ParamType = click.ParamType  # generic only for type checkers, and only in newer releases
    _AddressType = click.ParamType


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


def _more_than_nothing(
    context: click.Context, option: click.Parameter, value: float | None
) -> float | None:
    if value is not None and value <= 0:
        raise click.BadParameter("must be more than 0")
    return value


def reading(
    parse: Callable[[S], T],
) -> Callable[[click.Context, click.Parameter, S | None], T | None]:
    """Let an option's value be what a function makes of it, and its ValueError a wrong usage."""

    def read(context: click.Context, option: click.Parameter, value: S | None) -> T | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return read


parameters = click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    callback=reading(parse_parameters),
    help="Set a migration parameter: with a unit, or as a number in QMP's own. Several times.",
)
capabilities = click.option(
    "--cap",
    "capabilities",
    multiple=True,
    metavar="NAME[=on|off]",
    callback=reading(parse_capabilities),
    help="Switch a migration capability on or off. Several times.",
)
transport_options = click.option(
    "--option",
    "transport_options",
    multiple=True,
    metavar="NAME[=VALUE]",
    callback=reading(parse_options),
    help="Tell the transport more than the address says; its README has the names. Several times.",
)
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


def _parse_disk_sizes(values: Iterable[str]) -> dict[str, int]:
    """Read ``NAME=SIZE`` of disks.

    Raises:
        ValueError: One is malformed, or no disk's size.
    """
    sizes: dict[str, int] = {}
    for value in values:
        name, equals, size = value.rpartition("=")
        if not equals or not name or name in sizes:
            raise ValueError(f"{value!r} is not NAME=SIZE, with each name once")
        sizes[name] = units.parse_size(size)
        if not 0 < sizes[name] <= DISK_BYTES or sizes[name] % SECTOR_BYTES:
            raise ValueError(
                f"{value!r}: a disk has whole sectors of {SECTOR_BYTES} bytes, and no more than "
                f"{units.format_size(DISK_BYTES)}"
            )
    return sizes


disk_sizes = click.option(
    "--disk-size",
    "disk_sizes",
    multiple=True,
    metavar="NAME=SIZE",
    callback=reading(_parse_disk_sizes),
    help="Size of a disk, which no stream tells: without, it ends with the last MiB that came. "
    "Once for each disk, or for none.",
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


class _Address(_AddressType):
    """Where a QMP server listens."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> QmpAddress:
        """Read it."""
        if isinstance(value, QmpAddress):
            return value
        try:
            return QmpAddress.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


QMP_ADDRESS: Final = _Address()

qmp = click.option(
    "--qmp",
    "address",
    metavar="ADDRESS",
    type=QMP_ADDRESS,
    envvar=QMP_VARIABLE,
    show_envvar=True,
    help="The QMP server of the machine: unix:PATH, tcp:HOST:PORT, or just a path.",
)
poll = click.option(
    "--poll",
    "poll_s",
    type=TIME,
    callback=_more_than_nothing,
    default="200ms",
    show_default=True,
    help="How often to look.",
)
timeout = click.option(
    "--timeout",
    "timeout_s",
    type=TIME,
    callback=_more_than_nothing,
    help="Give up after so long: cancel, and end with 4.",
)


def named(address: QmpAddress | None) -> QmpAddress:
    """The address that was given.

    Raises:
        click.UsageError: None was.
    """
    if address is None:
        raise click.UsageError(f"say whose: --qmp ADDRESS, or the variable {QMP_VARIABLE}")
    return address


def refuse_twice(parameters: Collection[str], name: str, argument: str, option: str) -> None:
    """Make sure that ``--set`` and an option of the verb that runs do not both say the same.

    Args:
        parameters: Names of those that were set.
        name: The one that the option stands for.
        argument: The option's, of the verb's function.
        option: As it is typed.

    Raises:
        click.UsageError: Both were given.
    """
    source = click.get_current_context().get_parameter_source(argument)
    if name in parameters and source is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError(f"{option} and --set {name} say the same")
