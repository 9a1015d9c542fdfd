"""Transship's RAM section: guest memory, live."""
