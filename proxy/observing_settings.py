"""Settings of what is told to the outside: traces and logs."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from proxy.section import Section, http_url


class TracingSettings(Section):
    """OpenTelemetry traces, sent over OTLP/HTTP; needs the extra `tracing`."""

    endpoint: str | None = Field(
        None, description="as http://127.0.0.1:4318/v1/traces; unset: no traces, at no cost"
    )
    sample: float = Field(
        1.0, ge=0, le=1, description="the share of requests that begin a trace here to be recorded"
    )
    record_text: bool = Field(False, description="put what users ask into the spans")
    headers_env: str | None = Field(
        None, description="the variable with headers for the collector, as `name=value,name=value`"
    )

    @field_validator("endpoint")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError("a URL such as http://127.0.0.1:4318/v1/traces, without a password")
        http_url(value)
        bare = not value.split("://", 1)[1].partition("/")[2]
        return f"{value.rstrip('/')}/v1/traces" if bare else value


class LoggingSettings(Section):
    """What is written to stderr."""

    format: Literal["text", "json"] = Field("text", description="lines for people, or JSON")
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="what is less than that is left out"
    )
    access: bool = Field(False, description="one line for each request, without any text of it")
