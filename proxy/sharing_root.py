"""What decides about answers in scope shared, composed: for admission and for the admin API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from proxy.parts import Parts
from proxy.sharing import Sharing


def build_sharing(parts: Parts, clock: Callable[[], datetime]) -> Sharing:
    """Return what lets answers serve other tenants; the evaluation has a clock of its own."""
    return Sharing(
        cache=parts.cache,
        quarantine=parts.quarantine,
        in_force=parts.in_force,
        point=parts.budgets.live.point,
        clock=clock,
    )
