"""Errors of the upstream side. Messages name an upstream by its name, never its URL or its key.

UpstreamError
├── ModelUnknown         no upstream serves this model
├── UpstreamUnavailable  no connection could be made
├── UpstreamTimeout      it took too long to connect, to begin its answer, or to go on with it
└── UpstreamBroken       it closed the connection early or answered with something unreadable
"""

from __future__ import annotations


class UpstreamError(Exception):
    """Anything that the upstream side raises on purpose."""

    not_sent = False  # the request never left, so that sending it again cannot do anything twice
    unable = False  # before the first byte of an answer this leaves a call to the fallbacks


class ModelUnknown(UpstreamError):
    """No upstream serves this model."""

    param = "model"


class UpstreamUnavailable(UpstreamError):
    """No connection could be made."""

    not_sent = True
    unable = True


class UpstreamTimeout(UpstreamError):
    """It took too long."""

    unable = True

    def __init__(self, message: str, *, not_sent: bool = False) -> None:
        super().__init__(message)
        self.not_sent = not_sent


class UpstreamBroken(UpstreamError):
    """It closed the connection early or answered with something unreadable."""

    def __init__(self, message: str, *, no_answer: bool = False) -> None:
        super().__init__(message)
        self.no_answer = no_answer  # not one byte of an answer came
