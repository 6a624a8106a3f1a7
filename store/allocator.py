"""What the C library keeps of freed memory, given back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give freed memory back; takes milliseconds. Does nothing where the C library is not glibc.

    Whoever has filled much with temporary arrays leaves holes in glibc's heap that it keeps for
    later, 20 bytes an entry for an index of a million.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
