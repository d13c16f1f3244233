"""How long a training step takes, beside the same network in Flax and PyTorch.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --networks lenet5 separable_net --seconds 2

A step is forward, backward and SGD with momentum, in float32 on the CPU. Every contender has its
own process; they take turns, and the median over the rounds is told with least and most. Writes
`results/train_step.json` and the table in `docs/performance.md`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from experiments import cli

PAGE = Path("docs/performance.md")
BEGIN, END = "<!-- train_step: begin -->", "<!-- train_step: end -->"


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is compared, and how long."""

    networks: tuple[str, ...] = ()
    """Networks by name; all if not given."""
    seconds: float = 0.5
    """Length of one contender's turn."""
    rounds: int = 7
    """Turns of each contender."""
    out: Path = Path("results/train_step.json")
    """Where the times go."""
    page: Path = PAGE
    """The Markdown file whose table is written anew; it is made if it is not there."""


class Worker:
    """A contender's process."""

    def __init__(self, network: str, contender: str) -> None:
        lowering = "reference" if contender == "reference" else "fastest"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contenders", network, contender],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "CNN_LOWERING": lowering},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self.process.args))} ended early")  # type: ignore[arg-type]
        return line

    def seconds(self, steps: int) -> float:
        """Return how long so many steps take."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def compare(network: str, contenders: list[str], seconds: float, rounds: int) -> dict[str, list]:
    """Return the seconds per step of each contender, one number per round."""
    workers = {name: Worker(network, name) for name in contenders}
    steps = {name: max(1, round(seconds / w.seconds(1))) for name, w in workers.items()}
    times: dict[str, list] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.seconds(steps[name]) / steps[name])
    for worker in workers.values():
        worker.close()
    return times


def gemm_limit() -> float:
    """Return the most GFLOP/s that a product of two 2048×2048 matrices reached."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(jnp.matmul)
    a = jnp.ones((2048, 2048))
    product(a, a).block_until_ready()
    times = []
    for _ in range(10):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(times) / 1e9


def table(measured: dict[str, dict[str, list]], contenders: list[str]) -> str:
    """Return milliseconds, median [least – most], and the speed relative to the best PyTorch."""
    rows = [["network", *contenders, "reference / ours", "best PyTorch / ours"]]
    for network, times in measured.items():
        median = {name: statistics.median(t) for name, t in times.items()}
        cells = [
            f"{median[n] * 1e3:.1f} [{min(t) * 1e3:.1f} – {max(t) * 1e3:.1f}]"
            for n, t in times.items()
        ]
        torch = [m for name, m in median.items() if name.startswith("torch")]
        beside = f"{min(torch) / median['ours']:.2f}" if torch else "–"
        rows.append([network, *cells, f"{median['reference'] / median['ours']:.2f}", beside])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write_between(page: Path, text: str) -> None:
    """Put `text` between the markers of `page`, which gets them at its end if it has none."""
    old = page.read_text() if page.exists() else "# Performance\n"
    if BEGIN not in old:
        old += f"\n{BEGIN}\n{END}\n"
    head, _, rest = old.partition(BEGIN)
    tail = rest.partition(END)[2]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")


def main(flags: Flags) -> None:
    """Measure, print, and write the times and the table."""
    from benchmarks.contenders import CONTENDERS
    from benchmarks.networks import NETWORKS, by_name

    names = flags.networks or tuple(NETWORKS)
    for name in names:
        by_name(name)
    installed = importlib.util.find_spec("torch") is not None
    contenders = [c for c in CONTENDERS if installed or not c.startswith("torch")]
    limit = gemm_limit()
    measured = {}
    for name in names:
        measured[name] = compare(name, contenders, flags.seconds, flags.rounds)
        print(table({name: measured[name]}, contenders), flush=True)
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"gemm_gflops": limit, "seconds_per_step": measured}
    flags.out.write_text(json.dumps(result, indent=1) + "\n")
    about = (
        f"Milliseconds per training step on {os.cpu_count()} cores, median [least – most] of "
        f"{flags.rounds} turns; a product of matrices reached {limit:.0f} GFLOP/s in the same run."
    )
    write_between(flags.page, f"{about}\n\n{table(measured, contenders)}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
