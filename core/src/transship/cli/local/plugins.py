"""What is installed, from where, and why something does not work: ``transship plugins``.

Knows nothing of the terminal; the verb that prints it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from transship._version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Row: TypeAlias = dict[str, Any]
"""A plugin as plain data: the fields of :class:`transship.plugin.report.PluginReport`."""

_KINDS: Final = {
    "transship.transports": "transport",
    "transship.compressions": "compression",
    "transship.sections": "section",
    "transship.block_devices": "disk",
    "transship.kernels": "kernels",
}
_COLUMNS: Final = ("KIND", "NAME", "STATUS", "FROM")


def collect(names: Collection[str] = ()) -> list[Row]:
    """Import every plugin that may load, and say how each fared; a broken one is no error.

    Args:
        names: What is asked about, in the words of the lists of those that may load: names,
            distributions or ``KIND/NAME``. All if there are none.

    Raises:
        PluginError: What says which plugins may load makes no sense, or nothing is called so.
    """
    from transship.errors import PluginError
    from transship.plugin.discovery import installed_plugins
    from transship.plugin.selection import labels, normal

    reports = [
        (labels(report.group, report.name, report.distribution), report)
        for report in installed_plugins()
    ]
    wanted = {normal(name) for name in names}
    if unknown := wanted.difference(*(called for called, _ in reports)):
        raise PluginError(
            f"no plugin is called {' or '.join(sorted(unknown))}",
            hint="transship plugins lists what is installed",
        )
    return [
        {
            "group": report.group,
            "name": report.name,
            "distribution": report.distribution,
            "version": report.version,
            "made_for": report.made_for,
            "licence": report.origin.licence,
            "folder": report.origin.folder,
            "is_editable": report.origin.is_editable,
            "module": report.module,
            "status": report.status,
            "reason": report.reason,
            "conflicts": list(report.conflicts),
            "hooks": list(report.hooks),
            "capabilities": None if report.capabilities is None else list(report.capabilities),
        }
        for called, report in reports
        if not wanted or wanted & called
    ]


def lists_in_force() -> list[dict[str, Any]]:
    """The lists that say which plugins may load, as plain data.

    Raises:
        PluginError: One of them makes no sense.
    """
    from transship.plugin.selection import Selection

    return [
        {"source": one.source, "denies": one.denies, "names": sorted(one.names)}
        for one in Selection.in_force().lists
    ]


def render(rows: Iterable[Row], lists: Iterable[dict[str, Any]] = ()) -> str:
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
    for one in lists:
        verb = "denies" if one["denies"] else "allows only"
        lines.append(f"{one['source']} {verb}: {', '.join(one['names']) or 'nothing'}")
    return "\n".join(lines)


def render_details(rows: Iterable[Row]) -> str:
    """Everything about each plugin, for people."""
    return "\n\n".join(map(_details, rows))


def _details(row: Row) -> str:
    kind, name, status, origin = _cells(row)
    said = row["capabilities"]
    place = row["folder"] + (" (editable)" if row["is_editable"] else "")
    made_for = f"transship {row['made_for']} (this is {__version__})" if row["made_for"] else ""
    facts = {
        "from": origin,
        "licence": row["licence"],
        "made for": made_for,
        "installed in": place,
        "module": row["module"],
        "hooks": ", ".join(row["hooks"]),
        "capabilities": "not said" if said is None else ", ".join(said) or "none",
        "conflicts": ", ".join(row["conflicts"]),
    }
    if row["group"] != "transship.transports" or status != "ok":
        del facts["capabilities"]
    lines = [f"{kind} {name}: {status}".strip()]
    lines += [f"    {line}" for line in row["reason"].splitlines()]
    lines += [f"  {fact:<12}  {text}" for fact, text in facts.items() if text]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    kind = _KINDS.get(str(row["group"]), "")
    origin = f"{row['distribution']} {row['version']}".strip()
    return kind, str(row["name"]), str(row["status"]), origin
