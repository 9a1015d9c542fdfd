"""The commands, a module for each field."""
