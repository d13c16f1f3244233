"""How the points of a study are trained: two at a time, or as one program on an accelerator."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING

from experiments.harness.results import Name

if TYPE_CHECKING:
    from cnn.train import Config, Result

POINTS_AT_A_TIME = 2
"""On a CPU, where a step this small keeps one core busy; on an accelerator it is one."""


def train(
    missing: Mapping[Name, Config],
    on_step: Callable[[int], None],
    keep: Callable[[Name, Config, Result], None],
) -> None:
    """Train every point and `keep` it as soon as it ends; leave at once when interrupted."""
    import jax

    from cnn.train import fit

    on_cpu = jax.default_backend() == "cpu"
    leave = Event()

    def together(group: Sequence[Name]) -> Result:
        def step(n: int) -> None:
            if leave.is_set():
                raise InterruptedError
            on_step(n * len(group))

        rates = tuple(missing[name].lr for name in group)
        # One point that diverges does not end a study: what it then measures is its result.
        return fit(replace(missing[group[0]], rates=rates, on_nan="skip"), step)

    with ThreadPoolExecutor(POINTS_AT_A_TIME if on_cpu else 1) as pool:
        try:
            runs = {pool.submit(together, group): group for group in _groups(missing, not on_cpu)}
            for done in as_completed(runs):
                for i, name in enumerate(runs[done]):
                    result = _part(done.result(), i, missing[name].seeds)
                    if result.skipped.any():
                        left_out = f"{result.skipped.sum()} steps were not finite and left out"
                        print(f"{'/'.join(name)}: {left_out}", file=sys.stderr)
                    keep(name, missing[name], result)
        except BaseException as error:
            leave.set()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                print("what ended is kept: the same command goes on from there", file=sys.stderr)
            raise


def _groups(points: Mapping[Name, Config], together: bool) -> list[list[Name]]:
    """Return the points that differ in their learning rates only, or each point alone.

    Together they cost an accelerator little more than one; a CPU only compiles for longer.
    """
    groups: dict[Config | Name, list[Name]] = {}
    for name, config in points.items():
        groups.setdefault(replace(config, lr=1.0) if together else name, []).append(name)
    return list(groups.values())


def _part(result: Result, i: int, size: int) -> Result:
    """Return what the i-th point of a group, `size` seeds, has of the result and of its time."""
    own = slice(i * size, (i + 1) * size)
    count = len(result.seeds) // size
    return replace(
        result,
        seeds=result.seeds[own],
        train_loss=result.train_loss[own],
        train_accuracy=result.train_accuracy[own],
        test_loss=result.test_loss[own],
        test_accuracy=result.test_accuracy[own],
        skipped=result.skipped[own],
        seconds=result.seconds / count,
        states=result.states[own],
    )
