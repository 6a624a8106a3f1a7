from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.balance import EJECT_AFTER, FIRST_EJECTION, LONGEST_EJECTION, Replica, pick, resting

NOW = 1000.0


def ejected(name: str, until: float, *, in_flight: int = 0) -> Replica:
    return Replica(
        name, failures=EJECT_AFTER, ejections=1, ejected_until=until, in_flight=in_flight
    )


def fail(replica: Replica, now: float) -> None:
    """One call from start to its failed end."""
    probe = replica.start(now)
    replica.failed(now, probe=probe)
    replica.finish(probe=probe)


@pytest.mark.parametrize(
    ("replicas", "chosen"),
    [
        pytest.param([Replica("a")], "a", id="the only one"),
        pytest.param([Replica("a", in_flight=2), Replica("b", in_flight=1)], "b", id="fewest"),
        pytest.param(
            [Replica("a", last_start=NOW - 1), Replica("b", last_start=NOW - 2)],
            "b",
            id="a tie goes to the one idle longest",
        ),
        pytest.param(
            [ejected("a", NOW + 5), Replica("b", in_flight=9)], "b", id="healthy before ejected"
        ),
        pytest.param(
            [ejected("a", NOW - 1), Replica("b")], "a", id="an ejected one that is due is probed"
        ),
        pytest.param(
            [ejected("a", NOW + 9), ejected("b", NOW + 3, in_flight=7)],
            "b",
            id="all ejected: the one that ends first",
        ),
        pytest.param([ejected("a", NOW + 9)], "a", id="the only one, though ejected"),
    ],
)
def test_pick_chooses(replicas: list[Replica], chosen: str) -> None:
    assert pick(replicas, NOW).name == chosen


@pytest.mark.parametrize(
    ("replicas", "rests"),
    [
        pytest.param([Replica("a")], False, id="healthy"),
        pytest.param([ejected("a", NOW + 5)], True, id="ejected"),
        pytest.param([ejected("a", NOW + 5), ejected("b", NOW + 1)], True, id="all ejected"),
        pytest.param([ejected("a", NOW + 5), Replica("b")], False, id="one healthy"),
        pytest.param([ejected("a", NOW + 5), ejected("b", NOW)], False, id="one due"),
    ],
)
def test_replicas_rest_while_all_are_ejected_and_none_is_due(
    replicas: list[Replica], rests: bool
) -> None:
    assert resting(replicas, NOW) is rests


def test_a_replica_that_is_being_probed_rests_for_the_others() -> None:
    replica = ejected("a", NOW)
    assert replica.due(NOW) and not resting([replica], NOW)
    probe = replica.start(NOW)
    assert not replica.due(NOW) and resting([replica], NOW)
    replica.succeeded()
    replica.finish(probe=probe)
    assert not resting([replica], NOW)


def test_equal_replicas_take_turns() -> None:
    replicas = [Replica("a"), Replica("b"), Replica("c")]
    chosen = []
    for step in range(6):
        replica = pick(replicas, NOW + step)
        chosen.append(replica.name)
        replica.finish(probe=replica.start(NOW + step))
    assert chosen == ["a", "b", "c", "a", "b", "c"]


def test_a_replica_to_avoid_is_used_only_when_nothing_else_is_left() -> None:
    a, b = Replica("a"), Replica("b", in_flight=5)
    assert pick([a, b], NOW, avoid=[a]) is b
    assert pick([a, b], NOW, avoid=[a, b]) is a


def test_an_avoided_healthy_replica_beats_an_ejected_one() -> None:
    a, b = Replica("a"), ejected("b", NOW + 50)
    assert pick([a, b], NOW, avoid=[a]) is a


def test_failures_in_a_row_eject() -> None:
    replica = Replica("a")
    for _ in range(EJECT_AFTER - 1):
        fail(replica, NOW)
    assert not replica.ejections
    fail(replica, NOW)
    assert replica.ejected_until == NOW + FIRST_EJECTION


def test_an_answer_between_failures_starts_the_count_again() -> None:
    replica = Replica("a")
    for _ in range(3 * EJECT_AFTER):
        fail(replica, NOW)
        replica.succeeded()
    assert not replica.ejections


def test_only_one_call_at_a_time_probes() -> None:
    replica, other = ejected("a", NOW), Replica("b", in_flight=3)
    assert pick([replica, other], NOW) is replica
    assert replica.start(NOW)
    assert pick([replica, other], NOW) is other
    assert not replica.start(NOW)


def test_a_failed_probe_doubles_the_ejection_up_to_the_longest() -> None:
    replica, now, lasted = ejected("a", NOW), NOW, []
    for _ in range(8):
        fail(replica, now)
        lasted.append(replica.ejected_until - now)
        now = replica.ejected_until
    assert lasted == [2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_EJECTION, LONGEST_EJECTION, 60.0]


def test_a_good_probe_heals_and_forgets() -> None:
    replica = ejected("a", NOW)
    probe = replica.start(NOW)
    replica.succeeded()
    replica.finish(probe=probe)
    assert (replica.ejections, replica.failures, replica.probing) == (0, 0, False)
    for _ in range(EJECT_AFTER):
        fail(replica, NOW)
    assert replica.ejected_until == NOW + FIRST_EJECTION


def test_a_probe_whose_client_hung_up_leaves_the_place_to_the_next() -> None:
    replica = ejected("a", NOW)
    replica.finish(probe=replica.start(NOW))
    assert replica.start(NOW)


def test_calls_begun_before_the_ejection_do_not_lengthen_it() -> None:
    replica = Replica("a")
    probes = [replica.start(NOW) for _ in range(10)]
    for probe in probes:
        replica.failed(NOW, probe=probe)
        replica.finish(probe=probe)
    assert replica.ejected_until == NOW + FIRST_EJECTION
    assert replica.in_flight == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["ok", "failed", "gone"]), st.floats(0, 30)),
        max_size=60,
    )
)
def test_whatever_happens_a_replica_is_offered_and_all_heal_in_the_end(
    history: list[tuple[int, str, float]],
) -> None:
    replicas, now = [Replica("a"), Replica("b"), Replica("c")], NOW
    for _, outcome, passed in history:
        replica = pick(replicas, now)
        probe = replica.start(now)
        now += passed
        if outcome == "ok":
            replica.succeeded()
        elif outcome == "failed":
            replica.failed(now, probe=probe)
        replica.finish(probe=probe)
        assert replica.ejected_until <= now + LONGEST_EJECTION
    for _ in replicas:
        now += LONGEST_EJECTION + 1
        replica = pick(replicas, now)
        probe = replica.start(now)
        replica.succeeded()
        replica.finish(probe=probe)
    assert [replica.in_flight for replica in replicas] == [0, 0, 0]
    assert not any(replica.ejections or replica.probing for replica in replicas)
