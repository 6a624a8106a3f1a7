"""Compose a stream of queries for `nearhit eval stream` out of labelled pairs and a real trace.

    python -m bench.composed_stream --data "$NEARHIT_DATA" --seed 1 --out stream.jsonl

No public log has both repetition and labels, so this is a composition, and says so:

- **Order** is that of web07, a shop's page requests: each of its keys stands for a query, and comes
  again when the key does. Only as many keys are drawn as give 20,000 queries: there have to be
  labelled texts for all of them.
- **Texts** come from the labelled pairs, each text once a seed and after a partner: one whose
  partner by a row labelled 0 was asked before is a *twin that must not hit*, by a row labelled 1 a
  twin that may. Single questions (qa_*) fill up. Left out is what may mean the same as another text
  although nobody labelled the two: half of the words and a gold answer in common, or half of the
  words in the sets that hold nothing but rephrasings. What was read and found to mean the same
  (`bench/mislabelled.py`) counts as labelled 1; other rows that are labelled wrongly stay.
- **Answers**: questions that rows labelled 1 join, directly or not, have one `answer_id`.
- **Times and lengths** are those of azure's conversations, over and over.

Rows are `{"q", "answer_id", "t", "tokens_in", "tokens_out", "kind"}`; `kind` is `first`, `label0`,
`label1` or `repeat`, and for people only. The sets are public and not part of this repository.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from bench.mislabelled import corrected
from bench.pairs import Rows, rows_of
from embed.held_out import components

QUERIES = 20_000
TWINS = 0.3  # of the queries that are no repeats, at least: twins that must not hit
PAIRS = (
    "gsmplus",
    "svamp_hardneg",
    "nqopen_mined",
    "stackexchange_dup",
    "sts16_questions",
    "meancache_llmwritten",
    "canard_rewrites",
)
POSITIVE = ("meancache_llmwritten", "canard_rewrites")  # every row is labelled 1
SINGLES = ("qa_nqopen", "qa_gsm8k", "qa_selfinstruct")


class Text(NamedTuple):
    """A text at its place in the order of first appearance."""

    q: str
    answer_id: str
    kind: str  # first, label0 or label1


Edges = Mapping[str, Sequence[tuple[str, int]]]  # of each text: its partners, with the label


def answer_ids(rows: Rows) -> dict[str, str]:
    """Return the answer of each text in the pairs: one for all that rows labelled 1 join."""
    texts = [(row["q1"], row["q1"]) for row in rows] + [(row["q2"], row["q2"]) for row in rows]
    joined = texts + [(row["q1"], row["q2"]) for row in rows if row["label"] == 1]
    groups = components(joined)
    return {text: f"a{group}" for (text, _), group in zip(texts, groups, strict=False)}


def edges_of(rows: Rows, answers: Mapping[str, str]) -> Edges:
    """Return who is whose partner; rows labelled 0 whose texts others join are left out."""
    edges: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for row in rows:
        one, other = row["q1"], row["q2"]
        if one == other or (row["label"] == 0 and answers[one] == answers[other]):
            continue
        edges[one].append((other, row["label"]))
        edges[other].append((one, row["label"]))
    return edges


def doubtful_texts(rows: Rows, positive: Rows, answers: Mapping[str, str]) -> set[str]:
    """Return texts that may mean the same as another that stays, although no row says so.

    `positive` are those of the rows that come from sets without a row labelled 0.
    """
    labelled = {frozenset((row["q1"], row["q2"])) for row in rows if row["label"] == 0}
    by_answer: defaultdict[str, list[str]] = defaultdict(list)
    doubtful: set[str] = set()
    known = [(text, gold) for text, gold in _known(rows) if gold]
    known += [(row[side], ["a rephrasing"]) for row in positive for side in ("q1", "q2")]
    for text, gold in dict.fromkeys((text, tuple(gold)) for text, gold in known):
        near = {other for answer in gold for other in by_answer[answer.lower()]}
        if any(
            answers[text] != answers[other]
            and frozenset((text, other)) not in labelled
            and _alike(_words(text), _words(other))
            for other in near
        ):
            doubtful.add(text)
            continue
        for answer in gold:
            by_answer[answer.lower()].append(text)
    return doubtful


def walk(edges: Edges, start: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Yield all texts that pairs join to `start`, each after a partner, with its kind."""
    placed: set[str] = set()
    border = [start]
    while border:
        text = border.pop(chance.randrange(len(border)))
        if text in placed:
            continue
        before = {label for other, label in edges[text] if other in placed}
        # A right answer may be there too: then it is no twin that must not hit.
        yield text, "label1" if 1 in before else "label0" if before else "first"
        placed.add(text)
        border += [other for other, _ in edges[text] if other not in placed]


def paired_texts(rows: Rows, chance: random.Random) -> list[Text]:
    """Return every text of the pairs in an order in which no twin comes before its partner."""
    answers = answer_ids(rows)
    edges = edges_of(rows, answers)
    placed: list[tuple[float, Text]] = []
    done: set[str] = set()
    starts = sorted(edges)
    chance.shuffle(starts)
    for start in starts:
        if start in done:
            continue
        found = list(walk(edges, start, chance))
        places = sorted(chance.random() for _ in found)
        for place, (text, kind) in zip(places, found, strict=True):
            placed.append((place, Text(text, answers[text], kind)))
            done.add(text)
    return [text for _, text in sorted(placed)]


def single_texts(questions: Rows, known: Iterable[tuple[str, Sequence[str]]]) -> list[Text]:
    """Return the questions that no known text may mean; `known` are texts with their answers."""
    by_answer: defaultdict[str, list[set[str]]] = defaultdict(list)
    asked: set[str] = set()

    def remember(text: str, answers: Sequence[str]) -> None:
        asked.add(text)
        for answer in answers:
            by_answer[answer.lower()].append(_words(text))

    for text, answers in known:
        remember(text, answers)
    singles = []
    for number, row in enumerate(questions):
        text, answers = row["question"], row.get("answers") or []
        near = (other for answer in answers for other in by_answer[answer.lower()])
        if text in asked or any(_alike(_words(text), other) for other in near):
            continue
        remember(text, answers)
        singles.append(Text(text, f"s{number}", "first"))
    return singles


def _words(text: str) -> set[str]:
    return set(text.lower().replace("?", " ").split())


def _alike(one: set[str], other: set[str]) -> bool:
    return 2 * len(one & other) >= min(len(one), len(other))


def drawn_keys(trace: Sequence[str], chance: random.Random) -> list[str]:
    """Return the keys of a stream's queries in order: of as many keys as give enough of them."""
    requests = Counter(trace)
    drawn = sorted(requests)
    chance.shuffle(drawn)
    sums = itertools.accumulate(requests[key] for key in drawn)
    enough = next((number for number, asked in enumerate(sums, 1) if asked >= QUERIES), None)
    if enough is None:
        raise ValueError(f"the trace has {len(trace)} requests, not {QUERIES}")
    kept = set(drawn[:enough])
    begin = chance.randrange(len(trace))
    whole = itertools.chain(trace[begin:], trace[:begin])
    return list(itertools.islice((key for key in whole if key in kept), QUERIES))


def first_appearances(
    paired: Sequence[Text], singles: Sequence[Text], count: int, chance: random.Random
) -> list[Text]:
    """Return `count` texts: pairs in their order, singles wherever there is room.

    Raises ValueError when there are too few, or too few twins that must not hit among them.
    """
    missing = max(0, count - len(paired))
    if missing > len(singles):
        raise ValueError(f"{count} texts are needed, {len(paired) + len(singles)} are there")
    fillers = chance.sample(list(singles), missing)
    places = set(chance.sample(range(count), missing))
    pairs, rest = iter(paired), iter(fillers)
    order = [next(rest) if place in places else next(pairs) for place in range(count)]
    twins = sum(text.kind == "label0" for text in order)
    if twins < TWINS * count:
        raise ValueError(f"{twins} of {count} texts are twins that must not hit: under {TWINS:.0%}")
    return order


def compose(
    keys: Sequence[str], order: Sequence[Text], arrivals: Sequence[tuple[float, int, int]]
) -> Iterator[dict[str, object]]:
    """Yield the stream's rows. `arrivals` are (seconds, tokens asked, tokens answered)."""
    texts: dict[str, Text] = {}
    fresh = iter(order)
    lasts = arrivals[-1][0] + 1.0  # seconds of one pass over the arrivals
    for number, key in enumerate(keys):
        kind = "repeat" if key in texts else ""
        text = texts.setdefault(key, next(fresh)) if not kind else texts[key]
        again, place = divmod(number, len(arrivals))
        t, tokens_in, tokens_out = arrivals[place]
        yield {
            "q": text.q,
            "answer_id": text.answer_id,
            "t": round(again * lasts + t, 3),
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "kind": kind or text.kind,
        }


def stream(data: Path, seed: int) -> list[dict[str, object]]:
    """Return the stream of a seed from the sets in this folder."""
    chance = random.Random(seed)
    files = {name: corrected(name, rows_of(data / f"pairs_{name}.jsonl")) for name in PAIRS}
    rows = [row for name in PAIRS for row in files[name]]
    positive = [row for name in POSITIVE for row in files[name]]
    doubtful = doubtful_texts(rows, positive, answer_ids(rows))
    rows = [row for row in rows if not doubtful & {row["q1"], row["q2"]}]
    questions = [row for name in SINGLES for row in rows_of(data / f"{name}.jsonl")]
    paired = paired_texts(rows, chance)
    singles = single_texts(questions, _known(rows))
    with gzip.open(data / "trace_cache2k_web07.csv.gz", "rt") as lines:
        keys = drawn_keys([line["key"] for line in csv.DictReader(lines)], chance)
    with (data / "trace_azure_conv.csv").open() as lines:
        arrivals = [
            (float(line["t_s"]), int(line["context_tokens"]), int(line["generated_tokens"]))
            for line in csv.DictReader(lines)
        ]
    order = first_appearances(paired, singles, len(set(keys)), chance)
    return list(compose(keys, order, arrivals))


def _known(rows: Rows) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the pairs' texts with their gold answers; a bare number tells nothing of a meaning."""
    for row in rows:
        for side in ("1", "2"):
            yield row[f"q{side}"], row.get(f"answers{side}") or []


def write(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as JSONL."""
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def main() -> None:
    """Write one stream and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("NEARHIT_DATA"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.data is None:
        parser.error("give --data or set NEARHIT_DATA to the folder with the data sets")
    rows = stream(given.data, given.seed)
    write(given.out, rows)
    kinds = Counter(str(row["kind"]) for row in rows)
    fresh = len(rows) - kinds["repeat"]
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    share = kinds["label0"] / fresh
    sys.stderr.write(f"{len(rows)} queries: {counted}; {share:.1%} of {fresh} are label-0 twins\n")


if __name__ == "__main__":
    main()
