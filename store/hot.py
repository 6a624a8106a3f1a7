"""Answer bodies that are ready in memory."""

from __future__ import annotations

from collections import OrderedDict

from msgspec import Struct

from store.entry import EntryId

LARGEST_SHARE = 8  # a body above this part of the room would push out too many others


class Document(Struct, frozen=True, gc=False):
    """An answer as it was stored."""

    body: bytes
    content_type: str


class HotDocuments:
    """The documents used last, within a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._documents: OrderedDict[EntryId, Document] = OrderedDict()
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether half of the room or more is free."""
        return self.bytes * 2 < self._max_bytes

    def get(self, id: EntryId) -> Document | None:
        """Return the document if it is here, and count it as just used."""
        document = self._documents.get(id)
        if document is not None:
            self._documents.move_to_end(id)
        return document

    def put(self, id: EntryId, document: Document) -> None:
        """Keep the document in place of any other of this id; a very large one is not kept."""
        self.drop(id)
        if len(document.body) * LARGEST_SHARE > self._max_bytes:
            return
        self._documents[id] = document
        self.bytes += len(document.body)
        while self.bytes > self._max_bytes:
            _, coldest = self._documents.popitem(last=False)
            self.bytes -= len(coldest.body)

    def drop(self, id: EntryId) -> None:
        """Forget the id; one that is not here is ignored."""
        document = self._documents.pop(id, None)
        if document is not None:
            self.bytes -= len(document.body)
