"""How long a training step takes, beside the same network in Flax and PyTorch.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --networks lenet5 separable_net --seconds 2
    python -m benchmarks.train_step --platform gpu --precision bfloat16

A step is forward, backward and SGD with momentum. Every contender has its own process; they take
turns, and so does the product of two large matrices, which says how much of the machine there was
to have. On a GPU networks here make many steps in one program, as they train, PyTorch compares
algorithms first, and compiles with CUDA graphs. Writes `results/train_step.json`, a table in
`docs/performance.md` and a figure beside it, after every network; rows of networks that are not
named stay. What is not float32 on the CPU has a file, a table and a figure of its own.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.page import PAGE
from benchmarks.workers import Where
from experiments.harness import cli

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.networks import Network

Times = dict[str, list[float]]
"""Seconds per step of each contender, one number per round."""


@dataclass(frozen=True, kw_only=True)
class Flags(Where):
    """What is compared, and how long."""

    networks: tuple[str, ...] = ()
    """Networks by name; all if not given."""
    contenders: tuple[str, ...] = ()
    """Contenders by name (ours, reference, flax, torch, ...); all if not given."""
    seconds: float = 0.5
    """Length of one contender's turn."""
    rounds: int = 7
    """Turns of each contender."""
    one_core: bool = False
    """On a machine that others use too: one core, and the processor's seconds, not the clock's."""
    out: Path = Path("results")
    """Folder for the times."""
    page: Path = PAGE
    """The Markdown file whose table is written anew; it is made if it is not there."""


def compare(network: str, contenders: Sequence[str], flags: Flags) -> Times:
    """Time `contenders` on `network`, and "gemm"; one that cannot run is told on stderr."""
    from benchmarks.workers import Unavailable, Worker, take_turns

    options = ["--one-core"] if flags.one_core else []
    workers = {}
    for name in [*contenders, "gemm"]:
        try:
            workers[name] = Worker(network, name, flags, *options)
        except Unavailable as why:
            print(why, file=sys.stderr)
    times = take_turns(
        {name: w.seconds for name, w in workers.items()}, flags.seconds, flags.rounds
    )
    for worker in workers.values():
        worker.close()
    return times


def beside_torch(median: dict[str, float]) -> dict[str, float]:
    """Return the speed of each contender relative to the best of PyTorch as it comes, if any."""
    torch = [m for name, m in median.items() if name.startswith("torch") and name != "torch_kept"]
    return {name: min(torch) / m for name, m in median.items() if name != "gemm" and torch}


def medians(times: Times) -> dict[str, float]:
    """Return each contender's median."""
    return {name: statistics.median(t) for name, t in times.items()}


def goal(network: Network, where: Where) -> float:
    """Return the speed aimed at, relative to the best of PyTorch."""
    return network.goal if where.platform == "cpu" else network.goal_on_gpu


def table(measured: dict[str, Times], where: Where) -> str:
    """Return a row per network: times, speed beside the best of PyTorch, use of the machine."""
    from benchmarks.contenders import CONTENDERS
    from benchmarks.networks import by_name
    from benchmarks.page import markdown, spread
    from benchmarks.steps import GEMM_SIDE
    from cnn.geometry import describe

    named = [name for name in CONTENDERS if any(name in times for times in measured.values())]
    rows = []
    for name, times in measured.items():
        network, median = by_name(name), medians(times)
        flops = 3 * 2 * network.batch * describe(network.build(), network.shape).macs
        limit = 2 * GEMM_SIDE[where.platform] ** 3 / median["gemm"]
        ratios = beside_torch(median)
        both = {"ours", "torch_kept"} <= median.keys()
        rows.append(
            [
                f"{name}, {network.batch}",
                *(spread(times[n]) if n in times else "–" for n in named),
                f"**{ratios['ours']:.2f}**" if "ours" in ratios else "–",
                f"{goal(network, where):.1f}",
                f"{median['torch_kept'] / median['ours']:.2f}" if both else "–",
                f"{flops / median['ours'] / limit:.0%}" if "ours" in median else "–",
                f"{limit / 1e9:.0f}",
            ]
        )
    head = ["network, batch", *(CONTENDERS[name] for name in named)]
    return markdown(
        [*head, "relative speed", "goal", "memory kept", "of the limit", "limit, GFLOP/s"], rows
    )


COLORS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "black", "#cc79a7")
"""Of the contenders in turn: Okabe & Ito's, which colour-blind people tell apart."""


def draw(measured: dict[str, Times], where: Where) -> Figure:
    """Draw the speed of every contender relative to the best of PyTorch, whiskers least to most."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    from benchmarks.contenders import CONTENDERS
    from benchmarks.networks import by_name

    figure = Figure(figsize=(8, 0.6 + 0.62 * len(measured)))
    axes = figure.subplots()
    axes.axvline(1, color="0.6", linewidth=1, zorder=0)
    markers = dict(zip(CONTENDERS, "oDs^v><", strict=True))
    colors = dict(zip(CONTENDERS, COLORS, strict=True))
    for i, (name, label) in enumerate(CONTENDERS.items()):
        places, middle, least, most = [], [], [], []
        for row, times in enumerate(measured.values()):
            if name in (ratios := beside_torch(medians(times))):
                best = ratios[name] * statistics.median(times[name])
                places.append(row + 0.1 * (i - 3))
                middle.append(ratios[name])
                least.append(ratios[name] - best / max(times[name]))
                most.append(best / min(times[name]) - ratios[name])
        if not places:
            continue
        axes.errorbar(
            *(middle, places),
            xerr=[least, most],
            fmt=markers[name],
            color=colors[name],
            markersize=7 if name == "ours" else 4,
            linewidth=1,
            label=label,
            zorder=3 if name == "ours" else 2,
        )
    goals = [goal(by_name(name), where) for name in measured]
    axes.scatter(goals, range(len(goals)), marker="|", s=500, color="black")
    axes.plot([], [], "|", color="black", markersize=9, label="goal")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([0.05, 0.1, 0.2, 0.5, 1, 2, 4]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_yticks(range(len(measured)), list(measured))
    axes.invert_yaxis()
    axes.set_xlabel("training steps per second, relative to the best of PyTorch as it comes")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def main(flags: Flags) -> None:
    """Measure, print, and write the times, the table and the figure."""
    from benchmarks.contenders import all_of, check
    from benchmarks.networks import NETWORKS, by_name
    from benchmarks.page import machine, publish
    from cnn.errors import InputError

    names = flags.networks or tuple(NETWORKS)
    for name in names:
        by_name(name)
    check(flags.contenders, flags)
    if flags.one_core and flags.platform != "cpu":
        raise InputError("one_core is for the CPU: leave it out")
    flags.claim()
    called = flags.called("train_step")
    kept = flags.out / f"{called}.json"
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    for name in names:
        measured[name] = compare(name, flags.contenders or all_of(flags), flags)
        print(table({name: measured[name]}, flags), flush=True)
        found = {name: measured[name] for name in NETWORKS if name in measured}
        on = f"one core, {machine()}, processor's time" if flags.one_core else machine()
        about = ABOUT.format(flags.precision, on)
        text = f"{about}\n\n{table(found, flags)}\n\n![Relative speed]({called}.png)"
        publish(called, flags.page, flags.out, found, text, draw(found, flags))


ABOUT = (
    "Milliseconds per training step, median [least – most] over turns, {}, on {}. Relative "
    "speed: the best of PyTorch as it comes by ours; beside it the same for PyTorch with memory "
    "kept. The limit is what a product of two matrices reached in the same turns; of it, a step "
    "uses three times the multiply-accumulates of its forward pass."
)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
