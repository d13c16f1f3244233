"""What mixing of positions is better by, as a study."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import layers
from cnn.errors import InputError
from experiments import mixing
from experiments.harness import rungs
from experiments.harness.modules import OverPositions
from experiments.mixing import CONV, FREE, FULL, MIXING, NEAR, SHARED, Settings
from tests.experiments.made import check_figures, outcomes

NAMES = [(r, p, c) for r in (NEAR, FULL) for p in (SHARED, FREE) for c in (SHARED, FREE)]


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    mixing.STUDY.run(Settings(smoke=True, out=tmp_path))
    names = {"results.jsonl", "mixing.png", "report.html", "summary.json"}
    assert names < {p.name for p in (tmp_path / "smoke").iterdir()}


@pytest.mark.parametrize("reach", (1, None))
def test_shared_weights_are_a_correlation_of_every_channel(reach: int | None) -> None:
    n, layer = 6, OverPositions(reach, shared=True)
    x = np.random.default_rng(0).standard_normal((2, n, 3), np.float32)
    taps = 3 if reach else 2 * n - 1
    kernel = np.arange(1.0, taps + 1, dtype=np.float32)
    y = layer.apply({"params": {"kernel": kernel}}, x)
    padded = np.pad(x, ((0, 0), (taps // 2, taps // 2), (0, 0)))
    expected = sum(kernel[t] * padded[:, t : t + n] for t in range(taps))
    np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-5)
    assert layer.init(jax.random.key(0), x)["params"]["kernel"].shape == (taps,)


def test_free_weights_of_full_reach_are_token_mixing() -> None:
    """Row by row, its weights are the kernel (in, out) of that layer."""
    x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    kernel = jax.random.normal(jax.random.key(1), (5, 5))
    ours = OverPositions(None, shared=False).apply({"params": {"kernel": kernel.ravel()}}, x)
    token_mixing = layers.TokenMixing(3, 5, padding=2, use_bias=False)
    theirs = token_mixing.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5)


def test_free_weights_of_reach_1() -> None:
    """Of 4 positions the ends have two weights, the others three: 10 in all, in rows of inputs."""
    layer, eye = OverPositions(1, shared=False), jnp.eye(4)[None]
    weights = jnp.arange(1.0, 11)
    found = layer.apply({"params": {"kernel": weights}}, eye)[0]
    # Channel c has a 1 at position c, so the output at p is w[c, p].
    np.testing.assert_array_equal(
        found.T, [[1, 2, 0, 0], [3, 4, 5, 0], [0, 6, 7, 8], [0, 0, 9, 10]]
    )
    assert layer.init(jax.random.key(0), eye)["params"]["kernel"].shape == (10,)


def test_parameters_by_hand() -> None:
    def count(name: tuple[str, str, str]) -> int:
        x = jnp.zeros((1, 40, 1))
        shapes = jax.eval_shape(mixing.network(name).init, jax.random.key(0), x)
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    ends = 5 * 24 + 24 + 5 * 24 * 10 + 10
    pair, pointwise = 24 * 24, 24 * 24 + 24
    assert count(CONV) == ends + 2 * (3 * pair + 24)
    assert count((NEAR, FREE, FREE)) == ends + (20 + 10) * (3 * pair + 24)
    assert count((FULL, SHARED, FREE)) == ends + (39 + 19) * pair + 48
    assert count((FULL, FREE, FREE)) == ends + (20**2 + 10**2) * pair + 30 * 24
    assert count((NEAR, SHARED, SHARED)) == ends + 2 * 3 + 2 * pointwise
    assert count((NEAR, FREE, SHARED)) == ends + (3 * 20 - 2) + (3 * 10 - 2) + 2 * pointwise
    assert count((FULL, SHARED, SHARED)) == ends + 39 + 19 + 2 * pointwise
    assert count(MIXING) == ends + 20**2 + 10**2 + 2 * pointwise


def test_the_convolution_is_that_of_the_ladder() -> None:
    data = Settings(smoke=True).load()
    assert mixing.network(CONV) == rungs.pooled(data)


def test_summary() -> None:
    """Accuracies of the i-th network are i and i + 2 %; the last label changes fastest."""
    summary = mixing.STUDY.conclude(Settings(seeds=2), outcomes(NAMES), {})
    over_channels, over_positions = summary.findings
    assert over_channels.count("-1.0 ± 0.0 with reach") == 4
    assert over_positions.count("-2.0 ± 0.0 with reach") == 4
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([0.05, 0.03, -0.02, 0.04, 0.04, -0.01], abs=1e-9)
    check_figures(summary)


def test_an_unknown_reach() -> None:
    with pytest.raises(InputError, match="unknown reach '5'"):
        mixing.points(Settings(smoke=True, reaches=("5",)))
