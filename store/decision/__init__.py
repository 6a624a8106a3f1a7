"""Whether a similar stored answer may be replayed for this query."""
