"""All that an operator asks and does, for the admin API and for the pages alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.admin.access import Access
from proxy.admin.checkpoints import CheckpointsAdmin
from proxy.admin.entries import EntriesAdmin
from proxy.admin.near_hits import NearHitsAdmin
from proxy.admin.playground import PlaygroundAdmin
from proxy.admin.policies import PoliciesAdmin
from proxy.admin.sessions import Sessions
from proxy.admin.trail import TrailAdmin
from proxy.admin.usage import UsageAdmin
from proxy.explain import Explainer
from proxy.policy_editor import PolicyEditor
from proxy.standing import Standing
from proxy.usage.reading import UsageReader
from proxy.what_ifs import WhatIfs


@dataclass(frozen=True, kw_only=True)
class Desks:
    """What answers the admin API, and what pages ask besides."""

    access: Access
    trail: TrailAdmin
    entries: EntriesAdmin
    policies: PoliciesAdmin
    near_hits: NearHitsAdmin
    checkpoints: CheckpointsAdmin
    playground: PlaygroundAdmin
    usage: UsageAdmin
    # For pages only.
    sessions: Sessions | None  # None: there are no pages, or nobody has to sign in
    editor: PolicyEditor
    standing: Callable[[str], Standing]
    what_ifs: WhatIfs
    explainer: Explainer
    usage_reader: UsageReader
