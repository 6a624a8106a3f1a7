"""Starts cachellm-proxy with our MiniLM in place of the one it would download.

Run by the peer's own Python: `python cachellm_server.py CHECKPOINT_FOLDER serve --port P`. The
weights are the same model; the encoder below does what fastembed's would do with them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

WINDOW = 256  # tokens


def bundled_embedding(folder: Path) -> type:
    """Return a stand-in for fastembed.TextEmbedding with the checkpoint in the folder."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    class BundledEmbedding:
        def __init__(self, model_name: str) -> None:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.enable_truncation(WINDOW)
            self._tokenizer.no_padding()
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)

        def embed(self, texts: Sequence[str]) -> Iterator[Any]:
            for text in texts:
                ids = np.array([self._tokenizer.encode(text).ids], dtype=np.int64)
                feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
                yield self._session.run(None, feed)[0][0]

    return BundledEmbedding


if __name__ == "__main__":
    import fastembed  # type: ignore[import-not-found]  # lives in the peer's environment only
    from cachellm.cli import app  # type: ignore[import-not-found]

    fastembed.TextEmbedding = bundled_embedding(Path(sys.argv.pop(1)))
    app()
