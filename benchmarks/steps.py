"""The training step of each contender: as networks train here, in plain Flax, in PyTorch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.networks import Network, in_flax, in_torch
from benchmarks.workers import Where
from cnn.train.devices import CPU_COMPILER_OPTIONS
from cnn.train.dispatch import Throttle
from cnn.train.ensemble import chunk_length
from experiments.harness.runtime import trim_memory_after_compilation

GEMM_SIDE = {"cpu": 2048, "gpu": 8192}
"""Rows and columns of the product that says how much of the machine there was to have."""

Run = Callable[[int], int]
"""Makes so many training steps on one batch or a few more, waits for them, returns how many."""


def build(network: Network, contender: str, where: Where) -> Run:
    """Return the contender on this network; "gemm" is a product of two matrices for each step.

    Raises `RuntimeError` where PyTorch finds no GPU, `ImportError` where there is no PyTorch.
    """
    if contender == "gemm":
        return _products(where)
    x, y = random_batch(network)
    if contender.startswith("torch"):
        return _torch_steps(network, x, y, contender, where)
    os.environ["CNN_IMPLEMENTATION"] = "reference" if contender == "reference" else "fastest"
    return _jax_steps(network, x, y, contender == "flax", where)


def random_batch(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Return images of noise and labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((network.batch, *network.shape), dtype=np.float32)
    return x, rng.integers(0, 10, network.batch, dtype=np.int32)


def _products(where: Where) -> Run:
    side = GEMM_SIDE[where.platform]
    a = jax.random.normal(jax.random.key(0), (side, side), where.precision)
    product = jax.jit(jnp.matmul)

    def run(steps: int) -> int:
        for _ in range(steps):
            product(a, a).block_until_ready()
        return steps

    return run


def jax_step(
    network: Network, x: np.ndarray, y: np.ndarray, plain: bool, where: Where, chunk: int = 1
) -> tuple[Any, Any]:
    """Return so many steps compiled, `(state, x, y) -> state`, which donate, and the first state.

    As in `cnn.train`, bfloat16 is what the network computes in; weights stay float32.
    """
    model = network.build()
    if plain:
        model = in_flax(model)
    tx = optax.sgd(1e-3, momentum=0.9)
    options = None if plain or where.platform != "cpu" else CPU_COMPILER_OPTIONS
    init = jax.jit(lambda key: model.init(key, x, train=True), compiler_options=options)
    variables = init(jax.random.key(0))
    state = (variables, tx.init(variables["params"]))

    def step(state, x, y):  # type: ignore[no-untyped-def]
        variables, momentum = state

        def objective(params):  # type: ignore[no-untyped-def]
            low = jax.tree.map(lambda w: w.astype(where.precision), params)
            logits, updated = model.apply(
                {**variables, "params": low},
                x.astype(where.precision),
                train=True,
                mutable=["batch_stats"],
            )
            logits = logits.astype(jnp.float32)
            loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
            return loss, updated

        grads, updated = jax.grad(objective, has_aux=True)(variables["params"])
        updates, momentum = tx.update(grads, momentum)
        params = optax.apply_updates(variables["params"], updates)
        return {**variables, **updated, "params": params}, momentum

    def steps(state, x, y):  # type: ignore[no-untyped-def]
        return jax.lax.scan(lambda s, _: (step(s, x, y), None), state, length=chunk)[0]

    whole = step if chunk == 1 else steps
    compiled = (
        jax.jit(whole, donate_argnums=0, compiler_options=options).lower(state, x, y).compile()
    )
    return compiled, state


def _jax_steps(network: Network, x: np.ndarray, y: np.ndarray, plain: bool, where: Where) -> Run:
    # What programs here do, and a plain loop does not: scan steps on an accelerator, wait on a CPU.
    chunk = 1 if plain else chunk_length(where.platform)
    if not plain:
        trim_memory_after_compilation()
    step, state = jax_step(network, x, y, plain, where, chunk)
    x, y = jax.device_put((x, y))
    throttle = Throttle()

    def run(steps: int) -> int:
        nonlocal state
        calls = math.ceil(steps / chunk)
        for _ in range(calls):
            state = step(state, x, y)
            if not plain:
                throttle.wait_if_ahead(state)
        jax.block_until_ready(state)
        return calls * chunk

    return run


def _torch_steps(
    network: Network, x: np.ndarray, y: np.ndarray, contender: str, where: Where
) -> Run:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    gpu = where.platform == "gpu"
    if gpu and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    if gpu:  # as JAX does: the fastest of several algorithms, and float32 in TF32
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if gpu else "cpu")
    low = torch.autocast(device.type, torch.bfloat16, enabled=where.precision == "bfloat16")
    *size, c_in = network.shape
    layout = torch.contiguous_format if contender == "torch" else torch.channels_last
    model = in_torch(network.build(), tuple(size), c_in).to(device, memory_format=layout)
    if contender == "torch_compiled":  # on a GPU with CUDA graphs, which save the calls
        model = torch.compile(model, mode="reduce-overhead" if gpu else "default")
    images = torch.tensor(x).permute(0, 3, 1, 2).to(device).contiguous(memory_format=layout)
    targets = torch.tensor(y).long().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, fused=gpu or None)

    def run(steps: int) -> int:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with low:
                loss = torch.nn.functional.cross_entropy(model(images), targets)
            loss.backward()
            optimizer.step()
        if gpu:
            torch.cuda.synchronize()
        return steps

    return run
