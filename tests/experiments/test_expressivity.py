"""The study of two windows of 3 against one of 5."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.geometry import describe
from cnn.layers import Chain, Conv
from cnn.train.files import read_jsonl
from experiments import expressivity
from experiments.expressivity import MATCHED, ONE, PAIR, RELU, SMALL, Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = expressivity.networks((40, 1))[SMALL]
    monkeypatch.setattr(expressivity, "networks", lambda shape: {ONE: small, PAIR: small})
    expressivity.STUDY.run(Settings(smoke=True, out=tmp_path))
    assert (tmp_path / "smoke" / "expressivity.png").exists()
    printed = " ".join(capsys.readouterr().out.split())
    assert "80 of 80 dimensions on one axis, 272 of 400 on two" in printed
    assert expressivity.HYPOTHESIS in printed


def test_parameters_by_hand() -> None:
    """A stem of 1 on 1 channel, two places of 16 to 16 channels, a head on 16 means."""
    around = (16 + 16) + (16 * 10 + 10)
    costs = expressivity.costs(Settings())
    assert costs[ONE][0] == around + 2 * (5 * 256 + 16)
    assert costs[SMALL][0] == around + 2 * (3 * 256 + 16)
    assert costs[PAIR] == costs[RELU]
    assert costs[PAIR][0] == around + 2 * 2 * (3 * 256 + 16)
    assert costs[MATCHED][0] == around + 2 * (2 * 3 * 16 * 13 + 13 + 16)
    assert costs[MATCHED][0] == pytest.approx(costs[ONE][0], rel=0.02)
    square = expressivity.costs(Settings(full=True))
    assert square[MATCHED][0] == pytest.approx(square[ONE][0], rel=0.02)


def test_samples_that_a_unit_of_the_last_map_sees() -> None:
    fields = {
        name: [layer.field.size for layer in describe(model, (40, 1)).layers if layer.field][-1]
        for name, model in expressivity.networks((40, 1)).items()
    }
    assert fields.pop(SMALL) == (5,)
    assert set(fields.values()) == {(9,)}


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    point = (MATCHED,)
    settings = Settings(full=True, smoke=True, data_dir=prepared("fashion_mnist"), out=tmp_path)
    expressivity.STUDY.run(replace(settings, only=point))
    (row, _) = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    costs = expressivity.costs(settings)
    assert row["parameters"] == costs[point[0]][0] != expressivity.costs(Settings())[point[0]][0]


def test_two_layers_are_the_one_with_the_composed_kernel() -> None:
    """A stack of two convolutions beside a single one, on random images and weights."""
    x = jax.random.normal(jax.random.key(0), (2, 7, 7, 3))
    stack = Chain((Conv(4, (3, 3), use_bias=False), Conv(2, (3, 3), use_bias=False)))
    params = stack.init(jax.random.key(1), x)["params"]
    u, v = (np.asarray(params[f"layers_{i}"]["kernel"], float) for i in range(2))
    w = jnp.asarray(expressivity.compose_kernels(u, v), jnp.float32)
    one = Conv(2, (5, 5), use_bias=False).apply({"params": {"kernel": w}}, x)
    np.testing.assert_allclose(one, stack.apply({"params": params}, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rank", "channels", "between", "expected"),
    [
        (1, 1, 1, 5),  # a quartic polynomial is a product of two quadratic ones
        (2, 1, 1, 17),  # 9 + 9 weights, of which a common factor changes nothing
        (2, 1, 2, 25),
        (1, 2, 2, 20),
        (2, 2, 2, 68),  # 2 · 9 · 4 weights less the 4 of a change of basis in the middle
    ],
)
def test_dimensions_by_hand(rank: int, channels: int, between: int, expected: int) -> None:
    assert expressivity.kernel_dimension(rank, channels, between) == expected


def test_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The i-th network has i and i + 2 %, so the last one, one 3, is better than the first."""
    monkeypatch.setattr(expressivity, "CHANNELS", 2)  # of the kernels that are counted
    names = [(name,) for name in expressivity.networks((40, 1))]
    assert names[0] == (ONE,)
    assert names[-1] == (SMALL,)
    summary = expressivity.summarize(Settings(seeds=2), outcomes(names))
    assert summary.findings[0].startswith("This data cannot tell")
    assert "2 channels throughout" in summary.findings[1]
    assert "20 of 20 dimensions on one axis, 68 of 100 on two" in summary.findings[1]
    check_figures(summary)
    told = expressivity.summarize(Settings(seeds=2), outcomes(reversed(names)))
    assert not any("cannot tell" in finding for finding in told.findings)
