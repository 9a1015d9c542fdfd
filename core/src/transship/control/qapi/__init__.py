"""QAPI's types: declared as annotations, checked with positions, shown to clients that ask."""
