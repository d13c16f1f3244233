"""Where is the square: as a study."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cnn.errors import InputError
from experiments import handicap
from experiments.handicap import QUADRANT, RUNGS, UNIFORM, Settings, where
from experiments.harness.study import Name, Outcome
from tests.experiments.made import check_figures, untrained


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    handicap.STUDY.run(Settings(smoke=True, out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "handicap.png", "handicap_maps.png", "claims.png", "report.html"}
    assert names < {p.name for p in out.iterdir()}


def test_the_target_is_the_centre_of_mass() -> None:
    """In units of 6.5 pixels from the middle of the image, which is pixel 7.5."""
    whole = handicap.squares(coordinates=False)
    x = np.asarray(whole.x)[..., 0]
    assert x.shape == (196, 16, 16)
    assert (x.sum((1, 2)) == 9).all()
    at = (np.arange(16) - 7.5) / 6.5
    centres = np.stack([(x * at[:, None]).sum((1, 2)), (x * at).sum((1, 2))], 1) / 9
    np.testing.assert_allclose(whole.y, centres, atol=1e-6)
    assert len(np.unique(whole.y, axis=0)) == 196


def test_coordinates_at_the_centre_of_the_square_are_the_target() -> None:
    with_them, without = (handicap.squares(coordinates=has) for has in (True, False))
    x = np.asarray(with_them.x)
    np.testing.assert_array_equal(x[..., :1], without.x)
    for i in (0, 13, 100, 195):
        row, column = divmod(i, 14)
        np.testing.assert_allclose(x[i, row + 1, column + 1, 1:], with_them.y[i])


def test_splits() -> None:
    quadrant = where(QUADRANT, seed=0)
    assert (len(quadrant.train), len(quadrant.test)) == (147, 49)
    assert (quadrant.test.y > 0).all()
    assert not (quadrant.train.y > 0).all(1).any()
    first, second = (where(UNIFORM, seed) for seed in (0, 1))
    assert (len(first.train), len(first.test)) == (147, 49)
    both = np.concatenate([first.train.y, first.test.y])
    assert len(np.unique(both, axis=0)) == 196
    assert not np.array_equal(first.test.y, second.test.y)
    with pytest.raises(InputError, match="unknown split 'half'"):
        where("half", 0)


def test_metrics_by_hand() -> None:
    """Off by 3 and 4 pixels is 5; by 0.4 is right, by 0.6 in one of both is not."""
    pixels = jnp.array([[3.0, -4.0], [0.4, 0.4], [0.0, 0.6]])
    target = jnp.full((3, 2), 0.5)
    found = np.asarray(handicap.distance(target + pixels / 6.5, target))
    assert found.tolist() == pytest.approx([5, 0.4 * 2**0.5, 0.6], rel=1e-5)
    right = handicap.accuracy(target + pixels / 6.5, target)
    assert np.asarray(right).tolist() == [False, True, False]


def test_it_tunes_on_training_positions_alone() -> None:
    given = Settings(rungs=("conv", "coordinates"), seed=1000, seeds=2, validate=True)
    points = handicap.points_to_tune(given)
    assert list(points) == list(handicap.points(given))
    for (rung, split, seed), config in points.items():
        data = config.examples
        assert (len(data.train), len(data.test)) == (110, 37)
        of_study = where(split, int(seed)).test.y
        used = {tuple(y) for part in (data.train, data.test) for y in part.y.tolist()}
        assert not used & {tuple(y) for y in of_study.tolist()}
        assert data.input_shape[-1] == (3 if rung == "coordinates" else 1)
    assert handicap.STUDY.tuning is not None
    assert len(handicap.STUDY.tuning.groups(points)) == 4


def test_errors_are_those_of_the_metric_at_every_position() -> None:
    config = handicap.points(Settings(rungs=("conv",), seeds=1))["conv", QUADRANT, "0"]
    result = untrained(config)
    (errors,) = handicap.measure(config, result)["errors"]
    assert errors.shape == (14, 14)
    test = config.data.test
    outputs = np.asarray(config.model.apply(result.states[0].variables, test.x))
    expected = 6.5 * np.hypot(*(outputs - test.y).T)
    np.testing.assert_allclose(errors[7:, 7:].ravel(), expected, rtol=1e-4)


def drawn() -> dict[Name, Outcome]:
    """Return results of two seeds; on the quadrant half as many positions are right."""
    return {
        (rung, name, "0 and 1"): Outcome(
            1,
            {
                "test_accuracy": np.array([i, i + 0.2]) / 10 / (1 + (name == QUADRANT)),
                "train_accuracy": np.ones(2),
                "test_distance": np.array([1.0, 2.0]),
                "errors": np.full((2, 14, 14), float(i)),
            },
        )
        for i, rung in enumerate(RUNGS)
        for name in (UNIFORM, QUADRANT)
    }


def test_summary() -> None:
    """The mean of three quadrants is at -1.167 pixels; the middle of the fourth is at 3.5."""
    summary = handicap.STUDY.conclude(Settings(seeds=2), drawn(), {})
    assert summary.findings[1].startswith(
        "Percent of a new quadrant that are right: conv 0.5, local 5.5, dense 10.5, global 15.5"
    )
    at = np.arange(0.5, 7) + 7 / 6
    expected = np.hypot(*np.meshgrid(at, at)).mean()
    assert f"is off by {expected:.1f} pixels" in summary.findings[1]
    assert summary.tables[0].rows[0] == [
        *("conv: uniform", "1", "1.00 ± 1.41", "100.00 ± 0.00", "1.50 ± 0.71"),
    ]
    assert len(summary.verdicts) == 5
    check_figures(summary)


def test_an_unknown_network() -> None:
    with pytest.raises(InputError, match="unknown rung 'mlp'"):
        handicap.network("mlp")
