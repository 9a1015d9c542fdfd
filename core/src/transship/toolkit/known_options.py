"""Options that an operator gives with an address: those that are known, and no others."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NO_OPTIONS: Final[Mapping[str, str]] = MappingProxyType({})


def refuse_unknown_options(
    address: object,
    given: Iterable[str],
    known: Iterable[str] = (),
    of_other_side: Mapping[str, str] = NO_OPTIONS,
) -> None:
    """Refuse options that a transport does not have, or not on this side.

    Args:
        address: As the operator wrote it.
        given: The names of the options that came with it; what maps names to values will do.
        known: Those that there are.
        of_other_side: Those that mean nothing here, with what they are for (``listening``).

    Raises:
        BlockedError: One is not known.
    """
    known = sorted(known)
    unknown = sorted(set(given) - set(known))
    if not unknown:
        return
    found = [
        f"{name!r}, which is for {of_other_side[name]}" if name in of_other_side else repr(name)
        for name in unknown
    ]
    raise BlockedError(
        f"'{address}' was given an option that is not known here",
        expected=f"none but {', '.join(known)}" if known else "none",
        found="; ".join(found),
    )
