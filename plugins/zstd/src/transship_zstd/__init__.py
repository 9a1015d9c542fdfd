"""Transship's compression method ``zstd``."""
