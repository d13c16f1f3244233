"""Distances of attention by hand, in closed form, and from what the operation itself selects."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ops
from cnn.ablations import attend
from cnn.errors import InputError
from cnn.layers import BatchNorm, Chain, Conv, Flatten, PositionalAttention, ReLU
from cnn.probes import AttentionHeads, attention_heads


def heads(layer: PositionalAttention, x: jax.Array, **changes: jax.Array) -> AttentionHeads:
    """Return the heads of a layer as it starts, with some of its weights changed."""

    @jax.jit  # compiles less than without
    def measured(x: jax.Array, changes: dict[str, jax.Array]) -> AttentionHeads:
        made = layer.init(jax.random.key(0), x)["params"]
        return attention_heads(layer, {"params": {**made, **changes}}, x)[""]

    return measured(x, changes)


def test_a_head_at_a_tap_has_the_distance_of_the_tap_from_the_centre() -> None:
    line, image = jnp.zeros((2, 9, 1)), jnp.zeros((1, 5, 6, 2))
    found = heads(PositionalAttention(3, 5, 2, padding=4, dilation=2, gate=40.0), line)
    np.testing.assert_allclose(found.distance, [4, 2, 0, 2, 4], atol=1e-3)
    np.testing.assert_allclose(found.gate, 1)
    found = heads(PositionalAttention(3, 3, padding=1, gate=40.0), image)
    far = np.sqrt(2)
    np.testing.assert_allclose(found.distance, [[far, 1, far], [1, 0, 1], [far, 1, far]], atol=1e-3)
    found = heads(PositionalAttention(3, (3, 2), gate=40.0), image)  # the centre is between taps
    np.testing.assert_allclose(found.distance[1], [0.5, 0.5], atol=1e-3)


def test_a_head_that_moved_has_the_distance_of_its_peak() -> None:
    layer = PositionalAttention(1, 5, padding=2, locality=30.0, gate=40.0)
    offsets = jnp.array([[2.0], [2.25], [-1.0], [4.0], [5.0]])  # from the first tap
    found = heads(layer, jnp.zeros((1, 30, 1)), offsets=offsets)
    assert found.distance[:2] == pytest.approx([0, 0], abs=1e-3)
    # Beyond the padding a head takes the nearest position, at one of the 30 outputs: 2, not 3.
    assert found.distance[2:] == pytest.approx([3 - 1 / 30, 2, 3 - 1 / 30], abs=1e-3)


@pytest.mark.parametrize(("gate", "locality"), [(-40.0, 12.0), (40.0, 1e-9)])
def test_uniform_attention_has_the_mean_distance_of_all_pairs(gate: float, locality: float) -> None:
    """Of n positions in a line, (n² − 1) / (3 n)."""
    found = heads(
        PositionalAttention(2, 1, gate=gate, locality=locality),
        jax.random.normal(jax.random.key(0), (2, 7, 3)),
    )
    assert float(found.distance[0]) == pytest.approx(48 / 21, rel=1e-5)


def test_the_gate_mixes_both_distances() -> None:
    """At the logit log 3, three quarters are by position, here at distance 0."""
    layer = PositionalAttention(2, 1, locality=40.0, gate=float(np.log(3)))
    found = heads(layer, jnp.zeros((1, 7, 3)))
    assert float(found.gate[0]) == pytest.approx(0.75)
    assert float(found.distance[0]) == pytest.approx(0.25 * 48 / 21, rel=1e-5)


@pytest.mark.parametrize(("window", "strides", "padding"), [(3, 1, "VALID"), (4, 2, ((-1, 0),))])
def test_distances_are_those_of_what_the_operation_selects(
    window: int, strides: int, padding: Any
) -> None:
    """With one channel for every position, the operation returns the attention itself."""
    n, keys = 8, jax.random.split(jax.random.key(3), 4)
    layer = PositionalAttention(n, window, strides, padding)
    x = jnp.eye(n)[None]
    weights = {
        "query": 3 * jax.random.normal(keys[0], (window, n, n)),
        "offsets": 4 * jax.random.uniform(keys[1], (window, 1)),
        "strengths": jax.random.uniform(keys[2], (window,)),
        "gates": jax.random.normal(keys[3], (window,)),
    }
    found = heads(layer, x, **weights)
    lo = -padding[0][0] if padding != "VALID" else 0
    attend_alone = jax.jit(partial(ops.positional_attention, strides=strides, padding=padding))
    for head in range(window):
        kernel = np.zeros((window, n, n), np.float32)
        kernel[head] = np.eye(n)
        attention = np.asarray(attend_alone(x, kernel, **weights)[0])
        centres = lo + strides * np.arange(len(attention)) + (window - 1) / 2
        distance = np.abs(np.arange(n) - centres[:, None])
        np.testing.assert_allclose(attention.sum(-1), 1, rtol=1e-5)
        expected = (attention * distance).sum(-1).mean()
        assert float(found.distance[head]) == pytest.approx(expected, rel=1e-5)


def test_every_layer_of_a_network_by_its_path() -> None:
    """Each layer attends to its own input."""
    body = attend(Chain((Conv(3, 3), BatchNorm(), ReLU())))
    last = PositionalAttention(4, 3, gate=0.0)
    model, x = Chain((body, last)), jax.random.normal(jax.random.key(0), (2, 9, 2))
    made = jax.jit(model.init)(jax.random.key(1), x)
    weights = made["params"]["layers_1"]
    weights["query"] += 1.0
    found = jax.jit(partial(attention_heads, model))(made, x)
    assert list(found) == ["layers_0/layers_0", "layers_1"]
    below = jax.jit(body.apply)({name: part["layers_0"] for name, part in made.items()}, x)
    alone, at_zero = (heads(last, y, **weights).distance for y in (below, 0 * below))
    np.testing.assert_allclose(found["layers_1"].distance, alone, rtol=1e-5)
    assert not np.allclose(alone, at_zero)


def test_a_network_without_attention_is_refused() -> None:
    message = "model must have a PositionalAttention of cnn.layers, got Flatten without one: "
    with pytest.raises(InputError, match=re.escape(message)):
        attention_heads(Flatten(), {}, jnp.zeros((1, 40, 1)))
