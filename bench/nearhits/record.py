"""What was measured so far, kept in a file, so that an interrupted run goes on where it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from bench.report import Machine
from bench.stand import say

Result = dict[str, Any]


class Record:
    """Results by section, each with the arguments that it was measured with."""

    def __init__(self, path: Path, machine: Machine) -> None:
        """Take up what the file holds; a file that cannot be read is begun anew."""
        self._path = path
        self._machine = machine
        try:
            self._sections: dict[str, dict[str, Any]] = orjson.loads(path.read_bytes())["sections"]
        except (OSError, ValueError, KeyError, TypeError):
            self._sections = {}

    async def measured(
        self,
        name: str,
        arguments: Mapping[str, Any],
        measure: Callable[[], Awaitable[Result]],
    ) -> Result:
        """Return a section's result: the kept one if its arguments are the same, else measured."""
        kept = self._sections.get(name)
        if kept is not None and kept["arguments"] == dict(arguments):
            say(f"{name}: measured before, {kept['date']}")
            result: Result = kept["result"]
            return result
        result = await measure()
        self._sections[name] = {
            "arguments": dict(arguments),
            "date": self._machine.date,
            "commit": self._machine.commit,
            # As it will be read again, so that both ways give the same.
            "result": orjson.loads(orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY)),
        }
        self._write()
        kept_result: Result = self._sections[name]["result"]
        return kept_result

    def _write(self) -> None:
        record = {"machine": asdict(self._machine), "sections": self._sections}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".unfinished.tmp")
        unfinished.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
        unfinished.replace(self._path)
