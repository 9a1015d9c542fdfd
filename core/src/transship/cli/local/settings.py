"""What is said beside a verb, as the settings of a migration in this process."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from typing import TYPE_CHECKING

from transship.cli.settings import check_encrypts
from transship.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transship.abc.settings import Parameters
    from transship.cli.settings import Value


def parameters_with(parameters: Parameters, changes: Mapping[str, Value]) -> Parameters:
    """Parameters, changed by what was said in QMP's names and units.

    Raises:
        BlockedError: There is no such parameter, or it does not take that value, or has no effect.
    """
    from transship.control.commands.parameters import PARAMETERS, MigrationParameters, translate
    from transship.control.errors import CommandError

    for name in changes:
        if name not in PARAMETERS:
            raise _unknown("parameter", name, PARAMETERS, MigrationParameters.lacking.get(name))
    try:
        changed = dataclasses.replace(parameters, **translate(changes, parameters))
    except CommandError as refusal:
        raise BlockedError(refusal.desc) from None
    except ValueError as error:
        raise BlockedError(str(error)) from None
    check_encrypts(changes, changed.tls_creds)
    return changed


def capabilities_on(switched: Mapping[str, bool]) -> frozenset[str]:
    """The capabilities that were switched on.

    Raises:
        BlockedError: There is no such capability, or it cannot be switched on.
    """
    from transship.control.commands.capabilities import LACKING, MigrationCapability

    lacking = {capability.value: reason for capability, reason in LACKING.items()}
    known = [capability.value for capability in MigrationCapability]
    for name, is_on in switched.items():
        if name not in known or (is_on and name in lacking):
            raise _unknown("capability", name, known, lacking.get(name))
    return frozenset(name for name, is_on in switched.items() if is_on)


def _unknown(kind: str, name: str, known: Iterable[str], reason: str | None) -> BlockedError:
    """The error for a name that is not there, and why, if it is one of QEMU's."""
    if reason is not None:
        return BlockedError(f"{kind} {name!r} is not available: {reason}")
    known = sorted(known)
    alike = get_close_matches(name, known, n=1)
    hint = f"{alike[0]}, perhaps?" if alike else f"there are {', '.join(known)}"
    return BlockedError(f"no {kind} {name!r}", hint=hint)
