"""Settings of the usage ledger."""

from __future__ import annotations

from pydantic import Field

from proxy.model_settings import PriceSettings
from proxy.section import Section


class UsageSettings(Section):
    """What requests use, cost and save, for the overview and `/admin/api/usage`."""

    currency: str = Field(
        "USD",
        pattern=r"^[A-Za-z]{3}$",
        description="of the prices; with any other than USD the bundled prices do not count",
    )
    prices: list[PriceSettings] = Field(
        [], description="of models, before the bundled ones; see below"
    )
