"""What every section of the configuration is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from store.units import parse_duration


def seconds(value: object) -> float:
    return parse_duration(value).total_seconds()


class Section(BaseModel):
    """A part of the file: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=False)
