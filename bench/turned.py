"""The bundled checkpoint with its vectors turned: another checkpoint that means the same.

Behind the model stands a rotation, drawn at random and the same every time. Two texts are as near
as before; a vector of this one and a vector of the bundled one are at right angles or nearly,
whatever their texts. So a request that mixes the two up, in whatever way, is seen from outside: it
finds nothing, or what it finds has another similarity.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from embed.checkpoint import TOKENIZER, WEIGHTS, Checkpoint, write_manifest

NAME = "minilm-l6-v2-turned"
SEED = 11


def rotation(dimension: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return an orthogonal matrix of shape (d, d)."""
    drawn = np.random.default_rng(SEED).standard_normal((dimension, dimension))
    turned, _ = np.linalg.qr(drawn)
    return turned.astype(np.float32)


def turn(source: Path, target: Path, dimension: int) -> None:
    """Write an ONNX model with the rotation behind its only output."""
    model = onnx.load(str(source))
    (output,) = model.graph.output
    name = output.name
    for node in model.graph.node:
        node.output[:] = [f"{name}/straight" if each == name else each for each in node.output]
        node.input[:] = [f"{name}/straight" if each == name else each for each in node.input]
    model.graph.initializer.append(numpy_helper.from_array(rotation(dimension), "rotation"))
    model.graph.node.append(helper.make_node("MatMul", [f"{name}/straight", "rotation"], [name]))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", dimension])
    )
    onnx.save(model, str(target))


def turned(bundled: Checkpoint, parent: Path) -> Checkpoint:
    """Write the turned checkpoint into a directory of its id in `parent`, and return it."""
    unfinished = parent / "unfinished"
    unfinished.mkdir(parents=True)
    for weights in WEIGHTS.values():
        turn(bundled.directory / weights, unfinished / weights, bundled.dimension)
    shutil.copyfile(bundled.directory / TOKENIZER, unfinished / TOKENIZER)
    made = write_manifest(
        unfinished,
        name=NAME,
        dimension=bundled.dimension,
        max_tokens=bundled.max_tokens,
        precision=bundled.precision,
        source=bundled.source,
    )
    unfinished.rename(parent / made.id)
    return Checkpoint.load(parent / made.id)
