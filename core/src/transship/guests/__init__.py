"""Guests that the core ships: one made up for trials, one that is a folder, one for looking."""
