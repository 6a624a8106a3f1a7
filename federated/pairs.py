"""A client's labelled pairs: from its own proxy or an exported file, once each, fit to train on."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = 200  # pairs a request
LEAST = 20  # pairs, and of either label a tenth of it, that a client trains with
KINDS = ("header", "footer", "entry", "policy", "quarantine")  # of an export's other lines


class PairsInvalid(ValueError):
    """Pairs cannot be read; one line says which and why."""


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """Two questions, and whether the answer to the stored one served the query."""

    query: str
    stored: str
    label: int  # 1: it did, 0: it did not
    category: str = ""


def read_pairs(file: Path) -> list[LabelledPair]:
    """Return a JSONL file's pairs in its order; raise PairsInvalid.

    A line is a row of `GET /admin/api/pairs`, a line of `nearhit export` (others than pairs are
    passed over), or `{"q1", "q2", "label"}` with an optional `category`.
    """
    found = []
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    place = f"{file.name}:{number}"
                    row = _object(line, place)
                    if row.get("kind") not in KINDS:
                        found.append(_pair(row, place))
    except (OSError, UnicodeDecodeError) as error:
        raise PairsInvalid(f"{file} cannot be read: {error}") from None
    return found


def fetch_pairs(base_url: str, key: str | None, *, timeout: float = 30.0) -> list[LabelledPair]:
    """Return all labelled pairs of the proxy at `base_url`, newest first; raise PairsInvalid.

    `key` is one with the admin role, None where the proxy has no keys. `timeout` is in seconds, for
    each page.
    """
    found: list[LabelledPair] = []
    cursor: str | None = ""
    while cursor is not None:
        query = urllib.parse.urlencode({"limit": PAGE} | ({"cursor": cursor} if cursor else {}))
        url = f"{base_url.rstrip('/')}/admin/api/pairs?{query}"
        page = _get(url, key, timeout)
        rows, cursor = page.get("pairs"), page.get("next")
        if not isinstance(rows, list) or not isinstance(cursor, str | None):
            raise PairsInvalid(f"{url} answered something else than a page of pairs")
        found += [_pair(row, url) for row in rows]
    return found


def deduplicated(pairs: Iterable[LabelledPair]) -> list[LabelledPair]:
    """Return each two questions once a category, whichever of them was asked, in order.

    Where people disagreed the majority counts, and at a tie the label 0: a wrong answer costs more
    than a call. A question paired with itself teaches an encoder nothing and is left out.
    """
    labels: defaultdict[tuple[str, str, str], Counter[int]] = defaultdict(Counter)
    first: dict[tuple[str, str, str], LabelledPair] = {}
    for pair in pairs:
        if pair.query != pair.stored:
            low, high = sorted((pair.query, pair.stored))
            labels[low, high, pair.category][pair.label] += 1
            first.setdefault((low, high, pair.category), pair)
    return [
        LabelledPair(pair.query, pair.stored, int(seen[1] > seen[0]), pair.category)
        for pair, seen in ((first[name], seen) for name, seen in labels.items())
    ]


def trainable(pairs: Sequence[LabelledPair], least: int = LEAST) -> str | None:
    """Return why a client with these pairs must not train, or None if it may.

    Few pairs, or pairs of one label alone, would pull the common model to whatever they happen to
    be: everything similar, or nothing.
    """
    if len(pairs) < least:
        return f"{len(pairs)} labelled pairs, {least} are needed"
    right = sum(pair.label for pair in pairs)
    scarce = min(right, len(pairs) - right)
    if scarce * 10 < least:
        return f"one-sided: {right} of {len(pairs)} labels are 1, {-(-least // 10)} of each needed"
    return None


def _object(line: str, place: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise PairsInvalid(f"{place} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise PairsInvalid(f"{place} is not an object")
    return row


def _pair(row: object, place: str) -> LabelledPair:
    if not isinstance(row, dict):
        raise PairsInvalid(f"{place}: a pair is {row!r}, allowed: an object")
    query, stored = ("q2", "q1") if "q1" in row else ("query", "entry_query")
    for key in (query, stored):
        if not isinstance(row.get(key), str):
            raise PairsInvalid(f"{place}: {key} is {row.get(key)!r}, allowed: a text")
    label, category = row.get("label"), row.get("category", "")
    if isinstance(label, bool) or label not in (0, 1):
        raise PairsInvalid(f"{place}: label is {label!r}, allowed: 0 or 1")
    if not isinstance(category, str):
        raise PairsInvalid(f"{place}: category is {category!r}, allowed: a text")
    return LabelledPair(row[query], row[stored], int(label), category)


def _get(url: str, key: str | None, timeout: float) -> Mapping[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return _object(answer.read().decode(), url)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise PairsInvalid(f"{url}: {error}") from None
