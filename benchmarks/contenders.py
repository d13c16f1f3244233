"""One contender in a process of its own: builds its training step, then times it on request.

    python -m benchmarks.contenders --network lenet5 --contender ours

Answers each line of standard input: `build`, the first, with `ready SECONDS` or `unavailable` and
the reason; a number of steps with the seconds that they took; `memory` with the peak memory in MB.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from etils import epy

from benchmarks.workers import Backend
from cnn.errors import InputError, unknown_name
from experiments.harness import cli, runtime

with epy.lazy_imports():
    import jax
    import torch

    from benchmarks import random_draw, steps

CONTENDERS = {
    "ours": "here",
    "reference": "here, definitions",
    "flax": "Flax",
    "torch": "PyTorch",
    "torch_channels_last": "PyTorch channels_last",
    "torch_kept": "PyTorch channels_last, memory kept",
    "torch_compiled": "PyTorch compiled",
    "torch_graph": "PyTorch channels_last, step in one CUDA graph",
    "ours_returned": "here, memory not kept",
}
"""The name of each contender in tables. A step of "gemm" is one product of two matrices."""
CPU_ONLY = {
    "torch_kept": "a GPU's memory is kept by every contender",
    "ours_returned": "a GPU's memory is kept by every contender",
}
KEEP_MEMORY = ("ours", "reference", "torch_kept")
GPU_ONLY = ("torch_graph",)
NOT_BY_DEFAULT = ("ours_returned",)
WARM_UP = 50
"""Steps on a GPU that are not timed: PyTorch compares algorithms and records graphs in them."""


@dataclass(frozen=True, kw_only=True)
class Flags(Backend):
    """The contender and its network."""

    network: str
    """Network by name; random-SEED-INDEX is a drawn one."""
    contender: str
    """Contender by name (ours, reference, flax, torch, ...), or gemm."""
    batch: int | None = None
    """Examples in a step; the network's own number if not given."""
    one_core: bool = False
    """Use one core, and count CPU seconds instead of the clock's."""
    keep_memory: bool = False
    """Keep freed memory on a CPU, whatever the contender."""


def check(names: Iterable[str], backend: Backend) -> None:
    """Raise `InputError` for a name that is unknown, or not available on the platform."""
    for name in names:
        if name not in CONTENDERS:
            raise unknown_name("contender", name, CONTENDERS)
        if backend.platform == "gpu" and name in CPU_ONLY:
            raise InputError(f"contender {name!r} is for the CPU: {CPU_ONLY[name]}")
        if backend.platform == "cpu" and name in GPU_ONLY:
            raise InputError(f"contender {name!r} is for a GPU: add --platform gpu")


def default_names(backend: Backend) -> tuple[str, ...]:
    """Return the contenders that are measured if none are named."""
    left_out = {*NOT_BY_DEFAULT, *(CPU_ONLY if backend.platform == "gpu" else GPU_ONLY)}
    return tuple(name for name in CONTENDERS if name not in left_out)


def main(flags: Flags) -> None:
    """Build the training step, then answer every line."""
    check({flags.contender} - {"gemm"}, flags)
    if flags.one_core and flags.platform != "cpu":
        raise InputError("one_core is for the CPU: leave it out")
    keeps = flags.keep_memory or flags.contender in KEEP_MEMORY
    if flags.platform == "cpu" and keeps:
        runtime.keep_freed_memory()
    clock = time.perf_counter
    if flags.one_core:
        clock, os.environ["NPROC"] = time.process_time, "1"
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if flags.contender in ("ours", "reference"):
        runtime.configure_jax()
    network = random_draw.by_name(flags.network, flags.batch)
    try:
        flags.select()
        if flags.contender.startswith("torch"):
            torch.manual_seed(0)  # imports PyTorch, which is not timed
        build = steps.build
        sys.stdin.readline()
        start = clock()
        run = build(network, flags.contender, flags)
        run(2)
    except (ImportError, RuntimeError, InputError) as error:
        print("unavailable", str(error).splitlines()[0], flush=True)
        return
    seconds = clock() - start
    if flags.platform == "gpu":
        run(WARM_UP)
    print("ready", seconds, flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(peak(flags), flush=True)
            continue
        wanted, start = int(line), clock()
        done = run(wanted)
        print((clock() - start) * wanted / done, flush=True)


def peak(flags: Flags) -> float:
    """Return the peak memory so far in MB: the process's on a CPU, the device's on a GPU."""
    if flags.platform == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    if flags.contender.startswith("torch"):
        return torch.cuda.max_memory_allocated() / 1e6
    return jax.devices()[0].memory_stats()["peak_bytes_in_use"] / 1e6


if __name__ == "__main__":
    try:  # not `cli.run`, which keeps memory for every contender
        main(cli.parse(Flags, doc=__doc__))
    except InputError as error:
        cli.fail(str(error))
