"""The CPU encoder: ONNX Runtime and the Rust tokenizer, no torch."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime

from embed.checkpoint import Checkpoint, Precision
from embed.encoder import T, Vector, Vectors
from embed.errors import CheckpointInvalid, EncoderFailed
from embed.window import Window, group_by_length, pad

GROUP_TOKENS = 256  # padded tokens a forward pass; more gains nothing and only takes memory
GROUP_SLACK = 1.5  # longest over shortest text in it


QUIET = 5  # niceness beyond the process' own, of the thread that encodes for whoever has time


class OnnxEncoder:
    """Encodes on CPU with the weights of one checkpoint at one precision."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        precision: Precision | None = None,
        threads: int | None = None,
    ) -> None:
        """Load and warm up the model (0.3 s); raise CheckpointInvalid when it does not load.

        `precision` is the checkpoint's default unless given. `threads` work on one forward pass;
        by default the event loop keeps a core of its own.
        """
        self._precision = precision or checkpoint.precision
        self.checkpoint = checkpoint.id_at(self._precision)
        self.dimension = checkpoint.dimension
        self.max_tokens = checkpoint.max_tokens
        self._window = Window(checkpoint.tokenizer, checkpoint.max_tokens)
        self.fits = self._window.fits
        self.first_window = self._window.first_window
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Threads that spin while they wait would take the event loop's core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        weights = checkpoint.weights(self._precision)
        try:
            self._session = onnxruntime.InferenceSession(
                str(weights), options, providers=["CPUExecutionProvider"]
            )
            rows = self._run(["warm-up"])
        except Exception as error:  # ONNX Runtime raises classes of its own, unrelated ones
            raise CheckpointInvalid(f"{weights} does not run: {error}") from error
        if rows.shape != (1, self.dimension):
            raise CheckpointInvalid(
                f"{weights} makes vectors of {rows.shape[1]} numbers, "
                f"its manifest says dimension {self.dimension}"
            )
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._quiet_worker = ThreadPoolExecutor(
            1, thread_name_prefix="encode-quietly", initializer=_give_way
        )

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one unit row a text; raise EncoderFailed, also for a text beyond the window."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._run, texts)
        except Exception as error:
            raise EncoderFailed(f"encoding {len(texts)} texts failed: {error}") from error

    async def encode_quietly(self, texts: Sequence[str]) -> Vectors:
        """Encode as `encode`, in a thread of its own that others are let go before."""
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._quiet_worker, self._run, texts
            )
        except Exception as error:
            raise EncoderFailed(f"encoding {len(texts)} texts failed: {error}") from error

    async def encode_and(self, text: str, work: Callable[[Vector], T]) -> tuple[Vectors, T]:
        """Encode one text, and do `work` with its vector in the same thread."""

        def run() -> tuple[Vectors, T]:
            vectors = self._run([text])
            return vectors, work(vectors[0])

        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, run)
        except Exception as error:
            raise EncoderFailed(f"encoding one text failed: {error}") from error

    async def aclose(self) -> None:
        """Let the running batches end, then free the worker threads and the model (100 MB)."""
        for worker in (self._worker, self._quiet_worker):
            await asyncio.to_thread(worker.shutdown)
        self._session = None  # whoever still holds this encoder need not hold that too

    def _run(self, texts: Sequence[str]) -> Vectors:
        ids = [self._window.ids(text) for text in texts]
        lengths = [len(row) for row in ids]
        if self._precision is Precision.INT8:
            # Its activations get one scale a pass: in company a text would get another vector
            # than alone (cosine down to 0.977), so the same question might miss its own entry.
            groups = [[i] for i in range(len(ids))]
        else:
            groups = group_by_length(lengths, max_tokens=GROUP_TOKENS, slack=GROUP_SLACK)
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for group in groups:
            input_ids, attention_mask = pad([ids[i] for i in group])
            feed = {"input_ids": input_ids, "attention_mask": attention_mask}
            vectors[group] = self._session.run(None, feed)[0]
        if not np.isfinite(vectors).all():
            raise ValueError("the model gave a vector that is not finite")
        return vectors


def _give_way() -> None:
    """Lower the priority of this thread where threads have one of their own."""
    if sys.platform == "linux":
        niceness = min(19, os.getpriority(os.PRIO_PROCESS, 0) + QUIET)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def default_threads() -> int:
    """Return how many threads a forward pass gets when nothing is said: one core stays free."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores is None or cores <= 2:
        return 1
    return min(4, cores - 1)
