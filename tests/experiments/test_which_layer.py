"""Biases taken from single layers, as a study."""

from pathlib import Path

import pytest

from cnn.errors import InputError
from cnn.geometry import describe
from cnn.layers.tree import leaf_layers
from cnn.models import cnn1d
from experiments import which_layer
from experiments.which_layer import CONV, LOCALITY, ORDERED, PERMUTED, SETS, SHARING, Settings
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    which_layer.STUDY.run(Settings(smoke=True, biases=(SHARING,), sets=("1", "3"), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "which_layer.png", "claims.png", "report.html", "summary.json"}
    assert names < {p.name for p in out.iterdir()}
    printed = " ".join(capsys.readouterr().out.split())
    assert which_layer.HYPOTHESIS in printed
    assert all(claim.text in printed for claim in which_layer.CLAIMS[:2])
    assert which_layer.CLAIMS[4].text not in printed.partition("have points that were not run")[0]


def test_the_bias_is_taken_from_these_layers_alone() -> None:
    """All 2³ sets, in the order of the layers; the empty one is the network of the ladder."""
    networks = which_layer.networks(Settings())
    assert networks.pop(CONV) == cnn1d()
    assert len(networks) == 2 * (2**3 - 1)
    kinds = {SHARING: "ConvLocal", LOCALITY: "DenseSpatial"}
    for (bias, layers), model in networks.items():
        found = [type(layer).__name__ for layer in leaf_layers(model).values()]
        expected = [kinds[bias] if i in layers.split("+") else "Conv" for i in "123"]
        assert found[0:6:2] == expected
    assert len({tuple(sorted(layers.split("+"))) for layers in SETS}) == 7


def test_parameters_by_hand() -> None:
    """25 channels; maps of 40, 19, 10 and 5 positions, windows of 5, 3 and 3."""
    networks = which_layer.networks(Settings(sets=("1", "3")))
    shared = [5 * 25 + 25, 3 * 25 * 25 + 25, 3 * 25 * 25 + 25]
    head = 5 * 25 * 10 + 10
    counts = {
        (SHARING, "1"): 19 * shared[0] + shared[1] + shared[2],
        (SHARING, "3"): shared[0] + shared[1] + 5 * shared[2],
        (LOCALITY, "1"): 19 * (40 * 25 + 25) + shared[1] + shared[2],
        (LOCALITY, "3"): shared[0] + shared[1] + 5 * (10 * 25 * 25 + 25),
    }
    for name, count in counts.items():
        assert describe(networks[name], (40, 1)).params == count + head


def test_a_seed_has_one_permutation_for_all_networks() -> None:
    points = which_layer.points(Settings(sets=("1",), seeds=2))
    first, same = (points[*name, PERMUTED, "0"] for name in (CONV, (LOCALITY, "1")))
    other = points[*CONV, PERMUTED, "1"]
    assert first.data is same.data
    assert (first.seed, other.seed, other.seeds) == (0, 1, 1)
    assert first.data.content_hash() != other.data.content_hash()
    assert points[*CONV, ORDERED, "all seeds"].seeds == 2
    assert len(points) == 3 * 3


def test_summary() -> None:
    """The i-th network has i and i + 2 % in order, and conv, the last, the most."""
    settings = Settings(seeds=2)
    names = [*which_layer.networks(settings)]
    names = [*names[1:], names[0]]
    results = {
        **outcomes([(*name, ORDERED, "0") for name in names]),
        **outcomes([(*name, PERMUTED, "0") for name in reversed(names)]),
    }
    summary = which_layer.STUDY.conclude(settings, results, {})
    assert summary.findings[0] == (
        "Points that sharing is worth in layers, ordered: 1: +14.0, 2: +13.0, 3: +12.0, "
        "1+2: +11.0, 1+3: +10.0, 2+3: +9.0, 1+2+3: +8.0."
    )
    assert summary.findings[3].startswith(
        "Points that locality is worth in layers, permuted: 1: -7"
    )
    assert summary.tables[0].rows[0] == ["conv", "1", "15.00 ± 1.41", "1.00 ± 1.41"]
    assert summary.tables[0].rows[4][0] == "without sharing in 1+2"
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([0.14, 0.07, 0.02, 0.02, 0.07, 0.02])
    check_figures(summary)


def test_one_recipe_where_orders_are_alike() -> None:
    """A first layer that sees every position can't tell one order of them from another."""
    assert which_layer.STUDY.tuning is not None
    by = which_layer.STUDY.tuning.by
    for layers in ("1", "1+2"):
        assert by((LOCALITY, layers, ORDERED, "0")) == by((LOCALITY, layers, PERMUTED, "1"))
    for name in ((*CONV,), (SHARING, "1"), (LOCALITY, "2+3")):
        assert by((*name, ORDERED, "0")) != by((*name, PERMUTED, "1"))
        assert by((*name, PERMUTED, "0")) == by((*name, PERMUTED, "1"))


def test_an_unknown_bias_or_set() -> None:
    with pytest.raises(InputError, match="unknown bias 'size'"):
        which_layer.points(Settings(biases=("size",)))
    with pytest.raises(InputError, match="unknown set of layers '4'"):
        which_layer.points(Settings(sets=("4",)))
