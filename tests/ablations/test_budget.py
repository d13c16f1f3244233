"""Matched widths, by hand and against all others."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from cnn import models
from cnn.ablations import densify, match, unshare
from cnn.ablations.budget import scale_width
from cnn.errors import InputError
from cnn.layers import Chain, Concat, Conv, Dense, Flatten, GroupNorm, MaxPool, Residual


def parameters(model: nn.Module, shape: tuple[int, ...]) -> int:
    made = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    return sum(leaf.size for leaf in jax.tree.leaves(made["params"]))


def test_the_width_is_the_nearest_of_all() -> None:
    """Against every width: w channels on 9 positions of 10 cost 3w + w·9·2 + 2."""
    model = Chain((Conv(5, (2,)), Flatten(), Dense(2)))
    costs = {w: (2 * w + w) + (w * 9 * 2 + 2) for w in range(1, 1000)}
    for units in (50, 333, 1000):
        to = Chain((Flatten(), Dense(units), Dense(2)))
        target = 10 * units + units + units * 2 + 2
        found = match(model, to, (10, 1))
        assert found.target == target
        assert abs(found.cost - target) == min(abs(c - target) for c in costs.values())
        assert parameters(found.model, (10, 1)) == found.cost
    assert str(found) == f"width {found.width:.4g} costs 13,001 of 13,002 (-0.0%)"


@pytest.mark.parametrize(
    "by",
    [
        "parameters",
        pytest.param("macs", marks=pytest.mark.slow),
        pytest.param("units", marks=pytest.mark.slow),
    ],
)
def test_unshared_and_dense_networks_of_equal_cost(by: str) -> None:
    conv, shape = models.cnn1d(), (40, 1)
    for model in (unshare(conv), densify(conv)):
        found = match(model, conv, shape, by=by)  # type: ignore[arg-type]
        assert abs(found.cost / found.target - 1) < 0.2
        if by == "units":  # which sharing does not change
            assert found.cost == found.target == 25 * (19 + 10 + 5) + 10


def test_macs_by_hand() -> None:
    """Three taps and w channels at 8 positions, then dense: 24w + 16w, to reach 400."""
    found = match(
        Chain((Conv(1, (3,)), Flatten(), Dense(2))), Chain((Flatten(), Dense(40))), (10, 1), "macs"
    )
    assert (found.model.layers[0].features, found.cost, found.target) == (10, 400, 400)


def test_depthwise_stays_depthwise_and_groups_divide() -> None:
    separable = scale_width(models.separable_net(), 0.7)
    assert jax.eval_shape(separable.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    assert all(
        layer.groups in (1, layer.features) for layer in separable.layers if isinstance(layer, Conv)
    )
    grouped = scale_width(
        Chain((Conv(8, (1,)), GroupNorm(4), Conv(8, (1,), groups=4), Dense(3))), 0.7
    )
    assert [layer.features for layer in grouped.layers if hasattr(layer, "features")] == [4, 4, 3]
    odd = scale_width(Chain((Conv(8, (1,)), GroupNorm(4), Dense(3))), 1.2)  # 10 features
    assert odd.layers[1].groups == 2


def test_behind_branches_and_normalization() -> None:
    """The channels of branches add up: 1 + 3 at 0.7 are 1 + 2, which 3 groups divide, not 4."""
    model = Chain(
        (
            Conv(4, (1,)),
            Concat((Conv(1, (1,)), Residual(Conv(3, (1,)), shortcut=Conv(3, (1,))))),
            GroupNorm(4),
            Conv(4, (1,), groups=4),
            MaxPool((2,)),
            GroupNorm(2),
            Dense(3),
        )
    )
    narrow = scale_width(model, 0.7)
    assert jax.eval_shape(narrow.init, jax.random.key(0), jnp.zeros((1, 8, 2)))
    assert narrow.layers[2] == GroupNorm(3)
    assert narrow.layers[3] == Conv(3, (1,), groups=3)
    assert narrow.layers[5] == GroupNorm(1)
    found = match(model, Chain((Conv(2, (1,)), Dense(3))), (8, 2))
    assert parameters(found.model, (8, 2)) == found.cost


def test_bad_input() -> None:
    tiny = Chain((Flatten(), Dense(1, use_bias=False)))
    with pytest.raises(InputError, match=r"no width of the model is near 4 param.* has 15"):
        match(Chain((Flatten(), Dense(1), Dense(10), Dense(4))), tiny, (4, 1))
    with pytest.raises(InputError, match=r"model must have a Conv or Dense of cnn\.layers"):
        match(nn.Dense(3), tiny, (4, 1))
    with pytest.raises(InputError, match="unknown cost 'flops'"):
        match(models.cnn1d(), models.mlp(), (40, 1), by="flops")  # type: ignore[arg-type]
