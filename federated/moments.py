"""PCA of everybody's vectors without anybody's vector: sites send sums, masked if the run wants.

A sum over one query would be that query's vector, so a site with few sends nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid

from federated.exchange import exchange, message_to
from federated.masked_strategy import MaskedSum
from federated.masking import MEMBERS, hidden
from federated.options import RunOptions
from federated.projection import LEAST_QUERIES, Moments, fit, moments, summed
from federated.records import (
    ARRAYS,
    CONFIG,
    QUERY_MOMENTS,
    ROUND,
    ReplyInvalid,
    arrays_of,
    masked_of,
    masked_record,
    sums_of,
)
from federated.secure_sum import Floats, Refused, to_floats
from federated.task import FloatArray, Say, Site, State

COUNT, SUM, OUTER = "count", "sum", "outer"
LONGEST = 1.0  # of a vector that counts: an encoder's are of unit length


def distinct_queries(site: Site) -> list[str]:
    """Return every text of a site's pairs once."""
    pairs = [*site.learns_from, *site.judges]
    return list(dict.fromkeys(text for pair in pairs for text in (pair.query, pair.stored)))


def moments_reply(
    message: Message, context: Context, vectors: FloatArray, options: RunOptions
) -> Message:
    """Return a site's sums over its vectors (n, d), masked if the message says so.

    A site with fewer than LEAST_QUERIES vectors sends none.
    """
    content = RecordDict()
    if len(vectors) >= LEAST_QUERIES:
        told = moments(vectors, LONGEST)
        masked = MEMBERS in message.content.config_records[CONFIG]
        if options.secure_aggregation and not masked:
            raise Refused("this site sends nothing but masked sums")
        vector = as_vector(told)
        if masked:
            content[ARRAYS] = masked_record(hidden(message, context, vector))
        else:
            content[ARRAYS] = ArrayRecord({ARRAYS: Array(vector)})
    return Message(content, reply_to=message)


def fitted_projection(
    grid: Grid, state: State, options: RunOptions, number: int, say: Say
) -> FloatArray | None:
    """Return a projection (pca_dimension, d) fitted to all sites' vectors at `state`.

    None when the run wants none, or the sites together have too few queries. `number` is that of a
    round that has not been.
    """
    if not options.pca_dimension:
        return None
    say(f"fitting a projection to {options.pca_dimension} dimensions")
    nodes = sorted(grid.get_node_ids())
    config = ConfigRecord({ROUND: number})
    masked = MaskedSum(grid, number, options, say) if options.secure_aggregation else None
    if masked is not None:
        if not masked.agree(nodes, QUERY_MOMENTS):
            return None
        nodes, config = masked.members, masked.config()
    records = RecordDict({ARRAYS: arrays_of(state)})
    ttl = options.round_timeout
    sent = [message_to(node, QUERY_MOMENTS, config, number, ttl, records) for node in nodes]
    replies = [r for r in exchange(grid, sent, ttl, say) if not r.has_error()]
    total = _opened(masked, replies) if masked is not None else _summed(replies)
    if total is None or total.count < LEAST_QUERIES:
        say("  too few queries: vectors keep their dimension")
        return None
    return fit(total, options.pca_dimension)


def as_vector(told: Moments) -> Floats:
    """Return sums as one vector (1 + d + d * d,)."""
    return np.concatenate([[float(told.count)], told.sum, told.outer.ravel()])


def from_vector(vector: Floats) -> Moments:
    """Return sums from one vector; raise ReplyInvalid unless it is as long as one, and finite."""
    dimension = int(np.sqrt(max(len(vector) - 0.75, 0)) - 0.5)
    if dimension < 1 or len(vector) != 1 + dimension + dimension**2:
        raise ReplyInvalid(f"{len(vector)} numbers are no sums")
    if not np.isfinite(vector).all():
        raise ReplyInvalid("a sum is not a finite number")
    count, total, outer = vector[0], vector[1 : 1 + dimension], vector[1 + dimension :]
    # Rows of at most unit length: what is larger was not summed from such.
    square = outer.reshape(dimension, dimension)
    if np.trace(square) > count * 1.001 or np.linalg.norm(total) > count * 1.001:
        raise ReplyInvalid("the sums are larger than unit vectors have")
    return Moments(round(count), total, square)


def _summed(replies: Iterable[Message]) -> Moments | None:
    good = []
    for reply in replies:
        vector = sums_of(reply.content)
        try:
            if vector is not None:
                good.append(from_vector(vector))
        except ReplyInvalid:
            continue
    dimension = _most(len(one.sum) for one in good)
    return summed(one for one in good if len(one.sum) == dimension) if good else None


def _opened(masked: MaskedSum, replies: Sequence[Message]) -> Moments | None:
    uploads = [masked_of(reply.content) for reply in replies]
    size = _most(len(words) for words in uploads if words is not None)
    words = masked.open(replies, size) if size else None
    try:
        return None if words is None else from_vector(to_floats(words))
    except ReplyInvalid:
        return None


def _most(sizes: Iterable[int]) -> int:
    """Return the commonest size: one site that is broken says nothing of the others'. None: 0."""
    return max(Counter(sizes).items(), key=lambda each: each[1], default=(0, 0))[0]
