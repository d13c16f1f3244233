"""The study of two windows of 3 against one of 5."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.layers import Chain, Conv
from cnn.train.files import read_jsonl
from experiments import expressivity
from experiments.expressivity import Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = expressivity.networks((8, 8, 1))["one 3×3"]
    few = dict.fromkeys(("one 5×5", "two 3×3", "two 3×3, ReLU"), small)
    monkeypatch.setattr(expressivity, "networks", lambda shape: few)
    expressivity.STUDY.run(Settings(smoke=True, out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "expressivity.png", "expressivity.svg", "report.html", "summary.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    printed = capsys.readouterr().out
    assert "80 of 80 dimensions on one axis, 272 of 400 on two" in " ".join(printed.split())
    assert expressivity.HYPOTHESIS in " ".join(printed.split())


def test_parameters_by_hand() -> None:
    """A stem of 3×3 on 1 channel, two places of 8 to 8 channels, a head on 2×2 positions."""
    around = (9 * 8 + 8) + (4 * 8 * 10 + 10)
    costs = expressivity.costs(Settings())
    assert costs["one 5×5"][0] == around + 2 * (25 * 64 + 8)
    assert costs["one 3×3"][0] == around + 2 * (9 * 64 + 8)
    assert costs["two 3×3"] == costs["two 3×3, ReLU"]
    assert costs["two 3×3"][0] == around + 2 * 2 * (9 * 64 + 8)
    assert costs["two 3×3, ReLU, wider"][0] == pytest.approx(costs["one 5×5"][0], rel=0.1)


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    point = ("two 3×3, ReLU, wider",)
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
    monkeypatch.setattr(expressivity, "CHANNELS", 2)  # of the kernels that are counted
    names = [(name,) for name in expressivity.networks((8, 8, 1))]
    summary = expressivity.summarize(Settings(seeds=2), outcomes(names))
    assert "by +2.0 points (95 % interval +2.0 to +2.0); two 3×3 without it" in summary.findings[0]
    assert "2 channels throughout" in summary.findings[1]
    assert "20 of 20 dimensions on one axis, 68 of 100 on two" in summary.findings[1]
    check_figures(summary)
