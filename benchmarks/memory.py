"""How much memory a training step needs, beside the same network in Flax and PyTorch.

    python -m benchmarks.memory
    python -m benchmarks.memory --networks vgg16 --contenders ours torch_channels_last

The most that each contender's process held, interpreter, libraries and compiler included; with
`--platform gpu` the most that it held of the GPU's memory. Writes `results/memory.json` and a table
in `docs/performance.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.page import PAGE
from benchmarks.workers import Where
from experiments.harness import cli

USUAL = ("ours", "reference", "flax", "torch", "torch_channels_last")
"""Contenders that are measured unless others are named, as far as the platform has them."""


@dataclass(frozen=True, kw_only=True)
class Flags(Where):
    """What is measured."""

    networks: tuple[str, ...] = ("lenet5", "small_vgg", "vgg16")
    """Networks by name."""
    contenders: tuple[str, ...] = ()
    """Contenders by name; the usual ones if not given."""
    out: Path = Path("results")
    """Folder for the numbers."""
    page: Path = PAGE
    """The Markdown file whose table is written anew."""


def peak(network: str, contender: str, where: Where) -> float | None:
    """Return megabytes after three steps, or None if the contender cannot run."""
    from benchmarks.workers import Unavailable, Worker

    try:
        worker = Worker(network, contender, where)
    except Unavailable as why:
        print(why)
        return None
    worker.seconds(1)
    held = worker.peak()
    worker.close()
    return held


def main(flags: Flags) -> None:
    """Measure, print, and write the numbers and the table."""
    from benchmarks.contenders import CONTENDERS, all_of, check
    from benchmarks.networks import by_name
    from benchmarks.page import machine, markdown, publish

    check(flags.contenders, flags)
    flags.claim()
    contenders = flags.contenders or [name for name in USUAL if name in all_of(flags)]
    held = {
        name: {contender: peak(name, contender, flags) for contender in contenders}
        for name in flags.networks
        if by_name(name)
    }
    rows = [
        [name, *(f"{mb:.0f}" if mb is not None else "–" for mb in by_contender.values())]
        for name, by_contender in held.items()
    ]
    table = markdown(["network", *(CONTENDERS[c] for c in contenders)], rows)
    whose = "resident" if flags.platform == "cpu" else "device"
    about = f"Peak {whose} memory of three training steps in MB, {flags.precision}, {machine()}."
    print(table)
    publish(flags.called("memory"), flags.page, flags.out, held, f"{about}\n\n{table}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
