"""Transship's declarative device state."""
