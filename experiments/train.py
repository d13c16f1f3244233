"""Train any named network on any named data set.

    python -m experiments.train --model cnn1d --data mnist1d --lr 1e-2 --seeds 3 --out runs/a

Several seeds train together; `metrics.jsonl` in the run folder ends with their mean training loss
and test accuracy (a fraction), and each seed's own. SIGTERM or Ctrl-C ends a run after the step it
is in, with a checkpoint and the command that goes on; a second one ends it at once.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cnn.errors import InputError, RunError
from cnn.train.recipe import Recipe, identity
from experiments.harness import cli, runtime
from experiments.launch.distributed import Processes, together

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset
    from cnn.train import Config


@dataclass(frozen=True, kw_only=True)
class Named(Recipe):
    """A model and a data set by name, and the recipe."""

    model: str
    """Network: a function of cnn.models, e.g. lenet5."""
    data: str
    """Data set: mnist1d and digits are built in; others by TFDS from `data_dir`."""
    data_dir: Path | None = None
    """Where prepared TFDS sets are."""
    relax_to: Literal["local", "dense"] = "local"
    """What convolutions become at `relax_at`: locally connected, or fully."""
    tensorboard: bool = False
    """Write TensorBoard's event files into the run folder, too."""
    wandb: str | None = None
    """Log to this project of Weights & Biases, too."""
    profile: bool = False
    """Trace ten calls of the compiled program into the run folder, for XProf or Perfetto."""


def again() -> str:
    """Return the command that goes on with this run."""
    given = [arg for arg in sys.argv[1:] if arg not in ("--resume", "--overwrite")]
    program = cli.program() or "python -m experiments.train"
    return shlex.join([*program.split(), *given, "--resume"])


@dataclass(frozen=True, kw_only=True)
class Flags(Processes, Named):
    """One run, and the processes it takes."""


Network = Callable[["Dataset"], "nn.Module"]
"""A network for a data set."""


def named(name: str) -> Network:
    """Return the network of `cnn.models` with this name. Raises `InputError` if there is none."""
    from cnn import models

    build = models.by_name(name)
    return lambda data: build(num_classes=data.num_classes)


def config(flags: Named, data: Dataset, network: Network | None = None) -> Config:
    """Return the run that `flags` ask for on `data`, of `network` or the one that they name."""
    from cnn.ablations import densify, unshare
    from cnn.train import Config

    recipe = {f.name: getattr(flags, f.name) for f in dataclasses.fields(Recipe)}
    model = (network or named(flags.model))(data)
    relax = {"local": unshare, "dense": densify}[flags.relax_to]
    relax_to = None if flags.relax_at is None else relax(model)
    return Config(model=model, data=data, relax_to=relax_to, **recipe)


@contextmanager
def sent_on(flags: Flags, speaks: bool) -> Iterator[Callable[[], None]]:
    """Yield a function that sends new metrics to where `flags` ask for."""
    from cnn.train.run_dir import METRICS
    from experiments.harness.metric_writers import following, to_tensorboard, to_wandb

    if not speaks or not (flags.tensorboard or flags.wandb):
        yield lambda: None
        return
    if flags.out is None:
        raise InputError("tensorboard and wandb send on what is in a run folder: give out")
    for module, extra in (("tensorboardX", flags.tensorboard), ("wandb", flags.wandb)):
        if extra and importlib.util.find_spec(module) is None:
            raise InputError(f"{module} is not installed: make install EXTRA={module[:11].lower()}")
    described = {"model": flags.model, "data": flags.data, **identity(flags)}
    receivers = []
    if flags.tensorboard:
        receivers.append(to_tensorboard(flags.out / "tensorboard"))
    if flags.wandb is not None:
        receivers.append(to_wandb(flags.wandb, flags.out, described))
    with following(flags.out / METRICS, receivers) as follow:
        yield follow


def main(flags: Flags, network: Network | None = None) -> None:
    """Train as `flags` say, print the result, write the run folder.

    With `network`, that one is trained and not one of `cnn.models`.
    """
    flags.check()
    with together(flags) as speaks:
        _train(flags, network, speaks)


def _train(flags: Flags, network: Network | None, speaks: bool) -> None:
    from cnn.data import load
    from cnn.train import Stopped, fit, stop_on_signals
    from cnn.train.input_pipeline import describe_inputs
    from experiments.harness.profiler import tracing
    from experiments.harness.progress import show_steps
    from experiments.harness.report import percent

    network = network or named(flags.model)  # before the data, which may take its time
    run = config(flags, load(flags.data, flags.data_dir), network)
    if flags.profile and flags.out is None:
        raise InputError("profile writes into a run folder: give out")
    traces = flags.out / "profile" if flags.out and flags.profile and speaks else None
    runtime.give_back_after_compiling()
    try:
        with (
            stop_on_signals() as stop,
            show_steps(f"{flags.model} on {flags.data}", flags.steps) as advance,
            sent_on(flags, speaks) as follow,
            tracing(traces) as called,
        ):
            result = fit(run, lambda n: (called(), advance(n), follow())[0], stop)
    except Stopped as stopped:
        if flags.out is None:
            raise RunError(f"{stopped}: nothing is kept without --out") from None
        if speaks:
            print(f"stopped after step {stopped.step} of {flags.steps}; go on with\n{again()}")
        return

    if not speaks:
        return
    part = "validation" if flags.validate else "test"
    spread = f"mean ± standard deviation over {flags.seeds} seeds; " if flags.seeds > 1 else ""
    print(
        f"{flags.model} on {flags.data}: {part} accuracy {percent(result.test_accuracy)} %, "
        f"training loss {result.train_loss.mean():.4f} ({spread}{result.parameters:,} parameters, "
        f"{result.steps:,} steps, {result.seconds:.1f} s, {describe_inputs(run.data.train)})"
    )
    if flags.out is not None:
        print(f"written to {flags.out}", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
