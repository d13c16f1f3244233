"""Networks of other libraries whose padding XLA gets wrong on a CPU."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from cnn.errors import InputError
from cnn.geometry.cpu_padding import check_padding
from cnn.train import fit
from tests.small import config

GOOD: list[dict[str, Any]] = [
    {"kernel_size": (3,)},
    {"kernel_size": (3,), "padding": "VALID"},
    {"kernel_size": (3,), "padding": "CAUSAL", "kernel_dilation": 2},
    {"kernel_size": (1,), "padding": 1},
    {"kernel_size": (1,), "padding": 1, "strides": 2},
    {"kernel_size": (3,), "padding": [(-1, -2)]},
    {"kernel_size": (3,), "padding": [(2, -2)]},
    {"kernel_size": (4,), "padding": [(3, 3)], "strides": 3},
]
BAD: list[dict[str, Any]] = [
    {"kernel_size": (3,), "padding": [(-1, 1)]},  # forward
    {"kernel_size": (3,), "padding": [(-2, 3)], "strides": 2},
    {"kernel_size": (2,), "padding": [(2, 0)]},  # gradient by the input
    {"kernel_size": (3,), "padding": [(4, 0)]},
]


def program(settings: dict[str, Any]) -> Any:
    conv, x = nn.Conv(4, **settings), jnp.zeros((1, 7, 3))
    return jax.make_jaxpr(conv.init)(jax.random.key(0), x)


@pytest.mark.parametrize("settings", GOOD)
def test_usual_padding(settings: dict[str, Any]) -> None:
    check_padding(program(settings))


@pytest.mark.parametrize("settings", BAD)
def test_padding_that_is_computed_from_other_memory(settings: dict[str, Any]) -> None:
    """With jaxlib 0.10, values or gradients of each of these differed from NumPy's."""
    with pytest.raises(InputError, match=r"padding .* by lax.pad"):
        check_padding(program(settings))


def test_a_network_with_it_is_not_trained() -> None:
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.Conv(4, (3,), padding=[(-1, 1)])(x)
            return nn.Dense(10)(x.reshape(len(x), -1))

    with pytest.raises(InputError, match=r"padding \(\(-1, 1\),\)"):
        fit(config(model=Network()))
