"""Measurements: programs to be run by hand, on a quiet machine. None of them is a test."""
