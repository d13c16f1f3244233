"""The small ladder as one writes it without this project: in plain Flax, or in plain PyTorch.

    python -m benchmarks.plain_answer --library flax --file accuracies.json

Trains each point of `make demo` with its data, rate, decay and seeds, one seed after another: AdamW
with a cosine schedule, then one evaluation. `benchmarks.answer` times it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from etils import epy

from experiments import ladder
from experiments.harness import cli

with epy.lazy_imports():
    import jax
    import optax
    import torch
    from flax import linen as nn

if TYPE_CHECKING:
    from cnn.train import Config

RUNGS, SEEDS = ("conv", "local", "dense"), 3
CHANNELS, WINDOWS, STRIDE, PADDING = 25, (5, 3, 3), 2, 1
"""Of `cnn.models.cnn1d`."""
EVALUATED = 1000
"""Examples in one batch of the evaluation."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The library, and how much is trained."""

    library: Literal["flax", "torch"]
    """What it is written in."""
    file: Path
    """JSON file for the accuracies."""
    rungs: tuple[str, ...] = RUNGS
    """Rungs of the ladder."""
    seeds: int = SEEDS
    """Seeds per point."""
    steps: int = 2000
    """Steps of every run."""


def main(flags: Flags) -> None:
    """Train all, and write the accuracies by point."""
    settings = ladder.Settings(
        variants=(ladder.STANDARD,), rungs=flags.rungs, seeds=flags.seeds, steps=flags.steps
    )
    train = {"flax": in_flax, "torch": in_torch}[flags.library]
    found: dict[str, list[float]] = {}
    for name, config in ladder.STUDY.configs(settings).items():
        found["/".join(name)] = [train(name[0], config, seed) for seed in config.seed_range]
    flags.file.write_text(json.dumps(found) + "\n")


def size_after(length: int, window: int) -> int:
    """Return the number of positions after one layer."""
    return (length + 2 * PADDING - window) // STRIDE + 1


def batches(config: Config, seed: int) -> Iterator[np.ndarray]:
    """Yield the indices of each batch: the training set in a new order every epoch."""
    rng, size = np.random.default_rng(seed), config.batch_size
    count = len(config.data.train) // size
    for step in range(config.steps):
        if step % count == 0:
            order = rng.permutation(count * size).reshape(count, size)
        yield order[step % count]


def in_flax(rung: str, config: Config, seed: int) -> float:
    """Return the test accuracy of one training, with a loop over one compiled step."""
    model, tx, step, right = flax_programs(rung, config.lr, config.weight_decay, config.steps)
    data = config.data
    x, y = np.asarray(data.train.x), np.asarray(data.train.y)
    params = model.init(jax.random.key(seed), x[:1])
    opt_state = tx.init(params)
    for rows in batches(config, seed):
        params, opt_state = step(params, opt_state, x[rows], y[rows])
    tested, expected = np.asarray(data.test.x), np.asarray(data.test.y)
    x, y = (a.reshape(-1, EVALUATED, *a.shape[1:]) for a in (tested, expected))
    return float(np.mean([right(params, *batch) for batch in zip(x, y, strict=True)]))


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep the programs of the last arguments, as a script has them before its loop over seeds."""
    last: dict[str, Any] = {}

    def programs(*args: Any) -> Any:
        if last.get("args") != args:
            last.update(args=args, found=function(*args))
        return last["found"]

    return programs


@_kept
def flax_programs(rung: str, lr: float, decay: float, steps: int) -> tuple[Any, ...]:
    """Return the network, the optimizer, the compiled step and the compiled evaluation."""

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for window in WINDOWS:
                if rung == "conv":
                    x = nn.Conv(CHANNELS, (window,), STRIDE, PADDING)(x)
                elif rung == "local":
                    x = nn.ConvLocal(CHANNELS, (window,), (STRIDE,), PADDING)(x)
                else:
                    shape = (len(x), size_after(x.shape[1], window), CHANNELS)
                    x = nn.Dense(math.prod(shape[1:]))(x.reshape(len(x), -1)).reshape(shape)
                x = nn.relu(x)
            return nn.Dense(10)(x.reshape(len(x), -1))

    model = Network()
    kernels = lambda tree: jax.tree.map(lambda w: w.ndim > 1, tree)  # noqa: E731
    tx = optax.adamw(optax.cosine_decay_schedule(lr, steps), weight_decay=decay, mask=kernels)

    def loss(params: Any, x: Any, y: Any) -> Any:
        logits = model.apply(params, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    @jax.jit
    def step(params: Any, opt_state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        grads = jax.grad(loss)(params, x, y)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    @jax.jit
    def right(params: Any, x: Any, y: Any) -> Any:
        return (model.apply(params, x).argmax(-1) == y).mean()

    return model, tx, step, right


def in_torch(rung: str, config: Config, seed: int) -> float:
    """Return the test accuracy of one training."""
    torch.manual_seed(seed)
    data = config.data
    x, tested = (torch.tensor(np.asarray(s.x)).movedim(-1, 1) for s in (data.train, data.test))
    y, expected = (torch.tensor(np.asarray(s.y)).long() for s in (data.train, data.test))
    model = torch_network(rung, x.shape[-1])
    kernels = [w for w in model.parameters() if w.ndim > 1]
    others = [w for w in model.parameters() if w.ndim == 1]
    groups = [
        {"params": kernels, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for indices in batches(config, seed):
        rows = torch.from_numpy(indices)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        logits = torch.cat([model(batch) for batch in tested.split(EVALUATED)])
    return float((logits.argmax(1) == expected).float().mean())


def torch_network(rung: str, length: int) -> Any:
    """Return the network of a rung."""
    tnn, parts, channels = torch.nn, [], 1

    class Local(tnn.Module):
        def __init__(self, c_in: int, positions: int, window: int) -> None:
            super().__init__()
            self.window = window
            bound = (c_in * window) ** -0.5
            shape = (positions, c_in, window, CHANNELS)
            self.weight = tnn.Parameter(torch.empty(shape).uniform_(-bound, bound))
            self.bias = tnn.Parameter(torch.zeros(CHANNELS * positions))

        def forward(self, x: Any) -> Any:
            windows = tnn.functional.pad(x, (PADDING, PADDING)).unfold(2, self.window, STRIDE)
            y = torch.einsum("bcpk,pckf->bfp", windows, self.weight)
            return y + self.bias.reshape(y.shape[1:])

    for window in WINDOWS:
        after = size_after(length, window)
        if rung == "conv":
            parts.append(tnn.Conv1d(channels, CHANNELS, window, STRIDE, PADDING))
        elif rung == "local":
            parts.append(Local(channels, after, window))
        else:
            linear = tnn.Linear(channels * length, CHANNELS * after)
            parts += [tnn.Flatten(), linear, tnn.Unflatten(1, (CHANNELS, after))]
        parts.append(tnn.ReLU())
        length, channels = after, CHANNELS
    return tnn.Sequential(*parts, tnn.Flatten(), tnn.Linear(channels * length, 10))


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
