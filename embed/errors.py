"""Errors of embed.

EmbedError
├── Overloaded        too many texts are already waiting
├── EncoderFailed     the model or the embedding service failed
└── CheckpointInvalid a checkpoint directory is missing, incomplete or damaged
"""


class EmbedError(Exception):
    """Anything that embed raises on purpose."""


class Overloaded(EmbedError):
    """Too many texts are already waiting."""


class EncoderFailed(EmbedError):
    """The model or the embedding service failed."""


class CheckpointInvalid(EmbedError):
    """A checkpoint directory is missing, incomplete or damaged."""
