"""The site's side of the Flower App: it answers with figures and weights, and keeps its pairs."""

from __future__ import annotations

import logging
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from federated import masking, task
from federated.moments import distinct_queries, moments_reply
from federated.options import NodeConfigInvalid, OptionInvalid, RunOptions
from federated.pairs import trainable
from federated.privacy import clipping, local_privacy
from federated.projection import LEAST_QUERIES
from federated.records import (
    ARRAYS,
    CONFIG,
    METRICS,
    PURPOSE,
    QUERY_MOMENTS,
    ROUND,
    arrays_of,
    metrics_of,
    state_of,
)
from federated.secure_sum import Refused

if TYPE_CHECKING:
    from federated.model import SimilarityModel

FAILED = 2  # Flower's code of a client that raised
log = logging.getLogger(__name__)


def discreet(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Answer a fault with its kind alone: what it says may hold text, and Flower would send it."""
    try:
        return call_next(message, context)
    except (OptionInvalid, Refused) as error:
        log.error("this site takes no part: %s", error)
        if isinstance(error, NodeConfigInvalid):
            return Message(Error(FAILED, type(error).__name__), reply_to=message)
        return Message(Error(FAILED, str(error)), reply_to=message)  # our words, no pair's
    except Exception as error:
        log.exception("this site failed; the server is told no more than the kind of fault")
        return Message(Error(FAILED, type(error).__name__), reply_to=message)


app = ClientApp(mods=[discreet])


@app.train(mods=[masking.masking, clipping, local_privacy])
def train(message: Message, context: Context) -> Message:
    """Judge the state that came, train it on this site's pairs, and return both."""
    options = RunOptions.read(context.run_config, context.node_config)
    site = task.gather(context.node_config, options)
    number = message.content.config_records[CONFIG][ROUND]
    assert isinstance(number, int)
    say(f"round {number}: {len(site.learns_from)} pairs to learn from, {len(site.judges)} to judge")
    judged = judged_by(site, message, options)
    if reason := trainable(site.learns_from, options.least_pairs):
        say(f"  evaluates, but does not train: {reason}")
        trained = task.Trained(None)
    else:
        seed = options.seed * 100_003 + number
        trained = task.train(opened(message, options), site, options, seed, say)
    content = RecordDict({METRICS: metrics_of(judged, trained)})
    if trained.state is not None:
        content[ARRAYS] = arrays_of(trained.state)
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Judge the state that came on this site's held-out pairs."""
    options = RunOptions.read(context.run_config, context.node_config)
    site = task.gather(context.node_config, options)
    told = metrics_of(judged_by(site, message, options))
    return Message(RecordDict({METRICS: told}), reply_to=message)


@app.query("key")
def key(message: Message, context: Context) -> Message:
    """Offer a key for this round's masked sum; no key from a site that has nothing to add."""
    options = RunOptions.read(context.run_config, context.node_config)
    site = task.gather(context.node_config, options)
    if message.content.config_records[CONFIG].get(PURPOSE) == QUERY_MOMENTS:
        adds = len(distinct_queries(site)) >= LEAST_QUERIES
    else:
        adds = trainable(site.learns_from, options.least_pairs) is None
    if not adds:
        return Message(RecordDict(), reply_to=message)
    return masking.offer_key(message, context)


@app.query("remask")
def remask(message: Message, context: Context) -> Message:
    """Upload once more after somebody else dropped out."""
    return masking.mask_again(message, context)


@app.query("reveal")
def reveal(message: Message, context: Context) -> Message:
    """Help to open the sum that everybody's upload went into."""
    return masking.reveal(message, context)


@app.query("moments")
def moments(message: Message, context: Context) -> Message:
    """Return sums over this site's vectors, from which nobody's vector can be told."""
    options = RunOptions.read(context.run_config, context.node_config)
    texts = distinct_queries(task.gather(context.node_config, options))
    few = len(texts) < LEAST_QUERIES
    vectors = np.zeros((0, 1), np.float32) if few else opened(message, options).encode(texts)
    return moments_reply(message, context, vectors, options)


def judged_by(site: task.Site, message: Message, options: RunOptions) -> task.Evaluated:
    """Return how the state that came does on a site's held-out pairs; no model without pairs."""
    return task.evaluate(opened(message, options), site) if site.judges else task.Evaluated(0)


def opened(message: Message, options: RunOptions) -> SimilarityModel:
    """Return the model at the state that came."""
    model = _model(options.trainable_layers)
    model.load_state(state_of(message.content.array_records[ARRAYS]))
    return model


def say(line: str) -> None:
    """Tell this site's own log what is done."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@lru_cache(maxsize=1)
def _model(trainable_layers: int) -> SimilarityModel:
    # A simulation answers for many sites in one process. What it keeps of a text stays in there.
    return task.open_model(RunOptions(trainable_layers=trainable_layers))
