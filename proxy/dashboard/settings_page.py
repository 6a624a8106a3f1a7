"""The page of the settings: what this process started with, without its secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from proxy.dashboard.pages import Pages
from proxy.settings import Settings

_HIDDEN = "sha256"  # a digest helps whoever wants to guess a weak key
_TOP = "general"


class Row(NamedTuple):
    """One setting."""

    key: str
    value: str
    about: str
    changed: bool  # whether it was set, in the file or in the environment


class Group(NamedTuple):
    """The settings of one section."""

    name: str
    rows: list[Row]


class SettingsPage:
    """Shows the configuration."""

    def __init__(self, pages: Pages, settings: Settings) -> None:
        self._pages = pages
        self._groups = groups(settings)  # they never change while we run

    async def show(self, request: Request) -> Response:
        """Return every setting."""
        return self._pages.show(request, "settings.html", groups=self._groups)


def groups(settings: Settings) -> list[Group]:
    """Return every setting by section; what may hold a secret is shortened to what does not."""
    plain, sections = Group(_TOP, []), []
    for name, field in type(settings).model_fields.items():
        value, changed = getattr(settings, name), name in settings.model_fields_set
        if isinstance(value, BaseModel):
            sections.append(Group(name, _rows(name, value)))
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            for number, each in enumerate(value):
                sections.append(Group(f"{name}[{number}]", _rows(f"{name}[{number}]", each)))
        else:
            plain.rows.append(Row(name, _text(name, value), field.description or "", changed))
    return [plain, *sections]


def _rows(where: str, section: BaseModel) -> list[Row]:
    return [
        Row(
            f"{where}.{name}",
            _text(name, getattr(section, name)),
            field.description or "",
            name in section.model_fields_set,
        )
        for name, field in type(section).model_fields.items()
    ]


def _text(name: str, value: object) -> str:
    if isinstance(value, str | Path):
        return without_password(str(value)) or '""'
    return json.dumps(_shown(name, value), ensure_ascii=False, default=str)


def _shown(name: str, value: Any) -> Any:
    if name == _HIDDEN and isinstance(value, str):
        return value[:12]  # as the audit trail names the key
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, BaseModel):
        return {n: _shown(n, getattr(value, n)) for n in type(value).model_fields}
    if isinstance(value, list | tuple):
        return [_shown(name, each) for each in value]
    if isinstance(value, dict):
        return {key: _shown(key, each) for key, each in value.items()}
    return value


def without_password(text: str) -> str:
    """Return a text; if it is an address, without what may hold a user and password in it.

    Of a query nothing stays: whoever connects decodes its names, so that a password has many.
    """
    address, question, _ = text.partition("?")
    scheme, colon, rest = address.partition("://")
    if not colon:
        return text
    place, slash, path = rest.partition("/")
    if "@" in place:
        place = f"…@{place.rpartition('@')[2]}"
    return f"{scheme}{colon}{place}{slash}{path}{'?…' if question else ''}"
