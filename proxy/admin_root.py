"""The composition of what operators ask and do, from built parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from proxy.admin.access import Access
from proxy.admin.desks import Desks
from proxy.admin.entries import EntriesAdmin
from proxy.admin.near_hits import NearHitsAdmin
from proxy.admin.playground import PlaygroundAdmin
from proxy.admin.policies import PoliciesAdmin
from proxy.admin.sessions import Sessions
from proxy.admin.trail import TrailAdmin
from proxy.admin.usage import UsageAdmin
from proxy.explain import Explainer
from proxy.overview import overview
from proxy.parts import Parts
from proxy.policy_editor import PolicyEditor
from proxy.promoting_root import Promoting, checkpoints_admin
from proxy.sharing_root import build_sharing
from proxy.standing import Standing, standing_of
from proxy.upkeep import utc_now
from proxy.usage.reading import UsageReader
from proxy.what_ifs import WhatIfs


def build_desks(
    parts: Parts, editor: PolicyEditor, promoting: Promoting, explainer: Explainer
) -> Desks:
    """Return what answers the admin API and the pages."""
    wanted, records = parts.settings.dashboard, parts.shelves.records
    sessions = None
    if wanted.enabled and not parts.keyring.anonymous:
        sessions = Sessions(parts.keyring, records, wanted.session)
    access = Access(parts.keyring, sessions)
    standing = _standing(parts)
    what_ifs = WhatIfs(recent=parts.recent, in_force=parts.in_force, point=parts.budgets.live.point)
    policies = PoliciesAdmin(
        access=access,
        editor=editor,
        in_force=parts.in_force,
        records=records,
        standing=standing,
        what_ifs=what_ifs,
    )
    usage = UsageReader(parts.usage, clock=utc_now, monotonic=time.monotonic)
    return Desks(
        access=access,
        trail=TrailAdmin(records, _numbers(parts)),
        entries=_entries(parts, access),
        policies=policies,
        near_hits=_near_hits(parts, access),
        checkpoints=checkpoints_admin(promoting, access),
        playground=PlaygroundAdmin(explainer),
        usage=UsageAdmin(usage, parts.settings.usage.currency, utc_now),
        sessions=sessions,
        editor=editor,
        standing=standing,
        what_ifs=what_ifs,
        explainer=explainer,
        usage_reader=usage,
    )


def _entries(parts: Parts, access: Access) -> EntriesAdmin:
    return EntriesAdmin(
        access=access,
        cache=parts.cache,
        sharing=build_sharing(parts, utc_now),
        quarantine=parts.quarantine,
        documents=parts.shelves.documents,
        records=parts.shelves.records,
        in_force=parts.in_force,
        clock=utc_now,
        membership=parts.shelves.membership,
        forget_usage=parts.usage.forget,
    )


def _near_hits(parts: Parts, access: Access) -> NearHitsAdmin:
    near = parts.near_hits
    return NearHitsAdmin(
        access=access,
        records=parts.shelves.records,
        pairings=parts.settings.offload,
        learning=None if near is None else near.learning,
        replayer=None if near is None else near.replayer,
        tier=None if near is None else near.tier,
        cache=parts.cache,
        clock=time.time,
    )


def _standing(parts: Parts) -> Callable[[str], Standing]:
    def standing(category: str) -> Standing:
        facts = parts.cache.facts()
        return standing_of(
            category,
            parts.in_force.rules,
            load_factor=parts.adaptation.factor(category),
            semantic_open=parts.economics.is_open(category),
            entries=facts.entries,
            bytes=facts.bytes,
            budget=parts.budgets.standing(category),
            calibration=parts.in_force.rules.encoding.score.decided_by(category),
        )

    return standing


def _numbers(parts: Parts) -> Callable[[], dict[str, Any]]:
    began = time.monotonic()

    def numbers() -> dict[str, Any]:
        now = time.monotonic()
        return overview(
            rules=parts.in_force.rules,
            cache=parts.cache,
            quarantine=parts.quarantine,
            economics=parts.economics,
            upstreams=parts.upstreams,
            metrics=parts.metrics,
            budgets=parts.budgets,
            calibration=parts.in_force.rules.encoding.score.decided_by,
            judge=None if parts.audits is None else parts.audits.standing(),
            uptime=now - began,
            now=now,
        )

    return numbers
