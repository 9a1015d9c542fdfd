"""What the tests that cross distributions share: our commands as processes, streams, folders."""
