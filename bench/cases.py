"""The cases: what each measures, against which floor, and what proves that it was that case."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from bench.fake_upstream import CHAT
from bench.floors import encode_batches, encode_singly
from bench.questions import WORDS, random_texts
from bench.stand import EXACT_HIT, MISS, SEMANTIC_HIT, SLOW_MODEL, Stand, chat_body
from bench.streams import StreamLoad, ceiling_of, run_streams
from bench.verdicts import (
    Reading,
    Row,
    Run,
    at_least,
    at_most,
    call_faults,
    floor_faults,
    near_ceiling,
    run_faults,
    status_faults,
)
from bench.wrk import Load, Measured, run_wrk

PASSTHROUGH = "/v1/moderations"
MODERATION = '{"model":"bench","input":"a text to look at"}'
SINGLE_TEXTS = 100  # encoded one by one for the encoder's p50
BATCH_TEXTS = 320
MOST_SINGLE_RATE = 600  # encodings one by one a second, on any machine so far
MOST_SEMANTIC_RATE = 3000  # questions a second that are kept ready


@dataclass(frozen=True, slots=True)
class Case:
    """One row and how a round of it is measured."""

    row: Row
    measure: Callable[[Stand], Awaitable[Reading]]


async def _wrk(
    stand: Stand,
    url: str,
    connections: int,
    lines: list[str],
    mode: str = "fixed",
    counted: bool = False,
    seconds: int | None = None,
) -> Measured:
    load = Load(
        url=url,
        connections=connections,
        seconds=seconds or stand.seconds,
        lines=lines,
        mode=mode,
        counted=counted,
        seed=random.getrandbits(31),
    )
    return await asyncio.to_thread(run_wrk, load)


def _reading(value: float, faults: list[str], **runs: Measured | float) -> Reading:
    parts: dict[str, float] = {}
    for name, run in runs.items():
        if isinstance(run, Measured):
            parts |= {f"{name} req/s": run.rate, f"{name} p50 ms": run.p50}
            parts[f"{name} p99 ms"] = run.p99
        else:
            parts[name.replace("_", " ")] = run
    return Reading(value=value, parts=parts, faults=tuple(faults))


def _exact_body(stream: bool = False) -> str:
    return chat_body("What does the exact case ask?", "You know one question.", stream)


async def _exact(stand: Stand, connections: int) -> tuple[Measured, Measured, list[str]]:
    """Measure the echo and exact hits; every answer a hit: the upstream hears nothing."""
    body = _exact_body()
    await stand.store(body)
    before = await stand.calls()
    floor = await _wrk(stand, stand.echo.origin + "/", connections, [body])
    ours = await _wrk(stand, stand.nearhit.origin + CHAT, connections, [body])
    # Counting Cache-Status costs the generator; a second of it samples what the load met.
    sample = await _wrk(stand, stand.nearhit.origin + CHAT, 1, [body], counted=True, seconds=1)
    calls = await stand.calls() - before
    faults = run_faults("echo", floor) + run_faults("nearhit", ours)
    faults += floor_faults(floor.p50, ours.p50)
    faults += status_faults("sample", sample, EXACT_HIT) + call_faults("exact", calls, 0, 0)
    return floor, ours, faults


async def exact_16(stand: Stand) -> Reading:
    """Exact hits at concurrency 16, as a share of the echo's rate."""
    echo, nearhit, faults = await _exact(stand, 16)
    return _reading(nearhit.rate / echo.rate, faults, echo=echo, nearhit=nearhit)


async def exact_1(stand: Stand) -> Reading:
    """Exact hits at concurrency 1, over the echo's p50."""
    echo, nearhit, faults = await _exact(stand, 1)
    return _reading(nearhit.p50 - echo.p50, faults, echo=echo, nearhit=nearhit)


async def exact_stream_16(stand: Stand) -> Reading:
    """Exact hits replayed as streams."""
    await stand.store(_exact_body())
    before = await stand.calls()
    load = StreamLoad(
        url=stand.nearhit.origin + CHAT,
        connections=16,
        seconds=stand.seconds,
        bodies=itertools.repeat(_exact_body(stream=True).encode()),
    )
    ours = await run_streams(load)
    ceiling = await ceiling_of(ours.sample, load) if ours.sample else 0.0
    faults = run_faults("streams", ours) + status_faults("streams", ours, EXACT_HIT)
    faults += call_faults("streams", await stand.calls() - before, 0, 0)
    if near_ceiling(ours.rate, ceiling):
        faults.append(f"streams: {ours.rate:.0f}/s is near the generator's {ceiling:.0f}/s")
    return _reading(
        ours.rate,
        faults,
        nearhit_first_byte_p50_ms=ours.first_byte_p50,
        nearhit_whole_p50_ms=ours.total_p50,
        generator_ceiling_per_s=ceiling,
    )


async def _passed_on(stand: Stand, connections: int) -> tuple[Measured, list[str]]:
    before = await stand.calls("other")
    ours = await _wrk(stand, stand.nearhit.origin + PASSTHROUGH, connections, [MODERATION])
    calls = await stand.calls("other") - before
    faults = run_faults("nearhit", ours)
    return ours, faults + _all_reached("pass-through", calls, ours, connections)


def _all_reached(name: str, calls: int, run: Run, connections: int) -> list[str]:
    """A call that was under way at the end may have reached the upstream too."""
    return call_faults(name, calls, run.requests, run.requests + connections)


async def passthrough_1(stand: Stand) -> Reading:
    """Pass-through at concurrency 1, over the upstream's own p50."""
    direct = await _wrk(stand, stand.upstream.origin + PASSTHROUGH, 1, [MODERATION])
    bare = await _wrk(stand, stand.bare.origin + PASSTHROUGH, 1, [MODERATION])
    nearhit, faults = await _passed_on(stand, 1)
    faults += run_faults("direct", direct) + run_faults("bare", bare)
    faults += floor_faults(direct.p50, nearhit.p50)
    value = nearhit.p50 - direct.p50
    return _reading(value, faults, direct=direct, bare=bare, nearhit=nearhit)


async def passthrough_16(stand: Stand) -> Reading:
    """Pass-through at concurrency 16, as a share of the bare pass-through's rate."""
    bare = await _wrk(stand, stand.bare.origin + PASSTHROUGH, 16, [MODERATION])
    nearhit, faults = await _passed_on(stand, 16)
    faults += run_faults("bare", bare) + floor_faults(bare.p50, nearhit.p50)
    return _reading(nearhit.rate / bare.rate, faults, bare=bare, nearhit=nearhit)


def _random_lines() -> list[str]:
    before, after = chat_body("@", "You know no question.").split("@")
    return [before, after, *WORDS]


async def miss_1(stand: Stand) -> Reading:
    """Cacheable misses at concurrency 1: added p50 beyond the encoder's own."""
    texts = list(itertools.islice(random_texts(random.getrandbits(31)), SINGLE_TEXTS))
    earlier = await encode_singly(stand.encoder, texts)
    lines = _random_lines()
    direct = await _wrk(stand, stand.upstream.origin + CHAT, 1, lines, "random")
    bare = await _wrk(stand, stand.encoding_bare.origin + CHAT, 1, lines, "random")
    before = await stand.calls()
    nearhit = await _wrk(stand, stand.nearhit.origin + CHAT, 1, lines, "random", counted=True)
    calls = await stand.calls() - before
    # Before and after: one disturbed half minute must not decide between floor and Nearhit.
    encoder = (earlier + await encode_singly(stand.encoder, texts)) / 2
    faults = run_faults("direct", direct) + run_faults("nearhit", nearhit)
    faults += status_faults("nearhit", nearhit, MISS) + _all_reached("miss", calls, nearhit, 1)
    faults += floor_faults(direct.p50 + encoder, nearhit.p50)
    value = nearhit.p50 - direct.p50 - encoder
    return _reading(
        value,
        faults,
        encoder_p50_ms=encoder,
        direct=direct,
        bare_that_encodes=bare,
        nearhit=nearhit,
    )


async def stream_miss_4(stand: Stand) -> Reading:
    """Streamed misses at concurrency 4: what the first byte waits longer."""
    texts = random_texts(random.getrandbits(31))
    bodies: Iterator[bytes] = (
        chat_body(text, stream=True, model=SLOW_MODEL).encode() for text in texts
    )
    runs = {}
    for name, server in (("direct", stand.slow_upstream), ("nearhit", stand.nearhit)):
        load = StreamLoad(
            url=server.origin + CHAT, connections=4, seconds=stand.seconds, bodies=bodies
        )
        runs[name] = await run_streams(load)
    direct, ours = runs["direct"], runs["nearhit"]
    faults = run_faults("direct", direct) + run_faults("nearhit", ours)
    faults += status_faults("nearhit", ours, MISS)
    return _reading(
        ours.first_byte_p50 - direct.first_byte_p50,
        faults,
        direct_first_byte_p50_ms=direct.first_byte_p50,
        nearhit_first_byte_p50_ms=ours.first_byte_p50,
        direct_whole_p50_ms=direct.total_p50,
        nearhit_whole_p50_ms=ours.total_p50,
    )


async def _reworded(stand: Stand, connections: int) -> tuple[Measured, list[str]]:
    """Ask rewordings that nobody asked before; every answer a hit by meaning."""
    before = await stand.calls()
    texts = stand.supply.peek(stand.seconds * MOST_SEMANTIC_RATE)
    lines = [chat_body(text) for text in texts]
    url = stand.nearhit.origin + CHAT
    ours = await _wrk(stand, url, connections, lines, "once", counted=True)
    stand.supply.use(ours.asked)
    faults = run_faults("nearhit", ours) + status_faults("nearhit", ours, SEMANTIC_HIT)
    faults += call_faults("semantic", await stand.calls() - before, 0, 0)
    if ours.ran_out:
        faults.append(f"nearhit: {len(lines)} questions were too few")
    return ours, faults


async def semantic_1(stand: Stand) -> Reading:
    """Hits by meaning at concurrency 1, over the encoder's p50 on the same texts."""
    texts = stand.supply.peek(SINGLE_TEXTS)
    earlier = await encode_singly(stand.encoder, texts)
    lines = [chat_body(text) for text in stand.supply.peek(stand.seconds * MOST_SINGLE_RATE)]
    bare = await _wrk(stand, stand.encoding_echo.origin + CHAT, 1, lines, "once")
    nearhit, faults = await _reworded(stand, 1)
    encoder = (earlier + await encode_singly(stand.encoder, texts)) / 2
    faults += floor_faults(encoder, nearhit.p50)
    return _reading(
        nearhit.p50 - encoder,
        faults,
        encoder_p50_ms=encoder,
        echo_that_encodes=bare,
        nearhit=nearhit,
    )


async def semantic_32(stand: Stand) -> Reading:
    """Hits by meaning at concurrency 32, as a share of the encoder's rate in batches of 32."""
    texts = stand.supply.peek(BATCH_TEXTS)
    earlier = await encode_batches(stand.encoder, texts)
    nearhit, faults = await _reworded(stand, 32)
    encoder = (earlier + await encode_batches(stand.encoder, texts)) / 2
    faults += floor_faults(1 / encoder, 1 / max(nearhit.rate, 1e-9))
    return _reading(nearhit.rate / encoder, faults, encoder_texts_per_s=encoder, nearhit=nearhit)


CASES = (
    Case(
        Row("exact-16", "exact hit, c=16: share of the ASGI echo's req/s", "x", at_least(0.50)),
        exact_16,
    ),
    Case(Row("exact-1", "exact hit, c=1: p50 over the echo's", "ms", at_most(0.6)), exact_1),
    Case(Row("exact-stream-16", "exact hit replayed as a stream, c=16", "/s"), exact_stream_16),
    Case(
        Row("passthrough-1", "pass-through, c=1: p50 over the upstream's", "ms", at_most(0.6)),
        passthrough_1,
    ),
    Case(
        Row(
            "passthrough-16",
            "pass-through, c=16: share of the bare aiohttp pass-through's req/s",
            "x",
            at_least(0.60),
        ),
        passthrough_16,
    ),
    Case(
        Row("miss-1", "miss, c=1: added p50 beyond the encoder's p50", "ms", at_most(1.2)), miss_1
    ),
    Case(
        Row("stream-miss-4", "streamed miss, c=4: p50 added to the first byte", "ms"),
        stream_miss_4,
    ),
    Case(
        Row("semantic-1", "semantic hit, c=1: p50 over the encoder's", "ms", at_most(1.0)),
        semantic_1,
    ),
    Case(
        Row(
            "semantic-32",
            "semantic hits, 32 concurrent: share of the encoder's batch-32 rate",
            "x",
            at_least(0.80),
        ),
        semantic_32,
    ),
)
