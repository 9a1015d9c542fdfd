"""Transship's transport for ws: and wss: URIs."""
