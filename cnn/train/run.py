"""`fit(config)`: train a population of seeds of one model, from a value to a measured result."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack

from cnn.data import Dataset
from cnn.errors import InputError
from cnn.recipe import identity
from cnn.spec import to_spec
from cnn.train import records
from cnn.train.checkpoints import Checkpoints, open_checkpoints
from cnn.train.config import Config, Result, check_batch, check_model, final_record
from cnn.train.loop import Event, evaluate, is_due, train
from cnn.train.population import States
from cnn.train.programs import Programs, programs
from cnn.train.relax import relax


def fit(config: Config, on_step: Callable[[int], None] | None = None) -> Result:
    """Train `config.seeds` seeds of `config.model` together and evaluate them.

    `on_step(n)` is called after every n steps, for whoever shows progress. With `config.validate`,
    the "test" figures are of the held-out part of the training set. Raises `InputError`, before
    anything is written, for whatever cannot work.
    """
    began = time.perf_counter()
    config.check()
    data = config.data.held_out() if config.validate else config.data
    parameters = [check_model(model, data) for model, _ in config.stages][-1]
    stages = [(programs(m, config, data.input_shape), until) for m, until in config.stages]
    (first, _), (last, _) = stages[0], stages[-1]
    check_batch(config, len(data.train.y), first.devices)
    if config.out is not None:
        records.check_folder(config.out, config.resume, config.overwrite)

    states: States = tuple(first.init(seed, lr) for seed, lr in config.members)
    with ExitStack() as stack:
        start, checkpoints = 0, None
        if config.out is not None:
            start, states, checkpoints = open_run(config, data, states, stack)
        for program, until in stages:
            if start > until:
                continue
            if program is not first and start == config.relax_at:
                states = _relaxed(config, data, states)
            states = program.devices.place(states)
            for event in train(config, data.train, program, states, start, until):
                states = event.states
                if checkpoints is not None:
                    write(config, event, checkpoints, program)
                if on_step is not None:
                    on_step(event.advanced)
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
        seconds=time.perf_counter() - began,
        states=last.devices.one(states),
    )
    if config.out is not None:
        records.append(config.out / records.METRICS, final_record(result, config.validate))
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
    records.open_folder(config.out, whose, config.overwrite)
    folder = config.out / records.CHECKPOINTS
    checkpoints = stack.enter_context(open_checkpoints(folder, whose))

    def like(step: int) -> States:
        relaxed = config.relax_at is not None and step > config.relax_at
        return _relaxed(config, data, states) if relaxed else states

    start, states = (config.resume and checkpoints.restore(like)) or (0, states)
    if start > config.steps:
        raise InputError(
            f"steps {config.steps} is behind the checkpoint of step {start}: give {start} or more"
        )
    records.rewind(config.out / records.METRICS, start)
    return start, states, checkpoints


def write(config: Config, event: Event, checkpoints: Checkpoints, program: Programs) -> None:
    """Write the line of metrics and the checkpoint that are due after `event`."""
    if event.metrics is not None and config.out is not None:
        records.append(config.out / records.METRICS, event.record())
    if is_due(event.step, config.checkpoint_every, config):
        checkpoints.save(event.step, program.devices.one(event.states))
