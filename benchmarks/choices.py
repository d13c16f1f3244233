"""Is the way that is chosen for a convolution on a CPU the fastest of all ways?

    python -m benchmarks.choices --seed 10 --count 48

Takes one convolution of each of many drawn networks (`benchmarks.random_draw`), and times its
forward pass with both gradients in every way that can compute it, whether it is expected to pay or
not. Ways take turns. The regret is the time of the way that `cnn.ops.implementations` chooses, by
that of the fastest: 1 where the choice is right.

Appends a line for each convolution to `results/choices.jsonl`, and writes `results/choices.json`
and a table in `docs/performance.md`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from etils import epy

from benchmarks import page
from benchmarks.workers import take_turns
from cnn.errors import InputError
from experiments.harness import cli

with epy.lazy_imports():
    import jax
    import numpy as np

    from benchmarks import ops as timing
    from benchmarks import random_draw
    from cnn.geometry import jaxpr
    from cnn.ops import implementations, lax_conv, window
    from cnn.ops.cpu import cost, depthwise, grouped, one_group
    from cnn.train import run_dir

if TYPE_CHECKING:
    from cnn.ops.window import WindowSpec

    Op = Callable[..., jax.Array]

DEFINITION = "definition"
NAMED = 1.2
"""Regret from which on a convolution has a row of its own."""


@dataclass(frozen=True, kw_only=True)
class Flags(page.Output):
    """Which convolutions, and the length of a measurement."""

    seed: int
    """Seed of the networks. Look at other seeds than those that code was tuned on."""
    count: int = 48
    """Number of convolutions."""
    seconds: float = 0.1
    """Length of one turn."""
    rounds: int = 5
    """Turns of each way."""

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("count", 1), ("seconds", 0), ("rounds", 1)):
            if (value := getattr(self, name)) < least:
                raise InputError(f"{name} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Convolution:
    """The shapes of a convolution."""

    network: str
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    spec: WindowSpec

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], WindowSpec]:
        """The arguments of the functions of `cnn.ops.cpu.one_group`."""
        return self.x, self.kernel, self.spec

    def __str__(self) -> str:
        shapes = " ".join("×".join(map(str, shape)) for shape in (self.x, self.kernel))
        stride, dilation = self.spec.strides[0], self.spec.dilation[0]
        more = f", stride {stride}" * (stride > 1) + f", dilation {dilation}" * (dilation > 1)
        return f"{shapes}{more}"


def draw(seed: int, index: int) -> Convolution:
    """Return one of the convolutions of network `index` of a seed, each as likely."""
    network = random_draw.draw(seed, index)
    x = jax.ShapeDtypeStruct((network.batch, *network.shape), np.float32)
    with implementations.use("reference"):
        program = jax.make_jaxpr(network.build().init)(jax.random.key(0), x)
    found = [e for e in jaxpr.equations(program) if e.primitive.name == "conv_general_dilated"]
    eqn = found[np.random.default_rng([seed, index]).integers(len(found))]
    of_input, of_kernel = (v.aval.shape for v in eqn.invars)
    spec = window.WindowSpec(
        size=of_input[1:-1],
        window=of_kernel[:-2],
        strides=eqn.params["window_strides"],
        pairs=eqn.params["padding"],
        dilation=eqn.params["rhs_dilation"],
    )
    return Convolution(random_draw.name(seed, index), of_input, of_kernel, spec)


def ways(at: Convolution) -> dict[str, Op]:
    """Return every way to compute a convolution whose program and memory are within bounds."""
    if at.x[-1] == at.kernel[-2]:
        fitting = one_group.costs(*at.shapes, cost.SHIPPED)
        found = {name: one_group.WAYS[name].compute for name in fitting}
    else:
        one = implementations.in_one_group
        found = {"grouped": partial(grouped.grouped, convolve=one)}
        if at.kernel[-2] == 1 and at.x[-1] == at.kernel[-1]:
            found["depthwise"] = depthwise.depthwise
    named = {name: partial(way, spec=at.spec) for name, way in found.items()}
    return {**named, DEFINITION: lax_conv.lax_conv(at.spec, at.x[-1] // at.kernel[-2])}


def chosen(at: Convolution) -> str:
    """Return the name of the way that is chosen."""
    arrays = (jax.ShapeDtypeStruct(shape, np.float32) for shape in (at.x, at.kernel))
    way = implementations.choose("conv", *arrays, spec=at.spec)
    while isinstance(way, partial):
        way = way.func
    if way is one_group.convolve:
        return one_group.choice(*at.shapes)
    return DEFINITION if way is None else way.__name__


def measure(
    at: Convolution, seconds: float, rounds: int, only: Collection[str] | None = None
) -> dict[str, Any]:
    """Return the record of a convolution: its shapes, the choice, and the times of all ways."""
    contenders = {
        name: timing.timed(timing.gradient(way, 2), (at.x, at.kernel), "fastest")
        for name, way in ways(at).items()
        if only is None or name in only
    }
    times = take_turns(contenders, seconds, rounds)
    return {
        **asdict(at),
        "spec": at.spec._asdict(),
        "is": str(at),
        "chosen": chosen(at),
        "seconds": times,
        "medians": {name: statistics.median(t) for name, t in times.items()},
    }


def regret(record: Mapping[str, Any]) -> float:
    """Return the time of the way that is chosen, by that of the fastest."""
    medians = record["medians"]
    return medians[record["chosen"]] / min(medians.values())


def by_way(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of ways: how often each is possible, chosen and fastest, and the regret."""
    rows = []
    names = list(dict.fromkeys(name for r in records for name in r["medians"]))
    for name in (*names, "all"):
        possible = [r for r in records if name in (*r["medians"], "all")]
        taken = [r for r in records if name in (r["chosen"], "all")]
        fastest = [r for r in possible if name in (min(r["medians"], key=r["medians"].get), "all")]
        quantiles = np.quantile([*map(regret, taken)], [0.5, 0.9, 1]) if taken else ()
        regrets = [f"{q:.2f}" for q in quantiles] or ["–"] * 3
        rows.append([name, *(str(len(found)) for found in (possible, taken, fastest)), *regrets])
    head = ["way", "possible", "chosen", "fastest", "regret, median", "90 %", "most"]
    return page.markdown(head, rows)


def worst(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of the convolutions with the largest regrets."""
    rows = []
    for r in sorted(records, key=regret, reverse=True):
        if regret(r) >= NAMED:
            fastest = min(r["medians"], key=r["medians"].get)
            # Lines of the shipped constants have medians alone.
            turns = r.get("seconds") or {name: [median] for name, median in r["medians"].items()}
            times = (page.spread(turns[name]) for name in (r["chosen"], fastest))
            rows.append([f"{r['network']}: {r['is']}", r["chosen"], fastest, *times])
    head = ["convolution", "chosen", "fastest", "time, ms", "of the fastest"]
    return page.markdown(head, rows)


def main(flags: Flags) -> None:
    """Draw, measure, print, and write lines and tables."""
    jax.config.update("jax_platforms", "cpu")
    run_dir.make_folder(flags.out)
    about = run_dir.environment()
    records = []
    for i in range(flags.count):
        at = draw(flags.seed, i)
        print(f"{at.network}: {at}", file=sys.stderr, flush=True)
        records.append(measure(at, flags.seconds, flags.rounds))
        with (flags.out / "choices.jsonl").open("a") as file:
            file.write(json.dumps(records[-1] | {"environment": about}) + "\n")
    text = (
        f"{len(records)} convolutions of seed {flags.seed}, forward and both gradients, float32, "
        f"on {page.machine()}. Regret: the time of the way that is chosen, by the fastest's. "
        f"Below, those with {NAMED:g} and more: median [least – most] of {flags.rounds} turns."
    )
    tables = f"{by_way(records)}\n\n{worst(records)}"
    print(tables)
    result = {"seed": flags.seed, "environment": about, "regrets": sorted(map(regret, records))}
    page.publish("choices", flags, result, f"{text}\n\n{tables}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
