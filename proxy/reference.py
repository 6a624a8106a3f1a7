"""The configuration reference, from the code: `python -m proxy.reference` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from proxy.settings import SECTIONS

_HEAD = """\
# Configuration reference

Written by `python -m proxy.reference`; edit `proxy/settings.py`, not this file.

`nearhit serve --config FILE` reads YAML. Every key may be overridden by the environment:
`server.port` is `NEARHIT_SERVER__PORT`; lists and mappings are given as JSON
(`NEARHIT_UPSTREAMS='[...]'`). The command line wins over the environment, and that over the
file. Durations are seconds or `250ms`, `30s`, `15m`, `24h`, `7d`; sizes are bytes or `64KiB`,
`256MiB`. A fault is one line naming file, key, value and what is allowed; nothing starts half
configured. `nearhit check --config FILE` says so without starting.

Also read from the environment: `NEARHIT_CONFIG` (the file, when `--config` is not given),
`NEARHIT_ADMIN_KEY` (the key that `nearhit entries` sends to a running server), `NEARHIT_DATA`
(where benchmarks find the evaluation sets), and the variables that `api_key_env` and
`upstream_key_env` name.
"""


_LISTS = ("upstreams", "offload", "auth.keys", "judge.prices", "usage.prices")


def _default_of(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "must be set"
    if isinstance(field.default, BaseModel):
        return "see below"
    if field.default is None:
        return "unset"
    return f"`{field.default}`"


def _table(section: type[BaseModel], prefix: str) -> Iterator[str]:
    yield "| key | default | meaning |"
    yield "| --- | --- | --- |"
    for name, field in section.model_fields.items():
        if isinstance(field.default, BaseModel):
            continue
        meaning = field.description or ""
        yield f"| `{prefix}{name}` | {_default_of(field)} | {meaning} |"


def reference() -> str:
    """Return the whole page."""
    lines = [_HEAD]
    for path, section in SECTIONS.items():
        name = ".".join(path)
        lines.append(f"## {name or 'Top level'}\n")
        lines.append(f"{section.__doc__}\n")
        lists = dict.fromkeys(_LISTS, "[]")
        prefix = f"{name}{lists.get(name, '')}." if name else ""
        lines.extend(_table(section, prefix))
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(reference())
