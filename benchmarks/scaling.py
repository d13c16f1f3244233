"""How the time of a step grows with each size, and examples per second with processes.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --over seeds --processes 1

A step is a convolution of `channels` to `channels`, `kernel` × `kernel`, on `size` × `size` maps:
forward and both gradients, for `seeds` sets of maps side by side. One of the four varies. The
exponent is the slope of log time over log value (least squares); the table compares it with that of
the multiply-accumulates. Processes split the batches of one training of the ladder's network on
MNIST-1D (`experiments.launch.local`). Writes `results/scaling.json`, a table in
`docs/performance.md` and a figure beside it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from benchmarks import page
from benchmarks.workers import Timed, take_turns
from cnn.errors import InputError, unknown_name
from experiments.harness import cli

with epy.lazy_imports():
    import jax
    import jax.numpy as jnp
    import numpy as np
    from matplotlib import figure as mpl_figure
    from matplotlib import ticker

    from cnn import ops
    from cnn.train import run_dir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE = {"channels": 32, "size": 24, "kernel": 3, "seeds": 1}
VALUES = {
    "channels": (16, 32, 64, 128, 256),
    "size": (8, 12, 16, 24, 32, 48),
    "kernel": (1, 3, 5, 7, 9),
    "seeds": (1, 2, 4, 8, 16),
}
EXPONENTS = {"channels": 2, "size": 2, "kernel": 2, "seeds": 1}
"""Exponents of the multiply-accumulates."""
BATCH, SPLIT_BATCH = 16, 128
"""Examples of a step, and of a step that processes split."""


@dataclass(frozen=True, kw_only=True)
class Flags(page.Output):
    """What varies, and the length of a measurement."""

    over: tuple[str, ...] = tuple(VALUES)
    """What varies: channels, size, kernel, seeds."""
    processes: tuple[int, ...] = (1, 2, 4)
    """Numbers of processes that train together."""
    steps: int = 400
    """Optimizer steps of each training by processes."""
    seconds: float = 0.2
    """Length of one turn."""
    rounds: int = 5
    """Turns of each value."""


def step(channels: int, size: int, kernel: int, seeds: int) -> Timed:
    """Return a function that times the value and gradients of a convolution."""

    def loss(x: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.square(ops.conv(x, w, padding="SAME")).sum()

    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (BATCH, size, size, channels))
    w = jax.random.normal(keys[1], (kernel, kernel, channels, channels))
    pairs = [(x + i, w) for i in range(seeds)]
    run = jax.jit(lambda pairs: [jax.value_and_grad(loss, (0, 1))(*pair) for pair in pairs])

    def clock(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            jax.block_until_ready(run(pairs))
        return time.perf_counter() - start

    clock(1)
    return clock


def images_per_second(processes: int, steps: int) -> float:
    """Train in several processes, and return the rate in the second half of the steps."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        python, together = [sys.executable, "-m"], ["--processes", str(processes), "--"]
        launcher = [*python, "experiments.launch.local", *together]
        train = [*python, "experiments.train", "--model", "cnn1d", "--data", "mnist1d"]
        length = ["--steps", str(steps), "--log-every", str(steps // 2)]
        length += ["--batch-size", str(SPLIT_BATCH)]
        command = [*launcher, *train, *length, "--out", str(run)]
        subprocess.run(command, check=True, timeout=600, capture_output=True)
        half, whole = (line for line in run_dir.read_metrics(run) if not line.get("final"))
    return SPLIT_BATCH * (whole["step"] - half["step"]) / (whole["seconds"] - half["seconds"])


def exponent(times: dict[int, list[float]]) -> float:
    """Return the slope of log median time over log value."""
    medians = [statistics.median(t) for t in times.values()]
    return float(np.polyfit(np.log(list(times)), np.log(medians), 1)[0])


def draw(measured: dict[str, dict[int, list[float]]]) -> Figure:
    """Draw time over each value on logarithmic axes, with the slope of the multiplications."""
    figure = mpl_figure.Figure(figsize=(2.6 * len(measured), 2.6), layout="constrained")
    panels = figure.subplots(1, len(measured), sharey=True, squeeze=False)[0]
    for axes, (name, times) in zip(panels, measured.items(), strict=True):
        values = list(times)
        middle = [1e3 * statistics.median(t) for t in times.values()]
        ends = [
            [m - 1e3 * min(t), 1e3 * max(t) - m]
            for m, t in zip(middle, times.values(), strict=True)
        ]
        least, most = zip(*ends, strict=True)
        label = f"measured: {exponent(times):.2f}"
        axes.errorbar(values, middle, yerr=[least, most], fmt="o-", ms=4, capsize=2, label=label)
        theory = [middle[-1] * (v / values[-1]) ** EXPONENTS[name] for v in values]
        axes.plot(values, theory, "k:", lw=1, label=f"multiplications: {EXPONENTS[name]}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(ticker.FixedLocator(values))
        axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_xlabel(name)
        axes.grid(lw=0.4, alpha=0.5)
        axes.legend(title="exponent", fontsize=8, title_fontsize=8, frameon=False)
    panels[0].set_ylabel("milliseconds per step")
    return figure


def main(flags: Flags) -> None:
    """Measure, print, and write the times, the table and the figure."""
    if min(flags.processes) < 1:
        raise InputError(f"processes must be positive, got {min(flags.processes)}")
    if flags.steps < 2:
        raise InputError(f"steps must be at least 2, got {flags.steps}")
    for name in set(flags.over) - set(VALUES):
        raise unknown_name("quantity", name, VALUES)
    measured = {}
    for name in flags.over:
        clocks = {str(v): step(**{**BASE, name: v}) for v in VALUES[name]}
        times = take_turns(clocks, flags.seconds, flags.rounds)
        measured[name] = {v: times[str(v)] for v in VALUES[name]}
    rates = {n: images_per_second(n, flags.steps) for n in flags.processes}
    rows = [
        [
            name,
            *(f"{end}: {page.spread(times[end])}" for end in (min(times), max(times))),
            f"{exponent(times):.2f}",
            str(EXPONENTS[name]),
        ]
        for name, times in measured.items()
    ]
    head = ["what varies", "least", "most", "exponent", "of multiplications"]
    table = page.markdown(head, rows)
    shown = ", ".join(f"{n}: {rate:,.0f}" for n, rate in rates.items())
    text = (
        f"Milliseconds, median [least – most] of {flags.rounds} turns; the other values are "
        f"{json.dumps(BASE)[1:-1]}, batch {BATCH}, {page.machine()}.\n\n{table}\n\n"
        f"![Cost of a step](scaling.png)\n\nExamples per second by number of processes, one "
        f"training of the ladder's network, batches of {SPLIT_BATCH}: {shown}."
    )
    print(text)
    result = {"times": measured, "examples per second": rates}
    page.publish("scaling", flags, result, text, draw(measured))


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
