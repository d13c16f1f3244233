"""Measure the constants by which a CPU's ways to compute a convolution are estimated.

    python -m benchmarks.calibrate
    CNN_COSTS=results/costs.json python -m experiments.train …   # use them

Draws convolutions of signals, images and volumes, times the forward pass with both gradients in
every way (`cnn.ops.cpu.one_group`), and finds the constants of `cnn.ops.cpu.cost` with which the
choices take least. Five times, a fifth is left out, and its choices are compared with the fastest.

Appends a line for each convolution to `results/calibrate.jsonl`, reads those that are there, and
writes `results/costs.json`. Beside other programs the times, and so the constants, are wrong.
The lines of the constants that are shipped are in `benchmarks/costs/`: those of seed 0, and of
`benchmarks.choices` with the seeds 10 to 14. Those of the seeds 1 and 3 came later, and none was
fitted to them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epy

from benchmarks import choices
from benchmarks.choices import Convolution, regret
from cnn.errors import InputError
from experiments.harness import cli

with epy.lazy_imports():
    import jax
    import numpy as np
    from scipy import optimize

    from cnn.ops import window
    from cnn.ops.cpu import cost, one_group
    from cnn.train import files, run_dir

MACS = (3e5, 1e9)
"""Multiply-accumulates of a forward pass, even on a logarithmic scale."""
NUMBERS = 2**23
"""The most numbers of an input, of an output, and of a kernel."""
PARTS = 5
"""Each is left out of one fit."""
SOFTNESS, NEAR = 0.15, 0.01
"""How far apart costs must be to count, and the weight of the distance to what is shipped."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """How many convolutions, and the length of a measurement."""

    seed: int = 0
    """Seed of the convolutions."""
    count: int = 96
    """Number of convolutions."""
    seconds: float = 0.03
    """Length of one turn."""
    rounds: int = 5
    """Turns of each way."""
    out: Path = Path("results")
    """Folder for lines and constants."""

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("count", PARTS), ("seconds", 0), ("rounds", 1)):
            if (value := getattr(self, name)) < least:
                raise InputError(f"{name} must be at least {least}, got {value}")


def draw(seed: int, index: int) -> Convolution:
    """Return a convolution in one group whose cost is within bounds."""
    rng = np.random.default_rng([seed, index])

    def log_int(least: int, most: int) -> int:
        return int(math.exp(rng.uniform(math.log(least), math.log(most + 1))))

    target = math.exp(rng.uniform(*np.log(MACS)))
    rank = int(rng.choice([1, 2, 3], p=[0.3, 0.6, 0.1]))
    while True:
        size = (log_int(4, (4096, 224, 32)[rank - 1]),) * rank
        c_in = int(rng.choice([1, 3, log_int(1, 512)], p=[0.1, 0.1, 0.8]))
        c_out, batch = log_int(1, 512), 2 ** int(rng.integers(0, 9))
        taps = int(rng.choice([1, 2, 3, 4, 5, 7, 11], p=[0.15, 0.1, 0.4, 0.05, 0.15, 0.1, 0.05]))
        stride = int(rng.choice([1, 2, taps], p=[0.7, 0.22, 0.08]))
        dilation = int(rng.choice([1, 2], p=[0.9, 0.1]))
        span = (taps - 1) * dilation + 1
        padding = span // 2 if rng.random() < 0.5 else 0
        if span > size[0]:
            continue
        spec = window.window_spec(size, taps, stride, padding, dilation)
        x, kernel = (batch, *size, c_in), (*spec.window, c_in, c_out)
        numbers = math.prod(x), batch * math.prod(spec.out) * c_out, math.prod(kernel)
        macs = numbers[1] * c_in * math.prod(spec.window)
        small = target / 2 <= macs <= target and max(numbers) <= NUMBERS
        if small and one_group.fits(x, kernel, spec):
            return Convolution(f"{seed}-{index}", x, kernel, spec)


def fit(records: Sequence[Mapping[str, Any]]) -> cost.Nanoseconds:
    """Return the constants with the least regret, near to those that are shipped.

    The choice of the least cost has no derivative. In its place a way of cost c is taken with a
    probability in proportion to c^(−1 / SOFTNESS). What is least is the mean logarithm of the
    expected time by that of the fastest way.
    """
    known = [(shapes(record).shapes, timed(record)) for record in records]
    start = np.log(cost.SHIPPED)

    def objective(logarithms: np.ndarray) -> float:
        ns = cost.Nanoseconds(*np.exp(logarithms))
        regrets = []
        for at, times in known:
            found = np.array([one_group.WAYS[name].cost(*at, ns) for name in times])
            weights = (found / found.min()) ** (-1 / SOFTNESS)
            seconds = np.array([*times.values()])
            expected = weights @ seconds / weights.sum()
            regrets.append(math.log(expected / seconds.min()))
        return float(np.mean(regrets) + NEAR * np.square(logarithms - start).sum())

    found = optimize.minimize(objective, start, method="L-BFGS-B")
    return cost.Nanoseconds(*map(float, np.exp(found.x)))


def timed(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the median of each way whose cost is estimated."""
    return {name: s for name, s in record["medians"].items() if name in one_group.WAYS}


def shapes(record: Mapping[str, Any]) -> Convolution:
    """Return the convolution of a record, also of one that was read from a file."""
    spec = record["spec"]
    fields = {name: tuple(map(_as_tuple, spec[name])) for name in window.WindowSpec._fields}
    x, kernel = tuple(record["x"]), tuple(record["kernel"])
    return Convolution(record["network"], x, kernel, window.WindowSpec(**fields))


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def choose(record: Mapping[str, Any], ns: cost.Nanoseconds) -> dict[str, Any]:
    """Return the record with the choice by these constants, of the ways that were timed."""
    found = one_group.costs(*shapes(record).shapes, ns)
    known = {name: found[name] for name in timed(record) if name in found}
    return {**record, "chosen": min(known, key=known.__getitem__)}


def main(flags: Flags) -> None:
    """Draw, measure, fit, print, and write lines and constants."""
    jax.config.update("jax_platforms", "cpu")
    run_dir.make_folder(flags.out)
    file, about = flags.out / "calibrate.jsonl", run_dir.environment()
    records = files.read_jsonl(file, lambda record: "medians" in record)
    done = {record["network"] for record in records}
    for i in range(flags.count):
        at = draw(flags.seed, i)
        if at.network in done:
            continue
        print(f"{i + 1} of {flags.count}: {at}", file=sys.stderr, flush=True)
        records.append(choices.measure(at, flags.seconds, flags.rounds, one_group.WAYS))
        files.append_jsonl(file, [records[-1] | {"environment": about}])
    held_out = []
    for part in range(PARTS):
        ns = fit([r for i, r in enumerate(records) if i % PARTS != part])
        held_out += [choose(r, ns) for r in records[part::PARTS]]
    ns = fit(records)
    print(choices.by_way(held_out), choices.worst(held_out), sep="\n\n")
    found = {name: float(f"{value:.3g}") for name, value in ns._asdict().items()}
    run_dir.write_atomic(flags.out / "costs.json", json.dumps(found, indent=1) + "\n")
    print(f"\n{json.dumps(found)}\nRegret without a fit: {_shipped(records)}")


def _shipped(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean regret with the constants that are selected."""
    regrets = [regret(choose(record, cost.constants())) for record in records]
    return f"{math.exp(np.mean(np.log(regrets))):.3f} (geometric mean), {max(regrets):.2f} at most"


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
