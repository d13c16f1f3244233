"""What the programs here ask of their process before JAX starts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

ARENA_MAX, MMAP_MAX, TRIM_THRESHOLD = -8, -4, -1
"""Parameters of mallopt, as malloc.h of the GNU C library numbers them."""


def prepare() -> None:
    """Keep what is compiled and what is freed."""
    keep_compiled()
    keep_freed_memory()


def keep_compiled() -> None:
    """Let JAX keep what it compiles in the user's cache folder, for the next start.

    The environment decides where it says so: JAX_COMPILATION_CACHE_DIR is another folder, and
    JAX_ENABLE_COMPILATION_CACHE=false none. JAX reads these once, when it is imported.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "cnn-biases" / "compiled"
    with contextlib.suppress(OSError):  # then nothing is kept
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(2**30))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def keep_freed_memory() -> None:
    """Have the C library keep the memory of one step for the next, where it can (Linux).

    By itself it gives the maps of a step back to the system, which hands them out again page by
    page, each emptied first. Threads that have started keep what they do: call it before JAX does.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # not in every C library
    if mallopt is not None:
        mallopt(ARENA_MAX, 1)  # of all threads
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, -1)  # never
