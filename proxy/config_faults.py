"""What is wrong with a configuration, as lines that say where it was given. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

Where = tuple[int | str, ...]  # where a value stands, as ("auth", "keys", 0, "role")


@dataclass(frozen=True, slots=True)
class Origins:
    """Where values came from: the command line wins over the environment, and that over a file."""

    file: str | None
    prefix: str  # of our variables
    variables: frozenset[str]  # of the environment, in capitals
    arguments: frozenset[str]  # of the command line, for `server`

    def of(self, path: Where) -> str:
        """Return where the value at a path, or what it stands in, was given."""
        parts = [str(part) for part in path]
        if parts[:1] == ["server"] and self.arguments.intersection(parts[1:2]):
            return "command line"
        names = ("__".join(parts[:n]).upper() for n in range(1, len(parts) + 1))
        told = any(self.prefix + name in self.variables for name in names)
        return self.file if self.file is not None and not told else "environment"


def lines(
    error: ValidationError, origins: Origins, sections: Mapping[tuple[str, ...], type[BaseModel]]
) -> list[str]:
    """Return a line a fault; `sections` says which keys are allowed where."""
    found = []
    for fault in error.errors(include_url=False):
        path = fault["loc"]
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            section = tuple(part for part in path[:-1] if isinstance(part, str))
            allowed = ", ".join(sections[section].model_fields)
            found.append(_line(path, f"unknown key; allowed: {allowed}", origins))
        elif fault["type"] == "missing":
            found.append(_line(path, "must be set", origins))
        elif isinstance(fault["input"], dict | BaseModel):
            found += [_line(path, line, origins) for line in message.split("\n")]
        else:
            # A digest that is none may be a key pasted by mistake: it must not reach a log.
            value = "(hidden)" if path[-1] == "sha256" else repr(fault["input"])
            found.append(_line(path, f"{value} is not allowed; {message}", origins))
    return found


def _line(path: Where, message: str, origins: Origins) -> str:
    if path:
        return f"{origins.of(path)}: {'.'.join(str(part) for part in path)}: {message}"
    # What is wrong between values begins with the key of one of them.
    return f"{origins.of(tuple(message.partition(':')[0].split('.')))}: {message}"


def not_json(error: ValueError) -> str:
    """Return the line for a variable that should hold a list or mapping, of pydantic's error."""
    named = re.search(r'field "(\w+)"', str(error))
    field = named[1] if named else ""
    return (
        f'environment: the value of "{field}" is not JSON ({error.__cause__});'
        " allowed: a list or a mapping as JSON"
    )
