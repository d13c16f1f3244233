"""Run a command as several processes that train together on this machine's CPU.

    python -m experiments.launch.local --processes 4 -- \\
        python -m experiments.train --model cnn1d --data mnist1d --out runs/four

Each process gets `--coordinator`, `--processes` and `--process-id`, and its output lines a prefix.
When one fails, the others get some seconds to end by themselves, then they are stopped. The exit
code is that of the first failure.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from experiments.harness import cli


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Number of processes, and how they end."""

    processes: int = 2
    """Number of processes."""
    devices: int = 1
    """Fake devices per process."""
    grace: float = 30.0
    """Seconds until the others are stopped after a failure."""


def launch(command: Sequence[str], processes: int, devices: int = 1, grace: float = 30.0) -> int:
    """Run `command` as several processes; return the first exit code that is not 0, or 0."""
    address = f"localhost:{_free_port()}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    # XLA starts NPROC threads. Fake devices can deadlock with fewer than two each.
    threads = str(max(2 * devices, os.cpu_count() or 1))
    given = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "NPROC": threads, "PYTHONUNBUFFERED": "1"}
    joined = ["--coordinator", address, "--processes", str(processes), "--process-id"]
    pipe, environment = subprocess.PIPE, {**os.environ, **given}
    children = [
        subprocess.Popen([*command, *joined, str(i)], env=environment, stdout=pipe, stderr=pipe)
        for i in range(processes)
    ]
    readers = [
        threading.Thread(target=_copy, args=(f"[{i}] ".encode(), source, target))
        for i, child in enumerate(children)
        for source, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
    ]
    for reader in readers:
        reader.start()
    try:
        return _wait(children, grace)
    finally:
        _stop(children, grace)
        for reader in readers:
            reader.join()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def _copy(prefix: bytes, source: IO[bytes], target: IO[str]) -> None:
    with source:
        for line in source:
            with contextlib.suppress(OSError):  # the terminal is closed; the process goes on
                target.write((prefix + line).decode(errors="replace"))
                target.flush()


def _wait(children: Sequence[subprocess.Popen[bytes]], grace: float) -> int:
    """Wait until all have ended, at most `grace` seconds after a failure; return its code."""
    failed, until = 0, float("inf")
    codes: list[int | None] = [None]
    while None in codes and time.monotonic() < until:
        time.sleep(0.05)
        codes = [child.poll() for child in children]
        if any(codes) and not failed:
            failed, until = next(filter(None, codes)), time.monotonic() + grace
    return failed if failed >= 0 else 128 - failed  # a shell's code for a signal


def _stop(children: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    """Terminate the processes that still run, and kill those that do not end in `grace` seconds."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def main() -> int:
    """Read the command line up to `--`, and launch the command after it."""
    args = sys.argv[1:]
    end = args.index("--") if "--" in args else len(args)
    flags = cli.parse(Flags, args[:end], __doc__)
    command = args[end + 1 :]
    if not command:
        cli.fail("no command: give it after --, for example -- python -m experiments.train ...")
    for name in ("processes", "devices"):
        if getattr(flags, name) < 1:
            cli.fail(f"{name} must be at least 1, got {getattr(flags, name)}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    return launch(command, flags.processes, flags.devices, flags.grace)


if __name__ == "__main__":
    sys.exit(main())
