"""Transship's compression method ``zlib``."""
