"""Any optimizer of optax, by name or from Python; learning rates; β-LASSO by hand."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn.errors import InputError
from cnn.train.optimizers import (
    beta_lasso,
    check_optimizer,
    make_optimizer,
    make_schedule,
    names,
)
from cnn.train.recipe import Recipe


def test_beta_lasso_by_hand() -> None:
    """η 0.5, λ 0.2, β 2: a pull of 0.1 a step, and nothing between -0.4 and 0.4 remains."""
    params = {"kernel": jnp.array([1.0, -1.0, 0.5, 0.45, 0.0, 0.8]), "bias": jnp.array([0.1])}
    grads = {"kernel": jnp.array([0.0, 0.4, -0.4, 0.0, 0.2, 2.0]), "bias": jnp.array([0.0])}
    tx = beta_lasso(optax.sgd(0.5), strength=0.2, beta=2.0)
    updates, _ = tx.update(grads, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    np.testing.assert_allclose(new["kernel"], [0.9, -1.1, 0.6, 0.0, 0.0, 0.0], rtol=1e-6)
    assert (np.asarray(new["kernel"])[3:] == 0).all()  # to the bit, not nearly
    np.testing.assert_array_equal(new["bias"], params["bias"])


def test_beta_lasso_finds_the_sparse_solution() -> None:
    """∇f = θ - target: it ends at target - λ sign, or at zero where that is within βλ."""
    target = jnp.array([1.0, -1.0, 0.3, 0.05])
    tx = beta_lasso(optax.sgd(0.1), strength=0.01, beta=20.0)
    params = {"kernel": jnp.array([0.5, -0.5, 0.5, 0.5])}
    state = tx.init(params)
    for _ in range(150):
        updates, state = tx.update({"kernel": params["kernel"] - target}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["kernel"], [0.99, -0.99, 0.29, 0.0], atol=1e-5)


def test_beta_lasso_of_strength_zero_is_the_optimizer_inside() -> None:
    params = {"kernel": jnp.array([1.0, -2.0])}
    grads = {"kernel": jnp.array([0.5, 3.0])}
    steps = []
    for tx in (optax.adam(0.1), beta_lasso(optax.adam(0.1), 0.0, 50.0)):
        steps.append(tx.update(grads, tx.init(params), params)[0]["kernel"])
    np.testing.assert_array_equal(*steps)


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"beta": -1.0}, {"beta": float("nan")}])
def test_beta_lasso_refuses(wrong: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must be 0 or more, got"):
        beta_lasso(optax.sgd(0.1), **({"strength": 1.0, "beta": 1.0} | wrong))


def test_learning_rates() -> None:
    rate = make_schedule(Recipe(lr=2.0, schedule="cosine", steps=110, warmup=10))
    # Linear to 2 at step 10, then half a cosine to 0 at step 110.
    for step, expected in [(0, 0.0), (5, 1.0), (10, 2.0), (60, 1.0), (110, 0.0)]:
        assert float(rate(step)) == pytest.approx(expected, abs=1e-6)
    assert float(make_schedule(Recipe(lr=0.3))(12345)) == pytest.approx(0.3)


def test_one_cycle() -> None:
    """Half a cosine from lr / 25 to lr at three tenths, another to lr / 250,000 at the end."""
    rate = make_schedule(Recipe(lr=2.0, schedule="one-cycle", steps=100))
    for step, expected in [(0, 0.08), (15, 1.04), (30, 2.0), (65, 1.000004), (100, 8e-6)]:
        assert float(rate(step)) == pytest.approx(expected, rel=1e-4)


def test_beta_lasso_pulls_kernels_to_zero_and_cuts_small_ones_off() -> None:
    """One step of 0.1 with λ = 0.01: 0.9 − 0.1 (1 + 0.01) = 0.799; 0.5 or less is cut off."""
    tx = make_optimizer(Recipe(optimizer="beta-lasso", lr=0.1, weight_decay=0.01))
    params = {"kernel": jnp.array([0.9, 0.6]), "bias": jnp.array([0.1])}
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(grads, tx.init(params), params, lr=1.0)
    after = jax.tree.map(jnp.add, params, updates)
    np.testing.assert_allclose(after["kernel"], [0.799, 0.0], atol=1e-6)
    np.testing.assert_allclose(after["bias"], [0.0], atol=1e-6)


def update(recipe: Recipe, lr: float = 1.0, steps: int = 1) -> dict[str, np.ndarray]:
    """Return the sum of some updates of a kernel and a bias with fixed gradients."""
    tx = make_optimizer(recipe)
    start = params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
    grads, state = {"kernel": jnp.array([[0.5, 2.0]]), "bias": jnp.array([-1.0])}, tx.init(params)
    for _ in range(steps):
        updates, state = tx.update(grads, state, params, lr=lr, value=1.0)
        params = optax.apply_updates(params, updates)
    return jax.tree.map(lambda a, b: np.asarray(a - b), params, start)


NAMES = ("adam", "adan", "lion", "muon", "lamb", "lars", "rmsprop", "adagrad", "fromage", "yogi")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_optax_s_own_optimizer_at_any_learning_rate(name: str) -> None:
    """`lr` 0.4 as a factor of a recipe with 0.5 is the optimizer with 0.2."""
    factory = names()[name]
    decay = {"weight_decay": 0.0} if name in ("adan", "lion", "muon", "lamb", "lars") else {}
    tx = factory(0.2, **decay)
    params = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
    start, state = params, tx.init(params)
    grads = {"kernel": jnp.array([[0.5, 2.0]]), "bias": jnp.array([-1.0])}
    for _ in range(3):
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    ours = update(Recipe(optimizer=name, lr=0.5), lr=0.4, steps=3)
    for key in params:
        np.testing.assert_allclose(ours[key], params[key] - start[key], rtol=1e-5, err_msg=key)


def test_decay_is_decoupled_where_the_optimizer_has_it_and_in_the_gradient_elsewhere() -> None:
    """Lion: lr · (sign + λ w). SGD: lr · (g + λ w). Adam: the sign of g + λ w. Biases: none."""
    w, g = np.array([[1.0, -2.0]]), np.array([[0.5, 2.0]])
    for name, kernel, bias in [
        ("lion", np.sign(g) + 0.3 * w, -1.0),
        ("sgd", g + 0.3 * w, -1.0),
        ("adam", np.sign(g + 0.3 * w), -1.0),
    ]:
        moved = update(Recipe(optimizer=name, lr=0.1, weight_decay=0.3))
        np.testing.assert_allclose(moved["kernel"], -0.1 * kernel, rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(moved["bias"], [-0.1 * bias], rtol=1e-4)


def test_arguments() -> None:
    """Nesterov's first step is (1 + μ) times the gradient. A mapping means the same."""
    for arguments in (("momentum=0.5", "nesterov=true"), {"momentum": 0.5, "nesterov": True}):
        moved = update(Recipe(optimizer="sgd", lr=0.1, optimizer_args=arguments))  # type: ignore[arg-type]
        np.testing.assert_allclose(moved["bias"], [0.15], rtol=1e-6)


def sign_sgd(learning_rate: float, scale: float = 1.0) -> optax.GradientTransformation:
    return optax.chain(optax.scale_by_sign(), optax.scale_by_learning_rate(scale * learning_rate))


def test_a_factory_from_python_or_by_its_module() -> None:
    given: list[Any] = [sign_sgd, f"{__name__}:sign_sgd", partial(sign_sgd, scale=1.0)]
    for optimizer in given:
        moved = update(Recipe(optimizer=optimizer, lr=0.1, optimizer_args=()), lr=2.0)
        np.testing.assert_allclose(moved["kernel"], [[-0.2, -0.2]], rtol=1e-6)
    doubled = update(Recipe(optimizer=sign_sgd, lr=0.1, optimizer_args=("scale=2",)))
    np.testing.assert_allclose(doubled["bias"], [0.2], rtol=1e-6)


def test_a_finished_transformation_has_its_own_learning_rate() -> None:
    recipe = Recipe(optimizer=optax.sgd(0.1), lr=1.0, schedule="cosine", steps=4)
    half = 0.5 * (1 + np.cos(np.pi / 4))
    np.testing.assert_allclose(update(recipe, steps=2)["bias"], [0.1 * (1 + half)], rtol=1e-6)
    for fields, message in [
        ({}, "lr multiplies the learning rate of your optimizer: give lr=1 to keep it"),
        ({"lr": 1.0, "weight_decay": 0.1}, "weight_decay must be 0 with a transformation"),
        ({"lr": 1.0, "optimizer_args": ("b1=0.5",)}, r"optimizer_args must be \(\) with a trans"),
    ]:
        with pytest.raises(InputError, match=message):
            Recipe(optimizer=optax.sgd(0.1), **fields).check()  # type: ignore[arg-type]


def test_a_schedule_from_python_gives_the_learning_rate() -> None:
    schedule = optax.piecewise_constant_schedule(0.1, {1: 0.5})
    recipe = Recipe(optimizer="sgd", schedule=schedule, lr=1.0)
    recipe.check()
    np.testing.assert_allclose(update(recipe, steps=2)["bias"], [0.15], rtol=1e-6)
    with pytest.raises(InputError, match="lr multiplies the learning rate of your schedule"):
        Recipe(schedule=schedule).check()


PARAMS = {
    "kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "bias": jax.ShapeDtypeStruct((3,), jnp.float32),
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"optimizer": "adamv"}, "unknown optimizer 'adamv': did you mean 'adam'"),
    "argument": (
        {"optimizer": "adam", "optimizer_args": ("beta1=0.9",)},
        "unknown argument of optimizer adam 'beta1': did you mean 'b",
    ),
    "no value": ({"optimizer_args": ("b1",)}, "optimizer_args must be NAME=VALUE with each name"),
    "decay": (
        {"optimizer_args": ("weight_decay=1",)},
        "must not contain weight_decay: give weight",
    ),
    "rate": ({"optimizer_args": ("learning_rate=1",)}, "must not contain learning_rate: give lr"),
    "type": (
        {"optimizer": "adam", "optimizer_args": ("b1=high",)},
        "optimizer 'adam' cannot be used: ",
    ),
    "no mask": (
        {"optimizer": "novograd", "weight_decay": 0.1},
        "weight_decay must be 0 with optimizer novograd, which would decay biases too, got 0.1",
    ),
    "line search": ({"optimizer": "lbfgs"}, "optimizer 'lbfgs' cannot be used: "),
    "averages": ({"optimizer": "schedule_free_sgd"}, "evaluates other weights than it trains"),
    "initial": ({"optimizer": "rprop"}, "an initial state that depends on the learning rate"),
    "key": ({"optimizer": "noisy_sgd"}, "keeps random keys or empty arrays, which checkpoints"),
    "empty": ({"optimizer": "galore"}, "'galore' keeps random keys or empty arrays, which"),
    "module": ({"optimizer": "no_such:thing"}, "optimizer 'no_such:thing' cannot be imported"),
    "function": ({"optimizer": "optax:nothing"}, "must name a function, but optax has no such"),
    "other": ({"optimizer": lambda rate: 3}, "cannot be used: "),
    "shape": (
        {"optimizer": optax.stateless(lambda g, _: {**g, "kernel": g["kernel"][0]}), "lr": 1.0},
        "must return updates shaped like the weights",
    ),
}


@pytest.mark.filterwarnings("ignore:Specifying a key will be required")  # of optax's noise
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_train_is_one_line(case: str) -> None:
    fields, message = REFUSED[case]
    with pytest.raises(InputError) as error:
        check_optimizer(Recipe(**fields), PARAMS)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["adafactor", "novograd", "sm3", "prodigy", "momo", "madgrad"])
def test_others_can(name: str) -> None:
    check_optimizer(Recipe(optimizer=name), PARAMS)
