"""Contenders that take turns: each in a process of its own, or functions in this one."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from etils import epy

from cnn.errors import InputError

with epy.lazy_imports():
    import jax

Timed = Callable[[int], float]
"""Runs a number of steps, and returns the seconds that they took."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The platform and the precision of a benchmark."""

    platform: Literal["cpu", "gpu"] = "cpu"
    """The CPU, or an NVIDIA GPU."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision in which networks compute; their weights are float32."""

    def select(self) -> None:
        """Let JAX use this platform in this process. Call it before JAX is used.

        Raises:
            InputError: If JAX finds no such platform.
        """
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # contenders share a GPU's memory
        if self.platform == "cpu":
            jax.config.update("jax_platforms", "cpu")
        elif jax.default_backend() != "gpu":
            raise InputError(
                "platform 'gpu' is not available to JAX: use a machine with one, and run "
                "make install EXTRA=cuda"
            )

    def flags(self) -> list[str]:
        """Return the flags that select the same in another process."""
        return ["--platform", self.platform, "--precision", self.precision]

    def result_name(self, benchmark: str) -> str:
        """Return the name of a result: the benchmark alone for float32 on a CPU."""
        default = (self.platform, self.precision) == ("cpu", "float32")
        return benchmark if default else f"{benchmark}_{self.platform}_{self.precision}"


class Unavailable(Exception):
    """A contender cannot run on this machine; the message has the reason."""


class Worker:
    """The process of one contender (see `benchmarks.contenders`). Processes import in parallel."""

    startup: float
    """Seconds to build the network and to run two steps; imports are not counted."""
    limit: float | None = None
    """Seconds after which a process that does not answer is ended; no limit if None."""

    def __init__(
        self, network: str, contender: str, backend: Backend, *flags: str, **environment: str
    ) -> None:
        names = ["--network", network, "--contender", contender, *backend.flags()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", *names, *flags],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.name = f"{contender} cannot run {network}"

    def build(self) -> Worker:
        """Build the network, run two steps, and return this worker.

        Raises:
            Unavailable: If this machine cannot run it, or not within the limit. The process has
                then ended.
        """
        word, _, rest = self._ask("build").partition(" ")
        if word != "ready":
            self.close()
            raise Unavailable(f"{self.name}: {rest}")
        self.startup = float(rest)
        return self

    def _ask(self, question: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has answered, and ended
            self.process.stdin.write(f"{question}\n")
            self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], self.limit)[0]:
            self.process.kill()
            self.close()
            raise Unavailable(f"{self.name} within {self.limit:g} s")
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended early")
        return line.strip()

    def seconds(self, steps: int) -> float:
        """Return the seconds that a number of steps takes."""
        return float(self._ask(str(steps)))

    def peak(self) -> float:
        """Return the peak memory of the process so far, in MB."""
        return float(self._ask("memory"))

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def build_all(
    workers: Mapping[str, Worker], at_once: int = 1
) -> tuple[dict[str, Worker], list[str]]:
    """Build the networks of workers, so many at once.

    Returns:
        The workers that are ready, and the reasons of the others.
    """

    def build(worker: Worker) -> str | None:
        try:
            worker.build()
        except (Unavailable, RuntimeError) as reason:
            return str(reason)
        return None

    with ThreadPoolExecutor(at_once) as pool:
        failed = dict(zip(workers, pool.map(build, workers.values()), strict=True))
    ready = {name: worker for name, worker in workers.items() if failed[name] is None}
    return ready, [reason for reason in failed.values() if reason is not None]


def take_turns(contenders: Mapping[str, Timed], seconds: float, rounds: int) -> dict[str, list]:
    """Return the seconds per step of each contender, one number for each round.

    A turn is as many steps as fit into `seconds`, at least one. Contenders alternate, so that other
    load on the machine slows all of them.
    """
    steps = {name: max(1, round(seconds / run(1))) for name, run in contenders.items()}
    times: dict[str, list] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            times[name].append(run(steps[name]) / steps[name])
    return times
