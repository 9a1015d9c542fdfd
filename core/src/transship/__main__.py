"""``python -m transship`` is the command ``transship``."""

from transship.cli.main import main

if __name__ == "__main__":
    main()
