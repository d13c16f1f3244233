"""Train the points of a study: small ones two at a time on a CPU, one program on an accelerator."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from threading import Event
from typing import TYPE_CHECKING

from etils import epy

import cnn
from cnn.errors import InputError, RunError
from experiments.harness.results import Name

with epy.lazy_imports():
    import jax

    from cnn import train as training
    from cnn.train import config as train_config

if TYPE_CHECKING:
    from cnn.train import Config, Result

POINTS_AT_A_TIME = 2
"""On a CPU, where a small step keeps one core busy. On an accelerator it is one."""
LARGE = 2**21
"""Weights of all seeds of a point that trains alone on a CPU, in the main thread.

Its steps keep all cores busy. Their memory is kept in the heap of the main thread only
(`experiments.harness.runtime`).
"""
SWITCH_SECONDS = 0.0005
"""Time after which a thread that runs Python lets another one run that waits for it.

A step of the ladder takes milliseconds, and Python's 5 ms would let a core wait for as long.
"""


def train(
    missing: Mapping[Name, Config],
    on_step: Callable[[int], None],
    keep: Callable[[Name, Config, Result], None],
) -> dict[Name, str]:
    """Train every point and call `keep` as soon as one ends. Stop at once when interrupted.

    Returns:
        Why points failed. Points that fail are named on standard error, and the others go on.
    """
    on_cpu = jax.default_backend() == "cpu"
    # Lazy imports are not safe in several threads at once, so everything is imported before.
    for room in pkgutil.iter_modules(cnn.__path__):
        importlib.import_module(f"cnn.{room.name}")
    fit = training.fit
    interrupted, failed = Event(), dict[Name, str]()

    def fit_group(group: Sequence[Name]) -> Result:
        def step(n: int) -> None:
            if interrupted.is_set():
                raise InterruptedError
            on_step(n * len(group))

        rates = tuple(missing[name].lr for name in group)
        # A point that diverges must not end the study: its poor accuracy is its result.
        config = replace(missing[group[0]], learning_rates=rates, on_nan="skip")
        return fit(config, step)

    def fit_here(group: Sequence[Name]) -> Future[Result]:
        done: Future[Result] = Future()
        try:
            done.set_result(fit_group(group))
        except Exception as error:
            done.set_exception(error)
        return done

    at_a_time = POINTS_AT_A_TIME if on_cpu else 1
    groups = _groups(missing, not on_cpu)
    alone = [group for group in groups if on_cpu and _weights(missing[group[0]]) >= LARGE]
    with _switching_after(SWITCH_SECONDS), ThreadPoolExecutor(at_a_time) as pool:
        try:
            runs = {pool.submit(fit_group, group): group for group in groups if group not in alone}
            in_threads = ((done, runs[done]) for done in as_completed(runs))
            for done, group in itertools.chain(in_threads, ((fit_here(g), g) for g in alone)):
                for i, name in enumerate(group):
                    try:
                        result = _part(done.result(), i, missing[name].seeds)
                        result.check_trained()
                    except Exception as error:
                        failed[name] = say_why(name, error)
                        continue
                    if result.skipped.any():
                        skipped = f"{result.skipped.sum()} non-finite steps skipped"
                        print(f"{'/'.join(name)}: {skipped}", file=sys.stderr)
                    keep(name, missing[name], result)
        except BaseException as error:
            interrupted.set()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                kept = "finished points are kept: the same command continues from there"
                print(kept, file=sys.stderr)
            raise
    return {name: failed[name] for name in missing if name in failed}


@contextlib.contextmanager
def _switching_after(seconds: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def say_why(name: Name, error: Exception) -> str:
    """Print that a point failed, and return why in one line.

    An error that this project does not raise itself may be a bug of a network: its traceback is
    printed, too.
    """
    why = str(error).partition("\n")[0]
    if not isinstance(error, InputError | RunError):
        why = f"{type(error).__name__}: {why}"
        if not isinstance(error, MemoryError | jax.errors.JaxRuntimeError):
            traceback.print_exception(error)
    print(f"point {'/'.join(name)} failed: {why}", file=sys.stderr)
    return why


def _groups(points: Mapping[Name, Config], together: bool) -> list[list[Name]]:
    """Return the points that differ only in their learning rates, or each point alone.

    On an accelerator such points cost little more than one of them; on a CPU they only compile for
    longer.
    """
    groups: dict[Config | Name, list[Name]] = {}
    for name, config in points.items():
        groups.setdefault(replace(config, lr=1.0) if together else name, []).append(name)
    return list(groups.values())


def _weights(config: Config) -> int:
    """Return the number of weights of all seeds, or 0 for a model that cannot be called."""
    try:
        check = train_config.check_model
        return config.seeds * max(check(model, config, config.data) for model, _ in config.phases)
    except Exception:  # it fails as any other point does, and is named, when it is trained
        return 0


def _part(result: Result, i: int, size: int) -> Result:
    """Return the result of the i-th point of a group whose points have `size` seeds each."""
    own = slice(i * size, (i + 1) * size)
    parts = {name: getattr(result, name)[own] for name in ("seeds", "skipped", "states")}
    for name in ("train", "test"):
        parts[name] = {key: values[own] for key, values in getattr(result, name).items()}
    seconds = result.seconds * size / len(result.seeds)
    return replace(result, **parts, seconds=seconds, history=())
