"""Transship's transport for fd: URIs."""
