"""Times of training steps on networks that nobody chose, beside Flax and PyTorch.

    python -m benchmarks.random_networks --seed 1 --count 24
    python -m benchmarks.random_networks --seed 1 --count 24 --networks-only

Draws networks for signals and images (`benchmarks.random_draw` has the bounds), checks that each
computes the same as its twin in PyTorch (`benchmarks.agreement`), and times a step of forward,
backward and SGD with momentum. Every contender has its own process, keeps its memory, and compiles
without a cache; they take turns. PyTorch's channels_last is for images alone. On a GPU, contenders
compile side by side, and PyTorch's compiler takes the place of plain PyTorch and of Flax.

After each network, appends a line to `results/random_networks.jsonl`, and writes the distribution
of relative speeds: `results/random_networks.json`, a table in `docs/performance.md` and a figure.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from etils import epy

from benchmarks import page
from benchmarks.contenders import CONTENDERS
from benchmarks.workers import Backend, Unavailable, Worker, build_all, take_turns
from cnn.errors import InputError
from experiments.harness import cli

with epy.lazy_imports():
    import numpy as np
    from matplotlib import figure as mpl_figure
    from matplotlib import ticker

    from benchmarks import agreement, random_draw
    from cnn import geometry
    from cnn.layers import serialization
    from cnn.train import run_dir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TIMED = {
    "cpu": ("ours", "reference", "flax", "torch", "torch_channels_last"),
    "gpu": ("ours", "reference", "torch_channels_last", "torch_compiled"),
}
LIMIT = 180.0
"""Seconds after which a contender, or the comparison with PyTorch, is given up."""
ROUNDS = 5
COLD = {"JAX_ENABLE_COMPILATION_CACHE": "false"}


@dataclass(frozen=True, kw_only=True)
class Flags(page.Output, Backend):
    """Which networks, and the length of a measurement."""

    seed: int
    """Seed of the networks. Look at other seeds than those that code was tuned on."""
    count: int = 24
    """Number of networks."""
    seconds: float = 2.0
    """Seconds for each contender on a network, in five turns."""
    networks_only: bool = False
    """List the networks, and measure nothing."""

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("count", 1), ("seconds", 0)):
            if (value := getattr(self, name)) < least:
                raise InputError(f"{name} must be at least {least}, got {value}")


def measure(name: str, flags: Flags, contenders: Sequence[str]) -> dict[str, Any]:
    """Return the record of a drawn network: what it is, times, and starts without a cache."""
    network = random_draw.by_name(name)
    model = network.build()
    record: dict[str, Any] = {
        "network": name,
        "seed": flags.seed,
        "shape": network.shape,
        "batch": network.batch,
        "macs": 3 * network.batch * geometry.describe(model, network.shape).macs,
        "spec": serialization.to_spec(model),
    }
    if any(c.startswith("torch") for c in contenders):
        record["differences"] = differences(name)
    started = {}
    for contender in contenders:
        if contender == "torch_channels_last" and len(network.shape) != 3:
            continue
        started[contender] = Worker(name, contender, flags, "--keep-memory", **COLD)
        started[contender].limit = LIMIT
    workers, failed = build_all(started, len(started) if flags.platform == "gpu" else 1)
    try:
        times = take_turns(
            {c: w.seconds for c, w in workers.items()}, flags.seconds / ROUNDS, ROUNDS
        )
    except (Unavailable, RuntimeError) as reason:
        times = {}
        failed.append(str(reason))
    for worker in workers.values():
        worker.close()
    for line in failed:
        print(line, file=sys.stderr)
    return record | {
        "seconds": {c: [*map(float, t)] for c, t in times.items()},
        "medians": {c: statistics.median(t) for c, t in times.items()},
        "starts": {c: worker.startup for c, worker in workers.items()},
        "failed": failed,
    }


def differences(name: str) -> dict[str, float] | None:
    """Return how much a network and its twin in PyTorch differ; None if it cannot be found out."""
    command = [sys.executable, "-m", "benchmarks.agreement", "--network", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    except subprocess.TimeoutExpired:
        print(f"{name} is not compared with PyTorch within {LIMIT:g} s", file=sys.stderr)
        return None
    except subprocess.CalledProcessError as error:
        print(f"{name} is not compared with PyTorch: {error.stderr[-300:]}", file=sys.stderr)
        return None
    found: dict[str, float] = json.loads(done.stdout)
    return found


def same(record: Mapping[str, Any]) -> bool:
    """Return whether the twin computes the same, so that their times may be compared."""
    found = record.get("differences")
    return found is not None and agreement.agree(found)


def is_steady(record: Mapping[str, Any]) -> bool:
    """Return whether no contender's longest turn took more than twice its shortest."""
    return all(max(times) <= 2 * min(times) for times in record["seconds"].values())


Ratio = Callable[[Mapping[str, Any]], float | None]


def to_torch(record: Mapping[str, Any]) -> float | None:
    """Return the time of the fastest PyTorch by ours; None if either is missing."""
    torch = [m for name, m in record["medians"].items() if name.startswith("torch")]
    if not torch or "ours" not in record["medians"] or not same(record):
        return None
    return min(torch) / record["medians"]["ours"]


def to(contender: str, kind: str = "medians") -> Ratio:
    """Return the ratio of a contender's time to ours."""

    def ratio(record: Mapping[str, Any]) -> float | None:
        found = record[kind]
        return found[contender] / found["ours"] if {contender, "ours"} <= found.keys() else None

    return ratio


def start(record: Mapping[str, Any]) -> float | None:
    """Return our start, without a cache, by that of the definitions."""
    inverse = to("reference", "starts")(record)
    return None if inverse is None else 1 / inverse


RATIOS: dict[str, tuple[str, Ratio]] = {
    "torch": ("best of PyTorch, by ours", to_torch),
    "reference": ("definitions, by ours", to("reference")),
    "flax": ("Flax, by ours", to("flax")),
    "start": ("start without a cache: ours, by the definitions'", start),
}


def ratios(records: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return each ratio of all networks that have it, from least to most."""
    found = {name: [ratio(r) for r in records] for name, (_, ratio) in RATIOS.items()}
    return {name: sorted(v for v in all_ if v is not None) for name, all_ in found.items()}


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the distribution of each ratio."""
    rows = []
    for name, found in ratios(records).items():
        if found:
            quantiles = np.quantile(found, [0, 0.25, 0.5, 0.75, 1])
            rows.append([RATIOS[name][0], str(len(found)), *(f"{q:.2f}" for q in quantiles)])
    head = ["ratio of times", "networks", "least", "quarter", "median", "three quarters", "most"]
    return page.markdown(head, rows)


def networks_table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return a row for each network: its times, and its relative speed."""
    named = [c for c in CONTENDERS if any(c in r["medians"] for r in records)]
    rows = []
    for record in records:
        times, speed = record["seconds"], to_torch(record)
        rows.append(
            [
                f"{record['network']}, {'×'.join(map(str, record['shape']))}, {record['batch']}",
                f"{record['macs'] / 1e6:,.0f}",
                *(page.spread(times[c]) if c in times else "–" for c in named),
                "–" if speed is None else f"**{speed:.2f}**",
            ]
        )
    head = ["network, input, batch", "million MACs", *(CONTENDERS[c] for c in named)]
    return page.markdown([*head, "best of PyTorch, by ours"], rows)


def draw(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw how many of the networks have at most a ratio."""
    figure = mpl_figure.Figure(figsize=(6, 4))
    axes = figure.subplots()
    axes.axvline(1, color="0.6", linewidth=1, zorder=0)
    styles = {"torch": ("#0072b2", "o"), "reference": ("#e69f00", "s"), "flax": ("#009e73", "D")}
    for name, (color, marker) in styles.items():
        if found := ratios(records)[name]:
            share = (np.arange(len(found)) + 0.5) / len(found)
            axes.plot(found, share, marker=marker, color=color, label=RATIOS[name][0], ms=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(ticker.FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.set_xlabel("training steps per second here, relative to the other")
    axes.set_ylabel("share of the networks with at most this")
    axes.legend(fontsize=8, frameon=False)
    return figure


def main(flags: Flags) -> None:
    """Draw, measure, print, and write records, table and figure."""
    names = [random_draw.name(flags.seed, i) for i in range(flags.count)]
    if flags.networks_only:
        for name in names:
            network = random_draw.by_name(name)
            spec = serialization.to_spec(network.build())
            shape = "×".join(map(str, network.shape))
            print(f"{name}: {shape}, batch {network.batch}", json.dumps(spec))
        return
    flags.select()
    contenders = TIMED[flags.platform]
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is left out: it needs make install EXTRA=torch", file=sys.stderr)
        contenders = tuple(c for c in contenders if not c.startswith("torch"))
    result_name = flags.result_name("random_networks")
    run_dir.make_folder(flags.out)
    timed_torch = any(c.startswith("torch") for c in contenders)
    known = {"torch": metadata.version("torch")} if timed_torch else {}
    about = run_dir.environment()
    about["versions"] |= known
    records = []
    for name in names:
        found = measure(name, flags, contenders)
        records.append(found)
        with (flags.out / f"{result_name}.jsonl").open("a") as file:
            file.write(json.dumps(found | {"environment": about}) + "\n")
        print(networks_table([found]), flush=True)
        result = {"seed": flags.seed, "environment": about, "ratios": ratios(records)}
        page.publish(result_name, flags, result, _section(records, flags, about), draw(records))
    print(table(records))


def _section(records: Sequence[Mapping[str, Any]], flags: Flags, about: Mapping[str, Any]) -> str:
    """Return the text between the page's markers."""
    versions = _versions(about)
    text = ABOUT.format(
        *(len(records), flags.seed, flags.precision, page.machine(), *versions, ROUNDS)
    )
    if differ := [r["network"] for r in records if "differences" in r and not same(r)]:
        text += f" Not compared with PyTorch, whose twin may differ: {', '.join(differ)}."
    if unsteady := [r["network"] for r in records if not is_steady(r)]:
        text += f" Times vary by more than a factor of two for: {', '.join(unsteady)}."
    for record in records:
        text += "".join(f" {reason}." for reason in record["failed"])
    figure = f"![Relative speed on drawn networks]({flags.result_name('random_networks')}.png)"
    return "\n\n".join([text, table(records), networks_table(records), figure])


def _versions(about: Mapping[str, Any]) -> tuple[str, str]:
    """Return PyTorch's version and the commit, as text."""
    git = about["git"]
    commit = "unknown" if git is None else git["commit"][:8] + (", changed" * git["dirty"])
    return about["versions"].get("torch", "not installed"), commit


ABOUT = (
    "{} networks of seed {}, {}, on {}, PyTorch {}, commit {}. Above 1, networks are faster here, "
    "except in the row of starts. Below, milliseconds per training step, median [least – most] of "
    "{} turns; every contender keeps its memory."
)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
