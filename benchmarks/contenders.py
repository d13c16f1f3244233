"""One contender in a process of its own: builds its training step, then times it when told to.

    python -m benchmarks.contenders --network lenet5 --contender ours

It says `ready SECONDS`, or why not; then it reads a number of steps per line and answers with the
seconds they took, or `memory` and answers with the most megabytes it has held.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.workers import Where
from cnn.errors import InputError, unknown_name
from experiments.harness import cli
from experiments.harness.runtime import keep_freed_memory

CONTENDERS = {
    "ours": "here",
    "reference": "here, definitions",
    "flax": "Flax",
    "torch": "PyTorch",
    "torch_channels_last": "PyTorch channels_last",
    "torch_kept": "PyTorch channels_last, memory kept",
    "torch_compiled": "PyTorch compiled",
}
"""Each contender, and what tables call it; a step of "gemm" is one product of two matrices."""
ON_CPU_ONLY = {
    "reference": "on a GPU 'ours' computes by definitions",
    "torch_kept": "a GPU's memory is kept by every contender",
}
WARM_UP = 50
"""Steps on a GPU before any is timed: in the first, PyTorch compares algorithms, records graphs."""


@dataclass(frozen=True, kw_only=True)
class Flags(Where):
    """What is built, and what is timed."""

    network: str
    """Network by name."""
    contender: str
    """Contender by name (ours, reference, flax, torch, ...), or gemm."""
    one_core: bool = False
    """Keep to one core, and count the seconds that the processor works, not the clock's."""


def check(names: Iterable[str], where: Where) -> None:
    """Raise `InputError` for a name that is no contender's, or not one's there."""
    for name in names:
        if name not in CONTENDERS:
            raise unknown_name("contender", name, CONTENDERS)
        if where.platform == "gpu" and name in ON_CPU_ONLY:
            raise InputError(f"contender {name!r} is for the CPU: {ON_CPU_ONLY[name]}")


def all_of(where: Where) -> tuple[str, ...]:
    """Return the names of the contenders that there are."""
    return tuple(c for c in CONTENDERS if where.platform == "cpu" or c not in ON_CPU_ONLY)


def main(flags: Flags) -> None:
    """Build, then answer every line."""
    check({flags.contender} - {"gemm"}, flags)
    if flags.one_core and flags.platform != "cpu":
        raise InputError("one_core is for the CPU: leave it out")
    if flags.platform == "cpu" and flags.contender in ("ours", "reference", "torch_kept"):
        keep_freed_memory()
    clock = time.perf_counter
    if flags.one_core:
        clock, os.environ["NPROC"] = time.process_time, "1"
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from benchmarks.networks import by_name
    from benchmarks.steps import build

    network = by_name(flags.network)
    try:
        flags.claim()
        if flags.contender.startswith("torch"):
            import torch  # noqa: F401  (imports are not timed)
        start = clock()
        run = build(network, flags.contender, flags)
        run(2)
    except (ImportError, RuntimeError, InputError) as error:
        print("not", str(error).splitlines()[0], flush=True)
        return
    seconds = clock() - start
    if flags.platform == "gpu":
        run(WARM_UP)
    print("ready", seconds, flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(peak(flags), flush=True)
            continue
        asked, start = int(line), clock()
        made = run(asked)
        print((clock() - start) * asked / made, flush=True)


def peak(flags: Flags) -> float:
    """Return the most megabytes held so far, of the device where it has its own."""
    if flags.platform == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    if flags.contender.startswith("torch"):
        import torch

        return torch.cuda.max_memory_allocated() / 1e6
    import jax

    return jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 1e6


if __name__ == "__main__":
    try:  # not by `cli.run`, which keeps memory for whomever it runs
        main(cli.parse(Flags, doc=__doc__))
    except InputError as error:
        cli.fail(str(error))
