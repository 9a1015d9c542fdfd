"""Transship's transport for tcp: URIs."""
