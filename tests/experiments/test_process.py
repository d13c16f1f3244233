"""What is kept for the next start and for the next step, and what is given back."""

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from experiments.harness import runtime


def test_compiled_programs_are_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    monkeypatch.setattr(os, "environ", around)
    (tmp_path / "file").touch()  # no folder can be made in it
    runtime.keep_compiled()
    assert len(around) == 1
    around["XDG_CACHE_HOME"] = str(tmp_path)
    runtime.keep_compiled()
    assert around["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "cnn-biases" / "compiled")
    assert around["JAX_COMPILATION_CACHE_MAX_SIZE"] == "1073741824"
    around["JAX_COMPILATION_CACHE_DIR"] = "elsewhere"
    runtime.keep_compiled()
    assert around["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"


def test_a_second_start_finds_what_the_first_compiled(tmp_path: Path) -> None:
    code = (
        "from experiments import process; runtime.keep_compiled()\n"
        "import jax; jax.jit(lambda x: x * 2 + 1)(3.0)\n"
    )
    # Tests that call `run` in this process have named a folder already.
    around = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_COMP", "XLA_"))}
    around |= {"JAX_ENABLE_COMPILATION_CACHE": "true", "XDG_CACHE_HOME": str(tmp_path)}

    def start() -> dict[str, int]:
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, timeout=60, env=around, capture_output=True)
        files = (tmp_path / "cnn-biases" / "compiled").glob("*-cache")
        return {path.name: path.stat().st_ino for path in files}

    first = start()
    assert first
    assert start() == first


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs the GNU C library")
@pytest.mark.parametrize("kept", [False, True])
def test_freed_memory_is_handed_out_again_without_faults(kept: bool) -> None:
    """48 MB are 12,288 pages of 4 kB or 24 of 2 MB, each a fault the first time it is touched."""
    code = """
import sys
from experiments.harness import runtime
runtime.keep_freed_memory()
import numpy as np
from resource import RUSAGE_SELF, getrusage
np.ones(6_000_000)
before = getrusage(RUSAGE_SELF).ru_minflt
np.ones(6_000_000)
print(sys.argv[1], getrusage(RUSAGE_SELF).ru_minflt - before)
"""
    around = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", code, "argument"],
        env=around if kept else around | {"GLIBC_TUNABLES": ""},
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    word, faults = done.stdout.split()
    assert word == "argument"
    assert (int(faults) < 10) == kept


def test_a_process_starts_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    around: dict[str, str] = {}
    started: list[list[str]] = []
    monkeypatch.setattr(os, "environ", around)
    monkeypatch.setattr(os, "execv", lambda program, command: started.append(command))
    monkeypatch.setattr(os, "confstr_names", {"CS_GNU_LIBC_VERSION": 2}, raising=False)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    runtime.keep_freed_memory()
    monkeypatch.delattr(sys, "ps1")
    monkeypatch.delattr(os, "confstr_names")
    runtime.keep_freed_memory()
    assert not started
    monkeypatch.setattr(os, "confstr_names", {"CS_GNU_LIBC_VERSION": 2}, raising=False)
    for _ in range(2):
        runtime.keep_freed_memory()
    assert started == [[sys.executable, *sys.orig_argv[1:]]]
    assert "glibc.malloc.mmap_max=0:" in around["GLIBC_TUNABLES"]


def test_what_compiling_took_is_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After what took long, and after nothing else that JAX tells."""
    trimmed: list[int] = []
    listeners: list[Any] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=trimmed.append))
    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", listeners.append)
    runtime.give_back_after_compiling.cache_clear()
    runtime.give_back_after_compiling()
    runtime.give_back_after_compiling()
    (compiled,) = listeners
    jax_said = "/jax/core/compile/backend_compile_duration"
    compiled(jax_said, 0.5, fun_name="init")
    compiled("/jax/core/compile/jaxpr_trace_duration", 5.0)
    assert not trimmed
    compiled(jax_said, 5.0, fun_name="step")
    runtime.give_back_after_compiling.cache_clear()  # no other test listens to this one's
    assert trimmed == [0]


def test_jax_tells_how_long_it_compiled() -> None:
    told: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        told.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        jax.jit(lambda x: x * 12345.0)(1.0).block_until_ready()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert any(event.endswith("backend_compile_duration") for event in told)
