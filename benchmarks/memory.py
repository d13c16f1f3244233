"""Memory of a training step, compared with the same network in Flax and PyTorch.

    python -m benchmarks.memory
    python -m benchmarks.memory --networks vgg16 --contenders ours torch_channels_last

Measures the peak memory of each contender's process, with interpreter, libraries and compiler; with
`--platform gpu`, the peak of the GPU's memory. Writes `results/memory.json` and a table in
`docs/performance.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

from etils import epy

from benchmarks import contenders, page
from benchmarks.workers import Backend, Unavailable, Worker
from experiments.harness import cli

with epy.lazy_imports():
    from benchmarks import networks

DEFAULT = ("ours", "reference", "flax", "torch", "torch_channels_last")


@dataclass(frozen=True, kw_only=True)
class Flags(page.Output, Backend):
    """Networks and contenders."""

    networks: tuple[str, ...] = ("lenet5", "small_vgg", "vgg16")
    """Networks by name."""
    contenders: tuple[str, ...] = ()
    """Contenders by name; five of them if not given."""


def peak(network: str, contender: str, backend: Backend) -> float | None:
    """Return the peak in MB after three steps, or None if the contender is unavailable."""
    try:
        worker = Worker(network, contender, backend).build()
    except Unavailable as reason:
        print(reason)
        return None
    worker.seconds(1)
    megabytes = worker.peak()
    worker.close()
    return megabytes


def main(flags: Flags) -> None:
    """Measure, print, and write the numbers and the table."""
    contenders.check(flags.contenders, flags)
    for network in flags.networks:
        networks.by_name(network)
    flags.select()
    available = contenders.default_names(flags)
    names = flags.contenders or [name for name in DEFAULT if name in available]
    peaks = {
        network: {contender: peak(network, contender, flags) for contender in names}
        for network in flags.networks
    }
    rows = [
        [network, *(f"{mb:.0f}" if mb is not None else "–" for mb in by_contender.values())]
        for network, by_contender in peaks.items()
    ]
    table = page.markdown(["network", *(contenders.CONTENDERS[c] for c in names)], rows)
    kind = "resident" if flags.platform == "cpu" else "device"
    about = f"Peak {kind} memory of three training steps in MB, {flags.precision}"
    print(table)
    text = f"{about}, {page.machine()}.\n\n{table}"
    page.publish(flags.result_name("memory"), flags, peaks, text)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
