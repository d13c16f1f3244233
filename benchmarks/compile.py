"""Seconds until a network has run its first two steps, cold and from a warm cache.

    python -m benchmarks.compile
    python -m benchmarks.compile --networks lenet5

Every start is a process of its own; imports are not counted. Writes `results/compile.json` and a
table in `docs/performance.md`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

from etils import epy

from benchmarks import contenders, page
from benchmarks.workers import Backend, Unavailable, Worker
from experiments.harness import cli

with epy.lazy_imports():
    from benchmarks import networks

DEFAULT = ("ours", "reference", "flax", "torch_compiled")


@dataclass(frozen=True, kw_only=True)
class Flags(page.Output, Backend):
    """Networks and contenders."""

    networks: tuple[str, ...] = ("lenet5", "small_vgg", "small_inception")
    """Networks by name."""
    contenders: tuple[str, ...] = ()
    """Contenders by name; four of them if not given."""


def starts(network: str, contender: str, backend: Backend) -> tuple[float, float] | None:
    """Return the seconds of a first and a second start, None if the contender is unavailable."""
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
                worker = Worker(network, contender, backend, **caches).build()
            except Unavailable as reason:
                print(reason)
                return None
            seconds.append(worker.startup)
            worker.close()
    return seconds[0], seconds[1]


def main(flags: Flags) -> None:
    """Measure, print, and write the numbers and the table."""
    contenders.check(flags.contenders, flags)
    for network in flags.networks:
        networks.by_name(network)
    flags.select()
    available = contenders.default_names(flags)
    names = flags.contenders or [name for name in DEFAULT if name in available]
    result, rows = {}, []
    for network in flags.networks:
        times = result[network] = {c: starts(network, c, flags) for c in names}
        cells = (f"{both[0]:.1f}, {both[1]:.1f}" if both else "–" for both in times.values())
        rows.append([network, *cells])
        print(*rows[-1], flush=True)
    table = page.markdown(["network", *(contenders.CONTENDERS[c] for c in names)], rows)
    about = "Seconds to the end of the second step, cold and from a warm cache"
    print(table)
    text = f"{about}, {flags.precision}, {page.machine()}.\n\n{table}"
    page.publish(flags.result_name("compile"), flags, result, text)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
