"""A compression method for Transship: ``bz2``."""
