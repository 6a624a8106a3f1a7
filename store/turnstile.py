"""A readers-writer lock for threads in which neither side can starve the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Turnstile:
    """Many readers or one writer at a time, in turns; there is one writer thread.

    Readers that arrive while the writer waits or writes go in together when it is done, before
    it may write again: a reader waits for one write at most, the writer for one set of readers.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._reading = 0
        self._queued = 0
        self._writer = False  # waiting or writing
        self._turn = 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold off the writer."""
        with self._changed:
            if self._writer:
                turn = self._turn
                self._queued += 1
                self._changed.wait_for(lambda: self._turn != turn)  # writing() counted us in
            else:
                self._reading += 1
        try:
            yield
        finally:
            with self._changed:
                self._reading -= 1
                if not self._reading:
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Wait for the readers that are in, then hold off all others."""
        with self._changed:
            self._writer = True
            self._changed.wait_for(lambda: not self._reading)
        try:
            yield
        finally:
            with self._changed:
                self._writer = False
                self._reading, self._queued = self._queued, 0
                self._turn += 1
                self._changed.notify_all()
