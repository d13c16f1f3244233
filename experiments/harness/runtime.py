"""What the programs here ask of their process: what it keeps, and what it gives back."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from pathlib import Path

MALLOC = {
    "mmap_max": 0,  # all memory comes from heaps,
    "trim_threshold": 2**40,  # which do not shrink,
    "hugetlb": 1,  # in pages of 2 MB where the system leaves that to programs
}
"""Settings of the GNU C library's malloc that keep the memory of one step for the next.

Heaps, for each thread has its own: with one for all, the compiler's threads wait for each other.
"""


def prepare() -> None:
    """Keep what is freed and what is compiled; to be called before JAX is imported."""
    keep_freed_memory()
    keep_compiled()


def keep_freed_memory() -> None:
    """Start this process over, once, with memory kept, where the C library is GNU's.

    By itself the library gives the memory of a step back to the system, which hands it out again
    page by page, each emptied first: a third of a step. It reads its settings when a process
    starts. With GLIBC_TUNABLES in the environment, which may be empty, nothing is done; nor in an
    interactive session, which would be lost.
    """
    gnu = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", {})
    if not gnu or "GLIBC_TUNABLES" in os.environ or hasattr(sys, "ps1"):
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(f"glibc.malloc.{k}={v}" for k, v in MALLOC.items())
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


@functools.cache  # it is asked for with every training, and done once
def give_back_after_compiling() -> None:
    """Give what the compiler freed back to the system: half a gigabyte for VGG16.

    Kept, it would lie in pieces, in none of which the memory of a step finds room. Where the C
    library cannot be asked for it, nothing is done.
    """
    import jax

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None

    def compiled(event: str, duration_secs: float, **_: str | int) -> None:
        if trim and event.endswith("backend_compile_duration") and duration_secs > 1:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(compiled)


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
