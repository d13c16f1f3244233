"""The study of blocks of positions that change places."""

from pathlib import Path

import numpy as np
import pytest

from cnn.errors import InputError
from cnn.train.files import read_jsonl
from experiments import permutation
from experiments.permutation import Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    permutation.STUDY.run(Settings(smoke=True, blocks=(40, 1), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "permutation.png", "permutation.svg", "report.html", "summary.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    printed = capsys.readouterr().out
    assert "conv/1 − mlp/1" in printed
    assert permutation.HYPOTHESIS in " ".join(printed.split())


@pytest.mark.parametrize("seed", range(5))
def test_neighbouring_blocks_are_separated_and_no_block_is_broken(seed: int) -> None:
    """Two blocks can only swap; of 39 pairs of neighbours, as many are broken as blocks meet."""
    swapped = permutation.permute_blocks([40], 20, seed)
    np.testing.assert_array_equal(swapped, [*range(20, 40), *range(20)])
    for block, broken in ((40, 0), (10, 3), (5, 7), (1, 39)):
        order = permutation.permute_blocks([40], block, seed)
        assert (np.diff(order) != 1).sum() == broken
        assert sorted(order) == list(range(40))


def test_a_seed_has_one_permutation_for_all_rungs() -> None:
    points = permutation.points(Settings(blocks=(40, 4), seeds=2))
    conv, mlp, other = (points[r, "4", s] for r, s in (("conv", "0"), ("mlp", "0"), ("conv", "1")))
    assert conv.data is mlp.data
    assert not np.array_equal(conv.data.test.x, other.data.test.x)
    np.testing.assert_array_equal(
        points["conv", "40", "0"].data.test.x, points["conv", "40", "1"].data.test.x
    )


def test_unbroken_pairs_by_hand() -> None:
    """Of 2×2: the columns swapped keep both vertical pairs, a turn by half keeps none."""
    kept = [
        permutation.unbroken_pairs(np.array(order), (2, 2))
        for order in ((0, 1, 2, 3), (1, 0, 3, 2))
    ]
    assert kept == [4, 2]
    assert permutation.unbroken_pairs(np.array([3, 2, 1, 0]), (2, 2)) == 0
    assert permutation.unbroken_pairs(np.array([1, 2, 0, 3]), (2, 2)) == 0  # 1, 2 are in two rows


@pytest.mark.parametrize("seed", range(3))
def test_square_blocks_are_separated(seed: int) -> None:
    """Within blocks of side 2, of 6×6 pixels, half of the pairs, 9 · 4 of 60, are all that stay."""
    order = permutation.permute_blocks((6, 6), 2, seed)
    assert permutation.unbroken_pairs(order, (6, 6)) == 9 * 4
    assert sorted(order) == list(range(36))
    assert permutation.unbroken_pairs(permutation.permute_blocks((6, 6), 1, seed), (6, 6)) == 0


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    settings = Settings(
        full=True, smoke=True, blocks=(14, 1), data_dir=prepared("fashion_mnist"), out=tmp_path
    )
    permutation.STUDY.run(settings)
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    assert len(rows) == 3 * 2 * 2
    assert {row["block"] for row in rows} == {"14", "1"}


@pytest.mark.parametrize("block", [-2, 0, 3, 50])
def test_a_block_that_does_not_fit(block: int) -> None:
    with pytest.raises(InputError, match=f"block must divide the size .*, got {block}"):
        permutation.points(Settings(blocks=(block,)))


def test_summary() -> None:
    settings = Settings(seeds=2)
    summary = permutation.summarize(settings, outcomes(permutation.points(settings)))
    assert summary.tables[0].heads == ["rung", "40", "20", "10", "8", "5", "4", "2", "1"]
    first, conv, *_ = summary.findings
    assert "lower than that of mlp with blocks of no size, and higher with" in first
    assert first.count("40, 20, 10, 8, 5, 4, 2, 1") == 1
    assert conv.startswith(
        "From blocks of 40 to blocks of 1, the error of conv changes from 98.5 to 84.5 %"
    )
    check_figures(summary)
