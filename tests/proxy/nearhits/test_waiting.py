"""A small model that does not answer is not waited for long, and soon not asked for a while."""

from __future__ import annotations

import pytest

from icl.confidence import Confidence
from proxy.balance import EJECT_AFTER, FIRST_EJECTION, LONGEST_EJECTION
from proxy.nearhits.asking import Unfit
from proxy.nearhits.cascade import Unsure
from proxy.nearhits.waiting import Waiting
from proxy.upstream import Upstreams, UpstreamSpec
from proxy.upstream_errors import UpstreamTimeout
from store.economics import Economics
from tests.proxy.nearhits.calls import call_of

ALIVE = [Unfit("the answer is empty"), Unsure(Confidence(0.1, 0.5), None)]


class Room:
    """Somebody who waits for small models, with a clock to be set. Both share an upstream."""

    def __init__(self, *specs: UpstreamSpec) -> None:
        self.now = 1000.0
        self.economics = Economics()
        self.upstreams = Upstreams(specs or [UpstreamSpec(name="one", models=("*",))])
        self.waiting = Waiting(self.upstreams, self.economics, lambda: self.now)

    def comes(self, error: Exception | None = None, small: str = "small") -> None:
        """Have a call to a small model come to this."""
        if error is None:
            with self.waiting.asked(small):
                return
        with pytest.raises(type(error)), self.waiting.asked(small):
            raise error

    def fails(self, times: int = 1) -> None:
        for _ in range(times):
            self.comes(UpstreamTimeout("it did not begin its answer in time"))

    @property
    def rests(self) -> bool:
        return self.waiting.rests("small")


def test_after_three_failures_in_a_row_it_rests_for_a_second() -> None:
    here = Room()
    here.fails(EJECT_AFTER - 1)
    assert not here.rests
    here.fails()
    assert here.rests
    here.now += FIRST_EJECTION
    assert not here.rests


@pytest.mark.parametrize("came", [None, *ALIVE])
def test_whatever_answer_it_gives_shows_that_it_lives(came: Exception | None) -> None:
    here = Room()
    here.fails(EJECT_AFTER - 1)
    here.comes(came)
    here.fails(EJECT_AFTER - 1)
    assert not here.rests


def test_another_small_model_does_not_suffer_for_it_nor_does_the_upstream() -> None:
    here = Room()
    here.fails(EJECT_AFTER)
    assert not here.waiting.rests("tiny")
    assert not here.upstreams.route("small").resting(here.now)


def test_while_one_call_finds_out_the_others_do_not_wait_for_it() -> None:
    here = Room()
    here.fails(EJECT_AFTER)
    here.now += FIRST_EJECTION
    with here.waiting.asked("small"):
        assert here.rests
    assert not here.rests


def test_it_rests_twice_as_long_each_time_and_a_minute_at_the_most() -> None:
    here = Room()
    here.fails(EJECT_AFTER)
    for seconds in (2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_EJECTION, LONGEST_EJECTION):
        here.now += LONGEST_EJECTION
        here.fails()
        here.now += seconds - 0.01
        assert here.rests
        here.now += 0.01
        assert not here.rests


def test_a_call_that_is_given_up_says_nothing() -> None:
    here = Room()
    here.fails(EJECT_AFTER - 1)
    here.comes(RuntimeError("a fault of ours"))
    assert not here.rests
    here.fails()
    assert here.rests


def test_it_rests_where_its_upstream_does_and_nobody_steps_in() -> None:
    here = Room(
        UpstreamSpec(name="main", models=("large",)),
        UpstreamSpec(name="own", models=("small",), fallback=("other",)),
        UpstreamSpec(name="other", models=("small-*",)),
    )
    own, other = (here.upstreams.route(model) for model in ("small", "small-1"))
    for group in (own, other):
        assert not here.rests
        for _ in range(EJECT_AFTER):
            group.members[0].failed(here.now, probe=False)
    assert here.rests


@pytest.mark.parametrize("slow", ["large", "small"])
def test_an_answer_may_begin_as_late_as_either_model_s_usually_do(slow: str) -> None:
    here = Room(
        UpstreamSpec(name="main", models=("large",)), UpstreamSpec(name="own", models=("small",))
    )
    call = call_of(body={"stream": True})
    assert here.waiting.patience(call, "small") == 5.0
    here.upstreams.route(slow).first_bytes.extend([5.0] * 20)
    assert here.waiting.patience(call, "small") == 10.0


def test_an_answer_that_is_no_stream_may_take_as_long_as_a_whole_one() -> None:
    here = Room()
    for stream, patience in ((True, 5.0), (False, 14.0)):
        call = call_of(body={"stream": stream})
        here.economics.answered(call.category, call.group, 7.0)
        assert here.waiting.patience(call, "small") == patience
