"""The composition of the parts: all that requests pass through, built in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from embed.encoder import Encoder
from proxy import prototypes
from proxy.adaptation import Adaptation
from proxy.audits_root import open_audits, open_budgets, side_calls_for
from proxy.auth import Keyring
from proxy.cache_root import open_cache
from proxy.calibrated import LiveScore, live_score
from proxy.checkpoints_root import (
    as_it_serves,
)
from proxy.configured import api_keys, upstream_specs
from proxy.documents_root import Shelves
from proxy.encoding import Encoding
from proxy.events import ServingEvents
from proxy.example_memo import memo_file
from proxy.fleet import UpstreamSpec
from proxy.metrics import Metrics
from proxy.nearhits.root import open_near_hits
from proxy.parts import Parts
from proxy.policy_editor import Build
from proxy.recent_lookups import recent_lookups
from proxy.rules import InForce, Rules
from proxy.settings import Settings
from proxy.upkeep import call_counter
from proxy.upstream import Upstreams
from proxy.usage.root import open_usage
from store.economics import Economics
from store.flight import Flights
from store.policy import PolicyBook
from store.quarantine import Quarantine
from store.vectors import Maker, nothing_made

Progress = Callable[[str], None]


async def build_parts(
    settings: Settings,
    environ: Mapping[str, str],
    book: PolicyBook,
    shelves: Shelves,
    encoder: Encoder,
    stack: AsyncExitStack,
    on_progress: Progress,
    score: LiveScore | None = None,
    made: Maker = nothing_made,
) -> Parts:
    """Build everything that requests pass through, in order; `score` None: as it is shipped.

    The book's examples are not encoded yet. `made` gives vectors of another checkpoint's entries.
    """
    specs = upstream_specs(settings, environ)
    metrics = _metrics_of(book, specs)
    encoding = as_it_serves(settings, encoder, metrics, score or live_score(encoder.checkpoint))
    in_force = await _begun(book, encoding, stack, on_progress)
    cache, keeper = await open_cache(settings, in_force, shelves, made, stack, on_progress)
    economics = Economics(gated=settings.lookup_gate)
    usage = open_usage(settings, shelves, metrics, economics, stack)  # closed after the flights
    upstreams = await stack.enter_async_context(Upstreams(specs, on_call=call_counter(metrics)))
    flights = _open_flights(settings, stack)
    keyring = Keyring(api_keys(settings, environ))
    quarantine = await Quarantine.open(shelves.records)
    budgets = await open_budgets(settings, shelves.records, in_force)
    stack.push_async_callback(budgets.aclose)
    side_calls = side_calls_for(settings, upstreams, keyring, metrics)
    audits = open_audits(
        settings,
        stack=stack,
        side_calls=side_calls,
        budgets=budgets,
        cache=cache,
        records=shelves.records,
        quarantine=quarantine,
        metrics=metrics,
    )
    parts = Parts(
        settings=settings,
        keyring=keyring,
        in_force=in_force,
        metrics=metrics,
        shelves=shelves,
        cache=cache,
        keeper=keeper,
        quarantine=quarantine,
        upstreams=upstreams,
        economics=economics,
        budgets=budgets,
        audits=audits,
        side_calls=side_calls,
        near_hits=None,
        adaptation=Adaptation(in_force, upstreams.groups),
        events=ServingEvents(),
        flights=flights,
        usage=usage,
        recent=recent_lookups(settings.dashboard, shelves.documents),
    )
    return replace(parts, near_hits=await open_near_hits(parts, stack))


def _metrics_of(book: PolicyBook, specs: Sequence[UpstreamSpec]) -> Metrics:
    """Return metrics whose labels are the configured categories, and models named in full."""
    return Metrics(book.names, [m for s in specs for m in s.models if not set("*?[") & set(m)])


def _open_flights(settings: Settings, stack: AsyncExitStack) -> Flights:
    flights = Flights(settings.flight.max_buffer)
    stack.push_async_callback(flights.aclose)
    return flights


async def _begun(
    book: PolicyBook, encoding: Encoding, stack: AsyncExitStack, on_progress: Progress
) -> InForce:
    """Have texts encoded from here on, and say so if nothing tells how sure a hit is."""
    await stack.enter_async_context(encoding.batcher)
    if encoding.score.now is None:
        on_progress(
            f"no score is fitted to the encoder {encoding.checkpoint}: categories with an"
            " error_budget answer the same request again and nothing by meaning"
        )
    return InForce(Rules(book=book, encoding=encoding))


def prototypes_builder(data_dir: Path) -> Build:
    """Return what encodes a policy book's examples; they are remembered in files there."""

    async def build(book: PolicyBook, encoding: Encoding) -> prototypes.Prototypes:
        return await prototypes.build(
            book,
            encode=encoding.encoder.encode,
            checkpoint=encoding.checkpoint,
            memo_file=memo_file(data_dir, encoding.checkpoint),
            first_window=encoding.encoder.first_window,
        )

    return build
