"""Hooks, and how plugins are found: pluggy validates and calls, stevedore finds and imports."""
