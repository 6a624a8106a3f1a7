"""The composition of what checks on hits: error budgets, and audits where a judge is configured."""

from __future__ import annotations

from contextlib import AsyncExitStack

from proxy.answer_text import Tokens
from proxy.audit_records import AuditRecords
from proxy.audits import Audits
from proxy.auth import Keyring
from proxy.configured import spending
from proxy.kept_budgets import KeptBudgets
from proxy.metrics import Metrics
from proxy.rules import InForce
from proxy.settings import Settings
from proxy.side_calls import SideCalls
from proxy.upkeep import utc_now
from proxy.upstream import Upstreams
from store.cache import Cache
from store.documents.records import Records
from store.quarantine import Quarantine


async def open_budgets(settings: Settings, records: Records, in_force: InForce) -> KeptBudgets:
    """Take up what is known of the categories; raise StoreUnavailable.

    Without a score no risk is known, and a budget lets nothing pass.
    """
    judge = "" if settings.judge is None else settings.judge.model
    point = in_force.rules.encoding.score.point
    return await KeptBudgets.open(records, in_force, point, judge)


def side_calls_for(
    settings: Settings, upstreams: Upstreams, keyring: Keyring, metrics: Metrics
) -> SideCalls | None:
    """Return what makes calls that no client asked for; None where no judge is configured."""
    if settings.judge is None:
        return None

    def pay(cost: float, tokens: Tokens) -> None:
        metrics.judge_cost.inc(cost)
        metrics.judge_tokens.labels("input").inc(tokens.input)
        metrics.judge_tokens.labels("output").inc(tokens.output)

    return SideCalls(
        upstreams,
        spending(settings.judge),
        keys_configured=not keyring.anonymous,
        on_cost=pay,
    )


def open_audits(
    settings: Settings,
    *,
    stack: AsyncExitStack,
    side_calls: SideCalls | None,
    budgets: KeptBudgets,
    cache: Cache,
    records: Records,
    quarantine: Quarantine,
    metrics: Metrics,
) -> Audits | None:
    """Start the audits, to be stopped with `stack`; None where no judge is configured."""
    if settings.judge is None or side_calls is None:
        return None
    audits = Audits(
        model=settings.judge.model,
        budgets=budgets,
        side_calls=side_calls,
        cache=cache,
        records=AuditRecords(records, quarantine),
        metrics=metrics,
        clock=utc_now,
    )
    audits.start()
    stack.push_async_callback(audits.aclose)
    return audits
