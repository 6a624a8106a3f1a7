"""YAML as people write it: read, or refused in one line. Pure."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML's safe types, in mappings that say each key once.

    PyYAML takes the last of two and drops the other: of two `auth:` in a file the keys of one were
    gone, and of two `categories:` one of mode `off`.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Look at the keys as they are written: what `<<` merges may be said again."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # refused when the mapping is made
            line, said = key.start_mark.line + 1, (key.tag, key.value)
            if said in lines:
                raise ValueError(
                    f"{key.value!r} is said in line {lines[said]} and again in line {line};"
                    " allowed: each key once"
                )
            lines[said] = line
        return node


def read_yaml(text: str) -> object:
    """Return what a document says; raise ValueError, with one line of what is wrong with it."""
    try:
        return yaml.load(text, _Loader)  # a safe one
    except RecursionError:
        raise ValueError("is not YAML that can be read: it is nested too deeply") from None
    except Exception as error:  # a date on no calendar is a ValueError, `!!int ""` an IndexError
        raise ValueError(f"is not YAML: {' '.join(str(error).split())}") from None
