"""What the server makes of clients' updates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federated.aggregation import (
    FedAdam,
    FedAvg,
    FloatArray,
    Update,
    average,
    check,
    difference,
    fault_of,
    norm,
)

REFERENCE = {"a": np.zeros(3, np.float32), "b": np.zeros((2, 2), np.float32)}


def update(value: float, examples: int = 10) -> Update:
    return Update({name: np.full_like(v, value) for name, v in REFERENCE.items()}, examples)


def with_a(a: FloatArray) -> Update:
    return Update({"a": a, "b": REFERENCE["b"]}, 10)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        pytest.param(with_a(np.array([0, np.nan, 0], np.float32)), "not finite", id="NaN"),
        pytest.param(with_a(np.array([0, np.inf, 0], np.float32)), "not finite", id="infinite"),
        pytest.param(with_a(np.zeros(4, np.float32)), "shape", id="another shape"),
        pytest.param(Update({"a": REFERENCE["a"]}, 10), "missing", id="a parameter too few"),
        pytest.param(Update({**REFERENCE, "c": REFERENCE["a"]}, 10), "c", id="one too many"),
        pytest.param(update(1.0, examples=0), "0 pairs", id="trained on nothing"),
        pytest.param(update(1.0, examples=-5), "-5 pairs", id="a negative weight"),
    ],
)
def test_a_broken_update_is_rejected_and_the_others_count(broken: Update, reason: str) -> None:
    checked = check([update(1.0), broken, update(1.1)], REFERENCE)
    assert checked.updates.keys() == {0, 2}
    assert reason in checked.rejected[1]


def test_an_array_of_objects_or_integers_is_rejected() -> None:
    odd = Update({**REFERENCE, "a": np.zeros(3, np.int64)}, 1)
    assert "int64" in (fault_of(odd, REFERENCE) or "")


@pytest.mark.parametrize("honest", [[1.0], [1.0, 1.1], [0.9, 1.0, 1.1]])
def test_an_exploding_update_is_cut_to_the_bound_and_keeps_its_direction(
    honest: list[float],
) -> None:
    checked = check([update(v) for v in honest] + [update(-1e6)], REFERENCE, max_norm=3.0)
    cut = checked.updates[len(honest)].state
    assert checked.clipped.keys() == {len(honest)}
    assert norm(cut) <= 3.0 * max(norm(update(v).state) for v in honest) * 1.001
    assert all((values < 0).all() for values in cut.values())


def test_honest_updates_pass_as_they_are() -> None:
    sent = [update(v) for v in (0.5, 1.0, 1.2)]
    checked = check(sent, REFERENCE)
    assert [checked.updates[i] for i in range(3)] == sent
    assert not checked.clipped and not checked.rejected


def test_without_a_sound_update_nothing_counts() -> None:
    assert check([update(1.0, examples=0)], REFERENCE).updates == {}


def test_clients_that_did_not_move_are_no_reason_to_cut() -> None:
    checked = check([update(0.0), update(0.0)], REFERENCE)
    assert checked.updates.keys() == {0, 1} and not checked.clipped


@given(
    st.lists(
        st.tuples(st.floats(-10, 10, width=32), st.integers(1, 1000)), min_size=1, max_size=8
    ).flatmap(lambda sent: st.tuples(st.just(sent), st.permutations(sent)))
)
def test_the_mean_is_weighted_within_bounds_and_the_order_does_not_matter(
    drawn: tuple[list[tuple[float, int]], list[tuple[float, int]]],
) -> None:
    sent, other_order = drawn
    mean = average([update(v, n) for v, n in sent])
    expected = np.average([v for v, _ in sent], weights=[n for _, n in sent])
    np.testing.assert_allclose(mean["a"], expected, atol=1e-5)
    again = average([update(v, n) for v, n in other_order])
    np.testing.assert_allclose(mean["b"], again["b"], atol=1e-5)
    values = [v for v, _ in sent]
    assert min(values) - 1e-5 <= mean["a"][0] <= max(values) + 1e-5


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no update"):
        average([])


def test_fedavg_takes_the_mean() -> None:
    fresh = FedAvg().step(REFERENCE, update(2.0).state)
    np.testing.assert_array_equal(fresh["a"], [2.0, 2.0, 2.0])


def test_fedavg_with_momentum_goes_on_in_the_direction_of_the_round_before() -> None:
    server = FedAvg(rate=1.0, momentum=0.5)
    first = server.step(REFERENCE, update(1.0).state)
    second = server.step(first, first)  # the clients stayed where they were
    np.testing.assert_allclose(second["a"], 1.5)


def test_fedadam_moves_towards_the_mean_by_about_its_rate() -> None:
    fresh = FedAdam(rate=0.1).step(REFERENCE, update(2.0).state)
    assert all((0 < v).all() and (v <= 0.1 + 1e-6).all() for v in fresh.values())


@pytest.mark.parametrize("make", [lambda: FedAvg(momentum=0.9), lambda: FedAdam(rate=0.1)])
def test_a_server_that_crashed_goes_on_as_if_it_had_not(make: type[FedAvg]) -> None:
    server = make()
    state = server.step(REFERENCE, update(1.0).state)
    other = make()
    other.recall(server.memory())
    mean = update(3.0).state
    for name, values in server.step(state, mean).items():
        np.testing.assert_array_equal(values, other.step(state, mean)[name])
        break
    assert norm(difference(state, REFERENCE)) > 0
