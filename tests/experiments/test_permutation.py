"""The study of signals that are cut into pieces, which change places."""

from pathlib import Path

import numpy as np
import pytest

from cnn.data import load
from cnn.errors import InputError
from cnn.train.files import read_jsonl
from experiments import permutation
from experiments.permutation import Settings
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    permutation.STUDY.run(Settings(smoke=True, cuts=(0, 39), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "permutation.png", "claims.png", "report.html", "summary.json"}
    assert names < {p.name for p in out.iterdir()}
    assert len(read_jsonl(out / "results.jsonl")) == 3 * 2 * 2
    printed = " ".join(capsys.readouterr().out.split())
    assert permutation.HYPOTHESIS in printed
    judged = [one.text for one in permutation.CLAIMS if {one.a[1], one.b[1]} <= {"0", "39"}]
    assert len(judged) == 4
    assert all(text in printed for text in judged)


@pytest.mark.parametrize("cuts", [0, 1, 2, 7, 38, 39])
def test_a_cut_parts_one_pair_of_neighbours(cuts: int) -> None:
    """Of the 39 pairs of neighbours, as many are apart as there are cuts, whatever the seed."""
    for seed in range(5):
        order = permutation.cut(40, cuts, seed)
        assert sorted(order) == list(range(40))
        places = np.argsort(order)  # where each position is now
        assert (abs(np.diff(places)) > 1).sum() == cuts
        np.testing.assert_array_equal(order, permutation.cut(40, cuts, seed))


def test_cuts_are_anywhere() -> None:
    """One cut swaps two pieces; over 400 seeds, it is at each of the 39 places at least once."""
    found = {int(permutation.cut(40, 1, seed)[0]) for seed in range(400)}
    assert found == set(range(1, 40))


@pytest.mark.parametrize("cuts", [-1, 40])
def test_cuts_that_do_not_fit(cuts: int) -> None:
    with pytest.raises(InputError, match=f"cuts must be from 0 to 39, got {cuts}"):
        permutation.points(Settings(cuts=(cuts,)))


def test_a_seed_has_one_order_for_all_networks() -> None:
    points = permutation.points(Settings(cuts=(0, 9), seeds=2))
    conv, mlp, other = (points[r, "9", s] for r, s in (("conv", "0"), ("mlp", "0"), ("conv", "1")))
    assert conv.data is mlp.data
    assert (conv.seed, other.seed, conv.seeds) == (0, 1, 1)
    data = [points["conv", *name].data for name in (("9", "0"), ("9", "1"), ("0", "0"), ("0", "1"))]
    first, second, whole, same = (one.content_hash() for one in data)
    assert first != second
    assert whole == same == load("mnist1d-50k").content_hash()


def test_the_control_has_one_recipe() -> None:
    points = permutation.points(Settings(cuts=(0, 39), seeds=1))
    assert permutation.STUDY.tuning is not None
    groups = permutation.STUDY.tuning.groups(points)
    assert sorted(map(len, groups)) == [1, 2, 2, 2, 2]
    assert len(groups["mlp",]) == 2


def test_summary() -> None:
    """Of the made-up points, conv is better than mlp by 0.01 in order, and worse without order."""
    names = [("mlp", "0"), ("conv", "0"), ("local", "0")]
    names += [("conv", "39"), ("local", "39"), ("mlp", "39")]
    settings = Settings(seeds=2, cuts=(39, 0))
    summary = permutation.summarize(settings, outcomes(names))
    assert summary.tables[0].heads == ["rung", "0", "39"]
    assert summary.tables[0].rows[0] == ["conv", "98.00 ± 1.41", "96.00 ± 1.41"]
    local, mlp = summary.findings
    assert local.startswith("conv against local: worse after 0, 39 cuts (at 95 % for all 2")
    assert mlp.startswith("conv against mlp: better after 0 cuts; worse after 39 cuts (at 95 %")
    check_figures(summary)
