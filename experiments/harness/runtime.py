"""Settings of the process in which a program trains: memory, compiled programs, Ctrl-C."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import re
import warnings
from pathlib import Path
from typing import TextIO

from etils import epy

from experiments.harness import interrupts

with epy.lazy_imports():
    import jax


def prepare() -> None:
    """Keep freed memory and compiled programs; end at Ctrl-C. Call it before JAX is imported."""
    os.environ["MPLBACKEND"] = "agg"  # figures are files; a notebook's backend may not be installed
    keep_freed_memory()
    keep_compiled_programs()
    replace_damaged_programs()
    interrupts.end_during_imports()


def keep_freed_memory() -> None:
    """Let the GNU C library's malloc keep the memory of one training step for the next.

    The system would clear every returned page. `configure_jax` is the other half.
    """
    if may_set_malloc():
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks, too, come from a heap
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: a heap does not shrink by itself


def may_set_malloc() -> bool:
    """Return whether the C library is GNU's and the environment has no settings of its malloc."""
    has_settings = any(name.startswith(("GLIBC_TUNABLES", "MALLOC_")) for name in os.environ)
    return platform.libc_ver()[0] == "glibc" and not has_settings


@functools.cache  # every training calls it; one listener is enough
def configure_jax() -> None:
    """Let JAX compute where memory is kept. Call it before JAX computes anything.

    A CPU then computes in the calling thread. The heap of the main thread holds blocks of any size,
    those of other threads at most 64 MB. After a compilation, memory that the compiler freed, half
    a gigabyte for VGG16, returns to the system: its fragments are too small for a step's buffers.
    """
    if not may_set_malloc():
        return
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    trim = ctypes.CDLL(None).malloc_trim

    def on_event(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("backend_compile_duration") and duration_secs > 1:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(on_event)


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs in the user's cache folder, for the next start.

    Settings in the environment stay: JAX_COMPILATION_CACHE_DIR is another folder, and
    JAX_ENABLE_COMPILATION_CACHE=false none. JAX reads them once, when it is imported.
    """
    with contextlib.suppress(OSError, RuntimeError):  # no home folder: then nothing is kept
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "cnn-biases" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(2**30))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        for entry in folder.glob("*-cache"):
            used = entry.with_name(entry.name.removesuffix("-cache") + "-atime")
            if not used.exists():  # a process was killed; JAX would write no further entry
                used.write_bytes(bytes(8))


def replace_damaged_programs() -> None:
    """Let JAX replace a damaged compiled program, of which it warns, instead of warning each time.

    JAX compiles the program after the warning, but keeps it only if no entry is there. The warning
    tells the name of the program alone, so other entries of that name are compiled again, too.
    """
    show = warnings.showwarning

    def remove_and_show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        found = re.match(r"Error reading persistent .* entry for '(\w+)'", str(message))
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if found and folder:
            with contextlib.suppress(OSError):
                for entry in Path(folder).glob(f"{found[1]}-*-cache"):
                    entry.unlink()
        show(message, category, filename, lineno, file, line)

    warnings.showwarning = remove_and_show
