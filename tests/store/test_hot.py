from __future__ import annotations

from store.entry import EntryId
from store.hot import Document, HotDocuments

A, B, C = EntryId("a"), EntryId("b"), EntryId("c")


def document(size: int, content_type: str = "application/json") -> Document:
    return Document(b"x" * size, content_type)


def test_what_was_put_is_ready() -> None:
    hot = HotDocuments(100)
    hot.put(A, document(5))
    assert hot.get(A) == document(5)
    assert hot.get(B) is None


def test_the_longest_unused_makes_room() -> None:
    hot = HotDocuments(80)
    for number in range(8):
        hot.put(EntryId(str(number)), document(10))
    hot.get(EntryId("0"))
    hot.put(A, document(10))
    assert hot.get(EntryId("0")) is not None
    assert hot.get(EntryId("1")) is None
    assert hot.bytes == 80


def test_a_body_that_would_push_out_too_many_is_not_kept() -> None:
    hot = HotDocuments(80)
    hot.put(A, document(10))
    hot.put(B, document(11))
    assert hot.get(A) is not None
    assert hot.get(B) is None


def test_a_new_version_replaces_the_old_one_even_when_it_is_too_large_to_keep() -> None:
    hot = HotDocuments(80)
    hot.put(A, document(10))
    hot.put(A, document(7, "text/plain"))
    assert hot.get(A) == document(7, "text/plain")
    assert hot.bytes == 7
    hot.put(A, document(70))
    assert hot.get(A) is None
    assert hot.bytes == 0


def test_dropping_frees_its_bytes() -> None:
    hot = HotDocuments(80)
    hot.put(A, document(10))
    hot.drop(A)
    hot.drop(C)
    assert hot.get(A) is None
    assert hot.bytes == 0
