"""Near-hits: a small model that is shown stored answers as examples. Nothing here yet (part 5)."""
