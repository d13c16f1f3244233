"""A worker of a sweep: it takes points from the queue and trains them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from etils import epy

from cnn.errors import RunError
from experiments.harness import chips, points, progress, runner, sweep_table
from experiments.harness.points import Goal
from experiments.harness.queues import Job, Queue

with epy.lazy_imports():
    import jax

    from cnn import train as training

MOST_SECONDS_TO_WAIT = 1.0


class LeaseLostError(RunError):
    """Another worker has taken the point over."""


def work(queue: Queue, stop: Callable[[], bool], wait: bool) -> bool:
    """Train points until none is left, or `stop` asks to stop. Return whether it did.

    Args:
        queue: The points.
        stop: Asked after every step.
        wait: When other workers train the last points, wait to take over those of dead workers.
    """
    pause, is_told = min(MOST_SECONDS_TO_WAIT, queue.leases.seconds / 10), False
    while not stop():
        job = queue.take()
        if job is not None:
            try:
                if _train(queue, job, stop):
                    return True
            finally:
                job.lease.release()
        elif queue.is_done() or not wait:
            return False
        else:
            if not is_told:
                told = "the other points are being trained: waiting to take over any that is left"
                print(told, file=sys.stderr)
            is_told = True
            time.sleep(pause)
    return True


def _train(queue: Queue, job: Job, stop: Callable[[], bool]) -> bool:
    """Train a point, and keep how it ended. Return whether `stop` asked to stop."""
    is_pruned = False

    def should_stop(step: int) -> bool:
        if job.lease.lost:
            raise LeaseLostError(f"{job.place}, {job.folder}: another worker has taken it over")
        return is_pruned or stop()

    def on_log(line: Mapping[str, Any]) -> None:
        nonlocal is_pruned
        shown.log(line)
        is_pruned = is_pruned or queue.give_up(job, line)

    out = queue.out / job.folder
    try:
        config = queue.make(job.point)
        points.check_folder(config, out)
        if not Goal.of(config).is_reached(out):
            with progress.show_steps(f"{job.place}, {job.folder}", config.steps) as shown:
                peak = chips.peak_flops(jax.devices()[0].device_kind, config.precision)
                training.fit(config, shown.advance, should_stop, on_log, peak)
            queue.shared.refresh()
        line = sweep_table.newest(out)
        queue.end(job, "finished", line)
        part = "validation" if config.validate else "test"
        print(f"{job.place}, {job.folder}: {sweep_table.summary(line, part)}", file=sys.stderr)
    except training.Stopped as stopped:
        if not is_pruned:
            print(f"{job.place}, {job.folder}: {stopped}", file=sys.stderr)
            return True
        queue.end(job, "pruned", sweep_table.newest(out))
        print(f"{job.place}, {job.folder}: pruned after step {stopped.step}", file=sys.stderr)
    except LeaseLostError as lost:
        print(lost, file=sys.stderr)
    except Exception as error:
        queue.fail(job, runner.say_why((job.folder,), error))
    return False
