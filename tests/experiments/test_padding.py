"""The study of padding."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cnn import geometry, probes
from cnn.errors import InputError
from cnn.train.files import read_jsonl
from experiments import padding
from experiments.padding import BORDERS, POSITION, Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    padding.STUDY.run(Settings(smoke=True, borders=("zeros", "valid"), out=tmp_path))
    out = tmp_path / "smoke"
    assert (out / "padding.png").exists()
    assert padding.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


def test_the_border_changes_no_parameters() -> None:
    """Windows of 5 from 1, 16 and 16 to 16 channels, and a head on 16 means."""
    by_hand = (5 * 16 + 16) + 2 * (5 * 16 * 16 + 16) + (16 * 10 + 10)
    networks = (padding.network(border) for border in BORDERS)
    assert {geometry.describe(network, (40, 1)).params for network in networks} == {by_hand}


@pytest.mark.slow
def test_position_in_an_untrained_network() -> None:
    """A circular border reveals none; neither does full convolution, while biases are zero."""
    points = padding.points(Settings(borders=("circular", "full", "valid")))
    found = {name: padding.measure(c, untrained(c))[POSITION] for (name,), c in points.items()}
    assert found["circular"] == pytest.approx([0], abs=1e-4)
    assert found["full"] == pytest.approx([0], abs=1e-4)
    assert found["valid"][0] > 0.3


def test_an_object_moves_through_all_places() -> None:
    x = np.asarray(padding.objects((12, 1), seed=0))
    assert x.shape == (padding.OBJECTS, 4, 12, 1)
    for place in range(4):
        np.testing.assert_array_equal(x[:, place], np.roll(x[:, 0], place, 1))
    assert np.count_nonzero(x[0, 0]) == padding.WIDTH == np.count_nonzero(x[0, 0, :9])
    square = np.asarray(padding.objects((12, 13, 2), seed=0))
    assert np.argwhere(square[0, 1].any(-1)).min(0).tolist() == [1, 2]


def test_the_read_out_is_not_linear() -> None:
    """Of a point t on a circle, at the angle 3t, linear regression on sin 3t has an R² of
    (∫ t sin 3t)² / (∫ t² · ∫ sin² 3t) from −1 to 1, with many places."""
    t = jnp.linspace(-1, 1, 400)
    circle = jnp.stack([jnp.cos(3 * t), jnp.sin(3 * t)], -1)[None]
    product = 2 * (np.sin(3) / 9 - np.cos(3) / 3)
    linear = product**2 / (2 / 3 * (1 - np.sin(6) / 6))
    assert float(probes.position_leak(circle, circle)) == pytest.approx(linear, abs=0.01)
    assert linear < 0.7
    assert padding.read_out(circle, circle, circle) > 0.98
    same = jnp.ones((2, 5, 3))
    assert padding.read_out(same, same, same) == pytest.approx(0)


def test_the_read_out_of_noise_is_about_zero() -> None:
    """Few objects with a feature of heavy tails: with the least penalty, R² is far below 0."""
    rng = np.random.default_rng(0)
    parts = [jnp.asarray(rng.standard_cauchy((20, 8, 4)), jnp.float32) for _ in range(3)]
    assert -0.1 < padding.read_out(*parts) < 0.1


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    borders = ("valid", "circular")
    folder = prepared("fashion_mnist")
    padding.STUDY.run(
        Settings(full=True, smoke=True, borders=borders, data_dir=folder, out=tmp_path)
    )
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    valid, circular = ([r[POSITION] for r in rows if r["border"] == one] for one in borders)
    assert circular == pytest.approx([0] * 2, abs=1e-3)
    assert min(valid) > 0.1


def test_summary() -> None:
    """The i-th border has i and i + 2 hundredths of everything."""
    settings = Settings(borders=("zeros", "full"))
    summary = padding.summarize(settings, outcomes(padding.points(settings), POSITION))
    assert summary.findings[0].endswith("out of the means: full 0.02, zeros 0.01.")
    assert summary.tables[0].rows[1] == ["full", "2.00 ± 1.41", "0.020 ± 0.014"]
    check_figures(summary)


def test_an_unknown_border() -> None:
    with pytest.raises(InputError, match="unknown border 'zero'"):
        padding.points(Settings(borders=("zero",)))
