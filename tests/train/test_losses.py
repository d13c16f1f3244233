"""Losses against NumPy and by hand, and what does not fit them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import huber as scipy_huber

from cnn.errors import InputError
from cnn.train.losses import LOSSES, cross_entropy, make_loss
from cnn.train.recipe import Recipe

RNG = np.random.default_rng(0)
OUTPUTS, TARGETS = (RNG.normal(size=(5, 4, 3, 2)).astype(np.float32) * 2 for _ in range(2))


def test_cross_entropy_by_hand() -> None:
    """Logits (0, ln 3) mean probabilities 1/4 and 3/4."""
    logits = jnp.array([[0.0, np.log(3.0)]])
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1])), [-np.log(3 / 4)], rtol=1e-6)
    smooth = -(0.95 * np.log(3 / 4) + 0.05 * np.log(1 / 4))
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1]), 0.1), [smooth], rtol=1e-6)
    smoothing = make_loss(Recipe(label_smoothing=0.1))
    np.testing.assert_allclose(smoothing(logits, jnp.array([1])), [smooth], rtol=1e-6)


def test_losses_of_floats_are_means_over_the_axes_of_an_example() -> None:
    d, axes = OUTPUTS - TARGETS, (1, 2, 3)
    t = (TARGETS > 0).astype(np.float32)
    p = 1 / (1 + np.exp(-OUTPUTS.astype(float)))
    expected: dict[str, Any] = {
        "squared-error": ((d**2).mean(axes), TARGETS),
        "absolute-error": (np.abs(d).mean(axes), TARGETS),
        "huber": (scipy_huber(1, d).mean(axes), TARGETS),
        "binary-cross-entropy": (-(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axes), t),
    }
    assert {"cross-entropy", *expected} == {*LOSSES}
    for name, (values, targets) in expected.items():
        found = make_loss(Recipe(loss=name))(OUTPUTS, targets)
        np.testing.assert_allclose(found, values, rtol=1e-5, err_msg=name)


def twice(outputs: Any, targets: Any) -> Any:
    return 2 * outputs[:, 0] + targets[:, 0]


def test_a_loss_of_one_s_own() -> None:
    for loss in (twice, f"{__name__}:twice"):
        assert make_loss(Recipe(loss=loss))(jnp.ones((2, 1)), jnp.ones((2, 1))).tolist() == [3, 3]


CASES: list[Any] = [
    ("cross-entropy", (4, 3), jnp.ones((4, 3)), "needs outputs (batch, classes) and class indices"),
    ("cross-entropy", (4, 5, 3), jnp.zeros(4, int), "got outputs (4, 5, 3) and int32 targets (4,)"),
    ("squared-error", (4, 1), jnp.ones(4), "shaped like the outputs, got outputs (4, 1) and float"),
    ("huber", (4, 3), jnp.zeros((4, 3), int), "needs float targets shaped like the outputs"),
    ("absolute-error", (4, 3), jnp.zeros(4, int), "got outputs (4, 3) and int32 targets (4,)"),
    ("binary-cross-entropy", (4, 3), jnp.ones((4, 2)), "loss binary-cross-entropy needs float"),
    ("mse", (4, 3), jnp.ones((4, 3)), "unknown loss 'mse': choose one of"),
    ("hubert", (4, 3), jnp.ones((4, 3)), "unknown loss 'hubert': did you mean 'huber'?"),
]


@pytest.mark.parametrize(("name", "shape", "targets", "message"), CASES)
def test_what_does_not_fit_is_one_line(
    name: str, shape: tuple[int, ...], targets: Any, message: str
) -> None:
    with pytest.raises(InputError) as error:
        make_loss(Recipe(loss=name))(jnp.ones(shape), targets)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
