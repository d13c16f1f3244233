"""From a convolution to a depthwise separable one by groups of channels, as a study."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.ablations import match
from cnn.ablations.budget import Cost
from cnn.errors import InputError
from cnn.geometry import describe
from experiments import inception_spectrum
from experiments.inception_spectrum import (
    CHANNELS,
    DEPTHWISE,
    MACS,
    PARAMETERS,
    SAME_WIDTH,
    SHAPE,
    STANDARD,
    WIDTHS,
    Settings,
    network,
)
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    groups = ("4", DEPTHWISE)
    inception_spectrum.STUDY.run(Settings(smoke=True, groups=groups, out=tmp_path))
    names = {"results.jsonl", "inception_spectrum.png", "claims.png", "report.html"}
    assert names < {p.name for p in (tmp_path / "smoke").iterdir()}


@pytest.mark.parametrize(("groups", "seen"), [("1", 32), ("8", 4), (DEPTHWISE, 1)])
def test_costs_by_hand(groups: str, seen: int) -> None:
    """Maps of 19, 10 and 5 positions; a window sees 9 samples of the channels of its group."""
    found = describe(network(groups, 32), SHAPE, aligned=False)
    convolution, pointwise = 9 * seen * 32, 32 * 32
    assert found.params == 5 * 32 + 32 + 2 * (pointwise + convolution + 32) + 5 * 32 * 10 + 10
    modules = (19 + 10) * pointwise + (10 + 5) * convolution
    assert found.macs == 19 * 5 * 32 + modules + 5 * 32 * 10


def test_one_group_computes_what_any_number_of_groups_does() -> None:
    """Its window has the weights of a group, and zeros for the channels of other groups."""
    x = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    model = network("4", 8)
    params = model.init(jax.random.key(1), x)["params"]
    wide = dict(params)
    for name in ("layers_3", "layers_6"):
        kernel, whole = np.asarray(params[name]["kernel"]), np.zeros((9, 8, 8), np.float32)
        for i in range(4):
            own = slice(2 * i, 2 * i + 2)
            whole[:, own, own] = kernel[..., own]
        wide[name] = {**params[name], "kernel": whole}
    expected = jnp.asarray(model.apply({"params": params}, x))
    found = jnp.asarray(network("1", 8).apply({"params": wide}, x))
    assert jnp.allclose(found, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("budget", "by"), [(PARAMETERS, "parameters"), (MACS, "macs")])
def test_widths_are_those_of_match(budget: str, by: Cost) -> None:
    for groups, width in WIDTHS[budget].items():
        found = match(network(groups, CHANNELS), network("1", CHANNELS), SHAPE, by=by)
        assert found.model.layers[0].features == width


def test_summary() -> None:
    """The i-th network has i and i + 2 %: one group, then groups by budget."""
    given = Settings(seeds=2)
    names = [*inception_spectrum.networks(given)]
    summary = inception_spectrum.STUDY.conclude(given, outcomes(names), {})
    assert names[:3] == [STANDARD, ("2", SAME_WIDTH), ("4", SAME_WIDTH)]
    assert summary.findings[1].startswith("At equal parameters, points")
    assert summary.findings[1].endswith(
        "from 1 to 2: +5.0 ± 0.0, from 2 to 4: +1.0 ± 0.0, from 4 to 8: +1.0 ± 0.0, "
        "from 8 to C: +1.0 ± 0.0."
    )
    assert summary.findings[2].startswith("At equal MACs, points")
    rows = summary.tables[0].rows
    assert rows[0] == ["1", "32", "22,346", "172,576", "1.00 ± 1.41", "1.00 ± 1.41"]
    assert rows[8][:2] == ["C, equal parameters", "88"]
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([0.08, 0.12, 0.06, 0.02, 0.04])
    check_figures(summary)


def test_unknown_groups_or_budgets() -> None:
    with pytest.raises(InputError, match="unknown number of groups '3': choose one of 2, 4, 8, C"):
        inception_spectrum.points(Settings(groups=("3",)))
    with pytest.raises(InputError, match="unknown budget 'equal MAC': did you mean 'equal MACs'"):
        inception_spectrum.points(Settings(budgets=("equal MAC",)))
    with pytest.raises(InputError, match="at least one"):
        inception_spectrum.points(Settings(groups=()))
