"""Errors of store.

StoreError
├── VersionTaken      the policies are not those that a change was made from any more
├── StoreUnavailable  the document store cannot be read or written now
│   └── DirectoryInUse  another process has the data directory
├── SnapshotInvalid   a snapshot of memory cannot be trusted or is not of this kind
├── SnapshotFailed    a snapshot of memory could not be written
├── JournalGap        records that were asked for are no longer kept
├── PolicyInvalid     a policies file is refused; carries one line per fault
├── TransferInvalid   a file of an export is refused; names the line
└── ScoreInvalid      a fitted score cannot be used
"""


class StoreError(Exception):
    """Anything that store raises on purpose."""


class VersionTaken(StoreError):
    """The policies are not those that a change was made from any more: somebody else was first."""


class StoreUnavailable(StoreError):
    """The document store cannot be read or written now."""


class DirectoryInUse(StoreUnavailable):
    """Another process has the data directory."""


class JournalGap(StoreError):
    """Records that were asked for are no longer kept: what they changed has to be read anew."""


class SnapshotInvalid(StoreError):
    """A snapshot of memory is damaged, or of another format, checkpoint or dimension."""


class SnapshotFailed(StoreError):
    """A snapshot of memory could not be written; the former one is as it was."""


class PolicyInvalid(StoreError):
    """A policies file is refused as a whole."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class TransferInvalid(StoreError):
    """A file is not an export that can be imported, or not as it was written."""


class ScoreInvalid(StoreError):
    """A fitted score cannot be used."""
