"""Who takes part: each module is a way to move a guest from one process to another."""
