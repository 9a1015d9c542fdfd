"""The command line: the only place, with ``assembly``, that knows everything."""
