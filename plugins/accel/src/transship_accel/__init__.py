"""Transship's compiled kernels."""
