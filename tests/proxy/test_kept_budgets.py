"""Error budgets over the records: written when something comes in, taken up at the start."""

from __future__ import annotations

import pytest

from proxy.kept_budgets import KeptBudgets
from proxy.rules import InForce
from store.decision.budget_values import Sample
from store.policy import Policy, PolicyBook
from tests.encodings import rules_of
from tests.fakes_documents import MemoryDocuments


def in_force(*names: str) -> InForce:
    policies = {name: Policy(name=name, error_budget=0.01) for name in ("default", *names)}
    return InForce(rules_of(PolicyBook(policies)))


async def opened(documents: MemoryDocuments, *names: str, judge: str = "judge-1") -> KeptBudgets:
    return await KeptBudgets.open(documents.records, in_force(*names), lambda *_: 0.05, judge)


async def test_verdicts_and_complaints_outlive_a_restart() -> None:
    documents = MemoryDocuments()
    kept = await opened(documents, "fares")
    sample = kept.live.sample("fares", 0.01)
    await kept.audited("fares", sample, 0.01, wrong=True)
    await kept.controlled("fares", wrong=False)
    await kept.complained("fares")
    again = await opened(documents, "fares")
    assert again.standing("fares") == kept.standing("fares")
    assert (again.standing("fares").audits, again.standing("fares").point) == (1, 0.025)


async def test_what_hits_take_back_of_a_complaint_outlives_a_restart() -> None:
    documents = MemoryDocuments()
    for _ in range(2):  # neither time enough of them
        kept = await opened(documents, "fares", judge="")
        if not await documents.records.budgets():
            await kept.complained("default")
        for _ in range(300):
            kept.live.served("default", 0.01)
        await kept.aclose()
    assert (await opened(documents, judge="")).standing("default").tightened == 1.0
    assert list(await documents.records.budgets()) == ["default"]


async def test_what_was_known_of_a_category_that_is_gone_leaves_the_records() -> None:
    documents = MemoryDocuments()
    kept = await opened(documents, "fares")
    await kept.complained("fares")
    await kept.complained("default")
    await opened(documents)
    assert list(await documents.records.budgets()) == ["default"]


async def test_a_category_that_was_deleted_meanwhile_is_not_complained_about() -> None:
    documents = MemoryDocuments()
    kept = await opened(documents)
    await kept.complained("gone")
    assert await documents.records.budgets() == {}


async def test_a_verdict_on_a_category_that_was_deleted_meanwhile_leaves_nothing() -> None:
    documents = MemoryDocuments()
    kept = await opened(documents)
    sample = Sample(0.2, 0.05, 1)
    await kept.audited("gone", sample, 0.01, wrong=False)
    await kept.missed("gone", sample, 0.01, wrong=False)
    await kept.controlled("gone", wrong=False)
    assert await documents.records.budgets() == {}


async def test_a_request_under_the_budget_of_before_wipes_nothing_of_the_one_in_force() -> None:
    """An audit may wait for minutes, and a stream may last as long."""
    kept = await opened(MemoryDocuments())
    await kept.complained("default")
    before = 0.02
    assert kept.live.point("default", before) == 0.05
    kept.live.served("default", before)
    kept.live.wants_control("default", before)
    kept.live.audited("default", before, kept.live.sample("default", before), risk=0, wrong=True)
    standing = kept.standing("default")
    assert (standing.tightened, standing.audits) == (0.5, 0)


async def test_a_state_that_cannot_be_read_is_said_and_begins_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    documents = MemoryDocuments()
    await documents.records.save_budget("default", "{")
    kept = await opened(documents)
    assert "error budget of default cannot be read" in caplog.text
    assert kept.standing("default").point == 0.05


async def test_what_cannot_be_written_is_in_force_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    documents = MemoryDocuments()
    kept = await opened(documents)
    documents.failing = True
    await kept.complained("default")
    assert kept.standing("default").point == 0.025
    assert "was not written" in caplog.text


async def test_a_point_that_falls_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nearhit.budgets")
    kept = await opened(MemoryDocuments())
    for _ in range(100):
        kept.live.controlled("default", 0.01, wrong=False)
    while kept.live.point("default", 0.01):
        sample = kept.live.sample("default", 0.01)
        await kept.audited("default", sample, 0.0, wrong=True)
    assert "category default: decision point refuted at 0, was unproven at 0.05" in caplog.text
