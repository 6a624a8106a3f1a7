"""What a client does with its labelled pairs: the losses, and the steps down them."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from embed.held_out import components
from federated.model import SimilarityModel
from federated.pairs import LabelledPair

SCALE = 20.0  # of cosines within the softmax, as in sentence-transformers
LONGEST_GRADIENT = 1.0  # a longer one is cut to this norm
LARGEST = 8  # times the batch's size: what one may come to. A pair takes more than a MiB.
Batch = Sequence[LabelledPair]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a client trains.

    Losses and margin are MeanCache's. Steps are fewer, smaller and longer than its own (PAPER):
    they suit the upper layers alone, a hundred pairs a client, and a CPU.
    """

    epochs: int = 2
    batch: int = 16  # pairs a step, and what shares a text with them
    rate: float = 3e-4  # of AdamW
    warm_up: int = 2  # steps until the rate is whole
    decay: float = 0.01
    margin: float = 0.5  # cosine distance from which a label-0 pair costs nothing
    ranking: float = 1.0  # weight of multiple negatives ranking, both directions
    contrastive: float = 1.0  # weight of online contrastive
    anchor: float = 10.0  # weight of keeping the cosines of questions that no label speaks of
    negatives: int = 2  # label-0 pairs an epoch shows of a stored text that has more
    proximal: float = 0.0  # FedProx's mu: what moving away from the common state costs


# As published: `fl_sim_train.py` of MeanCache, with the defaults of sentence-transformers.
PAPER = TrainOptions(epochs=6, batch=128, rate=2e-5, warm_up=1000, anchor=0.0, negatives=1_000_000)


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What training came to."""

    examples: int  # pairs
    steps: int
    loss: float  # mean over the last epoch


def train(
    model: SimilarityModel,
    pairs: Sequence[LabelledPair],
    options: TrainOptions,
    seed: int,
    on_progress: OnProgress = lambda done, total: None,
) -> TrainReport:
    """Train `model` in place on `pairs`; `on_progress` gets the epochs done and all of them.

    The same pairs, options and seed give the same steps. Raise ValueError when the loss is not
    finite: the model is then of no use.
    """
    chance = random.Random(seed)
    groups = grouped(pairs)
    parameters = model.parameters()
    common = [parameter.detach().clone() for parameter in parameters]
    if options.anchor:
        model.first_vectors([text for pair in pairs for text in (pair.query, pair.stored)])
    optimizer = torch.optim.AdamW(parameters, lr=options.rate, weight_decay=options.decay)
    steps = 0
    losses: list[float] = []
    for epoch in range(options.epochs):
        losses = []
        for batch in batches(groups, options, chance):
            loss = loss_of(model, batch, options)
            if options.proximal:
                ways = [
                    (now - then).square().sum()
                    for now, then in zip(parameters, common, strict=True)
                ]
                loss = loss + options.proximal / 2 * torch.stack(ways).sum()
            losses.append(loss.item())
            if not torch.isfinite(loss):
                raise ValueError(f"the loss is {losses[-1]} at step {steps + 1}")
            steps += 1
            for group in optimizer.param_groups:
                group["lr"] = options.rate * min(1.0, steps / max(1, options.warm_up))
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, LONGEST_GRADIENT)
            optimizer.step()
        on_progress(epoch + 1, options.epochs)
    return TrainReport(len(pairs), steps, sum(losses) / max(1, len(losses)))


def grouped(pairs: Batch) -> list[list[LabelledPair]]:
    """Return the pairs in groups that have no text in common."""
    groups: defaultdict[int, list[LabelledPair]] = defaultdict(list)
    for number, pair in zip(components([(p.query, p.stored) for p in pairs]), pairs, strict=True):
        groups[number].append(pair)
    return list(groups.values())


def batches(
    groups: Sequence[Batch], options: TrainOptions, chance: random.Random
) -> Iterator[list[LabelledPair]]:
    """Yield an epoch's batches: whole groups, so that a text of several pairs is encoded once.

    A group that is larger than LARGEST batches (everybody's question, and all who asked it) comes
    in parts. A label-0 pair beyond `options.negatives` of its stored text waits for another epoch.
    """
    batch: list[LabelledPair] = []
    for group in chance.sample(groups, len(groups)):
        shown: Counter[str] = Counter()
        for pair in chance.sample(group, len(group)):
            shown[pair.stored] += pair.label == 0
            if pair.label == 1 or shown[pair.stored] <= options.negatives:
                batch.append(pair)
            if len(batch) >= LARGEST * options.batch:
                yield batch
                batch = []
        if len(batch) >= options.batch:
            yield batch
            batch = []
    if batch:
        yield batch


def loss_of(model: SimilarityModel, batch: Batch, options: TrainOptions) -> torch.Tensor:
    """Return the weighted losses of one batch, a scalar."""
    texts = list(dict.fromkeys(text for pair in batch for text in (pair.query, pair.stored)))
    places = {text: place for place, text in enumerate(texts)}
    # Before the others: it changes the parameters for a while, which no gradient survives.
    first = model.first_vectors(texts) if options.anchor else None
    vectors = model.vectors(texts)
    queries = torch.tensor([places[pair.query] for pair in batch])
    stored = torch.tensor([places[pair.stored] for pair in batch])
    right = torch.tensor([pair.label == 1 for pair in batch])
    cosines = (vectors[queries] * vectors[stored]).sum(1)
    loss = vectors.sum() * 0
    if options.ranking:
        loss = loss + options.ranking * ranking_loss(vectors, queries[right], stored[right])
    if options.contrastive:
        # Within a category only: each has a threshold of its own.
        for category in {pair.category for pair in batch}:
            own = torch.tensor([pair.category == category for pair in batch])
            part = contrastive_loss(1 - cosines[own], right[own], options.margin)
            loss = loss + options.contrastive / len(batch) * part
    if first is not None:
        groups = components([(pair.query, pair.stored) for pair in batch])
        group_of = {
            text: group
            for pair, group in zip(batch, groups, strict=True)
            for text in (pair.query, pair.stored)
        }
        places_of = torch.tensor([group_of[text] for text in texts])
        loss = loss + options.anchor * anchor_loss(vectors, first, places_of)
    return loss


def anchor_loss(vectors: torch.Tensor, first: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Return the mean squared change of the cosines of texts of different groups.

    `vectors` and `first` (n, d) are unit rows now and before any training, `groups` (n,).
    """
    apart = groups[:, None] != groups[None, :]
    change = vectors @ vectors.T - first @ first.T
    return change[apart].square().mean() if bool(apart.any()) else vectors.sum() * 0


def ranking_loss(
    vectors: torch.Tensor, queries: torch.Tensor, stored: torch.Tensor
) -> torch.Tensor:
    """Return the mean multiple negatives ranking loss of the right pairs, in both directions.

    `vectors` (n, d) are a batch's unit rows, `queries` and `stored` (m,) the places of its right
    pairs. Each side has to find the other among all rows but those that are right for it too;
    those of label-0 pairs are the hard ones (Henderson et al. 2017).
    """
    if not len(queries):
        return vectors.sum() * 0
    scores = vectors @ vectors.T * SCALE
    direct = torch.eye(len(vectors))
    direct[queries, stored] = direct[stored, queries] = 1.0
    known = direct @ direct > 0  # two queries that are right for one stored text are the same
    losses = []
    for here, there in ((queries, stored), (stored, queries)):
        wanted = scores[here, there]
        others = scores[here].masked_fill(known[here], float("-inf"))
        whole = torch.logsumexp(torch.cat([wanted[:, None], others], dim=1), dim=1)
        losses.append((whole - wanted).mean())
    return (losses[0] + losses[1]) / 2


def contrastive_loss(distances: torch.Tensor, right: torch.Tensor, margin: float) -> torch.Tensor:
    """Return the summed online contrastive loss of pairs at these cosine distances, shape (n,).

    Only pairs on the wrong side count: right ones further apart than the nearest wrong one, wrong
    ones nearer than the furthest right one. Of one label alone all count (as in
    sentence-transformers' OnlineContrastiveLoss, which then takes those beyond the mean).
    """
    near, far = distances[right], distances[~right]
    if len(near) and len(far):
        near, far = near[near > far.min()], far[far < near.max()]
    return near.square().sum() + torch.relu(margin - far).square().sum()
