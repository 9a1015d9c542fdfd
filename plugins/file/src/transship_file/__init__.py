"""Transship's transport for file: URIs."""
