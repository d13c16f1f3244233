"""One contender in a process of its own: builds its training step, then times it when told to.

    python -m benchmarks.contenders --network lenet5 --contender ours

It says `ready SECONDS`, or why not; then it reads a number of steps per line and answers with the
seconds they took, or `memory` and answers with the most megabytes it has held.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.networks import Network, by_name, in_flax, in_torch
from cnn.errors import InputError, unknown_name
from experiments import cli
from experiments.process import give_back_after_compiling, keep_freed_memory

CONTENDERS = {
    "ours": "here",
    "reference": "here, definitions",
    "flax": "Flax",
    "torch": "PyTorch",
    "torch_channels_last": "PyTorch channels_last",
    "torch_kept": "PyTorch channels_last, memory kept",
    "torch_compiled": "PyTorch compiled",
}
"""Each contender, and what tables call it; a step of "gemm" is one product of two matrices."""
GEMM_SIDE = 2048


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is built, and what is timed."""

    network: str
    """Network by name."""
    contender: str
    """Contender by name (ours, reference, flax, torch, ...), or gemm."""
    one_core: bool = False
    """Keep to one core, and count the seconds that the processor works, not the clock's."""


def check(names: Iterable[str]) -> None:
    """Raise `InputError` for a name that is no contender's."""
    for name in set(names) - set(CONTENDERS):
        raise unknown_name("contender", name, CONTENDERS)


def random_batch(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Return images of noise and labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((network.batch, *network.shape), dtype=np.float32)
    return x, rng.integers(0, 10, network.batch, dtype=np.int32)


def build(network: Network, contender: str) -> Callable[[int], None]:
    """Return a function that makes so many training steps on one batch, and waits for them."""
    x, y = random_batch(network)
    match contender:
        case "gemm":
            return _products()
        case "torch" | "torch_channels_last" | "torch_kept" | "torch_compiled":
            return _torch_steps(network, x, y, contender)
    os.environ["CNN_LOWERING"] = "reference" if contender == "reference" else "fastest"
    return _jax_steps(network, x, y, plain=contender == "flax")


def _products() -> Callable[[int], None]:
    import jax
    import jax.numpy as jnp

    product, a = jax.jit(jnp.matmul), jnp.ones((GEMM_SIDE, GEMM_SIDE))

    def run(steps: int) -> None:
        for _ in range(steps):
            product(a, a).block_until_ready()

    return run


def jax_step(network: Network, x: np.ndarray, y: np.ndarray, plain: bool) -> tuple[Any, Any]:
    """Return the compiled step `(state, x, y) -> state`, which donates, and the first state."""
    import jax
    import optax

    from cnn.train.devices import COMPILED_ON_CPU

    model = network.build()
    if plain:
        model = in_flax(model)
    tx = optax.sgd(1e-3, momentum=0.9)
    options = None if plain else COMPILED_ON_CPU
    init = jax.jit(lambda key: model.init(key, x, train=True), compiler_options=options)
    variables = init(jax.random.key(0))
    state = (variables, tx.init(variables["params"]))

    def step(state, x, y):  # type: ignore[no-untyped-def]
        variables, momentum = state

        def objective(params):  # type: ignore[no-untyped-def]
            logits, updated = model.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
            return loss, updated

        grads, updated = jax.grad(objective, has_aux=True)(variables["params"])
        updates, momentum = tx.update(grads, momentum)
        params = optax.apply_updates(variables["params"], updates)
        return {**variables, **updated, "params": params}, momentum

    compiled = (
        jax.jit(step, donate_argnums=0, compiler_options=options).lower(state, x, y).compile()
    )
    return compiled, state


def _jax_steps(network: Network, x: np.ndarray, y: np.ndarray, plain: bool) -> Callable:
    import jax

    from cnn.train.ahead import Ahead

    if not plain:  # as programs here do
        give_back_after_compiling()
    step, state = jax_step(network, x, y, plain)
    x, y = jax.device_put((x, y))
    ahead = Ahead()

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = step(state, x, y)
            if not plain:
                ahead.called(state)
        jax.block_until_ready(state)

    return run


def _torch_steps(network: Network, x: np.ndarray, y: np.ndarray, contender: str) -> Callable:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    *size, c_in = network.shape
    layout = torch.contiguous_format if contender == "torch" else torch.channels_last
    model = in_torch(network.build(), tuple(size), c_in).to(memory_format=layout)
    if contender == "torch_compiled":
        model = torch.compile(model)
    images = torch.tensor(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    targets = torch.tensor(y).long()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()

    return run


def main(flags: Flags) -> None:
    """Build, then answer every line."""
    network = by_name(flags.network)
    check({flags.contender} - {"gemm"})
    if flags.contender in ("ours", "reference", "torch_kept"):
        keep_freed_memory()
    clock = time.perf_counter
    if flags.one_core:
        clock, os.environ["NPROC"] = time.process_time, "1"
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    start = clock()
    try:
        run = build(network, flags.contender)
        run(2)
    except (ImportError, RuntimeError) as error:
        print("not", str(error).splitlines()[0], flush=True)
        return
    print("ready", clock() - start, flush=True)
    for line in sys.stdin:
        if line.strip() == "memory":
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, flush=True)
            continue
        start = clock()
        run(int(line))
        print(clock() - start, flush=True)


if __name__ == "__main__":
    try:  # not by `cli.run`, which keeps memory for whomever it runs
        main(cli.parse(Flags, doc=__doc__))
    except InputError as error:
        cli.fail(str(error))
