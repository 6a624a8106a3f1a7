"""Prometheus metrics. Labels only take configured values; anything else is counted as `other`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics import MetricWrapperBase

OTHER = "other"
_FAST = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

# A second series for each counter, of when it began: nobody asks.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Every metric of the process, in a registry of its own."""

    def __init__(self, categories: Iterable[str], models: Iterable[str]) -> None:
        self.registry = CollectorRegistry()
        self._categories = frozenset(categories)  # changes with the policies
        self._models = frozenset(models)
        r = self.registry
        self._lookups: dict[tuple[str, str], Counter] = {}
        self.lookups = Counter(
            "nearhit_lookups",
            "Requests by what the cache said",
            ["category", "verdict"],
            registry=r,
        )
        self._make_standing()
        self._make_holding()
        self._make_upstreams()
        self._make_encoding()
        self._make_audits()
        self._make_near_hits()
        self._make_checkpoints()
        self._make_said()
        self.lookup_duration = Histogram(
            "nearhit_lookup_duration_seconds",
            "Time to decide, encoding included",
            ["category"],
            buckets=_FAST,
            registry=r,
        )
        self.admissions = Counter(
            "nearhit_admissions",
            "Answers offered to the cache; stored is counted after the commit",
            ["category", "outcome"],
            registry=r,
        )
        self.evictions = Counter(
            "nearhit_evictions", "Entries that left", ["category", "reason"], registry=r
        )
        self.vetoes = Counter(
            "nearhit_guard_vetoes", "Hits forbidden by a guard", ["category", "guard"], registry=r
        )
        self.shared_disputes = Counter(
            "nearhit_shared_disputes",
            "Answers two tenants agree on, kept from others as a third was answered otherwise",
            ["category"],
            registry=r,
        )
        self.faults = Counter(
            "nearhit_faults", "Requests that the cache failed and the upstream answered",
            ["part"], registry=r,
        )  # fmt: skip
        self.lease_outcomes = Counter(
            "nearhit_lease_outcomes", "Misses by who led their call", ["outcome"], registry=r
        )
        build = Gauge("nearhit_build_info", "The running version", ["version"], registry=r)
        build.labels(version("nearhit")).set(1)
        ProcessCollector(namespace="nearhit", registry=r)  # says nothing but on Linux

    def _make_said(self) -> None:
        """Make what clients say of answers, and what we had to say ourselves."""
        r = self.registry
        self.feedback = Counter(
            "nearhit_feedback", "Verdicts of clients that were taken in", ["verdict"], registry=r
        )
        self.error_answers = Counter(
            "nearhit_error_answers",
            "Answers under /v1 that Nearhit made itself because it had no other, by status",
            ["code"],
            registry=r,
        )

    def _make_standing(self) -> None:
        """Make what a category comes to now; these are set when somebody looks."""
        r = self.registry
        self.entries = Gauge("nearhit_entries", "Entries held", ["category"], registry=r)
        self.bytes = Gauge(
            "nearhit_entry_bytes", "Bytes counted against the quota", ["category"], registry=r
        )
        self.quarantined = Gauge(
            "nearhit_quarantined_entries", "Entries kept from a tenant or from all", registry=r
        )
        self.load_factor = Gauge(
            "nearhit_load_factor",
            "How far load bends a category's policy, 0 to 1: the highest over its upstreams",
            ["category"],
            registry=r,
        )
        self.threshold = Gauge(
            "nearhit_effective_threshold",
            "The hit threshold now, the lowest over the upstreams",
            ["category"],
            registry=r,
        )
        self.ttl = Gauge(
            "nearhit_effective_ttl_seconds",
            "The lifetime now, the longest over the upstreams",
            ["category"],
            registry=r,
        )
        self.semantic_open = Gauge(
            "nearhit_semantic_tier_open",
            "0 while looking up by meaning would cost more than it saves",
            ["category"],
            registry=r,
        )

    def _make_holding(self) -> None:
        """Make what is held, and how far it is behind; all are set when somebody looks."""
        r = self.registry
        self.entry_quota = Gauge(
            "nearhit_entry_quota", "Entries that may be held", ["category"], registry=r
        )
        self.byte_quota = Gauge(
            "nearhit_entry_quota_bytes", "Bytes that entries may take", ["category"], registry=r
        )
        self.hot_bytes = Gauge("nearhit_hot_bytes", "Answers that are ready in memory", registry=r)
        self.writes_waiting = Gauge(
            "nearhit_store_writes_waiting", "Writes that wait for the store", registry=r
        )
        self.deletions_owed = Gauge(
            "nearhit_deletions_owed", "Stored rows that are still to be deleted", registry=r
        )
        self.journal_staleness = Gauge(
            "nearhit_journal_staleness_seconds",
            "Time since memory was last known to hold all that was recorded; 0 without replicas",
            registry=r,
        )
        self.fresh = Gauge(
            "nearhit_memory_fresh", "Whether what memory holds may be served now", registry=r
        )
        self.journal_reloads = Counter(
            "nearhit_journal_reloads", "Times that all was loaded anew to follow others", registry=r
        )
        self.reloads_counted = 0  # of those that this process has made
        self.snapshot_time = Gauge(
            "nearhit_last_snapshot_timestamp_seconds",
            "When this process last took a snapshot; 0: not since it began",
            registry=r,
        )
        self.flights = Gauge(
            "nearhit_flights", "Upstream calls that others may join now", registry=r
        )

    def _make_upstreams(self) -> None:
        """Make what upstreams are measured by; the gauges are set when somebody looks."""
        r = self.registry
        self.upstream_duration = Histogram(
            "nearhit_upstream_request_duration_seconds",
            "Upstream calls to their last byte; code 0: no answer",
            ["model", "code"],
            buckets=_SLOW,
            registry=r,
        )
        self.upstream_first_byte = Histogram(
            "nearhit_upstream_first_byte_seconds",
            "Upstream calls to their first byte, where there was one",
            ["upstream"],
            buckets=_SLOW,
            registry=r,
        )
        self.upstream_tries = Counter(
            "nearhit_upstream_tries",
            "Tries by how they ended; retried: another was made in its place",
            ["upstream", "outcome"],
            registry=r,
        )
        self.upstream_tokens = Counter(
            "nearhit_upstream_tokens",
            "Tokens that upstreams say they used, by the model that was asked for",
            ["model", "direction"],
            registry=r,
        )
        self.saved_tokens = Counter(
            "nearhit_saved_tokens",
            "Tokens that upstreams need not have used, as stored answers say",
            ["category", "direction"],
            registry=r,
        )
        self.upstream_in_flight = Gauge(
            "nearhit_upstream_in_flight", "Calls being answered", ["upstream"], registry=r
        )
        self.upstream_ejected = Gauge(
            "nearhit_upstream_ejected",
            "1 while it is passed over because it kept failing",
            ["upstream"],
            registry=r,
        )

    def _make_encoding(self) -> None:
        """Make what the encoder is measured by."""
        r = self.registry
        self.batch_size = Histogram(
            "nearhit_encode_batch_size", "Texts in one forward pass",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=r,
        )  # fmt: skip
        self.encode_queue = Gauge("nearhit_encode_queue_length", "Texts waiting", registry=r)
        self.encode_duration = Histogram(
            "nearhit_encode_duration_seconds", "One forward pass", buckets=_FAST, registry=r
        )
        self.encode_wait = Histogram(
            "nearhit_encode_wait_seconds", "A text's wait for its batch", buckets=_FAST, registry=r
        )

    def _make_audits(self) -> None:
        """Make what hits by meaning are measured by; the gauges are set when somebody looks."""
        r = self.registry
        self.audits = Counter(
            "nearhit_audits",
            "Answers that were, or were to be, judged against the upstream's",
            ["category", "kind", "outcome"],
            registry=r,
        )
        self.judge_cost = Counter(
            "nearhit_judge_cost", "What audits have cost, in the currency of the prices", registry=r
        )
        self.judge_tokens = Counter(
            "nearhit_judge_tokens", "Tokens that audits have used", ["direction"], registry=r
        )
        self.audits_waiting = Gauge("nearhit_audits_waiting", "Audits in the queue", registry=r)
        self.false_hit_rate = Gauge(
            "nearhit_false_hit_rate",
            "Wrong hits by meaning as measured: the bounds hold at 95 %, NaN without an audit",
            ["category", "bound"],
            registry=r,
        )
        self.false_alarm_rate = Gauge(
            "nearhit_judge_false_alarm_rate",
            "Right answers that the judge calls wrong, as measured",
            ["category", "bound"],
            registry=r,
        )
        self.error_budget = Gauge(
            "nearhit_error_budget",
            "The share of hits by meaning that may be wrong; no series: no budget",
            ["category"],
            registry=r,
        )
        self.decision_point = Gauge(
            "nearhit_decision_point",
            "The largest P(wrong) that is served by meaning; 0 serves nothing",
            ["category"],
            registry=r,
        )
        self.audit_sampling = Gauge(
            "nearhit_audit_sampling_ratio",
            "The probability with which a hit by meaning is audited, where a judge is configured",
            ["category"],
            registry=r,
        )

    def _make_near_hits(self) -> None:
        """Make what small models' answers are measured by; the gauges are set on a look."""
        r = self.registry
        self.offloads = Counter(
            "nearhit_offloads",
            "Near-hits by which model was to answer, and what came of it",
            ["category", "arm", "outcome"],
            registry=r,
        )
        self.near_hit_audits = Counter(
            "nearhit_near_hit_audits",
            "Small models' answers that were, or were to be, judged",
            ["category", "outcome"],
            registry=r,
        )
        self.near_hit_quality = Gauge(
            "nearhit_near_hit_quality",
            "Answers of `model` in the requested one's place, 0 to 1, as believed",
            ["category", "model", "arm", "bound"],
            registry=r,
        )
        self.example_tokens = Histogram(
            "nearhit_example_tokens",
            "Tokens of the examples in one request, estimated",
            buckets=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096),
            registry=r,
        )
        self.replays = Counter(
            "nearhit_example_replays", "Examples answered anew", ["outcome"], registry=r
        )

    def _make_checkpoints(self) -> None:
        """Make what the life of checkpoints is followed by; the gauges are set on a look."""
        r = self.registry
        self.checkpoint = Gauge(
            "nearhit_checkpoint_info", "The checkpoint that serves", ["checkpoint"], registry=r
        )
        self.reencoded = Gauge(
            "nearhit_reencoded_entries",
            "Entries that have a vector of the checkpoint being promoted, or promoted last",
            registry=r,
        )
        self.to_reencode = Gauge(
            "nearhit_entries_to_reencode",
            "Entries that are to have one, those that have it included",
            registry=r,
        )
        self.promotions = Counter(
            "nearhit_promotions", "Promotions that ended", ["outcome"], registry=r
        )

    def set_categories(self, names: Iterable[str]) -> None:
        """Take other categories; those that are gone lose their series."""
        gone = self._categories - set(names)
        self._categories = frozenset(names)
        for key in [key for key in self._lookups if key[0] in gone]:
            del self._lookups[key]
        for metric in vars(self).values():
            if isinstance(metric, MetricWrapperBase) and "category" in metric._labelnames:
                for name in gone:
                    metric.remove_by_labels({"category": name})

    def looked_up(self, category: str, verdict: str) -> None:
        """Count a lookup."""
        bound = self._lookups.get((category, verdict))
        if bound is None:  # once for each pair: finding a labelled counter costs more than counting
            bound = self.lookups.labels(self.category(category), verdict)
            self._lookups[category, verdict] = bound
        bound.inc()

    def count_tokens(
        self, category: str, model: str, *, used: tuple[int, int], saved: tuple[int, int]
    ) -> None:
        """Count tokens, input and output, of a category's requests for a model."""
        for number, direction in enumerate(("input", "output")):
            if used[number]:
                label = self.model(model)
                self.upstream_tokens.labels(label, direction).inc(used[number])
            if saved[number]:
                label = self.category(category)
                self.saved_tokens.labels(label, direction).inc(saved[number])

    def lookup_counts(self) -> dict[str, int]:
        """Return how many requests got each verdict, all categories together."""
        counts: dict[str, int] = {}
        for sample in next(iter(self.lookups.collect())).samples:
            if sample.name.endswith("_total"):
                verdict = sample.labels["verdict"]
                counts[verdict] = counts.get(verdict, 0) + int(sample.value)
        return counts

    def lookup_counts_by_category(self) -> dict[str, dict[str, int]]:
        """Return how many requests of each category got each verdict."""
        counts: dict[str, dict[str, int]] = {}
        for sample in next(iter(self.lookups.collect())).samples:
            if sample.name.endswith("_total"):
                of = counts.setdefault(sample.labels["category"], {})
                of[sample.labels["verdict"]] = int(sample.value)
        return counts

    def model(self, name: str) -> str:
        """Return a model's label: its name if it is configured word for word."""
        return name if name in self._models else OTHER

    def category(self, name: str) -> str:
        """Return a category's label."""
        return name if name in self._categories else OTHER

    def render(self) -> bytes:
        """Return the text exposition."""
        return generate_latest(self.registry)
