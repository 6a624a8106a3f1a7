"""A client's labelled pairs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import pytest

from federated.pairs import (
    LabelledPair,
    PairsInvalid,
    deduplicated,
    fetch_pairs,
    read_pairs,
    trainable,
)

ADMIN_ROW = {
    "at": "2026-01-01T00:00:00+00:00", "tenant": "acme", "query": "how do I pay",
    "entry_query": "how can I pay", "entry_id": "e1", "similarity": 0.93, "label": 1,
    "category": "billing", "comment": "", "source": "feedback",
}  # fmt: skip
PAID = LabelledPair("how do I pay", "how can I pay", 1, "billing")


def test_all_three_kinds_of_file_give_pairs(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [
        ADMIN_ROW,
        {"kind": "header", "format": 1},
        {"kind": "pair", "event": "r1", **ADMIN_ROW},
        {"kind": "entry", "id": "e1"},
        {"q1": "stored", "q2": "asked", "label": 0},
        {"kind": "footer"},
    ]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_pairs(file) == [PAID, PAID, LabelledPair("asked", "stored", 0, "")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("not JSON", "pairs.jsonl:1 is not JSON"),
        ("[1]", "is not an object"),
        ('{"q1": "a", "q2": 3, "label": 1}', "q2 is 3"),
        ('{"q1": "a", "q2": "b", "label": 2}', "label is 2, allowed: 0 or 1"),
        ('{"q1": "a", "q2": "b", "label": true}', "label is True"),
        ('{"q1": "a", "q2": "b", "label": 1, "category": null}', "category is None"),
        ('{"query": "a", "label": 1}', "entry_query is None"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(line)
    with pytest.raises(PairsInvalid, match=said.replace(".", r"\.")):
        read_pairs(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PairsInvalid, match="cannot be read"):
        read_pairs(tmp_path / "none.jsonl")


class _Proxy(BaseHTTPRequestHandler):
    """Answers two pages of pairs to whoever has the key."""

    pages: ClassVar[dict[str, Any]] = {
        "": {"pairs": [ADMIN_ROW], "next": "c2"},
        "c2": {"pairs": [{**ADMIN_ROW, "label": 0}], "next": None},
    }

    def do_GET(self) -> None:
        allowed = self.headers["Authorization"] == "Bearer secret"
        cursor = parse_qs(urlparse(self.path).query).get("cursor", [""])[0]
        body = json.dumps(self.pages[cursor]).encode()
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(body if allowed else b"{}")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_proxy_gives_its_pairs_page_by_page(proxy: str) -> None:
    found = fetch_pairs(proxy, "secret")
    assert found == [PAID, LabelledPair("how do I pay", "how can I pay", 0, "billing")]


def test_a_proxy_that_refuses_is_named(proxy: str) -> None:
    with pytest.raises(PairsInvalid, match="401"):
        fetch_pairs(proxy, "wrong")


def test_a_proxy_that_is_away_is_named() -> None:
    with pytest.raises(PairsInvalid, match=r"127\.0\.0\.1:9"):
        fetch_pairs("http://127.0.0.1:9", None, timeout=1.0)


def test_the_same_two_questions_count_once_whichever_was_asked() -> None:
    there = LabelledPair("a", "b", 1, "x")
    back = LabelledPair("b", "a", 1, "x")
    elsewhere = LabelledPair("a", "b", 1, "y")
    assert deduplicated([there, back, elsewhere, there]) == [there, elsewhere]


def test_where_people_disagree_the_majority_counts_and_at_a_tie_the_careful() -> None:
    right, wrong = LabelledPair("a", "b", 1), LabelledPair("a", "b", 0)
    assert deduplicated([right, wrong, right]) == [right]
    assert deduplicated([right, wrong]) == [wrong]


def test_a_question_beside_itself_teaches_nothing() -> None:
    assert deduplicated([LabelledPair("a", "a", 1)]) == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        pytest.param(5, 5, "10 labelled pairs, 20", id="too few"),
        pytest.param(40, 0, "one-sided: 40 of 40", id="all right"),
        pytest.param(1, 39, "one-sided: 1 of 40", id="nearly all wrong"),
        pytest.param(2, 18, None, id="just enough"),
    ],
)
def test_who_may_train(right: int, wrong: int, said: str | None) -> None:
    pairs = [LabelledPair(f"q{i}", f"s{i}", int(i < right)) for i in range(right + wrong)]
    reason = trainable(pairs)
    assert (reason is None) if said is None else (reason is not None and said in reason)
