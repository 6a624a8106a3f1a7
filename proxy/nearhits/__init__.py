"""Near-hits: a small model answers, shown what was answered to questions like this one."""
