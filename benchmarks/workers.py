"""Contenders that take turns: each in a process of its own, or functions in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping

Timed = Callable[[int], float]
"""Makes so many steps, and returns the seconds that they took."""


class Unavailable(Exception):
    """A contender that cannot run on this machine; the message says why."""


class Worker:
    """The process of one contender (see `benchmarks.contenders`). Raises `Unavailable`."""

    def __init__(self, network: str, contender: str, *options: str, **environment: str) -> None:
        names = ["--network", network, "--contender", contender]
        # Memory kept, as in this process, is for each contender to ask for.
        around = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", *names, *options],
            env={**around, "JAX_PLATFORMS": "cpu", **environment},
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
