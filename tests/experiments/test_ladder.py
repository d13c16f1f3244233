"""The study end to end, in few steps."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnn.data import Dataset, Split, load
from cnn.errors import InputError
from cnn.geometry import describe
from experiments import ladder
from experiments.harness import plots, study
from experiments.harness.claims import judge
from experiments.harness.results import Outcome


def test_the_variants_by_hand() -> None:
    """Parameters: windows 5, 3, 3 over maps of 40, 19, 10 and 5 positions."""

    def local(c: int, tied: bool) -> int:
        kernels = 19 * 5 * c + 10 * 3 * c * c + 5 * 3 * c * c
        return kernels + (3 if tied else 34) * c + 5 * c * 10 + 10

    def conv(c: int, positions: int = 5) -> int:
        return 5 * c + 3 * c * c + 3 * c * c + 3 * c + positions * c * 10 + 10

    made = ladder.variants(load("mnist1d"))

    def count(variant: str, rung: str) -> int:
        return describe(made[variant][rung], (40, 1)).params

    assert count("8 channels", "conv") == conv(8)
    assert count("64 channels", "conv") == conv(64)
    assert count("64 channels", "local") == local(64, tied=False)
    assert count("mean head", "conv") == conv(25, positions=1)
    assert count("tied bias", "local") == local(25, tied=True)
    for rung in ("conv", "dense"):
        assert count("equal parameters", rung) == pytest.approx(local(25, tied=False), rel=0.06)


def test_rungs_to_which_all_orders_are_alike_are_tuned_on_all_of_them() -> None:
    points = ladder.points(ladder.Settings(seeds=2, variants=("standard", "published")))
    groups = study.Tuning(__file__, by=ladder.tuned_together).groups(points)
    sizes = {"/".join(group): len(configs) for group, configs in groups.items()}
    assert sizes == {
        **{f"{rung}/standard/ordered": 1 for rung in ladder.STANDARD_RUNGS[:4]},
        **{f"{rung}/standard/permuted": 2 for rung in ladder.STANDARD_RUNGS[:4]},
        **{f"{rung}/standard": 3 for rung in ("dense", "mlp", "logistic")},
    }


@pytest.mark.slow
def test_images_have_all_rungs_from_p4m_to_attention_unless_they_are_large() -> None:
    digits = ladder.points(ladder.Settings(variants=("with pooling",), data="digits"))
    rungs = ("p4m", "p4", "conv", "local", "dense", "mixing", "attention")
    assert [rung for rung, *_ in digits] == list(rungs)
    x = np.zeros((20, 17, 17, 1), np.float32)
    part = Split(x, np.arange(20, dtype=np.int32) % 10)
    large = Dataset("large", part, part, tuple("0123456789"), (0.0,), (1.0,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder.Settings, "load", lambda _: large)
        found = ladder.points(ladder.Settings(variants=("with pooling",)))
    assert [rung for rung, *_ in found] == list(rungs[:-1])


def test_two_data_sets_at_once_are_refused() -> None:
    with pytest.raises(InputError, match="--full takes fashion_mnist, got digits: leave one"):
        ladder.points(ladder.Settings(full=True, data="digits"))


def test_points_draw_a_permutation_for_each_seed() -> None:
    settings = ladder.Settings(variants=("standard", "published"), rungs=("conv", "mlp"), seeds=2)
    found = ladder.points(settings)
    ordered, drawn = found["conv", "standard", "ordered", "all seeds"], ["0", "1"]
    assert ordered.seeds == 2
    for rung in ("conv", "mlp"):
        for variant in ("standard", "published"):
            parts = [found[rung, variant, "permuted", seed] for seed in drawn]
            assert [(part.seed, part.seeds) for part in parts] == [(0, 1), (1, 1)]
    published = found["conv", "published", "ordered", "all seeds"]
    assert (published.steps, published.lr, published.schedule) == (6000, 0.01, "constant")
    assert len(found) == 2 * 2 * 3
    group = ladder.STUDY.tuning.by  # type: ignore[union-attr]
    assert group(("conv", "published", "ordered", "all seeds")) is None
    assert group(("conv", "standard", "permuted", "1")) == ("conv", "standard", "permuted")


def results(**accuracies: tuple[float, float]) -> dict[tuple[str, ...], Outcome]:
    """Return the standard variant of rungs, two seeds around the ordered and permuted accuracy."""
    found: dict[tuple[str, ...], Outcome] = {}
    for rung, of in accuracies.items():
        for order, mean in zip(("ordered", "permuted"), of, strict=True):
            values = {"test_accuracy": np.array([mean - 0.001, mean + 0.001])}
            found[rung, "standard", order] = Outcome(100, values)
    return found


def test_what_the_biases_are_worth_by_hand() -> None:
    found = results(conv=(0.93, 0.60), local=(0.88, 0.66), dense=(0.68, 0.66))
    summary = ladder.summarize(ladder.Settings(seeds=2), found)
    first, second = summary.findings
    assert first.startswith("Weight sharing (conv over local) is worth +5.0 points (")
    assert "locality (local over dense) is worth +20.0 points (" in first
    assert second.endswith("in points: conv -33.0, local -22.0, dense -2.0.")
    (panel,) = summary.figures["ladder"].panels
    assert isinstance(panel, plots.Dots)
    assert [(b.left, b.right) for b in panel.brackets] == [(0, 1), (1, 2)]
    assert panel.brackets[0].text.startswith("sharing +5.0 (")
    assert summary.tables[0].rows[0] == ["conv", "100", "93.00 ± 0.14", "60.00 ± 0.14"]


def test_both_directions_by_hand() -> None:
    rungs = ("flip", "conv", "local", "dense", "mixing", "attention")
    pooled: dict[tuple[str, ...], Outcome] = {
        (rung, "with pooling", "ordered"): Outcome(1, {"test_accuracy": np.array([i / 10] * 2)})
        for i, rung in enumerate(rungs)
    }
    summary = ladder.summarize(ladder.Settings(seeds=2), results(conv=(0.9, 0.6)) | pooled)
    (panel,) = summary.figures["both_directions"].panels
    assert isinstance(panel, plots.Dots)
    assert tuple(panel.categories) == rungs
    assert [float(np.asarray(of).mean()) for of in panel.series[0].values] == [
        0,
        10,
        20,
        30,
        40,
        50,
    ]


def test_claims_ask_for_a_point_in_order_and_for_none_permuted() -> None:
    found = results(conv=(0.93, 0.60), local=(0.88, 0.66), dense=(0.68, 0.64))
    verdicts = {one.claim.text: one for one in judge(ladder.CLAIMS, found)}
    assert {text: one.verdict for text, one in verdicts.items()} == {
        "sharing helps on data in order": "holds",
        "locality helps on data in order": "holds",
        "sharing does not help on permuted data": "holds",
        "locality does not help on permuted data": "does not hold",
    }
    assert len(ladder.CLAIMS) == 15
    assert len({claim.text for claim in ladder.CLAIMS}) == 15


@pytest.mark.slow
def test_the_study_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ladder.Settings(smoke=True, variants=("standard", "published"), rungs=("mlp",))
    ladder.STUDY.run(replace(given, out=tmp_path))
    printed = capsys.readouterr().out
    assert "68%" in printed  # the published value stands beside ours
    names = {"results.jsonl", "ladder.png", "ladder.svg", "report.html", "summary.json"}
    folder = tmp_path / "smoke"
    assert {p.name for p in folder.glob("[!.]*")} == names
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert {(r["variant"], r["order"], r["draw"], r["seed"]) for r in rows} == {
        (variant, order, draw, seed)
        for variant in ("standard", "published")
        for order, draws in (("ordered", ["all seeds"]), ("permuted", ["0", "1"]))
        for draw in draws
        for seed in (0, 1)
        if draw in ("all seeds", str(seed))
    }
    assert all(len(row["examples"]["package accuracy"]["correct"]) > 100 for row in rows)
    page = (folder / "report.html").read_text()
    assert ladder.QUESTION in page
    assert "data:image/svg+xml;base64," in page
    assert not any(outside in page for outside in ("src='http", 'src="http', "href="))


def test_a_rung_that_the_variants_lack_is_named() -> None:
    with pytest.raises(InputError, match="rungs must have one of the variants standard, got p4"):
        ladder.points(ladder.Settings(variants=("standard",), rungs=("p4",)))


def test_wrong_settings_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seeds"):
        ladder.STUDY.run(ladder.Settings(seeds=0, out=tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []
