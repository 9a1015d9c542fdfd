"""The first migration of a process does not wait for imports, once plugins were loaded."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, transship
from transship.guests.synthetic import SyntheticGuest

transship.load_plugins()
guest = SyntheticGuest(1 << 20)
before = set(sys.modules)
transship.migrate(guest, "unix:/nowhere")
print(*sorted(set(sys.modules) - before))
"""


def test_the_first_migration_imports_its_transport_and_nothing_else() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=60
    )
    imported = finished.stdout.split()

    assert "transship_unix" in imported
    assert [one for one in imported if one.partition(".")[0] != "transship_unix"] == []
