"""Train any named network on any named data set.

    python -m experiments.train --model cnn1d --data mnist1d --lr 1e-2 --seeds 3 --out runs/a

Several seeds train together; `metrics.jsonl` in the run folder ends with their mean training loss
and test accuracy (a fraction), and each seed's own. SIGTERM or Ctrl-C stops a run after the current
step, saves a checkpoint and prints the command that continues; a second one ends it at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from etils import epy

from cnn.buckets import BucketPath
from cnn.errors import InputError, RunError
from cnn.train.recipe import Recipe, identity
from experiments.harness import chips, cli, metric_writers, networks, profiler, progress, runtime
from experiments.harness.tables import percent
from experiments.launch import distributed
from experiments.launch.distributed import Processes

with epy.lazy_imports():
    import jax

    from cnn import ablations
    from cnn import data as datasets
    from cnn import train as training
    from cnn.train import input_pipeline, run_dir, sharding

if TYPE_CHECKING:
    import numpy as np
    from flax import linen as nn

    from cnn.data import Dataset
    from cnn.train import Config


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is trained, on what."""

    model: str = ""
    """Network: a function of cnn.models, e.g. lenet5, or package.module:function for one of your
    own, which gets num_classes if it has such an argument. Needed, unless `spec` is given."""
    data: str
    """Data set: mnist1d or digits (built in), folder:PATH (images in a folder for each class),
    FILE.npz, hf:PATH (saved by Hugging Face datasets), or a TFDS set prepared in `data_dir`."""
    model_args: tuple[str, ...] = ()
    """Arguments of the model's function, NAME=VALUE: width=32 norm=group."""
    spec: Path | None = None
    """JSON file with a model's value, in place of `model`: a run.json, or its part "model"."""
    ablate: tuple[str, ...] = ()
    """Ablations of the model, one after another: functions of cnn.ablations with their arguments,
    unshare, tile:2, localize:1:where=0."""
    data_dir: Path | BucketPath | None = None
    """Folder of prepared TFDS data sets, also in a bucket (gs://, s3://)."""
    size: tuple[int, int] | None = None
    """Height and width to which images in files are resized."""
    channels: int | None = None
    """Channels of images in files: 1 (grey), 2, 3 or 4, with alpha for even numbers."""
    config: Path | None = None
    """TOML file of these settings, lr = 1e-3. The command line overrides it."""

    @property
    def subject(self) -> str:
        """What is trained, in words."""
        return " ".join([self.model or str(self.spec), *self.ablate])


@dataclass(frozen=True, kw_only=True)
class Flags(Processes, Recipe, Subject):
    """A model, a data set and a recipe."""

    relax_to: Literal["local", "dense"] = "local"
    """What convolutions become at `relax_at`: locally or fully connected."""
    tensorboard: bool = False
    """Write TensorBoard event files into the run folder, too."""
    wandb: str | None = None
    """Log to this project of Weights & Biases, too."""
    profile: bool = False
    """Trace ten calls of the compiled program into the run folder, for XProf or Perfetto."""

    def check(self) -> None:
        """Raise `InputError` for settings that are invalid or exclude each other."""
        super().check()
        self.check_processes()
        networks.check_given(self.model, self.model_args, self.spec)


Network = Callable[["Dataset"], "nn.Module"]
"""A network for a data set."""


def named_network(flags: Flags) -> Network:
    """Return the network that `model`, `model_args`, `spec` and `ablate` say.

    Raises:
        InputError: As `networks.by_name`.
    """
    build = networks.by_name(flags.model, flags.model_args, flags.spec, flags.ablate)
    return lambda data: build(data.outputs)


def config(flags: Flags, data: Dataset, network: Network | None = None) -> Config:
    """Return the run that `flags` describe on `data`, with `network` or the one that they name."""
    recipe = {f.name: getattr(flags, f.name) for f in dataclasses.fields(Recipe)}
    model = (network or named_network(flags))(data)
    relax = {"local": ablations.unshare, "dense": ablations.densify}[flags.relax_to]
    relax_to = None if flags.relax_at is None else relax(model)
    return training.Config(model=model, data=data, relax_to=relax_to, **recipe)


def main(flags: Flags, network: Network | None = None) -> None:
    """Train `network` or the one that `flags` name, print the result and write the run folder."""
    flags.check()
    with distributed.join(flags) as is_main:
        _train(flags, network or named_network(flags), is_main)


def _train(flags: Flags, network: Network, is_main: bool) -> None:
    data = datasets.load(flags.data, flags.data_dir, flags.size, flags.channels)
    run = config(flags, data, network)
    if flags.profile and not isinstance(flags.out, Path):
        raise InputError("profile writes into a run folder in a file system: give such an out")
    out = flags.out if isinstance(flags.out, Path) else None
    traces = out / "profile" if out and flags.profile and is_main else None
    runtime.configure_jax()
    try:
        with (
            training.stop_on_signals() as stop,
            progress.show_steps(f"{flags.subject} on {flags.data}", run.steps) as shown,
            _send_metrics(flags, is_main) as send,
            profiler.tracing(traces) as called,
        ):

            def on_step(steps: int) -> None:
                called()
                shown.advance(steps)
                send()

            peak = chips.peak_flops(jax.devices()[0].device_kind, run.precision)
            result = training.fit(run, on_step, stop, shown.log, peak)
    except training.Stopped as stopped:
        if flags.out is None:
            raise RunError(f"{stopped}; nothing is kept without --out") from None
        if is_main:
            print(f"stopped after step {stopped.step} of {run.steps}; continue with\n{again()}")
        return

    if not is_main:
        return
    part = "validation" if flags.validate else "test"
    spread = f"mean ± standard deviation over {flags.seeds} seeds; " if flags.seeds > 1 else ""
    inputs = input_pipeline.describe_inputs(run.data.train)
    spread_state = f", {sharding.describe(result.states)}" if flags.shard_params else ""
    print(
        f"{flags.subject} on {flags.data}: {part} {', '.join(_texts(result.test))}, training loss "
        f"{result.train_loss.mean():.4f} ({spread}{result.parameters:,} parameters, "
        f"{result.steps:,} steps, {result.seconds:.1f} s, {inputs}{spread_state})"
    )
    if flags.out is not None:
        print(f"written to {flags.out}", file=sys.stderr)


def _texts(measured: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yield "accuracy 97.1 ± 0.2 %" for each metric, or the loss where there is no other number."""
    numbers = {name: values for name, values in measured.items() if values.ndim == 1}
    for name, values in numbers.items():
        if name.endswith("accuracy") or name.startswith("top-"):
            yield f"{name} {percent(values)} %"
        elif name != "loss" or len(numbers) == 1:
            yield f"{name} {values.mean():.4f}"


def again() -> str:
    """Return the command that continues this run."""
    given = [arg for arg in sys.argv[1:] if arg not in ("--resume", "--overwrite")]
    program = cli.program() or "python -m experiments.train"
    return shlex.join([*program.split(), *given, "--resume"])


@contextlib.contextmanager
def _send_metrics(flags: Flags, is_main: bool) -> Iterator[Callable[[], None]]:
    """Yield a function that sends new metrics to TensorBoard and Weights & Biases."""
    if not is_main or not (flags.tensorboard or flags.wandb):
        yield lambda: None
        return
    if not isinstance(flags.out, Path):
        raise InputError(
            "tensorboard and wandb read the metrics of a run folder in a file system: give such an "
            "out"
        )
    for module, wanted in (("tensorboardX", flags.tensorboard), ("wandb", flags.wandb)):
        if wanted and importlib.util.find_spec(module) is None:
            raise InputError(f"{module} is not installed: make install EXTRA={module[:11].lower()}")
    writers = []
    if flags.tensorboard:
        writers.append(metric_writers.tensorboard(flags.out / "tensorboard"))
    if flags.wandb is not None:
        described = {"model": flags.subject, "data": flags.data, **identity(flags)}
        writers.append(metric_writers.wandb(flags.wandb, flags.out, described))
    with metric_writers.follow(flags.out / run_dir.METRICS, writers) as send:
        yield send


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
