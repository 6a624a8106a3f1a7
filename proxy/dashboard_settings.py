"""Settings of the dashboard."""

from __future__ import annotations

from pydantic import Field, field_validator

from proxy.section import Section, seconds


class DashboardSettings(Section):
    """Pages for admins, at /admin."""

    enabled: bool = Field(True, description="whether there are any; the admin API is there anyway")
    session: float = Field(
        12 * 3600.0, gt=0, description="time after which who has signed in is asked for a key again"
    )

    recent_lookups: int = Field(
        5000,
        ge=0,
        le=100_000,
        description="lookups by meaning that are remembered in memory, to say what another "
        "threshold would have done; a tenth of them of one category, 0: none",
    )

    _time = field_validator("session", mode="before")(seconds)
