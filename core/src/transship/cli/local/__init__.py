"""The bodies of the verbs that work in this process: a guest here moves, arrives, or waits."""
