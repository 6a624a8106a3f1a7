"""A site's share of secure aggregation: what it sends is hidden, and it opens one sum a round."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable

from federated.options import RunOptions
from federated.records import (
    ARRAYS,
    CONFIG,
    EXAMPLES,
    KEY,
    METRICS,
    ROUND,
    SEED,
    UNIFORM,
    examples_of,
    masked_record,
    state_of,
)
from federated.secure_sum import Attempt, Floats, Refused, Secrets, Words, masked, to_words
from federated.task import State

RUN, ATTEMPT, MEMBERS, KEYS = "mask-run", "mask-attempt", "mask-members", "mask-keys"
_SECRETS, _WORDS = "masking-secrets", "masking-words"  # in the context: they stay at the site


def offer_key(message: Message, context: Context) -> Message:
    """Make this round's secrets, and return the key that the others may know."""
    secrets = Secrets.new(os.urandom(64))
    context.state[_SECRETS] = ConfigRecord(
        {
            "private": secrets.private,
            "own": secrets.own,
            ROUND: _round(message),
            "opened": False,
        }
    )
    context.state.pop(_WORDS, None)
    return _replied(message, {KEY: ConfigRecord({KEY: secrets.public})})


def masking(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Hide the update in a training reply, where the run or the site wants that.

    What is sent is [examples x update, examples], under masks. A site that did not train sends
    zeros, which look the same.
    """
    reply = call_next(message, context)
    if reply.has_error():
        return reply
    if MEMBERS not in message.content.config_records[CONFIG]:
        if RunOptions.read(context.run_config, context.node_config).secure_aggregation:
            raise Refused("this site sends nothing but masked updates")
        return reply
    before = state_of(message.content.array_records[ARRAYS])
    weight = examples_of(reply.content)
    if message.content.config_records[CONFIG].get(UNIFORM):
        weight = min(weight, 1)
    if ARRAYS in reply.content:
        after = state_of(reply.content.array_records[ARRAYS])
        vector = weighted(before, after, weight)
    else:
        vector = np.zeros(1 + sum(values.size for values in before.values()))
    reply.content.metric_records[METRICS].pop(EXAMPLES, None)
    reply.content[ARRAYS] = masked_record(hidden(message, context, vector))
    return reply


def hidden(message: Message, context: Context, vector: Floats) -> Words:
    """Return `vector` (n,) masked as the message's attempt wants it, and keep it for another."""
    words = to_words(vector)
    upload = _upload(message, context, words)
    context.state[_WORDS] = ArrayRecord({_WORDS: Array(words)})
    return upload


def mask_again(message: Message, context: Context) -> Message:
    """Upload once more, for those who are left after a dropout."""
    if _WORDS not in context.state:
        raise Refused("nothing was uploaded in this round")
    words = context.state.array_records[_WORDS][_WORDS].numpy()
    return _replied(message, {ARRAYS: masked_record(_upload(message, context, words))})


def reveal(message: Message, context: Context) -> Message:
    """Open this site's own mask of one attempt: the last it took part in, once a round."""
    secrets = _secrets(message, context)
    attempt = _attempt(message, context)
    kept = context.state.config_records[_SECRETS]
    if kept.get("uploaded") != attempt.context:
        raise Refused("the sum to open is not the last one that this site took part in")
    del context.state[_SECRETS], context.state[_WORDS]
    return _replied(message, {SEED: ConfigRecord({SEED: secrets.seed(attempt)})})


def weighted(before: State, after: State, weight: int) -> Floats:
    """Return [weight x (after - before), weight] as one vector, parameters in order of name."""
    changes = [
        (np.asarray(after[name], np.float64) - before[name]).ravel() * weight
        for name in sorted(before)
    ]
    return np.concatenate([*changes, np.array([float(weight)])])


def unweighted(total: Floats, before: State) -> tuple[dict[str, Floats], float]:
    """Return the mean update by parameter, and the sum of weights; the reverse of `weighted`.

    `total` is the sum of all vectors; without any weight the update is zero.
    """
    weight = float(total[-1])
    mean = total[:-1] / weight if weight > 0 else np.zeros(len(total) - 1)
    update: dict[str, Floats] = {}
    at = 0
    for name in sorted(before):
        size = before[name].size
        update[name] = mean[at : at + size].reshape(before[name].shape)
        at += size
    return update, weight


def _upload(message: Message, context: Context, words: Words) -> Words:
    secrets, attempt = _secrets(message, context), _attempt(message, context)
    upload = masked(words, str(context.node_id), secrets, _publics(message), attempt)
    context.state.config_records[_SECRETS]["uploaded"] = attempt.context
    return upload


def _secrets(message: Message, context: Context) -> Secrets:
    kept = context.state.config_records.get(_SECRETS)
    if kept is None or kept[ROUND] != _round(message):
        raise Refused("no sum is under way in this round, or it was opened already")
    private, own = kept["private"], kept["own"]
    assert isinstance(private, bytes) and isinstance(own, bytes)
    return Secrets(private, own)


def _attempt(message: Message, context: Context) -> Attempt:
    config = message.content.config_records[CONFIG]
    least = RunOptions.read(context.run_config, context.node_config).secure_least
    members = tuple(str(member) for member in _listed(config, MEMBERS))
    if len(members) < least:
        raise Refused(f"{len(members)} take part, this site wants {least} at least")
    number = config[ATTEMPT]
    assert isinstance(number, int)
    return Attempt(int(str(config[RUN])), _round(message), number, members)


def _publics(message: Message) -> Mapping[str, bytes]:
    config = message.content.config_records[CONFIG]
    keys = [key for key in _listed(config, KEYS) if isinstance(key, bytes)]
    return dict(zip(map(str, _listed(config, MEMBERS)), keys, strict=True))


def _listed(config: ConfigRecord, name: str) -> list[object]:
    value = config[name]
    return list(value) if isinstance(value, list) else []


def _round(message: Message) -> int:
    number = message.content.config_records[CONFIG][ROUND]
    assert isinstance(number, int)
    return number


def _replied(message: Message, records: dict[str, ConfigRecord | ArrayRecord]) -> Message:
    return Message(RecordDict({**records}), reply_to=message)
