"""The last lookups by meaning: bounded, and gone with what they speak of."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth import Caller
from proxy.call import Call, CallReader, Request
from proxy.judgement import refused
from proxy.outcome import Barrier, Judgement, Lookup, Outcome, Searched
from proxy.recent_lookups import NEAREST, RecentLookups
from proxy.rules import InForce
from proxy.wire.chat import ChatWire
from store.decision.what_if import EXPIRED, SCOPE, SCORE, THRESHOLD, PastLookup
from store.entry import Candidate, EntryId, Held, PartitionKey
from store.journal import Change, Record, Removed, Stopped, TenantForgotten
from store.policy import Policy, PolicyBook
from tests.encodings import encoding_of, rules_of
from tests.entries import NOON

BOOK = PolicyBook(
    {
        "default": Policy(name="default"),
        "other": Policy(name="other", hit_threshold=0.95),
        "third": Policy(name="third"),
    }
)
READER = CallReader(InForce(rules_of(BOOK, encoding_of())), {}, lambda model: "")


def call(
    text: str = "How do I oil a hinge?",
    category: str = "default",
    tenant: str = "harbour",
    headers: dict[bytes, bytes] | None = None,
) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    request = Request(
        raw=orjson.dumps(body),
        header_list=list((headers or {}).items()),
        headers=headers or {},
        query_string=b"",
        request_id="r",
    )
    read = READER.read(ChatWire(), request, Caller(tenant=tenant))
    read.place(category)
    return read


def held(id: str, category: str = "default", age: timedelta = timedelta()) -> Held:
    return Held(
        id=EntryId(id),
        key=PartitionKey("p", ""),
        tenant="harbour",
        category=category,
        query=f"stored {id}",
        created_at=NOON - age,
        size=1,
        model="m",
    )


def note(
    recent: RecentLookups,
    made: Call,
    *found: Candidate,
    judgements: dict[int, Judgement] | None = None,
    served: int | None = None,
) -> None:
    """Note what was found; of whom nothing is said, only the cosine kept away."""
    told = judgements or {}
    if served is not None:
        told = {**dict.fromkeys(range(len(found)), refused(Barrier.OUTDONE)), **told}
        told[served] = Judgement(Outcome.HIT)
    each = tuple(told.get(n, refused(Barrier.THRESHOLD)) for n in range(len(found)))
    searched = Searched(found, each)
    if served is None:
        recent.note(made, Lookup(Outcome.MISS, searched=searched), NOON)
    else:
        recent.note(made, Lookup(Outcome.HIT, found=found[served], searched=searched), NOON)


def rows(recent: RecentLookups, category: str = "default") -> list[PastLookup]:
    return list(recent.of(category).values())


def test_what_a_what_if_needs_is_kept() -> None:
    recent = RecentLookups(100)
    far = [Candidate(held(f"{n}"), 0.9 - n / 20) for n in range(6)]
    scored = Judgement(Outcome.MISS, Barrier.SCORE, "score", 0.3)
    note(recent, call(), *far, judgements={1: scored})
    (row,) = rows(recent)
    assert (row.category, row.tenant, row.hit) == ("default", "harbour", False)
    assert row.threshold == BOOK["default"].hit_threshold
    assert [(each.id, each.rank) for each in row.near] == [(str(n), n) for n in range(NEAREST)]
    assert [each.bar for each in row.near] == [THRESHOLD, SCORE, THRESHOLD]
    assert row.near[1].risk == 0.3
    assert len(row.similarities) == 6


def test_whoever_answered_is_kept_though_others_were_nearer() -> None:
    recent = RecentLookups(100)
    found = [Candidate(held(f"{n}"), 0.95) for n in range(6)]
    guarded = Judgement(Outcome.MISS, Barrier.GUARD, "names")
    note(recent, call(), *found, served=5, judgements={0: guarded})
    (row,) = rows(recent)
    assert row.hit and row.near[row.served].id == "5"
    assert [each.id for each in row.near] == ["0", "1", "2", "5"]
    assert [each.bar for each in row.near] == ["guard names", "", "", ""]


def test_what_is_far_away_is_left_out() -> None:
    recent = RecentLookups(100)
    note(recent, call(), Candidate(held("a"), 0.49))
    assert rows(recent)[0].near == ()


def test_what_had_expired_is_no_matter_of_the_threshold() -> None:
    recent = RecentLookups(100)
    old = Candidate(held("a", age=timedelta(days=2)), 0.7)
    note(recent, call(), old)
    assert rows(recent)[0].near[0].bar == EXPIRED


def test_the_callers_and_the_other_categorys_bars_stay() -> None:
    recent = RecentLookups(100)
    asked = call(headers={b"x-nearhit-threshold": b"0.97"})
    note(recent, asked, Candidate(held("a", "other"), 0.9))
    note(recent, call(), Candidate(held("a", "other"), 0.9))
    assert [row.near[0].floor for row in rows(recent)] == [0.97, 0.95]


def test_whatever_keeps_an_answer_away_has_a_bar() -> None:
    recent = RecentLookups(10_000)
    for barrier in Barrier:
        note(recent, call(), Candidate(held("a"), 0.9), judgements={0: refused(barrier)})
    bars = dict(zip(Barrier, [row.near[0].bar for row in rows(recent)], strict=True))
    assert bars[Barrier.QUARANTINE] == bars[Barrier.MODE] == SCOPE
    assert [barrier for barrier, bar in bars.items() if bar == ""] == [Barrier.OUTDONE]


def test_nothing_is_kept_of_whoever_says_no_store_nor_where_none_are_wanted() -> None:
    recent = RecentLookups(100)
    note(recent, call(headers={b"cache-control": b"no-store"}))
    assert len(recent) == 0
    none = RecentLookups(0)
    note(none, call())
    assert len(none) == 0


@given(
    st.integers(1, 30),
    st.lists(st.tuples(st.sampled_from(sorted(BOOK.policies)), st.booleans()), max_size=120),
)
def test_there_are_never_more_than_wanted_and_the_oldest_leave(
    most: int, steps: list[tuple[str, bool]]
) -> None:
    recent = RecentLookups(most)
    sent: list[tuple[str, str]] = []
    for n, (category, forget) in enumerate(steps):
        note(recent, _called(category), Candidate(held(f"e{n}"), 0.9))
        sent.append((category, f"e{n}"))
        if forget:
            recent.apply(Record(n, Removed((EntryId(f"e{n}"),), purged=True)))
            sent.pop()
        assert len(recent) <= most
    for category in BOOK.names:
        mine = [id for name, id in sent if name == category]
        kept = [row.near[0].id for row in rows(recent, category)]
        assert len(kept) <= max(1, most // 10)
        assert kept == (mine[-len(kept) :] if kept else [])
    assert len(recent) == sum(len(rows(recent, name)) for name in BOOK.names)


CALLED: dict[str, Call] = {}


def _called(category: str) -> Call:
    return CALLED.setdefault(category, call(category=category))


OWN = call("How do I oil a door?")


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (Removed((EntryId("a"),), purged=True), ["b", "c"]),
        (Removed((OWN.id,), purged=True), ["a", "b"]),
        (Removed((EntryId("a"), EntryId("b")), purged=False), ["a", "b", "c"]),  # room was made
        (Stopped(EntryId("b"), ""), ["a", "c"]),
        (TenantForgotten("zeta"), ["a", "c"]),
    ],
    ids=["purged", "the row's own answer", "evicted", "quarantined", "tenant"],
)
def test_lookups_go_with_what_they_speak_of(change: Change, left: list[str]) -> None:
    recent = RecentLookups(100)
    note(recent, call(), Candidate(held("a"), 0.9))
    note(recent, call(tenant="zeta"), Candidate(held("b"), 0.9))
    note(recent, OWN, Candidate(held("c"), 0.9))
    recent.apply(Record(1, change))
    assert [row.near[0].id for row in rows(recent)] == left


def test_lookups_of_a_category_that_is_gone_go_with_it() -> None:
    recent = RecentLookups(100)
    note(recent, call(category="other"))
    note(recent, call())
    recent.keep(["default"])
    assert (len(recent), rows(recent, "other")) == (1, [])


def test_what_was_found_out_later_takes_the_place_of_what_is_still_there() -> None:
    recent = RecentLookups(100)
    note(recent, call(), Candidate(held("a"), 0.9))
    (number, row), *_ = recent.of("default").items()
    recent.put_back({number: row, number + 1: row})
    assert len(recent) == 1
