"""A guest kept in a folder: received from any machine, sent on to another."""

from __future__ import annotations

from transship.guests.stored.guest import StoredGuest

__all__ = ["StoredGuest"]
