"""A training step compiled for TPUs or GPUs that are not there. Nothing runs."""

from __future__ import annotations

import math
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
from jax.experimental import topologies

from cnn.errors import RunError
from experiments.harness import hlo
from experiments.harness.chips import Slice
from experiments.harness.lowering import Step

EVERY = 30.0
"""Seconds between two lines while a program compiles."""
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  device_memory_size: 84929347584
  l2_cache_size: 52428800
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
runtime_version { major: 13 }
dnn_version_info { major: 9 minor: 7 }
"""
"""XLA's description of the SXM module with 80 GB, from openxla/xla#25919, for CUDA 13."""
UNITS = {"K": 2.0**10, "M": 2.0**20, "G": 2.0**30, "T": 2.0**40}


class Compiled(NamedTuple):
    """What XLA says of one step on each device."""

    arguments: int
    """Bytes of state and batch, as they lie in memory."""
    temporaries: int
    peak: int
    """Bytes in use at once, at most, arguments among them."""
    flops: float | None
    """None for a GPU, of which XLA does not count them."""
    accessed: float | None
    """Bytes that instructions read and write, also where they stay on the chip; None for a GPU."""
    program: hlo.Program


class TooLarge(NamedTuple):
    """XLA found that the step does not fit a device."""

    needed: float
    """Bytes, without arguments if it gave up early; not a number if it does not say."""
    room: float
    """Bytes that XLA may use; not a number if it does not say."""

    def __str__(self) -> str:
        if math.isnan(self.needed):
            return "needs more memory than a device has"
        return f"needs {self.needed / 1e9:.3g} GB or more of {self.room / 1e9:.3g} GB on a device"


def devices(where: Slice) -> list[jax.Device]:
    """Return the devices of a slice that is not there.

    Raises:
        RunError: If XLA does not know the slice as the documentation describes it.
    """
    options: dict[str, object] = {}
    if where.chips == 1:
        options["chips_per_host_bounds"] = [1, 1, 1]  # four chips by default
    if where.name.startswith("v4:"):
        options["chip_config_name"] = "megacore"  # as on a host: two cores are one device
    name, platform = where.name, "tpu"
    if where.is_gpu:
        name, platform = "", "cuda"
        options = {"target_config": H100, "topology": f"1x1x{where.chips}"}
    try:
        found = topologies.get_topology_desc(name, platform, **options).devices
    except jax.errors.JaxRuntimeError as error:
        raise RunError(f"XLA does not describe {where.name}: {_first_line(error)}") from error
    if len(found) != where.devices:
        raise RunError(
            f"XLA has {len(found)} devices in {where.name}, and its documentation "
            f"{where.devices}: give --level lower"
        )
    return found


def compile_step(step: Step, what: str, room: float = math.inf) -> Compiled | TooLarge:
    """Compile a step that was traced for the devices of a slice. Lines on stderr say how long.

    Args:
        room: Bytes of memory of a device, for GPUs: XLA itself refuses only what a TPU cannot hold.
    """
    lowered = step.traced.lower()
    try:
        with _progress(what):
            compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return too_large(str(error))
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis() or {}
    if memory.peak_memory_in_bytes > room:
        return TooLarge(memory.peak_memory_in_bytes, room)
    return Compiled(
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.peak_memory_in_bytes,
        flops=costs.get("flops"),
        accessed=costs.get("bytes accessed"),
        program=hlo.read(compiled.as_text()),
    )


def too_large(message: str) -> TooLarge:
    """Return the sizes in XLA's message, of which there are two."""
    size = r"\(?([\d.]+)([KMGT])\)?"
    found = re.search(f"{size} (?:of|exceeds available HBM) {size}", message)
    if found is None:
        return TooLarge(math.nan, math.nan)
    needed, needed_unit, room, room_unit = found.groups()
    return TooLarge(float(needed) * UNITS[needed_unit], float(room) * UNITS[room_unit])


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


@contextmanager
def _progress(what: str) -> Iterator[None]:
    """Say what compiles and for how long it has, and at the end the time that it took."""
    started, cpu, done = time.monotonic(), time.process_time(), threading.Event()

    def report() -> None:
        while not done.wait(EVERY):
            _say(f"{what}: compiling for {time.monotonic() - started:.0f} s")

    _say(f"{what}: compiling")
    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        spent = time.process_time() - cpu
        _say(f"{what}: {time.monotonic() - started:.0f} s, {spent:.0f} s of CPU time")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
