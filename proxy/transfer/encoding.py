"""Entries of another checkpoint, or of an export without vectors, get vectors of this encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embed.encoder import Encoder, Vector
from embed.errors import EncoderFailed
from store.entry import Entry
from store.transfer.values import Carried

_PROBE = "Is the encoder well?"


def made_for(carried: Carried, checkpoint: str) -> str:
    """Return the checkpoint of the entry once it is stored where this one serves.

    What was found by its exact key only stays so, as it is: its question may be one that must not
    be compared by meaning.
    """
    return checkpoint if carried.by_meaning else carried.entry.checkpoint


def needs_encoding(carried: Carried, checkpoint: str) -> bool:
    """Whether the entry has to be encoded to be found by meaning under the checkpoint."""
    entry = carried.entry
    return carried.by_meaning and (entry.vector is None or entry.checkpoint != checkpoint)


async def encoded(entries: Sequence[Entry], encoder: Encoder, max_batch: int) -> list[Entry]:
    """Return the entries with vectors of the encoder: as admission would have stored them.

    A question that the encoder does not take whole, or fails on, leaves its entry without: it is
    found by its exact key only. An earlier turn of that kind has to be equal. Raises EncoderFailed
    when the encoder fails on everything.
    """
    texts = dict.fromkeys(
        text
        for entry in entries
        if encoder.fits(entry.query)
        for text in (entry.query, *entry.earlier)
        if encoder.fits(text)
    )
    known: dict[str, Vector] = {}
    every = list(texts)
    for start in range(0, len(every), max_batch):
        known |= await _vectors(every[start : start + max_batch], encoder)
    return [_with_vectors(entry, known, encoder.checkpoint) for entry in entries]


def _with_vectors(entry: Entry, known: dict[str, Vector], checkpoint: str) -> Entry:
    vector = known.get(entry.query)
    past = () if vector is None else tuple(known.get(text) for text in entry.earlier)
    if all(each is None for each in past):
        past = ()
    return replace(entry, checkpoint=checkpoint, vector=vector, earlier_vectors=past)


async def _vectors(texts: Sequence[str], encoder: Encoder) -> dict[str, Vector]:
    try:
        return dict(zip(texts, await encoder.encode(texts), strict=True))
    except EncoderFailed:
        await encoder.encode([_PROBE])  # raises if it is not the texts
    known: dict[str, Vector] = {}
    for text in texts:
        try:
            known[text] = (await encoder.encode([text]))[0]
        except EncoderFailed:
            await encoder.encode([_PROBE])
    return known
