"""A constraint relaxed in the middle of training: nothing else changes at that step."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn.ablations import attend, densify, lift, symmetrize, unshare
from cnn.errors import InputError
from cnn.layers import Chain, Conv
from cnn.train import fit
from cnn.train.relax import relax
from cnn.train.state import TrainState, init_state
from tests.small import assert_same, config, model

SHAPE = (12, 1)
LOCAL, DENSE = unshare(model()), densify(model())


def trained(tx: optax.GradientTransformation, steps: int = 3) -> TrainState:
    """A state with moments in it: some steps on random gradients."""
    state, rng = init_state(model(), tx, SHAPE, 0), np.random.default_rng(0)
    update = jax.jit(tx.update)
    for _ in range(steps):
        draws = jax.tree.map(lambda v: jnp.float32(rng.normal(size=v.shape)), state.params)
        updates, opt_state = update(draws, state.opt_state, state.params)
        state = state.replace(
            params=optax.apply_updates(state.params, updates), opt_state=opt_state
        )
    return state


def test_the_function_is_unchanged_and_the_rest_of_the_state_too() -> None:
    state = trained(optax.adam(1e-2))
    state = state.replace(average=jax.tree.map(lambda w: w / 2, state.variables))
    x = jax.random.normal(jax.random.key(5), (4, *SHAPE))
    for target in (LOCAL, DENSE):
        relaxed = relax(state, model(), target, SHAPE)
        before, after = model().apply(state.variables, x), target.apply(relaxed.variables, x)
        np.testing.assert_allclose(after, before, atol=1e-5)
        assert_same(relaxed.opt_state[0].count, state.opt_state[0].count)
        assert_same(
            (relaxed.step, jax.random.key_data(relaxed.key)),
            (state.step, jax.random.key_data(state.key)),
        )


def test_gradients_are_shared_out_among_the_copies() -> None:
    """Three taps at three positions without padding: each has three copies."""
    source = Chain((Conv(1, (3,), use_bias=False),))
    target = unshare(source)
    state = init_state(source, optax.adam(1e-2), (5, 1), 0)
    moments = state.opt_state[0]._replace(
        mu={"layers_0": {"kernel": jnp.array([3.0, 6, 9]).reshape(3, 1, 1)}},
        nu={"layers_0": {"kernel": jnp.array([9.0, 18, 27]).reshape(3, 1, 1)}},
    )
    state = state.replace(opt_state=(moments, *state.opt_state[1:]))
    relaxed = relax(state, source, target, (5, 1)).opt_state[0]
    np.testing.assert_allclose(relaxed.mu["layers_0"]["kernel"][..., 0, 0], [[1, 2, 3]] * 3)
    np.testing.assert_allclose(relaxed.nu["layers_0"]["kernel"][..., 0, 0], [[3, 6, 9]] * 3)

    dense = relax(state, source, densify(source), (5, 1)).opt_state[0]
    diagonals = [[1, 0, 0], [2, 1, 0], [3, 2, 1], [0, 3, 2], [0, 0, 3]]
    np.testing.assert_allclose(dense.mu["layers_0"]["kernel"][:, 0, :, 0], diagonals)
    filled = np.where(np.array(diagonals) == 0, 9, 3 * np.array(diagonals))  # the largest
    np.testing.assert_allclose(dense.nu["layers_0"]["kernel"][:, 0, :, 0], filled)


def test_a_symmetry_and_its_running_statistics_are_relaxed() -> None:
    """From "flip" to plain channels: each weight and statistic has two copies."""
    plain = model(norm=True)
    source = symmetrize(plain, "flip")
    state = init_state(source, optax.sgd(1e-2, momentum=0.9), SHAPE, 0, average=True)
    statistics = {"layers_1": {"mean": jnp.array([1.0, 2]), "var": jnp.array([3.0, 4])}}
    moment = state.opt_state[0]._replace(trace=jax.tree.map(jnp.ones_like, state.params))
    average = {"params": state.params, "batch_stats": statistics}
    state = state.replace(
        batch_stats=statistics, average=average, opt_state=(moment, *state.opt_state[1:])
    )
    relaxed = relax(state, source, plain, SHAPE)
    np.testing.assert_array_equal(relaxed.batch_stats["layers_1"]["var"], [3, 3, 4, 4])
    halves = relaxed.opt_state[0].trace["layers_0"]["kernel"]
    np.testing.assert_array_equal(halves, np.full((3, 1, 4), 0.5))
    x = jax.random.normal(jax.random.key(5), (4, *SHAPE))
    before, after = source.apply(state.average, x), plain.apply(relaxed.average, x)
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_weights_that_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(InputError, match="relax_to must have the weights of the model"):
        relax(trained(optax.adam(1e-2)), model(), attend(model()), SHAPE)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (model(), attend(model()), "relax_to must have the weights of the model"),
        (LOCAL, model(), "layer layers_0: cannot be lifted: Conv has more bias than ConvLocal"),
    ],
)
def test_what_cannot_be_relaxed_is_refused_before_the_run(
    source: Chain, target: Chain, message: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(InputError, match=message):
        fit(config(out, model=source, relax_at=10, relax_to=target))
    assert not out.exists()


def test_momentum_is_lifted_as_a_gradient_is() -> None:
    state = trained(optax.sgd(1e-2, momentum=0.9))
    relaxed = relax(state, model(), LOCAL, SHAPE)
    kernel = state.opt_state[0].trace["layers_0"]["kernel"]
    lifted = relaxed.opt_state[0].trace["layers_0"]["kernel"]
    np.testing.assert_allclose(lifted, jnp.broadcast_to(kernel / 10, lifted.shape), rtol=1e-6)


def test_a_run_relaxed_at_its_end_is_the_run_lifted(tmp_path: Path) -> None:
    plain = fit(config(seeds=2))
    at_end = fit(config(seeds=2, relax_at=20, relax_to=LOCAL))
    for a, b in zip(plain.states, at_end.states, strict=True):
        lifted = lift({"params": a.params}, model(), LOCAL, SHAPE)["params"]
        assert_same(lifted, b.params)
    np.testing.assert_allclose(at_end.test_loss, plain.test_loss, atol=1e-5)
    assert at_end.parameters == 10 * (3 * 4 + 4) + 10 > plain.parameters


@pytest.mark.parametrize("until", [4, 6, 8])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, until: int) -> None:
    """Interrupted before, at, and after the step at which it relaxes."""
    fields = {"steps": 10, "relax_at": 6, "relax_to": DENSE, "checkpoint_every": 2}
    whole = fit(config(**fields))
    with pytest.raises(KeyboardInterrupt):
        fit(config(tmp_path, **fields), on_step=_stop_after(until))
    resumed = fit(config(tmp_path, **fields, resume=True))
    assert_same(
        [(s.params, s.opt_state) for s in whole.states],
        [(s.params, s.opt_state) for s in resumed.states],
    )


def _stop_after(steps: int):  # type: ignore[no-untyped-def]
    done = 0

    def on_step(advanced: int) -> None:
        nonlocal done
        done += advanced
        if done > steps:
            raise KeyboardInterrupt

    return on_step


def test_relaxing_sets_the_weights_free() -> None:
    result = fit(config(relax_at=10, relax_to=LOCAL))
    kernel = result.states[0].params["layers_0"]["kernel"]
    assert float(jnp.abs(kernel - kernel[:1]).max()) > 1e-3


def test_both_or_neither() -> None:
    with pytest.raises(InputError, match="relax_at and relax_to need each other"):
        fit(config(relax_at=3))
    with pytest.raises(InputError, match=r"relax_at must be between 0 and steps \(20\), got 21"):
        fit(config(relax_at=21, relax_to=LOCAL))
    with pytest.raises(InputError, match="layer layers_0: cannot be lifted"):
        fit(config(relax_at=3, relax_to=model(features=5)))


@pytest.mark.parametrize("name", ["lion", "adagrad", "lamb", "rmsprop"])
def test_any_optimizer_with_moments_like_the_weights_is_lifted(name: str) -> None:
    result = fit(config(relax_at=10, relax_to=LOCAL, optimizer=name))
    assert np.isfinite(result.test_loss).all()
    kernel = result.states[0].params["layers_0"]["kernel"]
    moments = [leaf for leaf in jax.tree.leaves(result.states[0].opt_state) if leaf.ndim]
    assert [leaf.shape for leaf in moments].count(kernel.shape) >= 1


@pytest.mark.parametrize(("name", "moment"), [("adadelta", "e_g"), ("adafactor", "v_row")])
def test_others_are_refused_before_training(name: str, moment: str, tmp_path: Path) -> None:
    run = config(tmp_path / "run", relax_at=10, relax_to=LOCAL, optimizer=name)
    with pytest.raises(InputError, match=f"relax_at cannot lift the state '{moment}' of optimizer"):
        fit(run)
    assert not (tmp_path / "run").exists()


def test_a_moment_of_another_shape_is_refused() -> None:
    """Muon keeps moments of some weights only."""
    with pytest.raises(InputError, match="relax_at cannot lift a state of another shape of"):
        fit(config(relax_at=10, relax_to=LOCAL, optimizer="muon"))
