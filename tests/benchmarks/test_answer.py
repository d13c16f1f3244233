"""The time to the answer, beside plain Flax and plain PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import answer, plain_answer
from cnn.errors import InputError

PARAMETERS = {"conv": 5210, "local": 32610, "dense": 171110}
"""As on the ladder (docs/studies/ladder)."""


@pytest.mark.parametrize("rung", PARAMETERS)
def test_the_network_in_flax_is_that_of_the_ladder(rung: str) -> None:
    model, *_ = plain_answer.flax_programs(rung, 0.01, 0.0, 10)
    params = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 40, 1)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[rung]


@pytest.mark.parametrize("rung", PARAMETERS)
def test_the_network_in_pytorch_is_that_of_the_ladder(rung: str) -> None:
    torch = pytest.importorskip("torch", reason="the network is PyTorch's")
    network = plain_answer.torch_network(rung, 40)
    assert sum(w.numel() for w in network.parameters()) == PARAMETERS[rung]
    assert network(torch.zeros(2, 1, 40)).shape == (2, 10)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["flax", "torch"])
def test_it_trains(library: str, tmp_path: Path) -> None:
    if library == "torch":
        pytest.importorskip("torch", reason="it is in PyTorch")
    file = tmp_path / "found.json"
    flags = plain_answer.Flags(library=library, file=file, rungs=("conv",), seeds=1, steps=300)
    plain_answer.main(flags)
    found = json.loads(file.read_text())
    assert list(found) == ["conv/standard/ordered/all seeds", "conv/standard/permuted/0"]
    assert found["conv/standard/ordered/all seeds"][0] > 0.5  # chance is 0.1


def test_the_table_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    file.write_text(
        '{"conv/standard/ordered/all seeds": [0.8, 0.9], "conv/standard/permuted/0": [0.5], '
        '"conv/standard/permuted/1": [0.6]}'
    )
    found = answer.accuracies(file)
    assert found == {"conv, ordered": pytest.approx(0.85), "conv, permuted": pytest.approx(0.55)}
    turns = {
        "cold": [answer.Turn(20, 30, found), answer.Turn(10, 20, found)],
        "torch": [answer.Turn(45, 80, found)],
    }
    lines = answer.text(turns, answer.Flags(rounds=2)).splitlines()
    assert (
        lines[2] == "| here, cold | 15.0 [10.0 – 20.0] | 25.0 [20.0 – 30.0] | 1.00 | 85.0 | 55.0 |"
    )
    assert (
        lines[3]
        == "| plain PyTorch | 45.0 [45.0 – 45.0] | 80.0 [80.0 – 80.0] | 3.00 | 85.0 | 55.0 |"
    )


def test_bad_input_is_named(tmp_path: Path) -> None:
    for ways, line in (
        (("here",), "ways must be of cold, warm, flax, torch, got 'here'"),
        (("warm",), "ways: warm needs cold, which compiles: add it"),
    ):
        with pytest.raises(InputError, match=line):
            answer.main(answer.Flags(ways=ways, out=tmp_path, page=tmp_path / "page.md"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_way_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ways: here, cold failed .*unknown rung 'cnv'"):
        answer.take_turn("cold", answer.Flags(rungs=("cnv",)), tmp_path)
