"""Output that nobody reads any more."""

from __future__ import annotations

import subprocess
import sys

SAYS_MUCH = """
import sys
from transship.cli.console import Console
console = Console(as_json=False)
for _ in range(1000):
    console.result({}, "x" * 1000)
    console.note("y" * 1000)
    console.progress("z")
open(sys.argv[1], "w").write("still here")
"""


def test_reader_that_goes_away_does_not_end_the_process(tmp_path: object) -> None:
    witness = f"{tmp_path}/witness"
    with subprocess.Popen(
        [sys.executable, "-c", SAYS_MUCH, witness],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        assert process.wait(30) == 0
    with open(witness) as file:
        assert file.read() == "still here"
