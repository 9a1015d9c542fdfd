"""A transport for Transship that stays on one machine: ``loop:NAME``."""
