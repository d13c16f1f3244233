"""The training step of each contender: as in `cnn.train`, in plain Flax, and in PyTorch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epy

from benchmarks.networks import Network, in_flax
from benchmarks.torch_twin import in_torch
from benchmarks.workers import Backend
from cnn.train.devices import CPU_COMPILER_OPTIONS
from cnn.train.dispatch import Throttle
from cnn.train.ensemble import chunk_length

with epy.lazy_imports():
    import torch

GEMM_SIDE = {"cpu": 2048, "gpu": 8192}
"""Rows and columns of the matrices whose product measures the limit of the machine."""

Run = Callable[[int], int]
"""Runs at least a number of training steps on one batch, waits for them, returns how many."""


def build(network: Network, contender: str, backend: Backend) -> Run:
    """Return the steps of a contender on a network; a step of "gemm" is a matrix product.

    Raises:
        RuntimeError: If PyTorch finds no GPU.
        ImportError: If PyTorch is not installed.
    """
    if contender == "gemm":
        return _products(backend)
    x, y = random_batch(network)
    if contender.startswith("torch"):
        return _torch_steps(network, x, y, contender, backend)
    # Flax has no layers for some operations, and computes them by definition, too.
    os.environ["CNN_IMPLEMENTATION"] = (
        "reference" if contender in ("reference", "flax") else "fastest"
    )
    return _jax_steps(network, x, y, contender == "flax", backend)


def random_batch(network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Return random images and labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((network.batch, *network.shape), dtype=np.float32)
    return x, rng.integers(0, 10, network.batch, dtype=np.int32)


def _products(backend: Backend) -> Run:
    side = GEMM_SIDE[backend.platform]
    a = jax.random.normal(jax.random.key(0), (side, side), backend.precision)
    product = jax.jit(jnp.matmul)

    def run(steps: int) -> int:
        for _ in range(steps):
            result = product(a, a)
            if backend.platform == "cpu":  # a GPU would wait for the next call
                result.block_until_ready()
        result.block_until_ready()
        return steps

    return run


def jax_step(
    network: Network,
    x: np.ndarray,
    y: np.ndarray,
    plain: bool,
    backend: Backend,
    chunk: int = 1,
    gpu_options: dict[str, Any] | None = None,
) -> tuple[Any, Any]:
    """Return `chunk` compiled steps, `(state, x, y) -> state`, and the first state.

    As in `cnn.train`, the network may compute in bfloat16, and weights stay float32.

    Args:
        network: The network, and the size of its input.
        x: One batch of images.
        y: Their labels.
        plain: Whether to build the network as a user of Flax would.
        backend: Platform and precision.
        chunk: Steps in one program.
        gpu_options: XLA's options on a GPU.
    """
    model = network.build()
    if plain:
        model = in_flax(model)
    tx = optax.sgd(1e-3, momentum=0.9)
    options = gpu_options
    if backend.platform == "cpu":
        options = None if plain else CPU_COMPILER_OPTIONS
    init = jax.jit(lambda key: model.init(key, x, train=True), compiler_options=options)
    variables = init(jax.random.key(0))
    state = (variables, tx.init(variables["params"]))

    def step(state, x, y):  # type: ignore[no-untyped-def]
        variables, momentum = state

        def objective(params):  # type: ignore[no-untyped-def]
            low = jax.tree.map(lambda w: w.astype(backend.precision), params)
            logits, updated = model.apply(
                {**variables, "params": low},
                x.astype(backend.precision),
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


def _jax_steps(
    network: Network, x: np.ndarray, y: np.ndarray, plain: bool, backend: Backend
) -> Run:
    # Unlike a plain loop, `cnn.train` scans steps on an accelerator, and waits for them on a CPU.
    chunk = 1 if plain else chunk_length(backend.platform)
    step, state = jax_step(network, x, y, plain, backend, chunk)
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
    network: Network, x: np.ndarray, y: np.ndarray, contender: str, backend: Backend
) -> Run:
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    gpu = backend.platform == "gpu"
    if gpu and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    if gpu:  # as in JAX: the fastest of several algorithms, and TF32 for float32
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if gpu else "cpu")
    low = torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=backend.precision == "bfloat16",
        cache_enabled=contender != "torch_graph",  # PyTorch's notes on CUDA graphs ask for this
    )
    *size, c_in = network.shape
    is_image = len(size) == 2
    if not is_image and contender == "torch_channels_last":
        raise RuntimeError("channels_last of PyTorch is for images")
    last = is_image and contender != "torch"
    layout = torch.channels_last if last else torch.contiguous_format
    model = in_torch(network.build(), size, c_in).to(device, memory_format=layout)
    if contender == "torch_compiled":  # "reduce-overhead" uses CUDA graphs
        model = torch.compile(model, mode="reduce-overhead" if gpu else "default")
    images = torch.tensor(x).movedim(-1, 1).to(device).contiguous(memory_format=layout)
    targets = torch.tensor(y).long().to(device)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, fused=gpu or None)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with low:
            loss = torch.nn.functional.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()

    if contender == "torch_graph":
        step = _recorded(step)

    def run(steps: int) -> int:
        for _ in range(steps):
            step()
        if gpu:
            torch.cuda.synchronize()
        return steps

    return run


def _recorded(step: Callable[[], None]) -> Callable[[], None]:
    """Return a function that replays the kernels of `step`, which is first run on another stream.

    Reference:
        "Whole-network capture" in PyTorch's notes on CUDA semantics.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(10):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
