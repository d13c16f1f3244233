"""How long it takes until a network has made its first two steps, cold and from a warm cache.

    python -m benchmarks.compile
    python -m benchmarks.compile --networks lenet5

Every start is a process of its own; imports are not counted. Writes `results/compile.json` and a
table in `docs/performance.md`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.page import PAGE
from benchmarks.workers import Where
from experiments.harness import cli

USUAL = ("ours", "reference", "flax", "torch_compiled")
"""Contenders that are measured unless others are named, as far as the platform has them."""


@dataclass(frozen=True, kw_only=True)
class Flags(Where):
    """What is measured."""

    networks: tuple[str, ...] = ("lenet5", "small_vgg", "small_inception")
    """Networks by name."""
    contenders: tuple[str, ...] = ()
    """Contenders by name; the usual ones if not given."""
    out: Path = Path("results")
    """Folder for the numbers."""
    page: Path = PAGE
    """The Markdown file whose table is written anew."""


def starts(network: str, contender: str, where: Where) -> tuple[float, float] | None:
    """Return the seconds of a first and of a second start, None if the contender cannot run."""
    from benchmarks.workers import Unavailable, Worker

    with tempfile.TemporaryDirectory() as folder:
        caches = {
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch",
        }
        seconds = []
        for _ in ("cold", "warm"):
            try:
                worker = Worker(network, contender, where, **caches)
            except Unavailable as why:
                print(why)
                return None
            seconds.append(worker.startup)
            worker.close()
    return seconds[0], seconds[1]


def main(flags: Flags) -> None:
    """Measure, print, and write the numbers and the table."""
    from benchmarks.contenders import CONTENDERS, all_of, check
    from benchmarks.networks import by_name
    from benchmarks.page import machine, markdown, publish

    check(flags.contenders, flags)
    flags.claim()
    contenders = flags.contenders or [name for name in USUAL if name in all_of(flags)]
    for name in flags.networks:
        by_name(name)
    found, rows = {}, []
    for name in flags.networks:
        times = found[name] = {c: starts(name, c, flags) for c in contenders}
        shown = (f"{both[0]:.1f}, {both[1]:.1f}" if both else "–" for both in times.values())
        rows.append([name, *shown])
        print(*rows[-1], flush=True)
    table = markdown(["network", *(CONTENDERS[c] for c in contenders)], rows)
    about = (
        "Seconds to the end of the second step, cold and from a warm cache, "
        f"{flags.precision}, {machine()}."
    )
    print(table)
    publish(flags.called("compile"), flags.page, flags.out, found, f"{about}\n\n{table}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
