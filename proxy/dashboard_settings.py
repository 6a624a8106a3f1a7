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

    _time = field_validator("session", mode="before")(seconds)
