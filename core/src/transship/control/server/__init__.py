"""The QMP server: bytes to messages to replies, for many clients, all of them bounded."""
