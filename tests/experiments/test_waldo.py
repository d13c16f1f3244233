"""A pattern that may be anywhere, as a study."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import special, stats

from experiments import waldo
from experiments.harness.study import Name, Outcome
from experiments.waldo import RUNGS, Settings, images, places
from tests.experiments.made import check_figures


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    waldo.STUDY.run(Settings(smoke=True, sides=(2, 3), sizes=(16, 32), out=tmp_path))
    names = {"results.jsonl", "waldo.png", "waldo.svg", "report.html", "summary.json"}
    assert names <= {p.name for p in (tmp_path / "smoke").glob("[!.]*")}


def test_the_stripes_are_in_one_patch_and_the_rest_is_noise() -> None:
    """What is left is N(0, 1) without the stripes: means of 2,000 have a deviation of 0.022."""
    data = images(3, 1, seed=5)
    patch, y = places(3, 2000, 5, 1)
    np.testing.assert_array_equal(data.test.y, y)
    noise = np.array(data.test.x)[..., 0]
    for image, at, is_light in zip(noise, patch, y, strict=True):
        top, left = 4 * (at // 3), 4 * (at % 3)
        for row in range(4):
            sign = 1 if is_light == (row % 2 == 0) else -1
            image[top + row, left : left + 4] -= sign
    assert np.abs(noise.mean(0)).max() < 0.11
    assert np.abs(noise.std(0) - 1).max() < 0.08
    counts = np.bincount(patch, minlength=9)
    assert stats.chisquare(counts).pvalue > 0.001
    assert 0.45 < y.mean() < 0.55


def test_fewer_examples_are_the_first_of_more() -> None:
    few, many = images(2, 10, seed=1), images(2, 30, seed=1)
    np.testing.assert_array_equal(few.train.x, np.asarray(many.train.x)[:10])
    np.testing.assert_array_equal(few.train.y, many.train.y[:10])
    np.testing.assert_array_equal(few.test.x, many.test.x)
    trained, tested = (
        {x.tobytes() for x in np.asarray(part.x)} for part in (many.train, many.test)
    )
    assert len(trained) == 30
    assert not trained & tested


def test_the_linear_rule_has_the_error_of_its_closed_form() -> None:
    """The sum of 16 matches is ±16 with a deviation of 16: the error is Φ(-1), 15.9 %."""
    test = images(4, 1, seed=0).test
    rows = np.tile([1, -1], 8).reshape(16, 1, 1)
    error = ((np.asarray(test.x) * rows).sum((1, 2, 3)) > 0) != test.y
    assert error.mean() == pytest.approx(special.ndtr(-1), abs=0.025)


def test_the_least_error_is_that_of_the_whole_likelihoods(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the densities of whole images, one for every place of the stripes, which are fainter."""
    monkeypatch.setattr(waldo, "TESTED", 300)
    half = waldo.stripes() / 2
    monkeypatch.setattr(waldo, "stripes", lambda: half)
    test = images(2, 1, seed=3).test

    def likelihood(image: np.ndarray, sign: int) -> float:
        found = []
        for top, left in ((0, 0), (0, 4), (4, 0), (4, 4)):
            mean = np.zeros((8, 8))
            mean[top : top + 4 : 2, left : left + 4] = sign / 2
            mean[top + 1 : top + 4 : 2, left : left + 4] = -sign / 2
            found.append(np.exp(-np.square(image - mean).sum() / 2 + 32))
        return sum(found)

    pairs = zip(np.asarray(test.x, float)[..., 0], test.y, strict=True)
    wrong = [(likelihood(x, 1) > likelihood(x, -1)) != y for x, y in pairs]
    assert waldo.least_error(2, 3) == np.mean(wrong)


def test_detections_add_up_to_the_difference_of_the_logits() -> None:
    model = waldo.rungs()["conv"]
    x = np.asarray(images(3, 1, seed=0).train.x)
    variables = model.init(jax.random.key(0), x)
    variables["params"]["layers_3"]["bias"] = np.array([0.5, 2.0])
    found = waldo.detections(model, variables, x)
    dark, light = np.asarray(model.apply(variables, x))[0]
    assert found.shape == (3, 3)
    assert found.mean() + 1.5 == pytest.approx(light - dark, abs=1e-5)


def test_points_are_tuned_on_k_squared_examples_of_their_own() -> None:
    given = Settings(sides=(2, 3), sizes=(8,), seed=1000, seeds=2, validate=True)
    points = waldo.points_to_tune(given)
    assert {name[1:3] for name in points} == {("4", "16"), ("9", "81")}
    config = points["dense", "9", "81", "1000"]
    assert (config.validate, config.batch_size, config.optimizer) == (False, 81, "sgd")
    assert waldo.STUDY.tuning is not None
    assert len(waldo.STUDY.tuning.groups(points)) == 6


def drawn(error_of: Callable[[str, int, int], float], given: Settings) -> dict[Name, Outcome]:
    """Return results of two seeds with these errors of rung, k and size."""
    found: dict[Name, Outcome] = {}
    for rung in RUNGS:
        for side in given.sides:
            for size in given.sizes:
                values = {"test_accuracy": np.full(2, 1 - error_of(rung, side**2, size))}
                if rung == "conv":
                    values["detections"] = np.ones((2, side, side))
                found[rung, str(side**2), str(size)] = Outcome(1, values)
    return found


def test_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of 0.5 below, and none from, 4 k examples on; the convolution needs few."""
    monkeypatch.setattr(waldo, "TESTED", 20)
    given = Settings(sides=(2, 4), sizes=(4, 8, 16, 32, 64), seeds=2)
    results = drawn(lambda rung, k, n: 0.5 * (rung != "conv" and n < 4 * k), given)
    summary = waldo.summarize(given, results)
    assert summary.findings[0] == (
        "conv needs at most 4, at most 4 examples at k = 4, 16. With fewer than two numbers that "
        "are not bounds, it has no exponent."
    )
    assert summary.findings[2].startswith(
        "dense needs 11, 45 examples at k = 4, 16. That grows like k to the power 1.00"
    )
    assert summary.tables[0].rows[0] == ["conv", "at most 4", "at most 4"]
    assert summary.tables[1].rows[4][:3] == ["dense, 4", "50.00 ± 0.00", "50.00 ± 0.00"]
    check_figures(summary)


def test_summary_where_no_number_of_examples_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waldo, "TESTED", 20)
    given = Settings(sides=(2,), sizes=(8, 16), seeds=2)
    summary = waldo.summarize(given, drawn(lambda *_: 0.5, given))
    assert summary.findings[0].startswith("conv needs more than 16 examples at k = 4. With fewer")
    check_figures(summary)


def test_claims_are_about_points_of_the_study() -> None:
    given = Settings()
    known = {
        (rung, str(side**2), str(size))
        for rung in RUNGS
        for side in given.sides
        for size in given.sizes
    }
    assert {name for claim in waldo.CLAIMS for name, _ in claim.terms} <= known
