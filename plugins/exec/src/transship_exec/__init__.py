"""Transship's transport for exec: URIs."""
