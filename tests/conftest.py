"""QEMU as a peer of a whole test run: what its absence means, and a line about who was there."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from qemu_peer.find import NO_QEMU, QemuBinary, qemu_binaries
from support.clean_environment import CleanEnvironment

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

REQUIRE_QEMU: Final = "TRANSSHIP_REQUIRE_QEMU"
"""Environment variable: when it is 1, a test that finds no QEMU fails instead of being skipped."""

_PROPERTY: Final = "qemu"


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder, short enough for sockets, and gone with the test: guests are large."""
    with tempfile.TemporaryDirectory(prefix="transship-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> CleanEnvironment:
    """An environment of its own with our wheels; skipped without a package index."""
    return CleanEnvironment(tmp_path_factory.mktemp("clean"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a QEMU where there is none, and note which QEMU each test uses."""
    for item in items:
        if item.get_closest_marker("qemu") is None:
            continue
        if not qemu_binaries():
            item.add_marker(pytest.mark.skip(reason=NO_QEMU), append=False)
        callspec = getattr(item, "callspec", None)
        for value in callspec.params.values() if callspec else ():
            if isinstance(value, QemuBinary):
                item.user_properties.append((_PROPERTY, _version(value)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a QEMU is required, its absence is a failure."""
    report = yield
    needs_qemu = item.get_closest_marker("qemu") is not None
    if (
        report.skipped
        and needs_qemu
        and not qemu_binaries()
        and os.environ.get(REQUIRE_QEMU) == "1"
    ):
        report.outcome = "failed"
        report.longrepr = f"{REQUIRE_QEMU}=1, but {NO_QEMU}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests had a QEMU as their peer, and which."""
    reports = [
        report
        for outcome in ("passed", "failed", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(outcome, ())
        if getattr(report, "when", "") == "call"
    ]
    used = [
        {value for name, value in report.user_properties if name == _PROPERTY} for report in reports
    ]
    versions = Counter(version for one in used for version in one)
    if versions:
        counts = ", ".join(f"{version} in {count}" for version, count in sorted(versions.items()))
        ran = sum(1 for one in used if one)
        terminalreporter.write_line(f"QEMU as a peer: {ran} tests ran; QEMU {counts}")
    elif not qemu_binaries():
        terminalreporter.write_line(f"QEMU as a peer: no test ran; {NO_QEMU}")


def _version(qemu: QemuBinary) -> str:
    return ".".join(map(str, qemu.version))
