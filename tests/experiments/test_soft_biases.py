"""A dense pathway beside every convolution, as a study."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import layers
from cnn.ablations import densify
from cnn.data import Dataset, Split
from cnn.errors import InputError
from cnn.models import cnn1d
from experiments import soft_biases
from experiments.harness.modules import Times
from experiments.soft_biases import (
    CONV,
    DENSE,
    HALF,
    ORDERS,
    RIGHT,
    SHARE,
    SOFT,
    WRONG,
    Settings,
    soft,
)
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    soft_biases.STUDY.run(Settings(smoke=True, strengths=(0.03,), out=tmp_path))
    names = {"results.jsonl", "soft_biases.png", "claims.png", "report.html", "summary.json"}
    assert names < {p.name for p in (tmp_path / "smoke").iterdir()}


def test_it_starts_as_the_convolution_and_adds_a_dense_layer() -> None:
    """The dense pathway adds λ times what a dense layer gives."""
    x = jax.random.normal(jax.random.key(0), (2, 40, 1))
    pathways, conv = soft(0.5).layers[0], cnn1d().layers[0]
    params = pathways.init(jax.random.key(1), x)["params"]
    at_first = jnp.asarray(conv.apply({"params": params["shortcut"]}, x))
    assert jnp.array_equal(jnp.asarray(pathways.apply({"params": params}, x)), at_first)
    kernel = jax.random.normal(jax.random.key(2), (40, 1, 19, 25))
    later = {**params, "body": {"layers_0": {"kernel": kernel}}}
    expected = at_first + 0.5 * jnp.einsum("bic,icpd->bpd", x, kernel)
    found = jnp.asarray(pathways.apply({"params": later}, x))
    assert jnp.allclose(found, expected, atol=1e-4)


def test_dense_share_by_hand() -> None:
    """A layer whose pathways have the variances 1 and 4, and one with an idle dense pathway."""
    x = jnp.asarray([[[1.0]], [[-1.0]]])
    conv = layers.Conv(1, (1,))
    dense = layers.Chain((densify(conv.clone(use_bias=False)), Times(0.5)))
    model = layers.Chain((layers.Residual(dense, conv), layers.Residual(dense, conv)))
    shortcut = {"kernel": jnp.full((1, 1, 1), 2.0), "bias": jnp.ones(1)}

    def both(weight: float) -> dict[str, Any]:
        kernel = jnp.full((1, 1, 1, 1), weight)
        return {"body": {"layers_0": {"kernel": kernel}}, "shortcut": shortcut}

    params = {"layers_0": both(2.0), "layers_1": both(0.0)}
    found = soft_biases.dense_share(model, {"params": params}, np.asarray(x))
    assert found == pytest.approx((1 / 5 + 0) / 2)


def positions() -> Dataset:
    """Return a signal that counts its positions."""
    split = Split(np.arange(40, dtype=np.float32).reshape(1, 40, 1), np.zeros(1, np.int32))
    return Dataset("positions", split, split, ("zero",), (0.0,), (1.0,))


def test_orders() -> None:
    def order(name: str, seed: int) -> list[float]:
        data = soft_biases.reorder(positions(), name, seed)
        train, test = (np.asarray(split.x).ravel().tolist() for split in (data.train, data.test))
        assert train == test
        return train

    whole = list(range(40))
    assert order(RIGHT, 0) == whole
    assert order(HALF, 0)[:20] == whole[:20]
    for name, start in ((HALF, 20), (WRONG, 0)):
        moved = order(name, 0)[start:]
        assert sorted(moved) == whole[start:]
        assert sum(a == b for a, b in zip(moved, whole[start:], strict=True)) < 5
        assert moved != order(name, 1)[start:]


def test_a_seed_has_one_order_for_all_networks() -> None:
    found = soft_biases.points(Settings(strengths=(0.03,), orders=(WRONG,), seeds=2))
    assert len(found) == 3 * 2
    assert found[CONV, WRONG, "1"].data is found[SOFT, WRONG, "1"].data
    first, second = (found[CONV, WRONG, seed].data.content_hash() for seed in ("0", "1"))
    assert first != second
    assert (found[CONV, WRONG, "1"].seed, found[CONV, WRONG, "1"].seeds) == (1, 1)


def test_summary() -> None:
    """The i-th point has i and i + 2 %: networks by strength, six for every order."""
    given = Settings(seeds=2)
    networks = soft_biases.networks(given)
    assert [*networks] == [CONV, "0.01", SOFT, "0.1", "0.3", DENSE]
    names = [(network, order, "0") for order in ORDERS for network in networks]
    results = outcomes(names, SHARE)
    for name in names:
        if name[0] in (CONV, DENSE):
            values = {k: v for k, v in results[name].values.items() if k != SHARE}
            results[name] = replace(results[name], values=values)
    summary = soft_biases.STUDY.conclude(given, results, {})
    assert summary.findings[0].startswith("The bias right, points against dense by λ")
    assert summary.findings[0].endswith(
        "0.01: -4.0 ± 0.0, 0.03: -3.0 ± 0.0, 0.1: -2.0 ± 0.0, 0.3: -1.0 ± 0.0."
    )
    rows = summary.tables[0].rows
    assert rows[0] == ["conv", "1", "1.00 ± 1.41", "7.00 ± 1.41", "13.00 ± 1.41", "", "", ""]
    assert rows[3][5:] == ["0.04 ± 0.01", "0.10 ± 0.01", "0.16 ± 0.01"]
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([0.02, -0.03, 0.02, -0.03, 0.06, 0.06])
    check_figures(summary)


def test_dense_has_one_recipe_for_all_orders() -> None:
    assert soft_biases.STUDY.tuning is not None
    by = soft_biases.STUDY.tuning.by
    assert by((DENSE, RIGHT, "0")) == by((DENSE, WRONG, "1"))
    assert by((SOFT, RIGHT, "0")) != by((SOFT, WRONG, "0"))
    assert by((SOFT, WRONG, "0")) == by((SOFT, WRONG, "1"))


def test_a_price_that_is_none_or_an_unknown_order() -> None:
    for strengths in ((), (0.0, 0.1)):
        with pytest.raises(InputError, match="strengths must be above 0"):
            soft_biases.points(Settings(strengths=strengths))
    with pytest.raises(InputError, match="unknown order 'left'"):
        soft_biases.points(Settings(orders=("left",)))
