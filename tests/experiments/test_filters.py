"""Designed, learned and reduced filters, as a study."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optax
import pytest

from cnn.data import Split
from cnn.train import state as train_state
from cnn.train.files import read_jsonl
from experiments import filters
from experiments.harness.study import Outcome
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filters.STUDY.run(filters.Settings(smoke=True, out=tmp_path))
    names = {p.name for p in (tmp_path / "smoke").iterdir()}
    assert {"results.jsonl", "filters.png", "channels.png", "report.html"} <= names
    printed = capsys.readouterr().out
    for claim in filters.CLAIMS:
        assert claim.text in printed


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


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    folder = prepared("fashion_mnist")
    filters.STUDY.run(filters.Settings(full=True, smoke=True, data_dir=folder, out=tmp_path))
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    assert len(rows) == 2 * 2
    for row in rows:
        one, half, all_of = (row[filters.kept(k, "variance")] for k in (1, 8, 16))
        assert one < half < all_of == pytest.approx(1)
        assert row[filters.kept(16)] == pytest.approx(row["test_accuracy"], abs=1e-3)


def test_components_classify_as_the_network_does() -> None:
    """All 16 do, but for rounding; the first 8 mostly do, and the last 8 would not."""
    config = filters.points(filters.Settings(seeds=1))[filters.HALVED,]
    data = config.data
    state = train_state.init_state(config.model, optax.identity(), data.input_shape, 0)
    given = np.asarray(config.model.apply(state.variables, data.test.x)).argmax(-1)
    config = replace(config, data=replace(data, test=Split(data.test.x, given.astype(np.int32))))
    found = filters.measure(config, SimpleNamespace(seeds=(0,), states=[state]))  # type: ignore
    assert np.mean(found[filters.kept(16)]) > 0.99
    assert np.mean(found[filters.kept(8)]) > 0.7
    assert found["designed"] == found["designed, untrained"]
    variances = [found[filters.kept(k, "variance")][0] for k in filters.KEPT]
    assert variances == sorted(variances) and variances[-1] == pytest.approx(1)
    assert 0 < found["1×1 variance"][0] < found[filters.kept(8, "variance")][0]


def test_summary() -> None:
    """The first network has 1 % where not said otherwise, the second 2 %."""
    names = [filters.kept(k, what) for what in ("variance", "accuracy") for k in filters.KEPT]
    names += ["designed", "designed, untrained", "1×1 variance"]
    results = outcomes([(name,) for name in filters.networks()], *names)
    whole = results[filters.WHOLE,].values
    kernels = np.random.default_rng(0).normal(size=(2, filters.CHANNELS, 3, 3))
    changed = {
        "kernels": kernels,
        "designed": np.array([0.5, 0.52]),
        filters.kept(8): whole["designed"] - 0.1,
    }
    results[filters.WHOLE,] = Outcome(1, {**whole, **changed})
    summary = filters.STUDY.conclude(filters.Settings(), results, {})
    assert [one.mean for one in summary.verdicts] == pytest.approx([0.5, -0.1, 0.01, 0])
    verdicts = [one.verdict for one in summary.verdicts]
    assert verdicts == ["holds", "does not hold", "holds", "does not hold"]
    assert summary.findings[0] == (
        "Of the first layer's squared weight, 51.00 ± 1.41 % is in the span of the designed "
        "filters after training, 1.00 ± 1.41 % before (44.4 % by chance)."
    )
    assert summary.tables[0].rows[-1] == ["1×1 to 8", "2.00 ± 1.41", "2.00 ± 1.41"]
    check_figures(summary)
