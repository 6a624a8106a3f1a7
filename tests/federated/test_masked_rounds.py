"""Secure aggregation in whole runs: the plain mean comes out, whoever drops out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from federated import client_app
from federated.masking import ATTEMPT, KEYS, MEMBERS, RUN
from federated.options import Config
from federated.records import (
    ARRAYS,
    CONFIG,
    KEY,
    MASKED,
    QUERY_KEY,
    QUERY_REMASK,
    QUERY_REVEAL,
    ROUND,
    SEED,
    arrays_of,
)
from federated.secure_sum import Attempt, Secrets, opened, to_floats
from federated.server_app import NothingLearned
from federated.task import FloatArray, Site
from tests.federated.in_process import (
    RUN as RUN_ID,
)
from tests.federated.in_process import (
    Federation,
    TinyModel,
    federation,
    pairs_of,
    share_of_ones,
)

LISTS = [pairs_of(1, 30, 15), pairs_of(2, 60, 10), pairs_of(3, 40, 30), pairs_of(4, 30, 10)]
Options = dict[str, bool | int | float | str]
MASKED_RUN: Options = {
    "secure_aggregation": True,
    "secure_least": 3,
    "num_server_rounds": 1,
    "clipping_norm": 10.0,
}


def way_of(sites: list[Site]) -> float:
    steps = [share_of_ones(site) / 10 for site in sites]
    return float(np.average(steps, weights=[len(site.learns_from) for site in sites]))


def moved(state: dict[str, FloatArray]) -> float:
    return float((state["bias"] - TinyModel().state()["bias"])[0])


def test_the_mean_is_that_of_a_plain_run(tmp_path: Path) -> None:
    with federation(tmp_path / "plain", LISTS, num_server_rounds=1) as sites:
        sites.run()
        plain = sites.published
    with federation(tmp_path / "masked", LISTS, **MASKED_RUN) as sites:
        record = sites.run()
        for name, values in plain.items():
            np.testing.assert_allclose(sites.published[name], values, atol=1e-6)
    assert record.clients == 4
    assert record.pairs == sum(len(Site.of(pairs).learns_from) for pairs in LISTS)


def test_no_upload_of_a_site_is_like_its_update(tmp_path: Path) -> None:
    with federation(tmp_path, LISTS, **MASKED_RUN) as sites:
        sites.run()
    uploads = [
        r.content.array_records[ARRAYS][MASKED].numpy()
        for r in sites.grid.replies
        if ARRAYS in r.content
    ]
    assert len(uploads) == 4
    for words in uploads:  # an update's words would be all alike, and near 0 or 2**64
        assert len(set(words.tolist())) == len(words)
        assert 0.3 < (words < 2**63).mean() < 0.7


def dropping(sites: Federation, node: int, kind: str, attempt: int) -> Callable[[Message], object]:
    """Let a site's reply of this kind get lost, in this attempt; the site itself does not know."""
    seen = 0

    def tamper(reply: Message) -> Message | None:
        nonlocal seen
        if reply.metadata.src_node_id == node and reply.metadata.message_type == kind:
            seen += 1
            if seen == attempt:
                return None
        return reply

    return tamper


@pytest.mark.parametrize("kind", ["train", QUERY_KEY])
def test_a_site_that_drops_out_before_its_upload_is_left_out_of_the_sum(
    kind: str, tmp_path: Path
) -> None:
    with federation(tmp_path, LISTS, **MASKED_RUN) as sites:
        sites.grid.tamper = dropping(sites, 2, kind, 1)  # type: ignore[assignment]
        sites.run()
        rest = way_of([Site.of(LISTS[n]) for n in (0, 2, 3)])
        assert moved(sites.published) == pytest.approx(rest, abs=1e-6)


def test_a_late_upload_and_the_new_sum_together_do_not_open_the_late_one(tmp_path: Path) -> None:
    with federation(tmp_path, LISTS, **MASKED_RUN) as sites:
        sites.grid.tamper = dropping(sites, 2, "train", 1)  # type: ignore[assignment]
        sites.run()
    first = {
        str(r.metadata.src_node_id): r.content.array_records[ARRAYS][MASKED].numpy()
        for r in sites.grid.replies
        if r.metadata.message_type == "train"
    }
    seeds = {
        str(r.metadata.src_node_id): seed
        for r in sites.grid.replies
        if r.metadata.message_type == QUERY_REVEAL
        and isinstance(seed := r.content.config_records[SEED][SEED], bytes)
    }
    assert first.keys() == {"1", "2", "3", "4"} and seeds.keys() == {"1", "3", "4"}
    # What a server that kept the late upload could try: open the first attempt with all it has.
    guess = opened(first, {**seeds, "2": bytes(32)}, Attempt(RUN_ID, 1, 1, ("1", "2", "3", "4")))
    assert float(np.abs(to_floats(guess)).max()) > 1e6


@pytest.mark.parametrize("data", [b"junk", Array(np.zeros((157, 3), np.uint64)).data])
def test_an_upload_that_is_not_what_it_says_is_left_out_of_the_sum(
    data: bytes, tmp_path: Path
) -> None:
    with federation(tmp_path, LISTS, **MASKED_RUN) as sites:

        def spoil(reply: Message) -> Message:
            if reply.metadata.src_node_id == 2 and ARRAYS in reply.content:
                said = reply.content.array_records[ARRAYS][MASKED]
                broken = Array(dtype="uint64", shape=said.shape, stype=said.stype, data=data)
                reply.content[ARRAYS] = ArrayRecord({MASKED: broken})
            return reply

        sites.grid.tamper = spoil
        assert sites.run().clients == 3
        kept = [Site.of(pairs) for number, pairs in enumerate(LISTS, 1) if number != 2]
        assert moved(sites.published) == pytest.approx(way_of(kept), rel=1e-5)


def test_when_too_few_are_left_the_sum_stays_closed(tmp_path: Path) -> None:
    with federation(tmp_path, LISTS[:3], **MASKED_RUN) as sites:
        sites.grid.tamper = dropping(sites, 2, "train", 1)  # type: ignore[assignment]
        with pytest.raises(NothingLearned):
            sites.run()
        kinds = {r.metadata.message_type for r in sites.grid.replies}
    assert QUERY_REVEAL not in kinds and QUERY_REMASK not in kinds
    assert any("2 could add to the sum, 3 at least" in line for line in sites.lines)


def test_a_site_that_leaves_before_the_sum_is_opened_costs_the_round_only(tmp_path: Path) -> None:
    with federation(tmp_path, LISTS, **{**MASKED_RUN, "num_server_rounds": 2}) as sites:
        sites.grid.tamper = dropping(sites, 2, QUERY_REVEAL, 1)  # type: ignore[assignment]
        record = sites.run()
        every = way_of([Site.of(pairs) for pairs in LISTS])
        assert moved(sites.published) == pytest.approx(every, abs=1e-6)
    assert record.best_round == 2
    assert any("it stays closed" in line for line in sites.lines)


def test_sites_that_would_not_train_are_not_in_the_sum(tmp_path: Path) -> None:
    with federation(tmp_path, [*LISTS, pairs_of(5, 3, 1)], **MASKED_RUN) as sites:
        assert sites.run().clients == 4
        keys = {r.metadata.src_node_id for r in sites.grid.replies if KEY in r.content}
    assert keys == {1, 2, 3, 4}


def test_each_site_clips_its_own_update(tmp_path: Path) -> None:
    norm = 0.01
    with federation(tmp_path, LISTS, **{**MASKED_RUN, "clipping_norm": norm}) as sites:
        sites.run()
        start = TinyModel().state()
        squares = sum(float(((v - start[n]) ** 2).sum()) for n, v in sites.published.items())
    assert np.sqrt(squares) == pytest.approx(norm, rel=1e-3)


def test_a_mean_longer_than_clipped_updates_can_have_is_not_used(tmp_path: Path) -> None:
    with federation(tmp_path, LISTS, **MASKED_RUN) as sites:

        def poison(reply: Message) -> Message:
            if reply.metadata.src_node_id == 2 and ARRAYS in reply.content:
                words = reply.content.array_records[ARRAYS][MASKED].numpy().copy()
                words[:5] += np.uint64(2**50)
                from federated.records import masked_record

                reply.content[ARRAYS] = masked_record(words)
            return reply

        sites.grid.tamper = poison
        with pytest.raises(NothingLearned):
            sites.run()
    assert any("the sum is not used" in line for line in sites.lines)


# One site, asked by hand.


def asked(
    kind: str, context: Context, config: dict[str, object], *, arrays: bool = False
) -> Message:
    records = RecordDict({CONFIG: ConfigRecord(config)})  # type: ignore[arg-type]
    if arrays:
        records[ARRAYS] = arrays_of(TinyModel().state())
    message = Message(records, context.node_id, kind)
    return client_app.app(message, context)


def attempt_of(context: Context, others: dict[str, Secrets], number: int) -> dict[str, object]:
    public = asked(QUERY_KEY, context, {ROUND: 1}).content.config_records[KEY][KEY]
    keys = {"1": public} | {name: secrets.public for name, secrets in others.items()}
    return {
        ROUND: 1,
        RUN: str(RUN_ID),
        ATTEMPT: number,
        MEMBERS: sorted(keys),
        KEYS: [keys[name] for name in sorted(keys)],
    }


@pytest.fixture
def site(tmp_path: Path) -> object:
    with federation(tmp_path, LISTS, **MASKED_RUN) as sites:
        yield sites.grid.contexts[1]


OTHERS = {str(n): Secrets.new(bytes([n]) * 64) for n in (2, 3)}


def test_a_site_opens_one_sum_a_round(site: Context) -> None:
    first = attempt_of(site, OTHERS, 1)
    assert not asked("train", site, first, arrays=True).has_error()
    assert SEED in asked(QUERY_REVEAL, site, first).content
    again = asked(QUERY_REVEAL, site, first)
    assert again.has_error() and "opened already" in str(again.error.reason)
    other = asked(QUERY_REMASK, site, {**first, ATTEMPT: 2})
    assert other.has_error()


def test_a_site_opens_only_the_last_attempt_that_it_uploaded_for(site: Context) -> None:
    first = attempt_of(site, OTHERS, 1)
    asked("train", site, first, arrays=True)
    second = {**first, ATTEMPT: 2}
    assert not asked(QUERY_REMASK, site, second).has_error()
    assert asked(QUERY_REVEAL, site, first).has_error()
    assert not asked(QUERY_REVEAL, site, second).has_error()


def test_a_site_refuses_a_sum_of_fewer_than_the_run_or_itself_allows(site: Context) -> None:
    few = attempt_of(site, {"2": OTHERS["2"]}, 1)
    reply = asked("train", site, few, arrays=True)
    assert reply.has_error() and reply.error.reason == "2 take part, this site wants 3 at least"
    site.node_config["secure-least"] = 4
    reply = asked("train", site, attempt_of(site, OTHERS, 1), arrays=True)
    assert reply.has_error() and reply.error.reason == "3 take part, this site wants 4 at least"


def test_a_site_that_wants_masks_sends_nothing_without_them(site: Context) -> None:
    strict: Config = {**site.node_config, "secure-aggregation": True}
    site.node_config = dict(strict)
    site.run_config = {**site.run_config, "secure-aggregation": False}
    reply = asked("train", site, {ROUND: 1}, arrays=True)
    assert reply.has_error() and "nothing but masked" in str(reply.error.reason)


def test_secrets_of_another_round_are_not_used(site: Context) -> None:
    late = {**attempt_of(site, OTHERS, 1), ROUND: 2}
    assert asked("train", site, late, arrays=True).has_error()
