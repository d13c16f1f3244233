"""Blocks of positions that change places, as a study."""

from pathlib import Path

import numpy as np
import pytest

from experiments import permutation
from experiments.permutation import Study


@pytest.mark.slow
def test_the_study_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    permutation.main(Study(smoke=True, blocks=(40, 1), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "permutation.png", "permutation.svg", "report.html", "story.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    printed = capsys.readouterr().out
    assert "conv/1 − mlp/1" in printed
    assert permutation.HYPOTHESIS in " ".join(printed.split())


@pytest.mark.parametrize("seed", range(5))
def test_all_blocks_are_parted_and_none_is_broken(seed: int) -> None:
    """Two blocks can only swap; of 39 pairs of neighbours, as many are broken as blocks meet."""
    swapped = permutation.parted(40, 20, seed)
    np.testing.assert_array_equal(swapped, [*range(20, 40), *range(20)])
    for block, broken in ((40, 0), (10, 3), (5, 7), (1, 39)):
        order = permutation.parted(40, block, seed)
        assert (np.diff(order) != 1).sum() == broken
        assert sorted(order) == list(range(40))


def test_a_seed_has_one_permutation_for_all_rungs() -> None:
    points = permutation.points(Study(blocks=(40, 4), seeds=2))
    conv, mlp, other = (points[r, "4", s] for r, s in (("conv", "0"), ("mlp", "0"), ("conv", "1")))
    assert conv.data is mlp.data
    assert not np.array_equal(conv.data.test.x, other.data.test.x)
    np.testing.assert_array_equal(
        points["conv", "40", "0"].data.test.x, points["conv", "40", "1"].data.test.x
    )
