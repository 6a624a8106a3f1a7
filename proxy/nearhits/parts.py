"""What the near-hit tier consists of."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.nearhits.learning import Learning
from proxy.nearhits.replaying import Replayer
from proxy.nearhits.tier import NearHits


@dataclass(frozen=True, slots=True, kw_only=True)
class NearHitParts:
    """The tier, for those who ask and those who look."""

    tier: NearHits
    learning: Learning
    replayer: Replayer | None  # None: no judge is configured
