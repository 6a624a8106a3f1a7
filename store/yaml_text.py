"""YAML as people write it: read, or refused in one line. Pure."""

from __future__ import annotations

import yaml


def read_yaml(text: str) -> object:
    """Return what a document says; raise ValueError, with one line of what is wrong with it."""
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("is not YAML that can be read: it is nested too deeply") from None
    except Exception as error:  # a date on no calendar is a ValueError, `!!int ""` an IndexError
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from None
