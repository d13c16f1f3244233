"""A run whose network has other code is another run."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn.errors import InputError
from cnn.layers import BatchNorm, Chain, Dense, Dropout, Flatten
from cnn.ops import implementations
from cnn.train import Recipe, fit, run_dir
from cnn.train.run_identity import check_identity, program_hash
from tests.small import config, model, waves

Activation = Callable[[jax.Array], jax.Array]


def edited(activation: Activation) -> nn.Module:
    """Return a network as if the code of its class had been edited: same name, same fields."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.Dense(2)(activation(nn.Dense(4)(x.reshape(len(x), -1))))

    return Net()


def scaled(by: float) -> Activation:
    weights = np.full((1, 4), by, np.float32)
    return jax.checkpoint(jax.jit(lambda x: x * weights))


def test_a_network_whose_code_was_edited_is_not_resumed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(config(out, steps=2, model=edited(nn.relu)))
    fit(config(out, steps=3, model=edited(nn.relu), resume=True))
    with pytest.raises(
        InputError, match=r"step 3 is of a network with other code.*restore that code, or"
    ) as error:
        fit(config(out, steps=4, model=edited(nn.tanh), resume=True))
    assert "\n" not in str(error.value)
    program = json.loads((out / run_dir.RUN).read_text())["program"]
    assert program == {
        "jax": jax.__version__,
        "hashes": [program_hash(edited(nn.relu), Recipe(), waves())],
    }


@pytest.mark.parametrize("old", [{"program": {"jax": "0.1", "hashes": ["a"]}}, {}])
def test_another_jax_is_a_warning(old: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    new = {"model": "m", "program": {"jax": "0.2", "hashes": ["b"]}}
    with caplog.at_level(logging.WARNING):
        check_identity(5, {"model": "m", **old}, new)
    (message,) = caplog.messages
    assert "step 5 was written with JAX" in message
    assert "is not known" in message
    with pytest.raises(InputError, match="of another run: model: 'n' is not 'm': resume with"):
        check_identity(5, {"model": "n", **old}, new)


def test_the_hash_is_the_same_whatever_computes_it() -> None:
    hashes = {program_hash(model(), Recipe(), waves())}
    for name in ("fastest", "reference"):
        with implementations.use(name):
            hashes.add(program_hash(model(), Recipe(), waves()))
    assert len(hashes) == 1


def test_the_hash_follows_the_code_in_training_and_evaluation_and_constants() -> None:
    networks = [edited(f) for f in (nn.relu, nn.tanh, jnp.sin, scaled(2.0), scaled(3.0))]
    rates = [Chain((Flatten(), Dropout(rate), BatchNorm(), Dense(2))) for rate in (0.1, 0.2)]
    assert (
        len({program_hash(network, Recipe(), waves(length=4)) for network in (*networks, *rates)})
        == 7
    )


def test_the_hash_follows_the_initialization() -> None:
    networks = [Chain((Flatten(), Dense(2, scale=scale))) for scale in (1.0, 2.0)]
    assert len({program_hash(each, Recipe(), waves()) for each in networks}) == 2
