"""`fit(config)`: train a population of seeds of one model, from a value to a measured result."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import numpy as np

from cnn.data import Dataset
from cnn.errors import InputError
from cnn.layers.serialization import to_spec
from cnn.train import run_dir
from cnn.train.checkpoints import Checkpoints, open_checkpoints
from cnn.train.compile import Programs, programs
from cnn.train.config import Config, Result, check_batch, check_model, final_record
from cnn.train.ensemble import States
from cnn.train.loop import Event, evaluate, train
from cnn.train.non_finite import Diverged
from cnn.train.preemption import Pauses, Stop, Stopped, never
from cnn.train.recipe import identity
from cnn.train.relax import relax


def fit(config: Config, on_step: Callable[[int], None] | None = None, stop: Stop = never) -> Result:
    """Train `config.seeds` seeds of `config.model` together and evaluate them.

    `on_step(n)` is called after every n steps, for whoever shows progress; `stop(step)` asks to end
    after a step. With `config.validate`, the "test" figures are of the held-out part of the
    training set. Raises `InputError`, before anything is written, for whatever cannot work,
    `Diverged` for a loss or gradient that is not finite, `Stopped` if `stop` asked for it, and
    `RunError` if the folder cannot be written any more.
    """
    began = time.perf_counter()
    config.check()
    data = config.data.held_out() if config.validate else config.data
    parameters = [check_model(model, data) for model, _ in config.stages][-1]
    stages = [(programs(m, config, data.input_shape), until) for m, until in config.stages]
    (first, _), (last, _) = stages[0], stages[-1]
    check_batch(config, len(data.train.y), first.devices)
    if config.out is not None:
        run_dir.check_folder(config.out, config.resume, config.overwrite)

    states: States = tuple(first.init(seed, lr) for seed, lr in config.members)
    with ExitStack() as stack:
        start, checkpoints = 0, None
        if config.out is not None:
            start, states, checkpoints = open_run(config, data, states, stack)
        pauses, skipped = Pauses(config, stop), np.zeros(len(config.members), int)
        for program, until in stages:
            if start > until:
                continue
            if program is not first and start == config.relax_at:
                states = _relaxed(config, data, states)
            states = program.devices.place(states)
            steps = train(config, data.train, program, states, start, until, pauses)
            for event in steps:
                states = event.states
                skipped += (event.metrics or {}).get("skipped", 0)
                if checkpoints is not None:
                    write(config, data, event, checkpoints, program, time.perf_counter() - began)
                if on_step is not None:
                    on_step(event.advanced)
                if pauses.stopping and event.step < config.steps:
                    raise Stopped(event.step)
            start, states = until, program.devices.one(states)
        states = last.devices.place(states)
        on_train = evaluate(config, last, states, data.train)
        on_test = evaluate(config, last, states, data.test)
        result = Result(
            steps=config.steps,
            seeds=tuple(seed for seed, _ in config.members),
            parameters=parameters,
            train_loss=on_train["loss"],
            train_accuracy=on_train["accuracy"],
            test_loss=on_test["loss"],
            test_accuracy=on_test["accuracy"],
            skipped=skipped,
            seconds=time.perf_counter() - began,
            states=last.devices.one(states),
        )
        if config.out is not None and checkpoints is not None:
            checkpoints.wait()
            run_dir.append_jsonl(
                config.out / run_dir.METRICS, final_record(result, config.validate)
            )
    return result


def _relaxed(config: Config, data: Dataset, states: States) -> States:
    if config.relax_to is None:
        raise ValueError("a run without relax_to has nothing to relax to")
    return tuple(relax(s, config.model, config.relax_to, data.input_shape) for s in states)


def open_run(
    config: Config, data: Dataset, states: States, stack: ExitStack
) -> tuple[int, States, Checkpoints]:
    """Open the run folder and return where to go on: step, states, and the checkpoints to write."""
    if config.out is None:
        raise ValueError("a run without a folder cannot be opened")
    whose = {
        "model": to_spec(config.model),
        "relax_to": config.relax_to and to_spec(config.relax_to),
        "data": {"name": data.name, "train": len(data.train.y), "shape": list(data.input_shape)},
        "recipe": identity(config),
    }
    stack.enter_context(run_dir.locked(config.out))
    run_dir.describe_run(config.out, whose, config.overwrite)
    stack.enter_context(_reported(config.out))
    folder = config.out / run_dir.CHECKPOINTS
    kept = (config.keep_last, config.keep_best)
    checkpoints = stack.enter_context(open_checkpoints(folder, whose, *kept))

    def like(step: int) -> States:
        relaxed = config.relax_at is not None and step > config.relax_at
        return _relaxed(config, data, states) if relaxed else states

    start, states = (config.resume and checkpoints.restore(like)) or (0, states)
    if start > config.steps:
        raise InputError(
            f"steps {config.steps} is behind the checkpoint of step {start}: give {start} or more"
        )
    run_dir.rewind(config.out / run_dir.METRICS, start)
    run_dir.remove(config.out / run_dir.DIVERGED)
    return start, states, checkpoints


@contextmanager
def _reported(out: Path) -> Iterator[None]:
    """Leave the report of a divergence in the run folder."""
    try:
        yield
    except Diverged as error:
        if jax.process_index() == 0:
            run_dir.write_atomic(out / run_dir.DIVERGED, json.dumps(error.report, indent=1) + "\n")
        raise


def write(
    config: Config,
    data: Dataset,
    event: Event,
    checkpoints: Checkpoints,
    program: Programs,
    seconds: float,
) -> None:
    """Write the line of metrics and the checkpoint that are due after `event`."""
    if config.out is None:
        raise ValueError("a run without a folder cannot be written")
    record = {} if event.metrics is None else event.record()
    score = None
    if event.pause and config.keep_best:
        measured = evaluate(config, program, event.states, data.test)
        record |= {
            f"validation_{name}": run_dir.finite_only(values) for name, values in measured.items()
        }
        score = float(measured["loss"].mean())
    if record:
        line = {"step": event.step, **record, "seconds": round(seconds, 3)}
        run_dir.append_jsonl(config.out / run_dir.METRICS, line)
    if event.pause:
        checkpoints.save(event.step, program.devices.one(event.states), score)
