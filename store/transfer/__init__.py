"""Stored values as lines of a file that goes from one store to another. Values only."""
