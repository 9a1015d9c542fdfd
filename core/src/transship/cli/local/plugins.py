"""What is installed, from where, and why something does not work: ``transship plugins``.

Knows nothing of the terminal; the verb that prints it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Row: TypeAlias = dict[str, str | list[str]]
"""A plugin as plain data: the fields of :class:`transship.plugin.report.PluginReport`."""

_KINDS: Final = {
    "transship.transports": "transport",
    "transship.compressions": "compression",
    "transship.sections": "section",
    "transship.kernels": "kernels",
}
_COLUMNS: Final = ("KIND", "NAME", "STATUS", "FROM")


def collect() -> list[Row]:
    """Import every installed plugin and say how it fared; never raises for a broken one."""
    from transship.plugin.discovery import installed_plugins

    return [
        {
            "group": report.group,
            "name": report.name,
            "distribution": report.distribution,
            "version": report.version,
            "module": report.module,
            "status": report.status,
            "reason": report.reason,
            "hooks": list(report.hooks),
        }
        for report in installed_plugins()
    ]


def render(rows: Iterable[Row]) -> str:
    """The rows as a table for people, with the reason below each plugin that cannot be used."""
    rows = list(rows)
    if not rows:
        return "No plugin is installed: install transship-tcp or transship-unix, and transship-ram."
    cells = [_COLUMNS, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_COLUMNS))]
    lines: list[str] = []
    for row, reason in zip(cells, ["", *(str(row["reason"]) for row in rows)], strict=True):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(padded).rstrip())
        lines += [f"    {line}" for line in reason.splitlines()]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    kind = _KINDS.get(str(row["group"]), "")
    origin = f"{row['distribution']} {row['version']}".strip()
    return kind, str(row["name"]), str(row["status"]), origin
