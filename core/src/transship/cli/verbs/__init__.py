"""One module a verb: its options and its help. What it does is in ``local`` or in ``driving``."""
