"""Times of a training step, compared with the same network in Flax and PyTorch.

    python -m benchmarks.train_step
    python -m benchmarks.train_step --networks lenet5 separable_net --seconds 2
    python -m benchmarks.train_step --platform gpu --precision bfloat16
    python -m benchmarks.train_step --networks vgg16 resnet18 --batch 256 --platform gpu
    python -m benchmarks.train_step --networks separable_net --contenders ours ours_returned

A step is forward, backward and SGD with momentum. Every contender has its own process, and they
take turns. So does the product of two large matrices, whose speed is a limit for the machine at
that time. On a GPU, contenders compile side by side, networks here run many steps in one program,
as in training, and PyTorch compares algorithms before it is timed and is compiled with CUDA graphs.

Writes `results/train_step.json`, a table in `docs/performance.md` and a figure beside it, after
every network; rows of networks that are not named stay. Another platform, precision or batch has a
file, a table and a figure of its own.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etils import epy

from benchmarks import contenders, page
from benchmarks.contenders import CONTENDERS
from benchmarks.workers import Backend, Worker, build_all, take_turns
from cnn.errors import InputError
from experiments.harness import cli

with epy.lazy_imports():
    from matplotlib import figure as mpl_figure
    from matplotlib import ticker

    from benchmarks import networks, steps
    from cnn import geometry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Times = dict[str, list[float]]
"""Seconds per step of each contender, one number for each round."""


@dataclass(frozen=True, kw_only=True)
class Flags(page.Output, Backend):
    """Networks and contenders, and the length of a measurement."""

    networks: tuple[str, ...] = ()
    """Networks by name; all if not given."""
    contenders: tuple[str, ...] = ()
    """Contenders by name (ours, flax, torch, ...); all but ours_returned if not given."""
    batch: int | None = None
    """Examples in a step; each network's own number if not given."""
    seconds: float = 0.5
    """Length of one contender's turn."""
    rounds: int = 7
    """Turns of each contender."""
    one_core: bool = False
    """Use one core, and count CPU seconds instead of the clock's, where other programs run too."""


def compare(network: str, names: Sequence[str], flags: Flags) -> Times:
    """Time contenders and "gemm" on a network; print on stderr why one is unavailable."""
    options = ["--one-core"] if flags.one_core else []
    options += [] if flags.batch is None else ["--batch", str(flags.batch)]
    started = {name: Worker(network, name, flags, *options) for name in [*names, "gemm"]}
    workers, failed = build_all(started, len(started) if flags.platform == "gpu" else 1)
    for reason in failed:
        print(reason, file=sys.stderr)
    times = take_turns(
        {name: w.seconds for name, w in workers.items()}, flags.seconds, flags.rounds
    )
    for worker in workers.values():
        worker.close()
    return times


def relative_to_torch(median: dict[str, float]) -> dict[str, float]:
    """Return the speed of each contender relative to the fastest PyTorch as users run it.

    Memory kept and a step in one CUDA graph are columns of their own.
    """
    tuned = ("torch_kept", "torch_graph")
    torch = [m for name, m in median.items() if name.startswith("torch") and name not in tuned]
    return {name: min(torch) / m for name, m in median.items() if name != "gemm" and torch}


def medians(times: Times) -> dict[str, float]:
    """Return each contender's median."""
    return {name: statistics.median(t) for name, t in times.items()}


def goal(network: str, backend: Backend) -> float:
    """Return the goal for the speed relative to the fastest PyTorch."""
    found = networks.by_name(network)
    return found.goal if backend.platform == "cpu" else found.goal_on_gpu


def table(measured: dict[str, Times], backend: Backend, batch: int | None = None) -> str:
    """Return a row per network: times, speed relative to PyTorch, share of the machine's limit."""
    named = [name for name in CONTENDERS if any(name in times for times in measured.values())]
    rows = []
    for name, times in measured.items():
        network, median = networks.by_name(name, batch), medians(times)
        flops = 3 * 2 * network.batch * geometry.describe(network.build(), network.shape).macs
        product = 2 * steps.GEMM_SIDE[backend.platform] ** 3
        limit = product / median["gemm"] if "gemm" in median else None
        ratios = relative_to_torch(median)
        tuned = median.get("torch_kept" if backend.platform == "cpu" else "torch_graph")
        both = "ours" in median and tuned is not None
        rows.append(
            [
                f"{name}, {network.batch}",
                *(page.spread(times[n]) if n in times else "–" for n in named),
                f"**{ratios['ours']:.2f}**" if "ours" in ratios else "–",
                f"{goal(name, backend):.1f}",
                f"{tuned / median['ours']:.2f}" if both else "–",
                f"{flops / median['ours'] / limit:.0%}" if "ours" in median and limit else "–",
                f"{limit / 1e9:.0f}" if limit else "–",
            ]
        )
    head = ["network, batch", *(CONTENDERS[name] for name in named)]
    tuned = "memory kept" if backend.platform == "cpu" else "CUDA graph"
    return page.markdown(
        [*head, "relative speed", "goal", tuned, "of the limit", "limit, GFLOP/s"], rows
    )


COLORS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "black", "#cc79a7", "0.3", "0.6")
"""Colours of the contenders: those of Okabe & Ito, for colour-blind readers too, and greys."""


def draw(measured: dict[str, Times], backend: Backend) -> Figure:
    """Draw the speed of every contender relative to the fastest PyTorch, from least to most."""
    figure = mpl_figure.Figure(figsize=(8, 0.6 + 0.62 * len(measured)))
    axes = figure.subplots()
    axes.axvline(1, color="0.6", linewidth=1, zorder=0)
    markers = dict(zip(CONTENDERS, "oDs^v><*x", strict=True))
    colors = dict(zip(CONTENDERS, COLORS, strict=True))
    for i, (name, label) in enumerate(CONTENDERS.items()):
        rows, middle, least, most = [], [], [], []
        for row, times in enumerate(measured.values()):
            if name in (ratios := relative_to_torch(medians(times))):
                best = ratios[name] * statistics.median(times[name])
                rows.append(row + 0.1 * (i - len(CONTENDERS) // 2))
                middle.append(ratios[name])
                least.append(ratios[name] - best / max(times[name]))
                most.append(best / min(times[name]) - ratios[name])
        if not rows:
            continue
        axes.errorbar(
            *(middle, rows),
            xerr=[least, most],
            fmt=markers[name],
            color=colors[name],
            markersize=7 if name == "ours" else 4,
            linewidth=1,
            label=label,
            zorder=3 if name == "ours" else 2,
        )
    goals = [goal(name, backend) for name in measured]
    axes.scatter(goals, range(len(goals)), marker="|", s=500, color="black")
    axes.plot([], [], "|", color="black", markersize=9, label="goal")
    axes.set_xscale("log")
    ticks = [0.05, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 4, 10, 20, 40]
    axes.xaxis.set_major_locator(ticker.FixedLocator(ticks))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.set_yticks(range(len(measured)), list(measured))
    axes.invert_yaxis()
    axes.set_xlabel("training steps per second, relative to the best of PyTorch as it comes")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def main(flags: Flags) -> None:
    """Measure, print, and write the times, the table and the figure."""
    names = flags.networks or tuple(networks.NETWORKS)
    for name in names:
        networks.by_name(name, flags.batch)
    contenders.check(flags.contenders, flags)
    if flags.one_core and flags.platform != "cpu":
        raise InputError("one_core is for the CPU: leave it out")
    flags.select()
    sized = "train_step" if flags.batch is None else f"train_step_batch_{flags.batch}"
    result_name = flags.result_name(sized)
    file = flags.out / f"{result_name}.json"
    measured = json.loads(file.read_text()) if file.exists() else {}
    chosen = flags.contenders or contenders.default_names(flags)
    for name in names:
        measured[name] = compare(name, chosen, flags)
        print(table({name: measured[name]}, flags, flags.batch), flush=True)
        known = [*networks.NETWORKS, *networks.OTHERS]
        result = {name: measured[name] for name in known if name in measured}
        device = page.machine()
        on = f"one core, {device}, CPU time" if flags.one_core else device
        about = ABOUT.format(flags.precision, on)
        rows = table(result, flags, flags.batch)
        text = f"{about}\n\n{rows}\n\n![Relative speed]({result_name}.png)"
        page.publish(result_name, flags, result, text, draw(result, flags))


ABOUT = (
    "Milliseconds per training step, median [least – most] over turns, {}, on {}. Relative "
    "speed: the fastest PyTorch as users run it, by ours; the column after the goal is the same "
    "for PyTorch with memory kept (CPU), or with a whole step in one CUDA graph (GPU). "
    "The limit is the speed of a product of two matrices in the same turns; a step counts as three "
    "times the multiply-accumulates of its forward pass."
)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
