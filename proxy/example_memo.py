"""Vectors of policy examples in a file, so that a restart does not encode them again.

A convenience: a file that is missing, damaged or of another checkpoint counts as empty.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np

from embed.encoder import Vector

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 4096  # vectors: 6 MB at 384 numbers each
MAX_FILE_BYTES = 128 * 2**20
_DIGEST_BYTES = 32


def text_digest(text: str) -> bytes:
    """Return what a text is remembered by."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def memo_file(directory: Path, checkpoint: str) -> Path:
    """Return where the vectors of a checkpoint are remembered; ids are not all file names."""
    return directory / f"prototypes-{text_digest(checkpoint).hex()[:12]}.npz"


def load_memo(file: Path, checkpoint: str) -> dict[bytes, Vector]:
    """Return the remembered unit vectors of a checkpoint by text digest; never raise."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise ValueError("it is larger than any that is written here")
        # Read first: of a file that is no archive, numpy would leave the handle open.
        with np.load(BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
            if str(arrays["checkpoint"]) != checkpoint:
                return {}
            digests, vectors = arrays["digests"], arrays["vectors"]
        if digests.dtype != np.uint8 or digests.shape != (len(vectors), _DIGEST_BYTES):
            raise ValueError(f"digests of shape {digests.shape}")
        lengths = np.linalg.norm(vectors, axis=1)
        if vectors.dtype != np.float32 or not (np.abs(lengths - 1) < 1e-3).all():
            raise ValueError("its vectors are not unit vectors")
    except FileNotFoundError:
        return {}
    except Exception as error:  # zipfile, zlib and numpy each raise their own on a damaged file
        logger.warning("%s is not used: %s", file, error)
        return {}
    return {row.tobytes(): vector for row, vector in zip(digests, vectors, strict=True)}


def save_memo(file: Path, checkpoint: str, vectors: Mapping[bytes, Vector]) -> None:
    """Replace the file by the first MAX_REMEMBERED of `vectors`, whole or not at all.

    A disk that refuses costs the next start some encoding, and is only logged.
    """
    kept = dict(islice(vectors.items(), MAX_REMEMBERED))
    if not kept:
        return
    unfinished = ""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, unfinished = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "wb") as stream:
            np.savez(
                stream,
                checkpoint=np.array(checkpoint),
                digests=np.frombuffer(b"".join(kept), np.uint8).reshape(-1, _DIGEST_BYTES),
                vectors=np.stack(list(kept.values())),
            )
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, file)
        unfinished = ""
    except OSError as error:
        logger.warning("%s cannot be written: %s", file, error)
    finally:
        if unfinished:
            Path(unfinished).unlink(missing_ok=True)
