"""``python -m transship``, and the command ``transship``."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command; Ctrl-C while it is still being imported just leaves."""
    try:
        from transship.cli.main import main as command
    except KeyboardInterrupt:
        print("left before anything began", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    command()


if __name__ == "__main__":
    main()
