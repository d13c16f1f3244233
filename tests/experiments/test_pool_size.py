"""The size of a pooling region, as a study."""

from pathlib import Path

import numpy as np
import pytest

from cnn import layers
from cnn.errors import InputError
from cnn.geometry import describe
from experiments import pool_size
from experiments.pool_size import DISPLACEMENT, OVERLAPPING, PATTERN, STRIDED, Settings, signals
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    pool_size.STUDY.run(Settings(smoke=True, sizes=(1, 32), out=tmp_path))
    names = {"results.jsonl", "pool_size.png", "report.html", "summary.json"}
    assert names < {p.name for p in (tmp_path / "smoke").iterdir()}


def test_without_noise_a_signal_is_two_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample of a part is -1 or 1, so what is not zero shows both places."""
    monkeypatch.setattr(pool_size, "NOISE", 0.0)
    x, labels = signals(2000, seed=3)
    known = {0: (1, 1, 1, 1), 1: (1, -1, 1, -1), 2: (1, 1, -1, -1), 3: (1, -1, -1, 1)}
    found = set()
    for signal, pattern, apart in zip(x[..., 0], *labels.values(), strict=True):
        (at,) = np.nonzero(signal)
        assert len(at) == 8
        assert at[4] - at[0] == (7, 9, 11, 13)[apart]
        np.testing.assert_array_equal(at.reshape(2, 4), [[i, i + 1, i + 2, i + 3] for i in at[::4]])
        np.testing.assert_array_equal(signal[at], 2 * known[pattern])
        found.add((at[0], pattern, apart))
    assert {first for first, *_ in found} == set(range(16))
    assert len(found) > 0.99 * 16 * 4 * 4


def test_both_labels_are_of_the_same_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def recorded(count: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        seeds.append(seed)
        return signals(count, seed)

    monkeypatch.setattr(pool_size, "signals", recorded)
    one, other = pool_size.parts(PATTERN), pool_size.parts(DISPLACEMENT)
    for a, b in ((one.train, other.train), (one.test, other.test)):
        np.testing.assert_array_equal(a.x, b.x)
        assert abs(np.corrcoef(a.y, b.y)[0, 1]) < 0.07  # three standard deviations of 2,000
    pool_size.parts(PATTERN, draw=1)
    assert len(set(seeds)) == 4


def test_parameters_and_cost_by_hand() -> None:
    """The map has 32 / size positions of 16 channels; the convolution always has 32."""
    networks = pool_size.networks(Settings())
    for size in (1, 2, 4, 8, 16, 32):
        found = describe(networks[str(size)], (32, 1))
        assert found.params == 5 * 16 + 16 + (32 // size * 16 + 1) * 64 + 64 * 4 + 4
        assert found.macs == 32 * 5 * 16 + 32 // size * 16 * 64 + 64 * 4
    overlapping, strided, two = (networks[name] for name in (OVERLAPPING, STRIDED, "2"))
    assert describe(overlapping, (32, 1)).params == describe(two, (32, 1)).params
    assert describe(strided, (32, 1)).macs == pytest.approx(describe(two, (32, 1)).macs, rel=0.03)
    assert not any(isinstance(layer, layers.MaxPool) for layer in strided.layers)


def test_of_two_neighbours_one_is_in_two_regions_of_three() -> None:
    pool = pool_size.networks(Settings())[OVERLAPPING].layers[2]
    one_hot = np.eye(32, dtype=np.float32)[8:12, :, None]
    pooled = np.asarray(pool.apply({}, one_hot))
    assert pooled.shape == (4, 16, 1)
    assert sorted(pooled.sum((1, 2))) == [1, 1, 2, 2]


def test_tuned_on_other_signals() -> None:
    given = Settings(sizes=(4,), validate=True)
    tuned, trained = pool_size.points_to_tune(given), pool_size.points(Settings(sizes=(4,)))
    assert tuned.keys() == trained.keys()
    one, other = tuned[PATTERN, "4"], trained[PATTERN, "4"]
    assert not one.validate
    assert one.data.content_hash() != other.data.content_hash()


def test_summary() -> None:
    """The i-th point has i and i + 2 %: patterns 0 to 7, displacements backwards from 15 to 8."""
    given = Settings(seeds=2)
    names = [*pool_size.networks(given)]
    pairs = [(PATTERN, n) for n in names] + [(DISPLACEMENT, n) for n in reversed(names)]
    summary = pool_size.STUDY.conclude(given, outcomes(pairs), {})
    assert summary.findings == [
        "Accuracy on the pattern by samples of a region: 1: 1.0, 2: 2.0, 4: 3.0, 8: 4.0, 16: 5.0, "
        "32: 6.0. The best has 32.",
        "Accuracy on the displacement by samples of a region: 1: 16.0, 2: 15.0, 4: 14.0, 8: 13.0, "
        "16: 12.0, 32: 11.0. The best has 1.",
    ]
    row = summary.tables[0].rows[0]
    assert row == ["regions of 1", "33,188", "35,584", "1.00 ± 1.41", "16.00 ± 1.41"]
    means = [one.mean for one in summary.verdicts]
    expected = [0.02, 0.02, 0.05, -0.06, 0.02, 0.02, 0.05, -0.06]
    assert means == pytest.approx(expected, abs=1e-9)
    check_figures(summary)


def test_claims_are_about_points_of_the_study() -> None:
    known = set(pool_size.networks(Settings()))
    assert {name[1] for claim in pool_size.CLAIMS for name, _ in claim.terms} <= known


def test_sizes_that_cut_a_signal_off() -> None:
    with pytest.raises(InputError, match="sizes must divide the 32 samples of a signal, got 5"):
        pool_size.points(Settings(sizes=(1, 5)))
    with pytest.raises(InputError, match="sizes must be whole numbers from 1 on, got \\(0,\\)"):
        pool_size.points(Settings(sizes=(0,)))
