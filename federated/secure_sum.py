"""A sum of which nobody sees a summand: pairwise masks that cancel, and one of one's own.

After Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning (CCS
2017), without its secret shares: when somebody drops out, those who are left upload anew for their
smaller set. Every attempt has masks of its own. A member tells its own mask for one attempt a round
only, and only after everybody's upload of that attempt has come; so an upload that comes late, or
twice, says nothing, and the sums that can be opened are of disjoint sets.

It protects from a server that follows the protocol and is curious. One that invents members, or
hands out keys of its own as theirs, is kept out by authenticated nodes, not by this.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Words = npt.NDArray[np.uint64]  # integers modulo 2**64
Floats = npt.NDArray[np.float64]

SCALE = 2.0**32  # steps a unit: what rounding loses is far below float32's own
LIMIT = 2.0**20  # the largest summand: 2,048 of them stay inside a signed word


class Refused(Exception):
    """What was asked would weaken the sum; one line says why."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a sum: whose it is, and who takes part."""

    run: int
    round: int
    number: int  # raised whenever somebody dropped out
    members: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise Refused unless the members are distinct and in order."""
        if list(self.members) != sorted(set(self.members)):
            raise Refused("members are not distinct and in order")

    @property
    def context(self) -> bytes:
        """What every mask of this attempt, and of no other, is derived with."""
        told = [self.run, self.round, self.number, *self.members]
        return hashlib.sha256(json.dumps(told).encode()).digest()


@dataclass(frozen=True, slots=True)
class Secrets:
    """What one member keeps to itself for one round."""

    private: bytes  # X25519
    own: bytes  # what its own masks are derived from

    @classmethod
    def new(cls, random: bytes) -> Secrets:
        """Make the secrets of a round from 64 fresh random bytes."""
        if len(random) != 64:
            raise ValueError(f"64 random bytes are needed, these are {len(random)}")
        return cls(random[:32], random[32:])

    @property
    def public(self) -> bytes:
        """The key that the others may know."""
        return X25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()

    def seed(self, attempt: Attempt) -> bytes:
        """Return what this member's own mask of an attempt comes from; it opens no other mask."""
        return _derived(self.own, b"own" + attempt.context)


def to_words(values: Floats) -> Words:
    """Return values as fixed-point words of the same shape; raise Refused if one does not fit."""
    if not np.isfinite(values).all():
        raise Refused("a value is not a finite number")
    if values.size and float(np.abs(values).max()) > LIMIT:
        raise Refused(f"a value is beyond {LIMIT:.0f}")
    return np.rint(values * SCALE).astype(np.int64).view(np.uint64)


def to_floats(words: Words) -> Floats:
    """Return what fixed-point words stand for, negative in their upper half."""
    return words.view(np.int64) / SCALE


def masked(
    words: Words, me: str, secrets: Secrets, publics: Mapping[str, bytes], attempt: Attempt
) -> Words:
    """Return the words (n,) of member `me` under all its masks: uniform to who knows none of them.

    `publics` holds the others' keys. Raise Refused when `me` is no member, or a key is missing.
    """
    if me not in attempt.members:
        raise Refused(f"{me} takes no part in attempt {attempt.number}")
    total = words + _stream(secrets.seed(attempt), len(words))
    key = X25519PrivateKey.from_private_bytes(secrets.private)
    for other in attempt.members:
        if other == me:
            continue
        if other not in publics:
            raise Refused(f"the key of {other} is missing")
        shared = key.exchange(X25519PublicKey.from_public_bytes(publics[other]))
        pair = "|".join(sorted((me, other))).encode()
        mask = _stream(_derived(shared, b"pair" + attempt.context + pair), len(words))
        total = total + mask if me < other else total - mask
    return total


def opened(uploads: Mapping[str, Words], seeds: Mapping[str, bytes], attempt: Attempt) -> Words:
    """Return the sum (n,) of what all members uploaded, with their own masks taken off.

    Raise Refused unless there is one upload and one seed of every member, all of one length.
    """
    for kind, given in (("upload", uploads), ("seed", seeds)):
        if missing := sorted(set(attempt.members) - given.keys()):
            raise Refused(f"the {kind} of {missing[0]} is missing")
    lengths = {len(uploads[member]) for member in attempt.members}
    if len(lengths) != 1:
        raise Refused("uploads are not of one length")
    total = np.zeros(lengths.pop(), np.uint64)
    for member in attempt.members:
        total += uploads[member]
        total -= _stream(seeds[member], len(total))
    return total


def _derived(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)


def _stream(key: bytes, count: int) -> Words:
    """Return `count` words of ChaCha20's key stream; each key is used for one stream only."""
    cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None)
    return np.frombuffer(cipher.encryptor().update(bytes(8 * count)), dtype="<u8").astype(np.uint64)
