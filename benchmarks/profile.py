"""The longest operations of a training step, and a trace.

    python -m benchmarks.profile --network lenet5
    tensorboard --logdir results/profile

The step is that of `benchmarks.train_step`. The trace, for TensorBoard's profiler, is written to
`results/profile/NETWORK`; the table sums its events. XLA fuses operations; the table names the
layer, forward or backward, that each fusion is named after. The last lines are the memory that XLA
plans for temporary arrays, and the folder.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from etils import epy

from benchmarks import page
from benchmarks.workers import Backend
from cnn.errors import InputError
from experiments.harness import cli

with epy.lazy_imports():
    import jax

    from benchmarks import random_draw, steps


@dataclass(frozen=True, kw_only=True)
class Flags(Backend):
    """The network, and the length of the trace and of the table."""

    network: str = "lenet5"
    """A network of the benchmarks by name."""
    steps: int = 10
    """Training steps."""
    rows: int = 12
    """Operations in the table."""
    plain: bool = False
    """The network as a user of Flax would write it."""
    out: Path = Path("results/profile")
    """Folder of the traces."""


NO_GRAPHS = {"xla_gpu_graph_min_graph_size": 2**30}
"""XLA would record the kernels of a GPU in graphs, which a trace shows as a whole."""


def durations(folder: Path) -> Counter[str]:
    """Return the nanoseconds of every operation in the newest trace below `folder`."""
    newest = max(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime)
    events = (
        event
        for plane in jax.profiler.ProfileData.from_file(str(newest)).planes
        for line in plane.lines
        for event in line.events
    )
    total: Counter[str] = Counter()
    for event in events:
        operation = dict(event.stats).get("hlo_op")
        if operation is not None:
            total[str(operation)] += event.duration_ns
    return total


def origins(program: str) -> dict[str, tuple[str, str]]:
    """Return the shape and the layer of each operation in the text of a program.

    >>> text = '  %dot.2 = f32[4,3]{1,0} dot(a, b), metadata={op_name="jit(step)/jvp(Chain)/out"}'
    >>> origins(text)
    {'dot.2': ('f32[4,3]', 'jvp(Chain)/out')}
    """
    pattern = r'%?([\w.-]+) = ([a-z0-9]+\[[\d,]*\])[^\n]*?op_name="jit\(step\)/([^"]*)"'
    return {name: (shape, source) for name, shape, source in re.findall(pattern, program)}


def main(flags: Flags) -> None:
    """Trace, and print the table."""
    if flags.steps < 1:
        raise InputError(f"steps must be positive, got {flags.steps}")
    network = random_draw.by_name(flags.network)
    flags.select()
    x, y = steps.random_batch(network)
    step, state = steps.jax_step(network, x, y, flags.plain, flags, gpu_options=NO_GRAPHS)
    x, y = jax.device_put((x, y))
    state = jax.block_until_ready(step(state, x, y))
    folder = flags.out / flags.network
    with jax.profiler.trace(str(folder)):
        for _ in range(flags.steps):
            state = step(state, x, y)
        jax.block_until_ready(state)
    total, known = durations(folder), origins(step.as_text())
    whole = sum(total.values())
    rows = [
        [name, f"{ns / flags.steps / 1e6:.2f}", f"{ns / whole:.0%}", *known.get(name, ("", ""))]
        for name, ns in total.most_common(flags.rows)
    ]
    print(page.markdown(["operation", "ms per step", "share", "result", "from"], rows))
    planned = step.memory_analysis()
    if planned is not None:  # some platforms do not report it
        print(f"temporaries: {planned.temp_size_in_bytes / 1e6:,.1f} MB")
    print(f"trace written to {folder}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
