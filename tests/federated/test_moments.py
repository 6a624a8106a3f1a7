"""PCA from sums: the projection is that of the pooled vectors, and nobody's vector is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message

from federated import server_app
from federated.moments import as_vector, from_vector
from federated.options import Config
from federated.pairs import LabelledPair
from federated.projection import LEAST_QUERIES, fit, moments
from federated.records import ARRAYS, QUERY_MOMENTS, ReplyInvalid
from federated.secure_sum import Floats
from tests.federated.in_process import Federation, TinyModel, fake_export, federation, pairs_of

FEW = pairs_of(3, 40, 20)  # 80 texts
LISTS = [pairs_of(1, LEAST_QUERIES), pairs_of(2, LEAST_QUERIES), FEW]


def fitted(sites: Federation, monkeypatch: pytest.MonkeyPatch, **config: bool | int) -> object:
    """Run, and return the projection that was exported."""
    told: list[object] = []

    def export(*args: object, **keywords: object) -> object:
        told.append(keywords["projection"])
        return fake_export(*args, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(server_app, "export_trained", export)
    sites.run(num_server_rounds=1, **config)
    return told[0]


def texts_of(*lists: list[LabelledPair]) -> list[str]:
    return [text for pairs in lists for p in pairs for text in (p.query, p.stored)]


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_the_projection_is_that_of_all_vectors_of_sites_with_enough(
    masked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"secure_aggregation": masked, "secure_least": 2, "pca_dimension": 4}
    with federation(tmp_path, LISTS) as sites:
        found = fitted(sites, monkeypatch, **extra)
        model = TinyModel()
        model.load_state(sites.published)
    vectors = model.encode(list(dict.fromkeys(texts_of(LISTS[0], LISTS[1]))))
    expected = fit(moments(vectors), 4)
    assert isinstance(found, np.ndarray) and found.shape == (4, vectors.shape[1])
    np.testing.assert_allclose(np.abs((found * expected).sum(axis=1)), 1, atol=1e-4)
    sent = [
        r.metadata.src_node_id
        for r in sites.grid.replies
        if r.metadata.message_type == QUERY_MOMENTS and ARRAYS in r.content
    ]
    assert sent == [1, 2]


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_sites_with_few_queries_alone_give_no_projection(
    masked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"secure_aggregation": masked, "secure_least": 2, "pca_dimension": 4}
    with federation(tmp_path, [FEW, pairs_of(4, 40, 20)]) as sites:
        assert fitted(sites, monkeypatch, **extra) is None
    assert not any(
        r.metadata.message_type == QUERY_MOMENTS and ARRAYS in r.content for r in sites.grid.replies
    )


def test_a_site_that_wants_masks_keeps_its_sums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict: Config = {"secure-aggregation": True}
    with federation(tmp_path, [*LISTS[:2], pairs_of(5, LEAST_QUERIES)]) as sites:
        sites.grid.contexts[3].node_config |= strict
        fitted(sites, monkeypatch, pca_dimension=4)
    (refused,) = [
        r for r in sites.grid.replies if r.metadata.message_type == QUERY_MOMENTS and r.has_error()
    ]
    assert refused.metadata.src_node_id == 3


def unreadable(reply: Message) -> None:
    """Have a reply's array say of itself what it is not."""
    ((name, array),) = reply.content.array_records[ARRAYS].items()
    broken = Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=b"junk")
    reply.content[ARRAYS] = ArrayRecord({name: broken})


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("fault", [unreadable, lambda reply: reply.content.pop(ARRAYS)])
def test_a_site_whose_sums_cannot_be_read_is_left_out_of_the_projection(
    fault: Callable[[Message], object],
    masked: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lists = [pairs_of(number, LEAST_QUERIES) for number in (1, 2, 3)]
    options = {"pca_dimension": 4, "secure_aggregation": masked, "secure_least": 2}
    with federation(tmp_path, lists) as sites:

        def spoil(reply: Message) -> Message:
            asked = sites.grid.asked[-1].metadata
            if asked.message_type == QUERY_MOMENTS and asked.dst_node_id == 1:
                fault(reply)
            return reply

        sites.grid.tamper = spoil
        found = fitted(sites, monkeypatch, **options)
    model = TinyModel()
    model.load_state(sites.published)
    others = model.encode(texts_of(*lists[1:]))
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, fit(moments(others), 4), atol=1e-3)


def test_sums_come_back_as_they_went() -> None:
    vectors = np.random.default_rng(0).normal(size=(LEAST_QUERIES, 5)).astype(np.float32)
    told = moments(vectors)
    back = from_vector(as_vector(told))
    assert back.count == told.count
    np.testing.assert_array_equal(back.outer, told.outer)


def bad_sums() -> list[Floats]:
    good = as_vector(moments(np.eye(3, dtype=np.float32).repeat(LEAST_QUERIES, axis=0)))
    return [good[:-1], np.where(np.arange(len(good)) == 4, np.nan, good), good * [1, *[9] * 12]]


@pytest.mark.parametrize("number", range(3), ids=["length", "not finite", "longer than vectors"])
def test_sums_that_no_vectors_have_are_refused(number: int) -> None:
    with pytest.raises(ReplyInvalid):
        from_vector(bad_sums()[number])
