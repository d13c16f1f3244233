"""Squared bias and variance of networks that were trained in pairs, as a study."""

from itertools import combinations, product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.data import Split, load
from cnn.errors import InputError
from cnn.geometry import describe
from experiments import bias_variance
from experiments.bias_variance import (
    BIAS,
    BRIER,
    CERTAIN,
    CONV,
    DENSE,
    GLOBAL,
    LABELS,
    LOCAL,
    NETWORKS,
    PROBABILITIES,
    STEPS,
    VARIANCE,
    WINDOW,
    Settings,
    decompose,
)
from experiments.harness.study import Outcome
from tests.experiments.made import check_figures, untrained


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    bias_variance.STUDY.run(Settings(smoke=True, sizes=(2000,), out=tmp_path))
    names = {"results.jsonl", "bias_variance.png", "claims.png", "report.html", "summary.json"}
    assert names < {p.name for p in (tmp_path / "smoke").iterdir()}


def test_the_parts_by_hand() -> None:
    """Errors are (0, 0) and (-0.4, 0.4): their product is 0, half their squared distance 0.16."""
    p = np.array([[[1.0, 0.0]], [[0.6, 0.4]]])
    assert decompose(p, np.array([0])) == pytest.approx((0, 0.16, 0.16))


@pytest.mark.parametrize("networks", [2, 3, 7])
def test_squared_bias_and_variance_add_up_exactly(networks: int) -> None:
    """The Brier score is summed entry by entry, the squared bias is the mean over other pairs."""
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(4), (networks, 5)), rng.integers(4, size=5)
    errors = p.copy()
    for k, i in product(range(networks), range(5)):
        errors[k, i, y[i]] -= 1
    bias, variance, brier = decompose(p, y)
    assert brier == pytest.approx(sum(e**2 for e in errors.ravel()) / (networks * 5), abs=1e-14)
    assert bias + variance == pytest.approx(brier, abs=1e-14)
    products = [(errors[j] * errors[k]).sum() / 5 for j, k in combinations(range(networks), 2)]
    assert bias == pytest.approx(np.mean(products), abs=1e-14)


def test_both_parts_are_unbiased() -> None:
    """A network says (1, 0) or (0, 1), as a coin falls: the mean is (1/2, 1/2).

    Its squared distance to the class (1, 0) is 1/2, and so is that of either to it. The mean over
    the four equally likely pairs must be the same.
    """
    says = np.eye(2)[:, None]
    found = [decompose(says[list(pair)], np.array([0])) for pair in product((0, 1), repeat=2)]
    np.testing.assert_allclose(np.mean(found, 0), [0.5, 0.5, 1.0])


def test_window_1_sees_five_samples() -> None:
    """Centres of windows are 2 i + 1 in the first layer, 2 i in the others: 8 i + 1 in all."""
    model = bias_variance.networks(load("mnist1d"))[WINDOW]
    x = jnp.asarray(np.random.default_rng(0).standard_normal((8, 40, 1)), jnp.float32)
    variables = model.init(jax.random.key(0), x)
    slopes = jax.grad(lambda x: jnp.square(model.apply(variables, x)).sum())(x)
    assert np.flatnonzero(np.abs(slopes).sum((0, 2))).tolist() == [1, 9, 17, 25, 33]


def test_parameters_by_hand() -> None:
    """Maps of 19, 10 and 5 positions with 25 channels; the head sees 5 positions or their mean."""
    networks = bias_variance.networks(load("mnist1d"))
    found = {name: describe(model, (40, 1)).params for name, model in networks.items()}
    assert found == {
        CONV: 5 * 25 + 25 + 2 * (3 * 625 + 25) + 1260,
        LOCAL: 19 * (5 * 25 + 25) + (10 + 5) * (3 * 625 + 25) + 1260,
        DENSE: 40 * 19 * 25 + (19 * 10 + 10 * 5) * 625 + (19 + 10 + 5) * 25 + 1260,
        WINDOW: 25 + 25 + 2 * (625 + 25) + 1260,
        GLOBAL: 5 * 25 + 25 + 2 * (3 * 625 + 25) + 260,
    }


def signals(split: Split) -> set[bytes]:
    return {one.tobytes() for one in split.x[np.arange(len(split))]}


def test_training_and_test_signals_are_of_one_network_and_of_one_pair() -> None:
    points = bias_variance.points(Settings(sizes=(100, 300), seed=2, seeds=4))
    data = {seed: points[CONV, "300", str(seed)].data for seed in (2, 3, 4, 5)}
    assert all(points[DENSE, "300", str(seed)].data is one for seed, one in data.items())
    assert all(points[CONV, "300", str(seed)].seed_range == range(seed, seed + 1) for seed in data)
    assert [np.bincount(one.train.y).tolist() for one in data.values()] == [[30] * 10] * 4
    assert [np.bincount(one.test.y).tolist() for one in data.values()] == [[100] * 10] * 4
    assert signals(points[CONV, "100", "2"].data.train) < signals(data[2].train)
    tested = [signals(one.test) for one in data.values()]
    assert tested[0] == tested[1] != tested[2] == tested[3]
    parts = [*(signals(one.train) for one in data.values()), tested[0], tested[2]]
    assert len(set.union(*parts)) == 4 * 300 + 2 * 1000


def test_more_seeds_keep_the_signals_of_the_first() -> None:
    few, more = (bias_variance.draws(Settings(sizes=(50,), seeds=n)) for n in (2, 4))
    assert few[1].content_hash() == more[1].content_hash()


def test_it_tunes_on_the_signals_of_the_package() -> None:
    settings = Settings(sizes=(100,), seed=1000, seeds=3, validate=True)
    points = bias_variance.points_to_tune(settings)
    train = signals(load("mnist1d").train)
    for seed in ("1000", "1001", "1002"):
        one = points[WINDOW, "100", seed].examples
        assert (len(one.train), len(one.test)) == (100, 399)
        assert signals(one.train) | signals(one.test) <= train
        assert not signals(one.train) & signals(one.test)


def test_the_probabilities_are_those_of_the_softmax() -> None:
    config = bias_variance.points(Settings(sizes=(100,), seeds=2))[GLOBAL, "100", "1"]
    result = untrained(config, seeds=2)
    found = bias_variance.measure(config, result)
    rows = np.arange(150) * 1000 // 150
    for state, p, y in zip(result.states, found[PROBABILITIES], found[LABELS], strict=True):
        assert p.dtype == y.dtype == np.uint8
        logits = config.model.apply(state.variables, jnp.asarray(config.data.test.x[rows]))
        np.testing.assert_allclose(p / STEPS, jax.nn.softmax(logits), atol=0.502 / STEPS)
        np.testing.assert_array_equal(y, config.data.test.y[rows])
        assert np.bincount(y).tolist() == [15] * 10


def outcome(said: list[int], true: int, loss: float) -> Outcome:
    """Return four networks, two pairs, of which each has one test signal and is sure of a class."""
    p = STEPS * np.eye(3)[said][:, None]
    values = {"train_loss": loss + np.arange(4.0), "train_accuracy": np.ones(4)}
    values |= {"test_accuracy": (np.array(said) == true).astype(float)}
    return Outcome(7, {**values, PROBABILITIES: p, LABELS: np.full((4, 1), float(true))})


def test_networks_become_pairs() -> None:
    """One of the first pair is wrong, and both of the second, in the same way or not."""
    same = bias_variance.pair({("a",): outcome([2, 1, 0, 0], 2, 0.5)})["a",]
    assert same.parameters == 7
    expected = {
        "train_loss": [1, 3],
        "test_accuracy": [0.5, 0],
        BIAS: [0, 2],
        VARIANCE: [1, 0],
        BRIER: [1, 2],
        BIAS + CERTAIN: [0, 2],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(same[name], values, atol=1e-12)
    other = bias_variance.pair({("a",): outcome([2, 1, 0, 1], 2, 0.5)})["a",]
    np.testing.assert_allclose([other[BIAS][1], other[VARIANCE][1]], [1, 1])


def test_the_predicted_class_alone() -> None:
    """Errors of (0.6, 0.4) and (0.4, 0.6) are made, but one of both classes is right."""
    p = STEPS * np.array([[[0.6, 0.4]], [[0.4, 0.6]]])
    one = Outcome(7, {PROBABILITIES: p, LABELS: np.zeros((2, 1))})
    found = bias_variance.pair({("a",): one})["a",]
    parts = [found[part][0] for part in (BIAS, VARIANCE, BRIER)]
    assert parts == pytest.approx([0.48, 0.04, 0.52])
    parts = [found[part + CERTAIN][0] for part in (BIAS, VARIANCE, BRIER)]
    assert parts == pytest.approx([0, 1, 1])


def test_summary() -> None:
    """conv is right, one of each pair of dense is wrong, and both of a pair of all others."""
    said = {CONV: [0, 0, 0, 0], DENSE: [0, 1, 1, 0]}
    results = {
        (name, n, ""): outcome(said.get(name, [1, 1, 2, 2]), 0, i)
        for n in ("500", "2000")
        for i, name in enumerate(NETWORKS)
    }
    summary = bias_variance.STUDY.conclude(Settings(seeds=4), results, {})
    means = [one.mean for one in summary.verdicts]
    # dense − conv, twice; dense − local; local − conv, conv − dense, window 1 − conv
    assert means[:6] == pytest.approx([1, 1, 1, 0, 0, 2], abs=1e-12)
    assert summary.findings[1].startswith("With 2,000 examples, squared bias and variance exceed ")
    assert "dense +0.000 ± 0.000 and +1.000 ± 0.000" in summary.findings[1]
    errors, certain = summary.tables
    assert "over 2 pairs, 600 steps" in errors.caption
    assert errors.rows[5][:4] == ["dense", "2,000", "7", "0.00 ± 0.00"]
    assert errors.rows[5][4:] == [
        "3.500 ± 1.414",
        "0.000 ± 0.000",
        "1.000 ± 0.000",
        "1.000 ± 0.000",
        "50.00 ± 0.00",
    ]
    assert certain.rows[6] == ["window 1", "500", "2.000 ± 0.000", "0.000 ± 0.000", "2.000 ± 0.000"]
    check_figures(summary)


def test_claims_are_about_points_of_the_study() -> None:
    known = set(product(NETWORKS, map(str, Settings().sizes)))
    assert {name for claim in bias_variance.CLAIMS for name, _ in claim.terms} <= known
    assert tuple(bias_variance.networks(load("mnist1d"))) == NETWORKS


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 3}, "seed and seeds must be even, got 0 and 3: networks are trained in pairs"),
        ({"seed": 1}, "seed and seeds must be even, got 1 and 20"),
        ({"validate": True}, "validate: a pair has no training signals in common; leave"),
        ({"sizes": ()}, "sizes must be whole numbers from 1 on"),
        (
            {"seeds": 22},
            "sizes and seeds must fit into 50,000 signals, got 55,000 for 11 pairs with 2,000",
        ),
    ],
    ids=range(5),
)
def test_what_cannot_be_paired_is_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        bias_variance.points(Settings(**fields))  # type: ignore[arg-type]


def test_one_network_of_a_pair_can_be_trained_alone() -> None:
    settings = Settings(sizes=(100,), seed=3, seeds=1, only=("conv/100/3",))
    whole = bias_variance.points(Settings(sizes=(100,), seeds=4))[CONV, "100", "3"]
    alone = bias_variance.points(settings)[CONV, "100", "3"]
    assert alone.data.content_hash() == whole.data.content_hash()
