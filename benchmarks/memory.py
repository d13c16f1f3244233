"""How much memory a training step needs, beside the same network in Flax and PyTorch.

    python -m benchmarks.memory
    python -m benchmarks.memory --networks vgg16 --contenders ours torch_channels_last

The most that each contender's process held, interpreter, libraries and compiler included. Writes
`results/memory.json` and a table in `docs/performance.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.page import PAGE
from experiments import cli


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is measured."""

    networks: tuple[str, ...] = ("lenet5", "small_vgg", "vgg16")
    """Networks by name."""
    contenders: tuple[str, ...] = ("ours", "reference", "flax", "torch", "torch_channels_last")
    """Contenders by name."""
    out: Path = Path("results")
    """Folder for the numbers."""
    page: Path = PAGE
    """The Markdown file whose table is written anew."""


def peak(network: str, contender: str) -> float | None:
    """Return megabytes after three steps, or None if the contender cannot run."""
    from benchmarks.workers import Unavailable, Worker

    try:
        worker = Worker(network, contender)
    except Unavailable as why:
        print(why)
        return None
    worker.seconds(1)
    held = worker.peak()
    worker.close()
    return held


def main(flags: Flags) -> None:
    """Measure, print, and write the numbers and the table."""
    from benchmarks.contenders import CONTENDERS, check
    from benchmarks.networks import by_name
    from benchmarks.page import machine, markdown, publish

    check(flags.contenders)
    held = {
        name: {contender: peak(name, contender) for contender in flags.contenders}
        for name in flags.networks
        if by_name(name)
    }
    rows = [
        [name, *(f"{mb:.0f}" if mb is not None else "–" for mb in by_contender.values())]
        for name, by_contender in held.items()
    ]
    table = markdown(["network", *(CONTENDERS[c] for c in flags.contenders)], rows)
    about = f"Peak resident memory of three training steps in MB, {machine()}."
    print(table)
    publish("memory", flags.page, flags.out, held, f"{about}\n\n{table}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
