"""What is wrong with a Prometheus text: what `promtool check metrics` looks for, and rules of ours.

Pure: text in, one line a fault out.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

PREFIX = "nearhit_"
# Every label that there may be. All take configured values or words of a closed list.
LABELS = frozenset(
    "arm bound category checkpoint code direction guard kind le model outcome part reason upstream"
    " verdict version worker".split()
)
LONGEST_VALUE = 64  # characters of a label's value: what is longer was not configured
MOST_SERIES = 1000  # of one metric
# What has a base unit is not told in another one.
_UNITS = re.compile(
    r"_(ms|milliseconds|us|microseconds|minutes|hours|days|kb|kib|mb|mib|kilobytes|megabytes"
    r"|percent|percents|bits)(_|$)"
)
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_CONFIGURED = re.compile(r"[A-Za-z0-9._:+-]*(/[A-Za-z0-9._-]+)?")  # a name, not a URL or a text
_TYPE = re.compile(r"# TYPE (\S+) (\S+)")


class _Series(NamedTuple):
    name: str
    labels: tuple[tuple[str, str], ...]


def faults(text: str, labels: frozenset[str] = LABELS) -> list[str]:
    """Return what is wrong with an exposition, one line a fault; `labels` are those allowed."""
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as error:
        return [f"it cannot be read: {error}"]
    found = [*_of_heads(text)]
    for family in families:
        found += _of_names(family)
        found += _of_series(family, labels)
        if family.type == "histogram":
            found += _of_histogram(family)
        elif family.type == "counter":
            found += [
                f"{s.name}: a counter is {s.value:g}" for s in family.samples if not s.value >= 0
            ]
    return found


def _of_heads(text: str) -> Iterator[str]:
    helped = {line.split(" ", 3)[2] for line in text.splitlines() if _has_help(line)}
    seen: set[str] = set()
    for name, kind in _TYPE.findall(text):
        if name not in helped:
            yield f"{name}: no HELP"
        if name in seen:
            yield f"{name}: told twice"
        seen.add(name)
        if kind == "counter" and not name.endswith("_total"):
            yield f"{name}: a counter's name ends in _total"
        if kind != "counter" and name.endswith("_total"):
            yield f"{name}: a {kind}'s name does not end in _total"
        if kind == "untyped":
            yield f"{name}: untyped"
    known = tuple(f"{name}{end}" for name in seen for end in ("", "_bucket", "_sum", "_count"))
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name = re.split(r"[{ ]", line, maxsplit=1)[0]
            if name not in known:
                yield f"{name}: no TYPE"


def _has_help(line: str) -> bool:
    words = line.split(" ", 3)
    return line.startswith("# HELP ") and len(words) == 4 and bool(words[3].strip())


def _of_names(family: Metric) -> Iterator[str]:
    name = family.name
    if not name.startswith(PREFIX):
        yield f"{name}: does not begin with {PREFIX}"
    if not _NAME.fullmatch(name):
        yield f"{name}: is not snake_case"
    if _UNITS.search(name):
        yield f"{name}: is not in a base unit"
    if family.type != "histogram" and re.search(r"_(count|sum|bucket)$", name):
        yield f"{name}: has the ending of a histogram's series"
    if family.type in name.split("_"):
        yield f"{name}: has its type in its name"


def _of_series(family: Metric, allowed: frozenset[str]) -> Iterator[str]:
    seen: set[_Series] = set()
    for sample in family.samples:
        series = _Series(sample.name, tuple(sorted(sample.labels.items())))
        if series in seen:
            yield f"{sample.name}: the series {sample.labels} is there twice"
        seen.add(series)
        for label, value in sample.labels.items():
            if label not in allowed:
                yield f"{sample.name}: the label {label} is not one of ours"
            elif len(value) > LONGEST_VALUE or not _CONFIGURED.fullmatch(value):
                yield f"{sample.name}: {label} has the value {value!r}, which looks unbounded"
    if len(seen) > MOST_SERIES:
        yield f"{family.name}: has {len(seen)} series"


def _of_histogram(family: Metric) -> Iterator[str]:
    groups: defaultdict[tuple[tuple[str, str], ...], list[Sample]] = defaultdict(list)
    for sample in family.samples:
        rest = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        groups[rest].append(sample)
    for labels, samples in groups.items():
        for fault in _of_one_histogram(family.name, samples):
            yield f"{fault}, of {dict(labels)}"


def _of_one_histogram(name: str, samples: Sequence[Sample]) -> Iterator[str]:
    buckets = [
        (float(s.labels.get("le", "nan")), s.value) for s in samples if s.name == f"{name}_bucket"
    ]
    counts = [s.value for s in samples if s.name == f"{name}_count"]
    sums = [s.value for s in samples if s.name == f"{name}_sum"]
    if len(counts) != 1 or len(sums) != 1:
        yield f"{name}: a histogram has one sum and one count"
        return
    if not buckets or buckets[-1][0] != math.inf:
        yield f"{name}: the last bucket is not +Inf"
    elif buckets[-1][1] != counts[0]:
        yield f"{name}: +Inf has {buckets[-1][1]:g} and the count is {counts[0]:g}"
    bounds, values = [bound for bound, _ in buckets], [value for _, value in buckets]
    if bounds != sorted(bounds):
        yield f"{name}: buckets are not in order"
    if values != sorted(values):
        yield f"{name}: buckets are not cumulative"
    if not sums[0] >= 0 and not math.isnan(sums[0]):
        yield f"{name}: the sum is {sums[0]:g}"
    if counts[0] == 0 and sums[0] != 0:
        yield f"{name}: a sum of {sums[0]:g} over nothing"
