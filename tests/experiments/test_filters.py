"""Designed, learned and reduced filters, as a study."""

from pathlib import Path

import numpy as np
import pytest

from cnn.train.run_dir import read_jsonl
from experiments import filters
from tests.conftest import Prepared


@pytest.mark.slow
def test_the_study_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filters.main(filters.Study(smoke=True, out=tmp_path))
    names = {p.name for p in (tmp_path / "smoke").iterdir()}
    assert {"results.jsonl", "filters.png", "filters.svg", "report.html", "story.json"} <= names
    assert filters.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


def test_share_within_a_plane_by_hand() -> None:
    """Of (1, 2, 2) the plane of the first two axes has 5 of 9; its basis need not be orthogonal."""
    plane = np.array([[1.0, 0, 0], [1, 1, 0]])
    assert filters.share_within(np.array([[1.0, 2, 2]]), plane) == pytest.approx(5 / 9)


def test_principal_components_by_hand() -> None:
    """Four points on a cross, four times as far on the second axis."""
    cross = np.array([[[1.0, 0], [-1, 0]], [[0, 4], [0, -4]]]) + 5
    mean, variances, components = filters.principal(cross)
    np.testing.assert_allclose(mean, [5, 5])
    np.testing.assert_allclose(variances, [32 / 3, 2 / 3])
    np.testing.assert_allclose(np.abs(components), [[0, 1], [1, 0]], atol=1e-12)


def test_a_kernel_is_learned_back_as_gradient_descent_does() -> None:
    """The closed form beside the iteration itself."""
    rng = np.random.default_rng(0)
    images, kernel = rng.standard_normal((3, 6, 6)), rng.standard_normal((3, 3))
    x = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (1, 2)).reshape(-1, 9)
    moments = x.T @ x / len(x)
    values = np.linalg.eigvalsh(moments)
    w, errors = np.zeros(9), []
    for _ in range(5):
        w = w - 2 / (values[0] + values[-1]) * moments @ (w - kernel.ravel())
        errors.append(np.linalg.norm(w - kernel.ravel()) / np.linalg.norm(kernel))
    np.testing.assert_allclose(filters.learned_back(images, kernel, 5), errors)


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    folder = prepared("fashion_mnist")
    filters.main(filters.Study(full=True, smoke=True, data_dir=folder, out=tmp_path))
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    assert len(rows) == 2 * 2
    for row in rows:
        assert row["variance 1"] < row["variance 8"] < row["variance 16"] == pytest.approx(1)
        assert row["accuracy 16"] == pytest.approx(row["test_accuracy"], abs=1e-3)


def test_when_a_kernel_is_back_by_hand() -> None:
    assert filters.first_near(np.array([0.5, 0.01, 0.009, 0.001])) == 3
    assert filters.first_near(np.array([0.001])) == 1
    assert filters.first_near(np.array([0.5, 0.01])) is None
