"""`fit(config)`: train the seeds of a model together and evaluate them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnn.buckets import BucketPath
from cnn.data import Dataset
from cnn.errors import InputError
from cnn.layers.serialization import to_spec
from cnn.train import run_dir
from cnn.train.agreement import check_same, on_process_zero
from cnn.train.checkpoints import Checkpoints
from cnn.train.compile import Programs, programs
from cnn.train.config import Config, Result, check_batch, check_model
from cnn.train.early_stopping import EarlyStopping
from cnn.train.ensemble import States
from cnn.train.files import write_atomic
from cnn.train.gathered_checkpoints import GatheredCheckpoints
from cnn.train.host_transforms import check_transforms, describe_transforms
from cnn.train.loop import Event, evaluate, train
from cnn.train.mirror import check_out, staged
from cnn.train.non_finite import Diverged
from cnn.train.preemption import CheckpointSchedule, ShouldStop, Stopped
from cnn.train.recipe import Recipe, identity, plain
from cnn.train.relax import check_liftable, relax
from cnn.train.run_identity import program_hash
from cnn.train.utilization import Utilization


def fit(
    config: Config,
    on_step: Callable[[int], None] | None = None,
    stop: ShouldStop = lambda step: False,
    on_log: Callable[[Mapping[str, Any]], None] | None = None,
    peak_flops: float | None = None,
) -> Result:
    """Train the seeds of `config.model` together and evaluate them.

    Args:
        config: The run. With `validate`, the "test" results are those of the held-out part of the
            training set.
        on_step: Called as `on_step(n)` after every `n` steps, to show progress.
        stop: Called as `stop(step)` after a step; True saves a checkpoint and stops.
        on_log: Called with every line of metrics while training, as `Result.history` has them.
        peak_flops: Peak FLOP/s of one device at the run's precision. With it, lines of metrics have
            "mfu": model FLOPs over time and peak, a fraction.

    Raises:
        InputError: For any invalid setting, before anything is written.
        Diverged: If a loss, gradient or update is not finite.
        Stopped: If `stop` asked for it before the last step.
        RunError: If every step was skipped, or the run folder can no longer be written.
    """
    began = time.perf_counter()
    config.check()
    data = config.examples
    if jax.process_count() > 1:
        settings = {field.name: plain(getattr(config, field.name)) for field in fields(Recipe)}
        rates = {"learning_rates": config.learning_rates}
        check_same(settings | rates | subject(config, data))
    parameters = [check_model(model, config, data) for model, _ in config.phases][-1]
    phases = [(programs(m, config, data.input_shape), until) for m, until in config.phases]
    (first, _), (last, _) = phases[0], phases[-1]
    check_batch(config, len(data.train.y), first.devices)
    check_transforms(config.transforms, data.train)
    if config.relax_at is not None:
        before = jax.eval_shape(first.init, 0, 1.0)
        check_liftable(config, before)
        jax.eval_shape(lambda state: _relaxed(config, data, (state,)), before)
    if config.out is not None:
        check_out(config.out, config.resume, config.overwrite)

    states: States = tuple(first.init(seed, lr) for seed, lr in config.replicas)
    with ExitStack() as stack:
        start, run = 0, None
        if config.out is not None:
            out, stop = stack.enter_context(staged(config.out, config.overwrite, stop))
            run = stack.enter_context(open_run(out, config, data, began))
            start, states = run.restore(states)
        peak = None if peak_flops is None else peak_flops * first.devices.count
        log = Log(config, run, began, on_log, Utilization(config, peak))
        checkpoint_due = CheckpointSchedule(config, stop)
        for program, until in phases:
            if start > until or log.early.stopping:
                continue
            if program is not first and start == config.relax_at:
                states = _relaxed(config, data, states)
            states = program.devices.put_states(states)
            for event in train(config, data.train, program, states, start, until, checkpoint_due):
                start, states = event.step, event.states
                log.write(event, program)
                if on_step is not None:
                    on_step(event.advanced)
                if log.early.stopping:
                    break
                if checkpoint_due.stopping and event.step < config.steps:
                    if run is not None:
                        run.checkpoints.wait()
                    raise Stopped(event.step)
            states = program.devices.unreplicate(states)
        states = last.devices.put_states(states)
        train_part, test_part = (
            evaluate(config, last, states, split) for split in (data.train, data.test)
        )
        states = last.devices.unreplicate(states)
        result = Result(
            steps=start,
            seeds=tuple(seed for seed, _ in config.replicas),
            parameters=parameters,
            train=train_part,
            test=test_part,
            validated=config.validate,
            skipped=np.array([int(state.step - state.updates) for state in states]),
            seconds=time.perf_counter() - began,
            states=states,
            history=tuple(log.history),
        )
        result.check_trained()
        if run is not None:
            run.checkpoints.wait()
            run_dir.append_metrics(run.out, final_record(result))
    return result


def subject(config: Config, data: Dataset) -> dict[str, Any]:
    """Return what is trained, on what, as JSON."""
    transforms = config.transforms
    about = {"name": data.name, "train": len(data.train), "shape": list(data.input_shape)}
    return {
        "model": to_spec(config.model),
        "relax_to": config.relax_to and to_spec(config.relax_to),
        **({"transforms": describe_transforms(transforms)} if transforms else {}),
        "data": {**about, "hash": data.content_hash()[:16]},
    }


def _relaxed(config: Config, data: Dataset, states: States) -> States:
    (source, _), (target, _) = config.phases
    return tuple(relax(state, source, target, data.input_shape) for state in states)


@dataclass(frozen=True)
class Run:
    """An open run folder."""

    out: Path
    config: Config
    data: Dataset
    checkpoints: Checkpoints | GatheredCheckpoints
    began: float

    def restore(self, states: States) -> tuple[int, States]:
        """Return the step and states to start from; new `states` start at step 0."""
        config = self.config

        def template(step: int) -> States:
            relaxed = config.relax_at is not None and step > config.relax_at
            return _relaxed(config, self.data, states) if relaxed else states

        start, states = (config.resume and self.checkpoints.restore(template)) or (0, states)
        if start > config.steps:
            raise InputError(
                f"steps must be at least {start}, the step of the newest checkpoint, "
                f"got {config.steps}"
            )
        run_dir.rewind(self.out, start)
        return start, states


class Log:
    """What is measured while training: lines of metrics, checkpoints, early stopping."""

    def __init__(
        self,
        config: Config,
        run: Run | None,
        began: float,
        on_log: Callable[[Mapping[str, Any]], None] | None,
        utilization: Utilization,
    ) -> None:
        self._config, self._run, self._began, self._on_log = config, run, began, on_log
        self._utilization = utilization
        self.history = on_process_zero(lambda: run_dir.read_metrics(run.out)) if run else []
        self.early = EarlyStopping(config.patience)
        self.early.replay(self.history, config.evaluate_every)

    def write(self, event: Event, program: Programs) -> None:
        """Make the evaluation, the line of metrics and the checkpoint that are due."""
        config, run = self._config, self._run
        scored = run is not None and event.checkpoint and config.keep_best > 0
        validation: Mapping[str, np.ndarray] = {}
        if event.evaluate or scored:
            validation = evaluate(config, program, event.states, config.examples.test)
        if event.evaluate:
            self.early.add(validation["loss"])
        record = {f"train_{k}": run_dir.to_json(v) for k, v in event.metrics.items()}
        record |= {f"validation_{k}": run_dir.to_json(v) for k, v in validation.items()}
        if record:
            seconds = round(time.perf_counter() - self._began, 3)
            mfu = self._utilization.measure(event.step, seconds)
            record |= {} if mfu is None else {"mfu": mfu}
            self.history.append({"step": event.step, **record, "seconds": seconds})
            if run is not None:
                run_dir.append_metrics(run.out, self.history[-1])
            if self._on_log is not None:
                self._on_log(self.history[-1])
        if run is not None and (event.checkpoint or self.early.stopping):
            score = float(validation["loss"].mean()) if config.keep_best else None
            run.checkpoints.save(event.step, program.devices.unreplicate(event.states), score)


@contextmanager
def open_run(out: Path, config: Config, data: Dataset, began: float) -> Iterator[Run]:
    """Lock the run folder, write `run.json` and, if the run diverges, a report."""
    hashes = [program_hash(model, config, data) for model, _ in config.phases]
    program = {"jax": jax.__version__, "hashes": hashes}
    described = {**subject(config, data), "recipe": identity(config), "program": program}
    folder, kept = out / run_dir.CHECKPOINTS, (config.keep_last, config.keep_best)
    # A folder in a bucket is a copy, which only process 0 has.
    is_shared = jax.process_count() == 1 or not isinstance(config.out, BucketPath)
    kind = Checkpoints if is_shared else GatheredCheckpoints
    with run_dir.locked(out):
        run_dir.describe_run(out, described, config.overwrite)
        try:
            with closing(kind(folder, described, *kept)) as checkpoints:
                yield Run(out, config, data, checkpoints, began)
        except Diverged as error:
            report = json.dumps(error.report, indent=1) + "\n"
            run_dir.process_zero_only(write_atomic)(out / run_dir.DIVERGED, report)
            raise


def final_record(result: Result) -> dict[str, Any]:
    """Return the last line of `metrics.jsonl`: means over the seeds, then each seed's values."""
    parts = result.by_part().items()
    values = {f"{part}_{name}": each for part, of in parts for name, each in of.items()}
    return {
        "step": result.steps,
        "final": True,
        **{name: run_dir.to_json(each.mean(axis=0)) for name, each in values.items()},
        "parameters": result.parameters,
        **({"skipped": int(result.skipped.sum())} if result.skipped.any() else {}),
        "seconds": round(result.seconds, 3),
        "seeds": list(result.seeds),
        "per_seed": {name: run_dir.to_json(each) for name, each in values.items()},
    }
