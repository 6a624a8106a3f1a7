"""Near-hits: a small model that is shown stored answers as examples. Pure decisions, no I/O."""
