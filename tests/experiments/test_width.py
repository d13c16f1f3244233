"""What sharing is worth by width, as a study."""

from pathlib import Path

import pytest

from cnn.errors import InputError
from cnn.geometry import describe
from cnn.models import cnn1d
from experiments import width
from experiments.width import CONV, FLAT, LOCAL, MEAN, Settings
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    width.STUDY.run(Settings(smoke=True, widths=(2, 8), out=tmp_path))
    names = {"results.jsonl", "width.png", "report.html", "summary.json"}
    assert names < {p.name for p in (tmp_path / "smoke").iterdir()}


def test_parameters_by_hand() -> None:
    """Windows of 5, 3 and 3 to maps of 19, 10 and 5 positions; the head sees 5 or 1 of them."""
    networks = width.networks(Settings(widths=(2, 8)))
    assert len(networks) == 8
    assert networks[CONV, FLAT, "8"] == cnn1d(channels=8)
    kernels = [5 * 8 + 8, 3 * 8 * 8 + 8, 3 * 8 * 8 + 8]
    conv, local = sum(kernels), 19 * kernels[0] + 10 * kernels[1] + 5 * kernels[2]
    for rung, below in ((CONV, conv), (LOCAL, local)):
        for head, positions in ((FLAT, 5), (MEAN, 1)):
            params = describe(networks[rung, head, "8"], (40, 1)).params
            assert params == below + positions * 8 * 10 + 10


def test_summary() -> None:
    """Accuracies of the i-th point are i and i + 2 %: heads, then widths, conv before local."""
    given = Settings(widths=(8, 32, 128), seeds=2)
    results = outcomes(
        (rung, head, str(c))
        for head in (FLAT, MEAN)
        for rung in (LOCAL, CONV)
        for c in given.widths
    )
    summary = width.STUDY.conclude(given, results, {})
    assert summary.findings[0].endswith("8: +3.0 ± 0.0, 32: +3.0 ± 0.0, 128: +3.0 ± 0.0.")
    assert summary.tables[0].rows[3] == ["conv, flattened", "8", "1", "4.00 ± 1.41", "4.00 ± 1.41"]
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([0.03, 0.03, 0, 0], abs=1e-9)
    check_figures(summary)


def test_claims_are_about_points_of_the_study() -> None:
    known = width.networks(Settings())
    assert {name for claim in width.CLAIMS for name, _ in claim.terms} <= set(known)


def test_an_unknown_head() -> None:
    with pytest.raises(InputError, match="unknown head 'max'"):
        width.networks(Settings(heads=("max",)))
