"""How far a migration is and when it will end: measured, foretold, shown."""
