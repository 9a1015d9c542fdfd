"""The report for people: one line a thing, columns aligned, nothing twice."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from transship.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transship.inspection.report import Report, SectionEntry


def render(report: Report) -> str:
    """The report as text, a few screens at most."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.format}, version {_or_dash(report.version)}"
    yield f"machine   {_or_dash(report.machine)}"
    yield f"complete  {'yes' if report.complete else 'no'}"
    if report.error is not None:
        for name in ("cause", "section", "offset", "expected", "found", "hint"):
            if (value := report.error.get(name)) is not None:
                yield f"  {name:<8}  {value}"
    if report.ram is not None:
        yield ""
        yield f"RAM, pages of {format_size(report.ram.page_size)}"
        yield from _table(
            ("block", "size", "pages", "sha256"),
            [
                (
                    block.idstr,
                    format_size(block.used_length),
                    _kinds(block.pages),
                    block.sha256[:16] if block.sha256 else "-",
                )
                for block in report.ram.blocks
            ],
        )
    if report.disks:
        yield ""
        yield f"disks, {len(report.disks)}"
        yield from _table(
            ("disk", "size", "stored"),
            [
                (
                    disk.name,
                    format_size(disk.size),
                    "-" if disk.stored is None else format_size(disk.stored),
                )
                for disk in report.disks
            ],
        )
    if report.sections:
        yield ""
        shown = f"; the fields of {len(report.devices)} devices: --json" if report.devices else ""
        yield f"sections, {len(report.sections)} records{shown}"
        yield from _table(("section", "version", "id", "records", "bytes"), _sections(report))


def _sections(report: Report) -> list[tuple[str, ...]]:
    """One row for each section: its records are counted by kind, their lengths added up."""

    def key(entry: SectionEntry) -> tuple[int, str, int]:
        return (entry.section_id, entry.idstr, entry.instance_id)

    rows: list[tuple[str, ...]] = []
    order = {key(entry): place for place, entry in reversed(list(enumerate(report.sections)))}
    entries = sorted(report.sections, key=lambda entry: order[key(entry)])
    for (section_id, idstr, instance_id), group in groupby(entries, key):
        records = list(group)
        kinds = Counter(entry.kind for entry in records)
        rows.append(
            (
                f"{idstr} {instance_id}" if instance_id else idstr,
                str(records[0].version_id),
                str(section_id),
                _kinds(kinds),
                str(sum(entry.length or 0 for entry in records)),
            )
        )
    return rows


def _kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "-"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  " + "  ".join(cells).rstrip()


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
