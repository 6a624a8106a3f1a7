"""A limited rate of service: latency rises with the requests in flight, and with the slowdown."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from bench.service import Capacity, Service

pytestmark = pytest.mark.serial


async def served_in(service: Service, count: int) -> list[float]:
    """Ask for so many answers at once; return after how many seconds each came."""
    started = time.perf_counter()

    async def one() -> float:
        await service.serve()
        return time.perf_counter() - started

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def test_as_many_as_there_are_places_are_served_at_once() -> None:
    times = await served_in(Service(Capacity(places=3, seconds=0.05)), 3)
    assert 0.05 <= min(times) <= max(times) < 0.1


async def test_what_finds_no_place_waits_for_its_turn() -> None:
    times = await served_in(Service(Capacity(places=2, seconds=0.05)), 6)
    assert times == sorted(times)
    assert all(time >= (n // 2 + 1) * 0.05 - 0.001 for n, time in enumerate(times))


async def test_a_slowdown_holds_for_answers_that_begin_later() -> None:
    service = Service(Capacity(places=1, seconds=0.02))
    service.slow_down(4)
    assert min(await served_in(service, 1)) >= 0.08
    service.slow_down(1)
    assert min(await served_in(service, 1)) < 0.08


async def test_it_knows_how_many_are_in_flight_and_were_at_most() -> None:
    service = Service(Capacity(places=1, seconds=0.02))
    waiting = asyncio.gather(*(service.serve() for _ in range(5)))
    await asyncio.sleep(0)
    assert service.facts() == {"slowdown": 1.0, "in_flight": 5, "most": 5}
    await waiting
    assert service.facts() == {"slowdown": 1.0, "in_flight": 0, "most": 5}


async def test_whoever_hangs_up_leaves_the_queue() -> None:
    service = Service(Capacity(places=1, seconds=5.0))
    tasks = [asyncio.create_task(service.serve()) for _ in range(2)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert service.in_flight == 0


@pytest.mark.parametrize("by", [0, -1, math.nan, math.inf, "2", None, True])
def test_an_impossible_slowdown_is_refused(by: object) -> None:
    service = Service(Capacity(places=1, seconds=1.0))
    with pytest.raises(ValueError, match="slowdown: .* is not allowed; allowed: a number above 0"):
        service.slow_down(by)
    assert service.slowdown == 1.0


@pytest.mark.parametrize(("places", "seconds"), [(0, 1.0), (1, 0.0), (1, math.inf), (1, math.nan)])
def test_an_impossible_capacity_is_refused(places: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="places must be >= 1 and seconds > 0"):
        Capacity(places, seconds)


@pytest.mark.parametrize(
    ("rate", "slowdown"),
    [
        pytest.param(5.0, 4.0, id="a quarter of the capacity"),
        pytest.param(20.0, 1.0, id="all of it"),
        pytest.param(50.0, 1.0, id="more than it has"),
        pytest.param(0.0, 1.0, id="no rate"),
    ],
)
def test_the_slowdown_that_leaves_a_rate(rate: float, slowdown: float) -> None:
    assert Capacity(places=4, seconds=0.2).slowdown_to(rate) == pytest.approx(slowdown)
