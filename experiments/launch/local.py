"""Run a command as several processes that train together on this machine's CPU.

    python -m experiments.launch.local --processes 4 -- \\
        python -m experiments.train --model cnn1d --data mnist1d --out runs/four

Each gets `--coordinator`, `--processes` and `--process-id`, and its output lines a prefix. When one
ends badly the others get some time to end by themselves, then they are ended; the exit code is that
of the first bad end.
"""

from __future__ import annotations

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
    """How many processes, and how they end."""

    processes: int = 2
    """How many."""
    devices: int = 1
    """Fake devices of each."""
    grace: float = 30.0
    """Seconds that the others get after a bad end."""


def launch(command: Sequence[str], processes: int, devices: int = 1, grace: float = 30.0) -> int:
    """Run `command` in so many processes and return the first bad exit code, or 0."""
    address = f"localhost:{_free_port()}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    # XLA takes as many threads as NPROC says; fake devices wait for each other with two each.
    threads = str(max(2 * devices, os.cpu_count() or 1))
    given = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "NPROC": threads, "PYTHONUNBUFFERED": "1"}
    joined = ["--coordinator", address, "--processes", str(processes), "--process-id"]
    children = [
        subprocess.Popen(
            [*command, *joined, str(i)],
            env={**os.environ, **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
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
        return _first_bad_end(children, grace)
    finally:
        _end(children, grace)
        for reader in readers:
            reader.join()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def _copy(prefix: bytes, source: IO[bytes], target: IO[str]) -> None:
    with source:
        for line in source:
            target.write((prefix + line).decode(errors="replace"))
            target.flush()


def _first_bad_end(children: Sequence[subprocess.Popen[bytes]], grace: float) -> int:
    """Wait until all have ended, or for `grace` seconds after the first bad end."""
    bad, until = 0, float("inf")
    codes: list[int | None] = [None]
    while None in codes and time.monotonic() < until:
        time.sleep(0.05)
        codes = [child.poll() for child in children]
        if any(codes) and not bad:
            bad, until = next(code for code in codes if code), time.monotonic() + grace
    return bad if bad >= 0 else 128 - bad  # as a shell says that a signal ended it


def _end(children: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    """End those that are left: first ask, after `grace` seconds kill."""
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
    """Read the command line up to `--`, and launch what stands behind it."""
    args = sys.argv[1:]
    at = args.index("--") if "--" in args else len(args)
    flags = cli.parse(Flags, args[:at], __doc__)
    command = args[at + 1 :]
    if not command:
        cli.fail("no command: give it behind --, for example -- python -m experiments.train ...")
    for name in ("processes", "devices"):
        if getattr(flags, name) < 1:
            cli.fail(f"{name} {getattr(flags, name)} cannot be: give 1 or more")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return launch(command, flags.processes, flags.devices, flags.grace)


if __name__ == "__main__":
    sys.exit(main())
