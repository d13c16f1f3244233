"""The grid of locality and sharing: the networks at its points, and the study end to end."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from cnn.data import load
from cnn.layers import ConvTiled, DenseSpatial
from experiments import bias_map
from experiments.bias_map import Settings
from experiments.harness import rungs
from tests.experiments.made import check_figures, outcomes


@pytest.mark.parametrize("name", ["mnist1d", "digits"])
def test_only_locality_and_sharing_change(name: str) -> None:
    """Weights of the first layer by hand: window × kernels; every map is as large as the base's."""
    data = load(name)
    base = rungs.base(data)
    rank = len(data.input_shape) - 1
    size, out, features = (40, 19, 25) if rank == 1 else (8, 4, 16)
    x = jnp.zeros((1, *data.input_shape))
    for radius in ("0", "1", "full"):
        for period in ("1", "2", "all"):
            model = bias_map.ablate(base, data, radius, period)
            made = jax.eval_shape(model.init, jax.random.key(0), x)["params"]["layers_0"]
            reach = size - 1 if radius == "full" else int(radius)
            kernels = 1 if period == "1" else 2**rank
            expected = kernels * (2 * reach + 1) ** rank * features
            if period == "all":
                expected = size**rank * out**rank * features
                assert isinstance(model.layers[0], DenseSpatial)
                assert model.layers[0].radius == (None if radius == "full" else reach)
            elif period == "2":
                assert isinstance(model.layers[0], ConvTiled)
            assert made["kernel"].size == expected
            assert jax.eval_shape(model.init_with_output, jax.random.key(0), x)[0].shape == (1, 10)


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bias_map.STUDY.run(Settings(smoke=True, radii=(1, 2), periods=(1,), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "bias_map.png", "claims.png", "report.html", "summary.json"}
    assert names < {p.name for p in out.iterdir()}
    for corner in ("conv", "local", "dense"):
        assert f">{corner}<" in (out / "bias_map.svg").read_text()
    printed = " ".join(capsys.readouterr().out.split())
    assert all(claim.text in printed for claim in bias_map.CLAIMS)
    assert "of 2, it has the highest validation accuracy" in printed


def test_the_grid_fits_the_maps() -> None:
    """Digits are 8×8, then 4×4 and 2×2: a period of 2 is all positions, a radius of 7 all cells."""
    grid = bias_map.points(Settings(data="digits", radii=(0, 6, 7, 8), periods=(1, 2, 4)))
    assert list(grid) == [(r, p) for r in ("0", "6", "full") for p in ("1", "all")]


def test_the_radius_is_chosen_on_the_validation_part() -> None:
    """The i-th of the made-up points has i % on test data, and the others on validation data.

    So radius 1 is taken, which has 1 % with sharing and 2 % without.
    """
    names = [(r, p) for r in ("1", "2", "full") for p in ("1", "all")]
    settings = Settings(data="digits", seeds=2)
    summary = bias_map.STUDY.conclude(settings, outcomes(names), outcomes(names[::-1]))
    assert summary.notes[0].startswith("best/1 is 1/1: of 2,")
    assert summary.notes[1].startswith("best/all is 1/all: of 2,")
    found = [100 * verdict.mean for verdict in summary.verdicts]
    assert found == pytest.approx([-1, -1, -4, -4, 0])
    (table,) = summary.tables
    assert "accuracy on digits in percent" in table.caption
    assert [row[0] for row in table.rows] == ["1", "2", "full"]
    assert table.rows[1] == ["2", "3.00 ± 1.41", "4.00 ± 1.41"]
    check_figures(summary)


def test_a_grid_with_the_full_radius_only() -> None:
    names = [("full", "1"), ("full", "all")]
    settings = Settings(data="digits", seeds=2, radii=())
    assert list(bias_map.points(settings)) == names
    summary = bias_map.STUDY.conclude(settings, outcomes(names), {})
    assert [verdict.claim.text for verdict in summary.verdicts] == [
        "without locality, sharing helps"
    ]
