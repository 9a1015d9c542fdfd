"""The result of a verb as plain data: one shape, to which a verb adds what it alone knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transship.cli.exits import exit_code

if TYPE_CHECKING:
    from transship.errors import MigrationError


def result_of(
    status: str, error: MigrationError | None, *, code: int | None = None, **more: object
) -> dict[str, Any]:
    """What every result says, for ``--json``.

    Args:
        status: How the migration ended, in the field's word; ``refused`` if it did not begin.
        error: Why it did not do what was asked; None if it did.
        code: The exit code, where the error does not decide it alone.
        more: What the verb adds.
    """
    return {
        "status": status,
        "exit_code": int(exit_code(error) if code is None else code),
        "error": error.facts() if error else None,
        **more,
    }
