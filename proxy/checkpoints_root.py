"""The composition of checkpoints: which one serves at start, and what changes that."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from embed.batcher import Batcher
from embed.checkpoint import Checkpoint
from embed.encoder import Encoder
from embed.errors import EmbedError
from proxy.calibrated import LiveScore
from proxy.checkpoint_state import CONFIGURED, CheckpointState, read_state
from proxy.encoder_settings import EncoderSettings
from proxy.encoders import AbsentEncoder, open_checkpoint, open_encoder
from proxy.encoding import Encoding
from proxy.following import Following, Replicas
from proxy.metrics import Metrics
from proxy.parts import Parts
from proxy.policy_editor import PolicyEditor
from proxy.settings import Settings
from proxy.sides import Sides, open_file
from proxy.switching import Switch
from proxy.upkeep import batch_counter
from store.documents.records import Records
from store.vector_file import VectorFile

FOLDER = "checkpoints"  # in the data directory: one directory a checkpoint, by its id
VECTORS = "vectors"  # in that

OpenNamed = Callable[[str], Awaitable[Encoder]]


def opener(
    settings: Settings,
    environ: Mapping[str, str],
    on_progress: Callable[[str], None],
    configured: Encoder | None = None,
    promoted: OpenNamed | None = None,
) -> OpenNamed:
    """Return what opens the encoder of a checkpoint by its name in the recorded state.

    `configured` takes the place of the one that the settings name, `promoted` that of reading a
    directory. What is returned raises CheckpointInvalid or EncoderFailed.
    """

    async def open_named(name: str) -> Encoder:
        if name != CONFIGURED and promoted is not None:
            return await promoted(name)
        if name != CONFIGURED:
            return await open_promoted(settings.encoder, folder_of(settings) / name)
        if configured is not None:
            return configured
        return await open_encoder(settings.encoder, environ, on_progress)

    return open_named


@asynccontextmanager
async def active(
    settings: Settings,
    environ: Mapping[str, str],
    records: Records,
    on_progress: Callable[[str], None],
) -> AsyncIterator[tuple[Encoder, VectorFile | None]]:
    """For a command: yield the encoder that a server would serve with, and its vectors.

    Those are of entries that were stored under another checkpoint; None where none ever served.
    Raises CheckpointInvalid, EncoderFailed, StoreUnavailable, OSError.
    """
    state = await read_state(records)
    async with AsyncExitStack() as stack:
        encoder = await opener(settings, environ, on_progress)(state.active)
        stack.push_async_callback(encoder.aclose)
        file = await vectors_at_start(state, settings.data_dir, encoder)
        if file is not None:
            stack.callback(file.close)
        yield encoder, file


def as_it_serves(
    settings: Settings, encoder: Encoder, metrics: Metrics, score: LiveScore
) -> Encoding:
    """Return an encoder as it serves; its batcher is still to be started."""
    batcher = Batcher(
        encoder,
        max_batch=settings.encoder.max_batch,
        max_waiting=settings.encoder.max_waiting,
        on_batch=batch_counter(metrics),
    )
    return Encoding.of(encoder, batcher, score)


def folder_of(settings: Settings) -> Path:
    """Return where checkpoints are kept, a directory each by its id."""
    return settings.checkpoints.directory or settings.data_dir / FOLDER


async def open_promoted(settings: EncoderSettings, directory: Path) -> Encoder:
    """Return the encoder of a checkpoint's directory, on this CPU; raise CheckpointInvalid.

    It runs at the checkpoint's own precision: that is what it was judged at.
    """
    checkpoint = await asyncio.to_thread(Checkpoint.load, directory)
    return await open_checkpoint(checkpoint, precision=None, threads=settings.threads)


async def encoder_at_start(
    state: CheckpointState,
    open_named: OpenNamed,
    on_progress: Callable[[str], None],
    *,
    shared: bool,
) -> Encoder:
    """Return the encoder that serves; raise CheckpointInvalid or EncoderFailed.

    A replica that has not got the checkpoint of the others starts without: it must not compare
    its own with theirs.
    """
    try:
        return await open_named(state.active)
    except EmbedError as error:
        if not shared or state.active == CONFIGURED:
            raise
        on_progress(f"nothing is answered by meaning until it is there: {error}")
        return AbsentEncoder(state.active, state.dimension, str(error))


async def vectors_at_start(
    state: CheckpointState, data_dir: Path, encoder: Encoder
) -> VectorFile | None:
    """Return the file of the vectors that entries of another checkpoint have by this one.

    None where there never was another. Raises OSError.
    """
    if state.never_switched:
        return None
    return await open_file(data_dir / FOLDER / VECTORS, encoder)


def _where(settings: Settings) -> str:
    return f"{socket.gethostname()}:{settings.server.port} ({settings.data_dir})"


async def open_switch(
    parts: Parts,
    editor: PolicyEditor,
    state: CheckpointState,
    file: VectorFile | None,
    open_named: OpenNamed,
    score_of: Callable[[str], Awaitable[LiveScore]],
    stack: AsyncExitStack,
) -> Switch:
    """Return what puts checkpoints in force, to be closed with `stack`.

    `state` is what was in use at start and `file` its vectors; the encoder that it names is in
    force already. `score_of` gives the score of a checkpoint by its id.
    """
    settings = parts.settings

    async def begin(encoder: Encoder) -> Encoding:
        score = await score_of(encoder.checkpoint)
        encoding = as_it_serves(settings, encoder, parts.metrics, score)
        encoding.batcher.start()
        return encoding

    async def open_by_name(name: str) -> Encoding:
        return await begin(await open_named(name))

    replicas = Replicas(parts.shelves.records, parts.shelves.membership, _where(settings))
    sides = Sides(
        cache=parts.cache,
        documents=parts.shelves.documents,
        folder=settings.data_dir / FOLDER / VECTORS,
        share=settings.encoder.reencoding_share,
        close=_close,
    )
    stack.push_async_callback(sides.aclose)
    switch = Switch(
        state=state,
        in_force=parts.in_force,
        editor=editor,
        cache=parts.cache,
        sides=sides,
        records=parts.shelves.records,
        budgets=parts.budgets,
        open=open_by_name,
        begin=begin,
        score_of=score_of,
        replicas=replicas,
    )
    await switch.start(file)
    if replicas.shared:
        following = Following(
            parts.shelves.records,
            replicas,
            busy=lambda: switch.leads,
            take_up=switch.take_up,
            help_stage=switch.help_stage,
        )
        editor.wait_for(switch.belongs_elsewhere, lambda: switch.to_store)
        parts.shelves.documents.follow(following.apply)
        stack.push_async_callback(following.aclose)
        following.start()
    return switch


async def _close(encoding: Encoding) -> None:
    await encoding.batcher.aclose()
    await encoding.encoder.aclose()
