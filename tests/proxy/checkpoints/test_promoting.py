"""A better checkpoint is promoted, a worse one stays a candidate, and one can always go back."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embed.errors import CheckpointInvalid, EncoderFailed
from proxy.checkpoints import judging, promoting, promotion
from proxy.checkpoints.judging import Judge
from proxy.checkpoints.promoting import AlreadyActive, Busy, NothingBefore
from proxy.checkpoints.promotion import Outcome, Promotion, Step
from proxy.switching import SwitchRefused
from store.policy import PolicyBook
from tests.embed.test_checkpoint import LINEAGE, write
from tests.fakes_documents import MemoryDocuments
from tests.proxy.checkpoints.encoders import labelled
from tests.proxy.checkpoints.fake_switch import Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path / "data")
    yield bench
    await bench.promoter.aclose()


async def with_pairs(bench: Bench, count: int = 320) -> None:
    for each in labelled(count):
        await bench.documents.records.add_pair(each)


def made(folder: Path, weights: str = "trained") -> str:
    """Return the path of a checkpoint that was made elsewhere."""
    return str(write(folder / f"made-{weights}", weights=weights, lineage=LINEAGE))


async def promoted(
    bench: Bench, folder: Path, weights: str = "trained", **asked: bool
) -> Promotion:
    began = await bench.promoter.promote(made(folder, weights), "ann", **asked)
    assert began.running
    return await bench.ended()


async def test_a_better_checkpoint_is_judged_staged_refitted_and_swapped(
    bench: Bench, tmp_path: Path
) -> None:
    await with_pairs(bench)
    ended = await promoted(bench, tmp_path)
    assert ended.outcome is Outcome.PROMOTED, ended.reasons
    assert bench.switch.active == ended.checkpoint
    assert bench.outcomes == [Outcome.PROMOTED]

    ((book, change),) = bench.switch.edits
    action, category, before, after = change
    assert (action, category, before) == (
        "checkpoint.promote",
        None,
        {"checkpoint": "bundled-0"},
    )
    assert isinstance(after, dict) and after["verdict"]["passed"] and not after["forced"]
    assert bench.switch.notes == [f"checkpoint {ended.checkpoint}"]

    note = await bench.library.note(ended.checkpoint)
    change_made = note.changes["default"]
    assert change_made.before.hit == 0.92
    assert change_made.after.hit == book["default"].hit_threshold != 0.92
    assert note.over == "bundled-0" and note.verdict == after["verdict"]
    # The texts are no sentences that the score would say much about, but there are labels enough.
    assert note.calibration is None or note.calibration["heads"]


async def test_one_that_is_not_better_stays_a_candidate_and_the_reason_is_on_record(
    bench: Bench, tmp_path: Path
) -> None:
    await with_pairs(bench)
    candidate = (await bench.library.take_in(Path(made(tmp_path)))).id
    bench.pulls[candidate] = 0.05
    await bench.promoter.promote(candidate, "ann")
    ended = await bench.ended()
    assert ended.outcome is Outcome.REFUSED
    assert ended.reasons[0].startswith("does not win overall")
    assert bench.switch.active == "bundled-0" and bench.switch.edits == []
    note = await bench.library.note(candidate)
    assert note.verdict is not None and note.verdict["reasons"] == list(ended.reasons)
    (row,) = (await bench.documents.records.audit(limit=9)).items
    assert (row.who, row.action) == ("ann", "checkpoint.refuse")
    assert json.loads(row.after or "")["verdict"]["reasons"] == list(ended.reasons)
    assert bench.opened[0].closed, "nothing of it is left in memory"


async def test_too_few_pairs_are_a_reason_and_force_goes_on_in_spite_of_it(
    bench: Bench, tmp_path: Path
) -> None:
    await with_pairs(bench, 20)
    ended = await promoted(bench, tmp_path)
    assert ended.outcome is Outcome.REFUSED
    assert ended.reasons[0].startswith("too few held-out pairs")
    forced = await promoted(bench, tmp_path, force=True)
    assert forced.outcome is Outcome.PROMOTED
    assert forced.reasons == ended.reasons, "what spoke against it is still told"
    ((book, change),) = bench.switch.edits
    assert isinstance(change[3], dict) and change[3]["forced"]
    assert change[3]["verdict"]["reasons"] == list(ended.reasons)
    assert (await bench.library.note(forced.checkpoint)).forced
    assert book["default"].hit_threshold == 0.92, "no pairs, so only what training asked for"


async def test_damage_is_never_promoted_whatever_is_asked(bench: Bench, tmp_path: Path) -> None:
    await with_pairs(bench)
    path = made(tmp_path)
    (Path(path) / "model.onnx").write_text("other bytes")
    with pytest.raises(CheckpointInvalid, match=r"damaged: model\.onnx"):
        await bench.promoter.promote(path, "ann", force=True)
    sound = (await bench.library.take_in(Path(made(tmp_path, "that does not run")))).id
    bench.pulls[sound] = -1
    await bench.promoter.promote(sound, "ann", force=True)
    ended = await bench.ended()
    assert ended.outcome is Outcome.REFUSED
    assert ended.reasons == ("model.onnx does not run: it is text",)
    assert (await bench.library.note(sound)).refused == ended.reasons[0]
    assert bench.switch.active == "bundled-0"


async def test_a_dry_run_only_judges(bench: Bench, tmp_path: Path) -> None:
    await with_pairs(bench)
    ended = await promoted(bench, tmp_path, dry_run=True)
    assert ended.outcome is Outcome.PASSED
    assert bench.switch.active == "bundled-0" and bench.switch.staging == ""
    assert (await bench.documents.records.audit(limit=9)).items == ()
    note = await bench.library.note(ended.checkpoint)
    assert note.verdict is not None and note.verdict["passed"]


async def test_what_makes_no_sense_is_said_at_once(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(CheckpointInvalid, match=r"holds no manifest\.json"):
        await bench.promoter.promote("nothing-0", "ann")
    with pytest.raises(CheckpointInvalid, match="is no checkpoint's id"):
        await bench.promoter.promote("../elsewhere", "ann")
    with pytest.raises(NothingBefore):
        await bench.promoter.rollback("ann")
    await with_pairs(bench)
    ended = await promoted(bench, tmp_path)
    with pytest.raises(AlreadyActive):
        await bench.promoter.promote(ended.checkpoint, "ann")


async def test_one_at_a_time_and_one_that_runs_can_be_stopped(bench: Bench, tmp_path: Path) -> None:
    await with_pairs(bench)
    bench.switch.go_on.clear()
    began = await bench.promoter.promote(made(tmp_path), "ann")
    await staged(bench)
    with pytest.raises(Busy):
        await bench.promoter.promote(made(tmp_path, "other"), "bob")
    with pytest.raises(Busy):
        await bench.promoter.rollback("bob")
    assert await bench.promoter.stop("bob") == began.checkpoint
    ended = await bench.ended()
    assert (ended.outcome, ended.reasons) == (Outcome.STOPPED, ("stopped by bob",))
    assert (bench.switch.active, bench.switch.staging) == ("bundled-0", "")
    assert bench.opened[0].closed
    assert await bench.promoter.stop("bob") is None
    bench.switch.go_on.set()
    assert (await promoted(bench, tmp_path)).outcome is Outcome.PROMOTED


async def staged(bench: Bench) -> None:
    async with asyncio.timeout(20):
        while not bench.switch.staging:  # noqa: ASYNC110 - a fake's
            await asyncio.sleep(0.01)


async def test_a_failure_before_the_swap_leaves_everything_as_it_was(
    bench: Bench, tmp_path: Path
) -> None:
    await with_pairs(bench)
    bench.switch.fails = EncoderFailed("out of memory")
    ended = await promoted(bench, tmp_path)
    assert (ended.outcome, ended.reasons) == (Outcome.FAILED, ("out of memory",))
    assert (bench.switch.active, bench.switch.staging) == ("bundled-0", "")
    bench.switch.fails = KeyError("a fault of ours")
    ended = await promoted(bench, tmp_path)
    assert ended.outcome is Outcome.FAILED and "KeyError" in ended.reasons[0]
    bench.switch.fails = None
    assert (await promoted(bench, tmp_path)).outcome is Outcome.PROMOTED


async def test_who_gives_way_to_another_replica_leaves_what_that_one_stages_alone(
    bench: Bench, tmp_path: Path
) -> None:
    await with_pairs(bench)
    bench.switch.fails = SwitchRefused("another replica began to promote a checkpoint")
    ended = await promoted(bench, tmp_path)
    assert (ended.outcome, ended.reasons) == (Outcome.FAILED, (str(bench.switch.fails),))
    assert bench.switch.staging == ended.checkpoint, "as the records of all replicas have it"


async def test_rollback_restores_the_thresholds_that_nobody_edited_and_can_be_taken_back(
    bench: Bench, tmp_path: Path
) -> None:
    await with_pairs(bench)
    ended = await promoted(bench, tmp_path)
    new = bench.switch.in_force.rules.book["default"]
    assert await bench.promoter.rollback("ann") == "bundled-0"
    assert bench.switch.in_force.rules.book["default"].hit_threshold == 0.92
    assert bench.switch.edits[-1][1] == (
        "checkpoint.rollback",
        None,
        {"checkpoint": ended.checkpoint},
        {"checkpoint": "bundled-0"},
    )
    assert await bench.promoter.rollback("ann") == ended.checkpoint
    assert bench.switch.in_force.rules.book["default"] == new

    rules = bench.switch.in_force.rules
    by_hand = PolicyBook({"default": replace(new, hit_threshold=0.99)})
    bench.switch.in_force.rules = replace(rules, book=by_hand)
    await bench.promoter.rollback("ann")
    assert bench.switch.in_force.rules.book == by_hand


async def test_going_back_from_the_second_leaves_the_first_ones_thresholds(
    bench: Bench, tmp_path: Path
) -> None:
    await with_pairs(bench)
    await promoted(bench, tmp_path, "one")
    first = bench.switch.in_force.rules.book
    await promoted(bench, tmp_path, "two", force=True)
    second = bench.switch.in_force.rules.book
    await bench.promoter.rollback("ann")
    assert bench.switch.in_force.rules.book == first
    await bench.promoter.rollback("ann")
    assert bench.switch.in_force.rules.book == second


async def test_policies_that_are_edited_while_entries_are_re_encoded_are_refitted_too(
    bench: Bench, tmp_path: Path
) -> None:
    await with_pairs(bench)
    bench.switch.go_on.clear()
    await bench.promoter.promote(made(tmp_path), "ann")
    await staged(bench)
    rules = bench.switch.in_force.rules
    policy = replace(rules.book["default"], hit_threshold=0.5, near_threshold=0.3)
    bench.switch.in_force.rules = replace(rules, book=PolicyBook({"default": policy}))
    bench.switch.go_on.set()
    ended = await bench.ended()
    change = (await bench.library.note(ended.checkpoint)).changes["default"]
    assert change.before.hit == 0.5
    assert bench.switch.in_force.rules.book["default"].hit_threshold == change.after.hit


async def test_a_restart_while_entries_are_re_encoded_goes_on_without_judging_again(
    bench: Bench, tmp_path: Path
) -> None:
    await with_pairs(bench, 20)
    bench.switch.go_on.clear()
    await bench.promoter.promote(made(tmp_path), "ann", force=True)
    await staged(bench)
    await bench.promoter.aclose()
    bench.switch.go_on.set()
    bench.start()
    assert await bench.promoter.take_over()
    ended = await bench.ended()
    assert (ended.outcome, ended.who, ended.force) == (Outcome.PROMOTED, "ann", True)
    assert ended.reasons[0].startswith("too few"), "the verdict from before the restart"
    assert bench.switch.active == ended.checkpoint
    assert not await bench.promoter.take_over()


@pytest.mark.parametrize("swapped", [False, True])
async def test_a_restart_before_anything_changed_or_after_everything_did_is_told_so(
    swapped: bool, bench: Bench, tmp_path: Path
) -> None:
    candidate = (await bench.library.take_in(Path(made(tmp_path)))).id
    told = Promotion(checkpoint=candidate, who="ann", began="", dry_run=False, force=False)
    await promotion.Bulletin(bench.documents.records, alone=True).tell(told)
    if swapped:
        await with_pairs(bench)
        bench.switch.in_force.rules = replace(
            bench.switch.in_force.rules,
            encoding=replace(bench.switch.in_force.rules.encoding, checkpoint=candidate),
        )
    assert not await bench.promoter.take_over()
    latest = await bench.promoter.latest()
    assert latest is not None
    assert latest.outcome is (Outcome.PROMOTED if swapped else Outcome.FAILED)


async def test_another_replica_is_busy_while_one_promotes_and_takes_over_once_it_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "SILENT", 0.5)
    monkeypatch.setattr(promoting, "BEAT", 0.05)
    one = Bench(tmp_path / "data", alone=False)
    await with_pairs(one)
    other = Bench(tmp_path / "data", documents=one.documents, alone=False)
    one.switch.go_on.clear()
    await one.promoter.promote(made(tmp_path), "ann")
    await staged(one)
    await asyncio.sleep(0.6)  # it goes on telling that it lives
    with pytest.raises(Busy):
        await other.promoter.promote(made(tmp_path, "other"), "bob")
    assert not await other.promoter.take_over()
    latest = await other.promoter.latest()
    assert latest is not None and latest.step is Step.STAGE and latest.running
    await one.promoter.aclose()
    await asyncio.sleep(0.6)
    other.switch.staging = latest.checkpoint  # which replicas read from the records
    assert await other.promoter.take_over()
    assert (await other.ended()).outcome is Outcome.PROMOTED
    await other.promoter.aclose()


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
async def test_whose_clock_differs_is_neither_thought_dead_nor_alive_for_ever(
    ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promotion, "SILENT", 0.3)
    records = MemoryDocuments().records
    one, other = (promotion.Bulletin(records, alone=False) for _ in range(2))
    now = Promotion(checkpoint="a-1", who="ann", began="", dry_run=False, force=False)
    real = time.time
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real() + ahead)
            await one.tell(now)
        assert await other.elsewhere() and await other.orphan() is None
        await asyncio.sleep(0.15)
    await asyncio.sleep(0.2)
    assert not await other.elsewhere() and await other.orphan() == now


async def test_a_process_that_ends_in_order_leaves_its_promotion_to_another_at_once() -> None:
    records = MemoryDocuments().records
    one, other = (promotion.Bulletin(records, alone=False) for _ in range(2))
    now = Promotion(checkpoint="a-1", who="ann", began="", dry_run=False, force=False)
    await one.tell(now)
    assert await other.orphan() is None
    await one.leave(now)
    assert await other.orphan() == now and not await other.elsewhere()
    await other.tell(now)
    await one.leave(now)
    assert await one.orphan() is None, "what another one goes on with is not its own any more"


async def test_what_takes_seconds_with_many_pairs_leaves_the_event_loop_alone(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await with_pairs(bench)
    here, threads = threading.current_thread(), list[threading.Thread]()
    for place, name in ((judging, "held_out_pairs"), (Judge, "_calibration")):
        real = getattr(place, name)

        def noted(*given: Any, real: Callable[..., Any] = real) -> Any:
            threads.append(threading.current_thread())
            return real(*given)

        monkeypatch.setattr(place, name, noted)
    assert (await promoted(bench, tmp_path)).outcome is Outcome.PROMOTED
    assert len(threads) == 2 and here not in threads
