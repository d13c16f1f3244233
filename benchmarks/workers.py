"""Contenders that take turns: each in a process of its own, or functions in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from cnn.errors import InputError

Timed = Callable[[int], float]
"""Makes so many steps, and returns the seconds that they took."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """What is computed on, and what in."""

    platform: Literal["cpu", "gpu"] = "cpu"
    """The CPU, or an NVIDIA GPU."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What networks compute in; their weights are float32."""

    def claim(self) -> None:
        """Have JAX use this platform in this process; to be called before JAX is used.

        Raises `InputError` where there is none.
        """
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # contenders share a GPU's memory
        import jax

        if self.platform == "cpu":
            jax.config.update("jax_platforms", "cpu")
        elif jax.default_backend() != "gpu":
            raise InputError(
                "platform 'gpu' cannot be: JAX finds none, or is not built for one "
                "(make install EXTRA=cuda)"
            )

    def options(self) -> list[str]:
        """Return the flags that ask another process for the same."""
        return ["--platform", self.platform, "--precision", self.precision]

    def called(self, benchmark: str) -> str:
        """Return what the results are called: the benchmark alone for a CPU in float32."""
        usual = (self.platform, self.precision) == ("cpu", "float32")
        return benchmark if usual else f"{benchmark}_{self.platform}_{self.precision}"


class Unavailable(Exception):
    """A contender that cannot run on this machine; the message says why."""


class Worker:
    """The process of one contender (see `benchmarks.contenders`). Raises `Unavailable`."""

    def __init__(
        self, network: str, contender: str, where: Where, *options: str, **environment: str
    ) -> None:
        names = ["--network", network, "--contender", contender, *where.options()]
        # Memory kept, as in this process, is for each contender to ask for.
        around = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", *names, *options],
            env={**around, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        word, _, rest = self._answer().partition(" ")
        if word != "ready":
            self.close()
            raise Unavailable(f"{contender} cannot run {network}: {rest}")
        self.startup = float(rest)
        """Seconds from the first line of the network's code to the end of the first two steps."""

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended early")
        return line.strip()

    def _ask(self, question: str) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{question}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def seconds(self, steps: int) -> float:
        """Return how long so many steps take."""
        return self._ask(str(steps))

    def peak(self) -> float:
        """Return the most memory that the process has held so far, in MB."""
        return self._ask("memory")

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def take_turns(contenders: Mapping[str, Timed], seconds: float, rounds: int) -> dict[str, list]:
    """Return the seconds per step of each contender, one number per round.

    A turn is as many steps as fit into `seconds`, one at least. Contenders alternate, so what else
    the machine does falls on all of them.
    """
    steps = {name: max(1, round(seconds / run(1))) for name, run in contenders.items()}
    times: dict[str, list] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            times[name].append(run(steps[name]) / steps[name])
    return times
