"""The GPU encoder: sentence-transformers on CUDA in half precision. Import it only to use it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from embed.checkpoint import BUNDLED, TOKENIZER, digest_of, identify
from embed.encoder import Vectors
from embed.errors import CheckpointInvalid, EncoderFailed
from embed.window import Window, group_by_length, pad

GROUP_TOKENS = 16_384  # padded tokens a forward pass: fills a GPU, takes under 1 GiB of its memory
GROUP_SLACK = 4.0  # a GPU minds another pass more than padding
WEIGHTS = "model.safetensors"
WARM_UP = ((1, 8), (32, 16), (32, 64))  # (texts, words): CUDA picks its kernels by shape


class TorchEncoder:
    """Encodes with a sentence-transformers folder: in half precision on CUDA, in fp32 on CPU."""

    def __init__(self, folder: Path, *, device: str | None = None, name: str = BUNDLED) -> None:
        """Load and warm up the model (several seconds); raise CheckpointInvalid if it fails.

        `device` is "cuda", "cuda:1", "cpu" ...; by default CUDA when there is one.
        """
        try:
            import torch
            from sentence_transformers import SentenceTransformer

            self._torch = torch
            self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
            half = self._device.startswith("cuda")
            model = SentenceTransformer(str(folder), device=self._device)
            self._model = model.half().eval() if half else model.eval()
            self.dimension = int(model.get_embedding_dimension() or 0)
            self.max_tokens = int(model.max_seq_length or 0)
            self._window = Window(folder / TOKENIZER, self.max_tokens)
            self.fits = self._window.fits
            self.first_window = self._window.first_window
            self.checkpoint = identify(
                name,
                "torch-fp16" if half else "torch-fp32",
                digest_of(folder / WEIGHTS),
                digest_of(folder / TOKENIZER),
            )
            for texts, words in WARM_UP:
                self._run(["warm " * words] * texts)
        except Exception as error:  # torch, CUDA and the file formats each raise their own
            raise CheckpointInvalid(f"{folder} does not run: {error}") from error
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="encode")

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Return one unit row a text; raise EncoderFailed, also for a text beyond the window."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._run, texts)
        except Exception as error:
            raise EncoderFailed(f"encoding {len(texts)} texts failed: {error}") from error

    async def aclose(self) -> None:
        """Let the running batch end, then free the worker thread."""
        await asyncio.to_thread(self._worker.shutdown)

    def _run(self, texts: Sequence[str]) -> Vectors:
        ids = [self._window.ids(text) for text in texts]
        vectors = np.empty((len(texts), self.dimension), np.float32)
        lengths = [len(row) for row in ids]
        with self._torch.inference_mode():
            for group in group_by_length(lengths, max_tokens=GROUP_TOKENS, slack=GROUP_SLACK):
                input_ids, attention_mask = map(
                    self._torch.from_numpy, pad([ids[i] for i in group])
                )
                features = {
                    "input_ids": input_ids.to(self._device),
                    "attention_mask": attention_mask.to(self._device),
                }
                rows = self._model(features)["sentence_embedding"].float()
                vectors[group] = self._torch.nn.functional.normalize(rows, dim=1).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise ValueError("the model gave a vector that is not finite")
        return vectors
