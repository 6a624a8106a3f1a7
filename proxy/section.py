"""What every section of the configuration is made of."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, field_validator

from store.units import parse_duration


def seconds(value: object) -> float:
    return parse_duration(value).total_seconds()


def http_url(value: str) -> str:
    """Return a URL of a service without the slash at its end; raise ValueError if it is none."""
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
        raise ValueError("a URL such as http://127.0.0.1:9000/v1")
    try:
        url = urlsplit(value)
        named = url.hostname is not None and url.port != 0
    except ValueError:  # brackets that hold no address, or a port beyond 65535
        named = False
    if not named:
        raise ValueError("a URL such as http://127.0.0.1:9000/v1, with a port of 1 to 65535 if any")
    return value.rstrip("/")


class Section(BaseModel):
    """A part of the file: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)

    @field_validator("*")
    @classmethod
    def _countable(cls, value: Any) -> Any:
        if isinstance(value, int) and value >= 2**63:
            raise ValueError("a whole number below 2^63")
        return value
