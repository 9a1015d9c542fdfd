"""Transship's transport for unix: URIs."""
