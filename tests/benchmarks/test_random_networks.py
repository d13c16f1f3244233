"""Drawn networks, and their twins in PyTorch."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from benchmarks import agreement, random_draw, random_networks, steps
from benchmarks.networks import Network, by_name, in_flax
from benchmarks.workers import Backend, Unavailable, Worker, build_all
from cnn import geometry, layers
from cnn.errors import InputError
from cnn.layers import tree
from cnn.ops.implementations import use
from tests.conftest import FOR_USERS

DRAWN = [random_draw.draw(11, i) for i in range(12)]


def leaves(network: Network) -> list[nn.Module]:
    return list(tree.leaf_layers(network.build()).values())


def test_a_draw_is_repeated_and_others_differ() -> None:
    again = [random_draw.by_name(random_draw.name(11, i)) for i in range(12)]
    assert [n.build() for n in again] == [n.build() for n in DRAWN]
    assert [n[1:] for n in again] == [n[1:] for n in DRAWN]
    others = [random_draw.draw(12, i).build() for i in range(12)]
    assert not [model for model in others if model in [n.build() for n in DRAWN]]


@pytest.mark.parametrize("index", range(12))
def test_a_drawn_network_runs_and_is_within_the_bounds(index: int) -> None:
    network = DRAWN[index]
    model, (*size, c_in) = network.build(), network.shape
    x = jax.ShapeDtypeStruct((network.batch, *network.shape), np.float32)
    logits, _ = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), x)
    assert logits.shape == (network.batch, 10)
    described = geometry.describe(model, network.shape)
    least, most = random_draw.MACS
    assert least <= 3 * network.batch * described.macs <= most
    assert described.params <= 1.1 * random_draw.PARAMETERS  # biases and scales, too
    assert 16 <= network.batch <= 256
    assert 1 <= c_in <= 256
    assert all(8 <= n <= {1: 4096, 2: 128}[len(size)] for n in size)


def test_convolutions_are_in_bounds_and_their_multiplications_counted() -> None:
    for network in DRAWN:
        found = [layer for layer in leaves(network) if isinstance(layer, layers.ConvBase)]
        assert 2 <= len(found) <= 8
        assert all(1 <= k <= 7 for layer in found for k in layer.window)
        assert all(1 <= layer.features <= 256 for layer in found)


def test_every_kind_of_layer_is_drawn() -> None:
    found = [layer for i in range(80) for layer in leaves(random_draw.draw(3, i))]
    kinds = {type(layer).__name__ for layer in found}
    assert kinds >= {"Conv", "SeparableConv", "MaxPool", "AvgPool", "BlurPool", "Maxout"}
    assert kinds >= {"AdaptiveAvgPool", "AdaptiveMaxPool", "GlobalAvgPool", "GlobalMaxPool"}
    assert kinds >= {"BatchNorm", "GroupNorm", "LocalResponseNorm", "Flatten", "Dense"}
    convs = [layer for layer in found if isinstance(layer, layers.Conv)]
    assert {max(c.strides) for c in convs} == {max(c.dilation) for c in convs} == {1, 2, 3}
    assert any(1 < c.groups < c.features for c in convs)
    assert {k for c in convs for k in c.window} == set(range(1, 8))


def test_other_names_are_those_of_the_benchmarks() -> None:
    assert random_draw.by_name("lenet5", 7).batch == 7
    with pytest.raises(InputError, match="batch of a drawn network is drawn, too"):
        random_draw.by_name("random-1-0", 7)
    with pytest.raises(InputError, match="unknown network 'random-1'"):
        random_draw.by_name("random-1")


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="seed must be at least 0, got -1"):
        random_networks.Flags(seed=-1)
    with pytest.raises(InputError, match="count must be at least 1, got 0"):
        random_networks.Flags(seed=1, count=0)


def test_networks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    random_networks.main(random_networks.Flags(seed=11, count=2, networks_only=True))
    first, second = capsys.readouterr().out.splitlines()
    shape = "×".join(map(str, DRAWN[0].shape))
    assert first.startswith(f'random-11-0: {shape}, batch {DRAWN[0].batch} {{"layer": "Chain"')
    assert second.startswith("random-11-1: ")


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv(6, (3, 2), strides=2, padding=1, dilation=2, groups=2),
        layers.SeparableConv(6, (3, 2), strides=2, padding=1, dilation=2, multiplier=2),
        layers.MaxPool((3, 2), strides=2, padding=1),
        layers.AvgPool((3, 2), strides=2, padding=1),
        layers.AvgPool((3, 2), strides=2, padding=1, count_padding=True),
    ],
)
def test_flax_computes_the_same_shape(layer: nn.Module) -> None:
    x = jax.numpy.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 4)), np.float32)
    twin = in_flax(layer)
    if isinstance(layer, layers.ConvBase):
        shapes = [jax.eval_shape(m.init, jax.random.key(0), x) for m in (layer, twin)]
        sizes = [sorted(w.size for w in jax.tree.leaves(s)) for s in shapes]
        assert sizes[0] == sizes[1]
        outputs = [
            jax.eval_shape(lambda x, m=m: m.init_with_output(jax.random.key(0), x), x)[0].shape
            for m in (layer, twin)
        ]
        assert outputs[0] == outputs[1]
    else:
        np.testing.assert_allclose(layer.apply({}, x), twin(x), rtol=1e-6, atol=1e-6)


def record(torch: float, reference: float, difference: float = 0.0) -> dict:
    medians = {"ours": 2.0, "reference": reference, "torch": torch, "torch_channels_last": 9.0}
    return {
        "medians": medians,
        "starts": {"ours": 3.0, "reference": 2.0},
        "differences": dict.fromkeys(("logits", "input", "weights"), difference),
    }


def test_the_distribution_by_hand() -> None:
    records = [record(1.0, 2.0), record(2.0, 4.0), record(3.0, 6.0), record(99.0, 8.0, 0.5)]
    found = random_networks.ratios(records)
    assert found == {
        "torch": [0.5, 1.0, 1.5],  # the last twin computes something else
        "reference": [1.0, 2.0, 3.0, 4.0],
        "flax": [],
        "start": [1.5] * 4,
    }
    row = "| best of PyTorch, by ours | 3 | 0.50 | 0.75 | 1.00 | 1.25 | 1.50 |"
    assert row in random_networks.table(records)


def test_times_that_vary_are_not_steady() -> None:
    times = {"ours": [1.0, 2.0, 1.5], "torch": [3.0, 3.1]}
    assert random_networks.is_steady({"seconds": times})
    assert not random_networks.is_steady({"seconds": times | {"flax": [1.0, 2.1]}})


def test_a_contender_that_does_not_answer_is_ended() -> None:
    worker = Worker("random-11-0", "ours", Backend())
    worker.limit = 0.01
    with pytest.raises(Unavailable, match=r"cannot run random-11-0 within 0\.01 s"):
        worker.build()
    assert worker.process.poll() is not None


def test_workers_that_cannot_run_are_left_out() -> None:
    """By hand: all begin to build before one is ready, and the reason of the failed is kept."""
    together = threading.Barrier(3, timeout=10)

    class Built:
        def __init__(self, reason: Exception | None = None) -> None:
            self.reason = reason

        def build(self) -> None:
            together.wait()
            if self.reason is not None:
                raise self.reason

    workers: Any = {"a": Built(), "b": Built(Unavailable("no b")), "c": Built(RuntimeError("dead"))}
    ready, failed = build_all(workers, 3)
    assert (list(ready), failed) == (["a"], ["no b", "dead"])


@pytest.mark.slow
def test_drawn_networks_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(random_networks.TIMED, "cpu", ("ours", "reference", "flax"))
    flags = random_networks.Flags(
        seed=11, count=1, seconds=0.0, out=tmp_path, page=tmp_path / "page.md"
    )
    random_networks.main(flags)
    found = json.loads((tmp_path / "random_networks.jsonl").read_text())
    assert set(found["medians"]) == set(found["starts"]) == {"ours", "reference", "flax"}
    assert found["spec"]["layer"] == "Chain"
    assert "| definitions, by ours | 1 |" in flags.page.read_text()
    assert (tmp_path / "random_networks.png").stat().st_size > 1000


def test_pytorch_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="PyTorch is not installed: run make install"):
        agreement.main(agreement.Flags(network="lenet5"))


def gradients(network: Network, implementation: str) -> list[np.ndarray]:
    """Return the loss's gradients by all weights and the input, compiled as for users.

    No scale of a normalization is 1, and no bias 0: XLA would leave them out.
    """
    model, (x, y) = network.build(), steps.random_batch(network)
    rng, made = np.random.default_rng(0), model.init(jax.random.key(0), x[:2])
    params = jax.tree.map(
        lambda w: w + 0.1 * rng.standard_normal(w.shape, np.float32) * (w.ndim == 1), made["params"]
    )

    def loss(params: Any, x: jax.Array) -> jax.Array:
        logits, _ = model.apply({**made, "params": params}, x, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    with use(implementation):
        step = jax.jit(jax.grad(loss, argnums=(0, 1)), compiler_options=FOR_USERS)
        return [np.asarray(g) for g in jax.tree.leaves(step(params, x))]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(12))
def test_the_default_implementations_compute_the_gradients_of_the_definitions(index: int) -> None:
    """That of a bias before a normalization is 0 but for rounding, so small ones count less."""
    network = random_draw.draw(5, index)
    network = network._replace(batch=min(network.batch, 16))
    ours, exact = (gradients(network, which) for which in ("fastest", "reference"))
    largest = max(np.linalg.norm(g) for g in exact)
    for found, expected in zip(ours, exact, strict=True):
        scale = max(np.linalg.norm(expected), 1e-3 * largest)
        assert np.linalg.norm(found - expected) <= 1e-3 * scale


@pytest.mark.parametrize("index", range(12))
def test_the_twin_in_pytorch_computes_the_same(index: int) -> None:
    pytest.importorskip("torch", reason="the twin is PyTorch's")
    found = agreement.differences(DRAWN[index]._replace(batch=4))
    assert max(found.values()) < 1e-4, found
    assert not any(map(math.isnan, found.values()))


def test_branches_and_unshared_kernels_have_twins() -> None:
    pytest.importorskip("torch", reason="the twin is PyTorch's")
    body = layers.Chain((layers.Conv(5, (3, 3), padding=1), layers.BatchNorm(), layers.Tanh()))
    parts = layers.Concat((layers.Conv(2, (1, 1)), layers.MaxPool((3, 3), strides=1, padding=1)))
    model = layers.Chain(
        (
            layers.Residual(body, layers.Conv(5, (1, 1))),
            layers.ConvLocal(4, (3, 2), strides=(2, 1), padding=1),
            *(parts, layers.Flatten(), layers.Dense(10)),
        )
    )
    found = agreement.differences(Network(lambda: model, (7, 6, 3), 4, 1.0))
    assert max(found.values()) < 1e-5, found


def test_the_network_of_airbench_has_a_twin() -> None:
    torch = pytest.importorskip("torch", reason="the twin is PyTorch's")
    from benchmarks.torch_twin import in_torch

    network = by_name("airbench", 4)
    found = agreement.differences(network)
    assert agreement.agree(found), found  # its bounds allow for near ties in max-pooling
    x, model = steps.random_batch(network)[0], network.build()
    variables = model.init(jax.random.key(0), x)
    twin = in_torch(model, (32, 32), 3, variables).eval()
    with torch.no_grad():  # in inference, the mean over an image and its mirror
        theirs = twin(torch.tensor(np.moveaxis(x, -1, 1)))
    np.testing.assert_allclose(model.apply(variables, x), theirs, rtol=1e-3, atol=1e-4)


def test_what_pytorch_lacks_is_named() -> None:
    pytest.importorskip("torch", reason="the twin is PyTorch's")
    from benchmarks.torch_twin import in_torch

    with pytest.raises(TypeError, match=r"padding \(\(0, 1\), \(0, 1\)\) has no translation"):
        in_torch(layers.MaxPool((2, 2), padding=((0, 1), (0, 1))), (5, 5), 3)
    with pytest.raises(TypeError, match="DenseSpatial has no translation"):
        in_torch(layers.DenseSpatial(3, (3, 3)), (5, 5), 3)
