"""The QMP server: bytes to messages to replies, for many clients, all of them bounded.

It knows no commands but the protocol's own.
"""
