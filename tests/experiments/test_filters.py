"""Designed, learned and reduced filters, as a study."""

from pathlib import Path

import numpy as np
import pytest

from cnn.train.files import read_jsonl
from experiments import filters
from experiments.harness.study import Outcome
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filters.STUDY.run(filters.Settings(smoke=True, out=tmp_path))
    names = {p.name for p in (tmp_path / "smoke").iterdir()}
    assert {"results.jsonl", "filters.png", "filters.svg", "report.html", "summary.json"} <= names
    assert filters.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


def test_share_within_a_plane_by_hand() -> None:
    """Of (1, 2, 2) the plane of the first two axes has 5 of 9; its basis need not be orthogonal."""
    plane = np.array([[1.0, 0, 0], [1, 1, 0]])
    assert filters.share_within(np.array([[1.0, 2, 2]]), plane) == pytest.approx(5 / 9)


def test_principal_components_by_hand() -> None:
    """Four points on a cross, four times as far on the second axis."""
    cross = np.array([[[1.0, 0], [-1, 0]], [[0, 4], [0, -4]]]) + 5
    mean, variances, components = filters.pca(cross)
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
    filters.STUDY.run(filters.Settings(full=True, smoke=True, data_dir=folder, out=tmp_path))
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    assert len(rows) == 2 * 2
    for row in rows:
        assert row["variance 1"] < row["variance 8"] < row["variance 16"] == pytest.approx(1)
        assert row["accuracy 16"] == pytest.approx(row["test_accuracy"], abs=1e-3)


def test_summary() -> None:
    """On the digits themselves the designed filters are learned back within the steps."""
    kept = [f"{what} {k}" for what in ("variance", "accuracy") for k in filters.KEPT]
    names = [(name,) for name in filters.networks()]
    results = outcomes(names, *kept, "designed", "designed, untrained", "variance of 1×1")
    kernels = np.random.default_rng(0).normal(size=(2, filters.CHANNELS, 3, 3))
    results[names[0]] = Outcome(1, {**results[names[0]].values, "kernels": kernels})
    summary = filters.summarize(filters.Settings(), results)
    assert summary.findings[1] == (
        "Halving the 16 channels changes test accuracy by +1.0 points (95 % interval +1.0 to +1.0) "
        "with a trained 1×1 convolution and by +0.0 points (95 % interval +0.0 to +0.0) with 8 "
        "principal components."
    )
    assert "never" not in summary.findings[3]
    check_figures(summary)


def test_when_a_kernel_is_back_by_hand() -> None:
    assert filters.first_near(np.array([0.5, 0.01, 0.009, 0.001])) == 3
    assert filters.first_near(np.array([0.001])) == 1
    assert filters.first_near(np.array([0.5, 0.01])) is None
