"""Which encoder serves: a remote service, CUDA where there is a card, else ONNX on this CPU."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from embed.checkpoint import Checkpoint, Precision, bundled_checkpoint_dir
from embed.encoder import Encoder, Vectors
from embed.errors import CheckpointInvalid, EncoderFailed
from embed.export import ensure_bundled, packaged_model_dir
from embed.onnx_encoder import OnnxEncoder
from proxy.encoder_settings import EncoderSettings
from proxy.key_variables import key_in

_NVIDIA = Path("/dev/nvidiactl")  # there with a driver; asking torch would mean loading it


async def open_encoder(
    settings: EncoderSettings, environ: Mapping[str, str], on_progress: Callable[[str], None]
) -> Encoder:
    """Return the configured encoder, ready; raise CheckpointInvalid or EncoderFailed."""
    if settings.base_url is not None:
        from embed.remote_encoder import RemoteEncoder

        assert settings.model is not None
        return await RemoteEncoder.open(
            base_url=settings.base_url,
            model=settings.model,
            dimension=settings.dimension,
            api_key=key_in(environ, settings.api_key_env),
            max_bytes=settings.max_bytes,
            answer_within=timedelta(seconds=settings.timeout),
        )
    if settings.device == "cuda" or (settings.device == "auto" and _has_card()):
        from embed.torch_encoder import TorchEncoder

        try:
            return await asyncio.to_thread(TorchEncoder, packaged_model_dir(), device="cuda")
        except CheckpointInvalid as error:
            if settings.device == "cuda":
                raise
            on_progress(f"no encoder on CUDA ({error}): using the CPU")
    checkpoint = await asyncio.to_thread(_checkpoint, settings.checkpoint, on_progress)
    precision = None if settings.precision == "default" else Precision(settings.precision)
    return await open_checkpoint(checkpoint, precision=precision, threads=settings.threads)


async def open_checkpoint(
    checkpoint: Checkpoint, *, precision: Precision | None, threads: int
) -> Encoder:
    """Return a checkpoint's encoder on this CPU, ready; raise CheckpointInvalid.

    `precision` None is the checkpoint's default, `threads` 0 chooses by the cores.
    """
    return await asyncio.to_thread(
        OnnxEncoder, checkpoint, precision=precision, threads=threads or None
    )


class AbsentEncoder:
    """Stands in for a checkpoint that others serve with and that is not here: it encodes nothing.

    So nothing is answered by meaning, and nothing is compared with vectors of another one.
    """

    max_tokens = 0

    def __init__(self, checkpoint: str, dimension: int, why: str) -> None:
        self.checkpoint = checkpoint
        self.dimension = dimension
        self._why = why

    def fits(self, text: str) -> bool:
        """Return True, so that whoever asks is told of the fault and not of the text's length."""
        return True

    def first_window(self, text: str) -> str | None:
        """Return the text."""
        return text

    async def encode(self, texts: Sequence[str]) -> Vectors:
        """Raise EncoderFailed."""
        raise EncoderFailed(f"checkpoint {self.checkpoint} is not here: {self._why}")

    async def aclose(self) -> None:
        """There is nothing to free."""


def _has_card() -> bool:
    return _NVIDIA.exists()


def _checkpoint(name: str, on_progress: Callable[[str], None]) -> Checkpoint:
    if name == "bundled":
        return ensure_bundled(bundled_checkpoint_dir(), on_progress)
    return Checkpoint.load(Path(name))
