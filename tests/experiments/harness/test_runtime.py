"""Memory and compiled programs are kept, and a program is read from wherever Python reads it."""

import ctypes
import os
import platform
import pwd
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from experiments.harness import runtime

needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="needs the GNU C library"
)
PROGRAM = """
from experiments.harness import runtime
runtime.prepare()
import sys
print("ran to the end with", sys.argv[1:])
"""

INTERRUPTIBLE = (
    *(sys.executable, "-c"),
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
)
"""A Python that SIGINT reaches, also where the tests run in the background, which ignores it."""


def environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of malloc, or of JAX's cache by other tests."""
    skipped = ("GLIBC_TUNABLES", "MALLOC_", "JAX_COMPILATION_", "JAX_PERSISTENT_", "XLA_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(skipped)}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | more


@pytest.mark.parametrize(
    "command", ['"$0" - a b < "$1"', '"$0" <(cat "$1") a b', 'cat "$1" | "$0" - a b']
)
def test_a_program_from_a_stream_runs_to_its_end(command: str, tmp_path: Path) -> None:
    file = tmp_path / "study.py"
    file.write_text(PROGRAM)
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, str(file)],
        env=environment(XDG_CACHE_HOME=str(tmp_path)),
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "ran to the end with ['a', 'b']\n"


def test_an_interrupt_is_one_line_during_imports_and_an_exception_elsewhere(
    tmp_path: Path,
) -> None:
    """The module does as C extensions do: it turns the exception into another one."""
    (tmp_path / "extension.py").write_text(
        "import signal\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt: raise ImportError('initializing failed') from None\n"
    )
    code = """
import signal
from experiments.harness import runtime
runtime.prepare()
try: signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt: print("raised", flush=True)
import extension
"""
    done = subprocess.run(
        [*INTERRUPTIBLE, "-c", code],
        env=environment(XDG_CACHE_HOME=str(tmp_path), PYTHONPATH=f"{Path.cwd()}:{tmp_path}"),
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("raised\n", "interrupted\n", 130)


def test_an_interrupt_is_one_line_from_the_first_import_on(tmp_path: Path) -> None:
    """Here it comes while the program imports what it imports first."""
    (tmp_path / "etils.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    done = subprocess.run(
        [*INTERRUPTIBLE, "-m", "experiments.train"],
        env=environment(PYTHONPATH=f"{tmp_path}:{Path.cwd()}"),
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "interrupted\n", 130)


def test_who_imports_the_package_keeps_their_handler_of_interrupts() -> None:
    code = "import experiments, signal; signal.raise_signal(signal.SIGINT)"
    done = subprocess.run(
        [*INTERRUPTIBLE, "-c", code], timeout=60, check=False, capture_output=True, text=True
    )
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_the_backend_of_a_notebook_is_not_needed(tmp_path: Path) -> None:
    code = "from experiments.harness import runtime; runtime.prepare(); import matplotlib.pyplot"
    backend = "module://matplotlib_inline.backend_inline"
    command = [sys.executable, "-c", code]
    env = environment(MPLBACKEND=backend, XDG_CACHE_HOME=str(tmp_path))
    subprocess.run(command, check=True, timeout=60, env=env)


@needs_glibc
@pytest.mark.parametrize(
    "variable",
    [None, "GLIBC_TUNABLES", pytest.param("MALLOC_ARENA_MAX", marks=pytest.mark.slow)],
)
def test_freed_memory_is_handed_out_again_without_page_faults(variable: str | None) -> None:
    """The result of a step has 96 MB: 23,437 pages of 4 kB.

    The first steps leave the heap's pieces in place; the system may take back pages at any time.
    """
    code = """
from experiments.harness import runtime
runtime.keep_freed_memory()
runtime.configure_jax()
import jax
from jax import numpy as jnp
from resource import RUSAGE_SELF, getrusage
x = jnp.ones(24_000_000)
step = jax.jit(lambda x: x + 1)
faults = []
for _ in range(8):
    before = getrusage(RUSAGE_SELF).ru_minflt
    step(x).block_until_ready()
    faults.append(getrusage(RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""
    settings = {variable: ""} if variable else {}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(**settings),
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    if variable is None:
        assert int(done.stdout) < 100
    else:
        assert int(done.stdout) > 20_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: None) -> None:
        raise AssertionError

    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", fail)
    runtime.keep_freed_memory()
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    with pytest.raises(AssertionError):
        runtime.keep_freed_memory()


def test_memory_is_trimmed_after_long_compilations_only(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    listeners: list[Any] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=trimmed.append))
    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", listeners.append)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(runtime, "may_set_malloc", lambda: True)
    runtime.configure_jax.cache_clear()
    runtime.configure_jax()
    runtime.configure_jax()
    (on_event,) = listeners
    on_event("/jax/core/compile/backend_compile_duration", 0.5, fun_name="init")
    on_event("/jax/core/compile/jaxpr_trace_duration", 5.0)
    assert not trimmed
    on_event("/jax/core/compile/backend_compile_duration", 5.0, fun_name="step")
    assert trimmed == [0]
    runtime.configure_jax.cache_clear()  # this listener is no other test's


def test_jax_reports_the_duration_of_a_compilation() -> None:
    events: list[str] = []

    def on_event(event: str, duration_secs: float, **_: str | int) -> None:
        events.append(event)

    jax.monitoring.register_event_duration_secs_listener(on_event)
    try:
        jax.jit(lambda x: x * 12345.0)(1.0).block_until_ready()
    finally:
        jax.monitoring.unregister_event_duration_listener(on_event)
    assert any(event.endswith("backend_compile_duration") for event in events)


def test_compiled_programs_are_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path / "file")}
    monkeypatch.setattr(os, "environ", environ)
    (tmp_path / "file").touch()  # a folder cannot be made in it
    runtime.keep_compiled_programs()
    assert len(environ) == 1
    del environ["XDG_CACHE_HOME"]
    with monkeypatch.context() as patch:
        patch.setattr(pwd, "getpwuid", {}.__getitem__)  # a container's user without a home folder
        runtime.keep_compiled_programs()
    assert not environ
    environ["XDG_CACHE_HOME"] = str(tmp_path)
    runtime.keep_compiled_programs()
    assert environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "cnn-biases" / "compiled")
    assert environ["JAX_COMPILATION_CACHE_MAX_SIZE"] == "1073741824"
    environ["JAX_COMPILATION_CACHE_DIR"] = "elsewhere"
    runtime.keep_compiled_programs()
    assert environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"


def test_a_second_start_finds_the_compiled_program_of_the_first(tmp_path: Path) -> None:
    code = (
        "from experiments.harness import runtime; runtime.keep_compiled_programs()\n"
        "import jax; jax.jit(lambda x: x * 2 + 1)(3.0)\n"
    )
    environ = environment(JAX_ENABLE_COMPILATION_CACHE="true", XDG_CACHE_HOME=str(tmp_path))

    def start() -> dict[str, int]:
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, timeout=60, env=environ, capture_output=True)
        files = (tmp_path / "cnn-biases" / "compiled").glob("*-cache")
        return {path.name: path.stat().st_ino for path in files}

    first = start()
    assert first
    assert start() == first


@pytest.mark.parametrize("damage", ["cut off", "other bytes"])
@pytest.mark.slow
def test_a_damaged_program_is_warned_of_once_and_replaced(damage: str, tmp_path: Path) -> None:
    code = (
        "from experiments.harness import runtime; runtime.prepare()\n"
        "import jax; print(jax.jit(lambda x: x * 2 + 1)(3.0))\n"
    )
    environ = environment(JAX_ENABLE_COMPILATION_CACHE="true", XDG_CACHE_HOME=str(tmp_path))

    def warned() -> int:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, check=True, timeout=60, env=environ, capture_output=True, text=True
        )
        assert done.stdout == "7.0\n"
        return done.stderr.count("Error reading persistent compilation cache")

    assert warned() == 0
    (entry,) = (tmp_path / "cnn-biases" / "compiled").glob("*-cache")
    whole = entry.read_bytes()
    entry.write_bytes(whole[:50] if damage == "cut off" else bytes(len(whole)))
    assert [warned(), warned()] == [1, 0]
    assert entry.stat().st_size == len(whole)


def test_an_entry_without_its_time_does_not_stop_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "cnn-biases" / "compiled"
    folder.mkdir(parents=True)
    (folder / "jit_f-0123-cache").write_bytes(b"half")  # by a process that was killed then
    code = (
        "from experiments.harness import runtime; runtime.prepare()\n"
        "import jax; jax.jit(lambda x: x * 2 + 1)(3.0)\n"
    )
    environ = environment(JAX_ENABLE_COMPILATION_CACHE="true", XDG_CACHE_HOME=str(tmp_path))
    command = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(command, check=True, timeout=60, env=environ, capture_output=True)
    assert len(list(folder.glob("*-cache"))) == 2
