"""The Dockerfile as values, and what of the working tree a build would get to see."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name in capitals, and the rest with continuation lines joined."""

    name: str
    value: str


@dataclass(slots=True)
class Stage:
    """A stage: what it starts from, its name ('' for none) and its instructions after FROM."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        """Return the values of every instruction of this name, in order."""
        return [i.value for i in self.instructions if i.name == name]

    def last_list(self, name: str) -> list[str]:
        """Return the last instruction of this name in its JSON form."""
        words: list[str] = json.loads(re.sub(r"^.*?(?=\[)", "", self.values(name)[-1]))
        return words

    @property
    def env(self) -> dict[str, str]:
        """What the stage sets in the environment."""
        return dict(pair for value in self.values("ENV") for pair in pairs(value))


def pairs(value: str) -> Iterator[tuple[str, str]]:
    """Yield what an ENV instruction sets; values have no white space here."""
    for word in value.split():
        name, _, content = word.partition("=")
        yield name, content


def stages(file: Path = ROOT / "Dockerfile") -> list[Stage]:
    """Return the stages of a Dockerfile, the image's own last."""
    found: list[Stage] = []
    binary: Any = BytesIO(file.read_bytes())  # which the stubs take for text
    for line in DockerfileParser(fileobj=binary).structure:
        name, value = line["instruction"].upper(), line["value"]
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            found.append(Stage(base, alias))
        elif name != "COMMENT":
            found[-1].instructions.append(Instruction(name, value))
    return found


def let_through(path: str, ignore: Path = ROOT / ".dockerignore") -> bool:
    """Whether a build sees this file of the tree: the last line of .dockerignore that fits it."""
    seen = True
    lines = [line.strip() for line in ignore.read_text().splitlines()]
    for line in lines:
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = [str(p) for p in (PurePosixPath(path), *PurePosixPath(path).parents)][:-1]
        if any(_fits(part, pattern) for part in parts):
            seen = line.startswith("!")
    return seen


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return any(fnmatchcase(part, pattern[3:]) for part in path.split("/"))
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)
