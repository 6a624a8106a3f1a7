"""What every section of the configuration is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from store.units import parse_duration


def seconds(value: object) -> float:
    return parse_duration(value).total_seconds()


class Section(BaseModel):
    """A part of the file: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)

    @field_validator("*")
    @classmethod
    def _countable(cls, value: Any) -> Any:
        if isinstance(value, int) and value >= 2**63:
            raise ValueError("a whole number below 2^63")
        return value
