"""What the composition root has built, handed to whoever is built from it."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.adaptation import Adaptation
from proxy.audits import Audits
from proxy.auth import Keyring
from proxy.documents_root import Shelves
from proxy.events import ServingEvents
from proxy.kept_budgets import KeptBudgets
from proxy.metrics import Metrics
from proxy.nearhits.parts import NearHitParts
from proxy.recent_lookups import RecentLookups
from proxy.rules import InForce
from proxy.settings import Settings
from proxy.side_calls import SideCalls
from proxy.snapshots import SnapshotKeeper
from proxy.upstream import Upstreams
from proxy.usage.keeping import UsageKeeper
from store.cache import Cache
from store.economics import Economics
from store.flight import Flights
from store.quarantine import Quarantine


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What has been built, for what is built from it."""

    settings: Settings
    keyring: Keyring
    in_force: InForce
    metrics: Metrics
    shelves: Shelves
    cache: Cache
    keeper: SnapshotKeeper
    quarantine: Quarantine
    upstreams: Upstreams
    economics: Economics
    budgets: KeptBudgets
    audits: Audits | None  # None: no judge is configured
    side_calls: SideCalls | None  # None: no judge is configured
    near_hits: NearHitParts | None  # None: no small model is configured
    adaptation: Adaptation
    events: ServingEvents
    flights: Flights
    usage: UsageKeeper
    recent: RecentLookups
