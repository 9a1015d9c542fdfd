"""Real QEMUs as peers: find them, boot a guest that counts, speak QMP, migrate."""
