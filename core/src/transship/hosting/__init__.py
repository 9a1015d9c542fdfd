"""One guest in this process: its run state, and the migrations that it takes part in."""
