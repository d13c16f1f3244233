"""The harness: what is there is not computed again, and nothing that ended is lost."""

from __future__ import annotations

import errno
import json
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from cnn.buckets import BucketPath
from cnn.data import Dataset
from cnn.errors import InputError, RunError
from cnn.layers import Chain, Conv, Dense, Flatten
from cnn.train import Config, Result
from experiments.harness import runner, study
from experiments.harness.study import Outcome, Settings
from tests import object_store
from tests.small import config, model, waves


def points(settings: Settings) -> dict[study.Name, Config]:
    made = {"narrow": model(features=2), "wide": model(features=3)}
    data = waves()
    return {(name, "waves"): settings.config(m, data, batch_size=16) for name, m in made.items()}


def settings(out: Path, **fields: object) -> Settings:
    return Settings(**({"steps": 4, "seeds": 2, "out": out} | fields))  # type: ignore[arg-type]


def run(given: Settings, **more: object) -> dict[study.Name, Outcome]:
    return study.outcomes(given, ("width", "data"), points(given), **more)  # type: ignore[arg-type]


def rows(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Keep a list of the seeds of every training."""
    import cnn.train

    seeds: list[tuple[int, ...]] = []

    def fit(c: Config, on_step: object = None) -> Result:
        seeds.append(tuple(c.seed_range))
        return original(c, on_step)  # type: ignore[arg-type]

    original = cnn.train.fit
    monkeypatch.setattr(cnn.train, "fit", fit)
    return seeds


def test_what_is_there_is_not_computed_again(tmp_path: Path, trained: list) -> None:
    first = run(settings(tmp_path))
    assert len(trained) == 2
    assert {(r["width"], r["data"], r["seed"]) for r in rows(tmp_path)} == {
        (name, "waves", seed) for name in ("narrow", "wide") for seed in (0, 1)
    }
    again = run(settings(tmp_path))
    assert len(trained) == 2
    for name, outcome in first.items():
        np.testing.assert_array_equal(outcome["test_loss"], again[name]["test_loss"])
        assert outcome.parameters == again[name].parameters
    more = run(settings(tmp_path, seeds=4))
    assert trained[2:] == [(2, 3)] * 2  # the new seeds only
    np.testing.assert_array_equal(
        more["wide", "waves"]["test_loss"][:2], first["wide", "waves"]["test_loss"]
    )
    run(settings(tmp_path, lr=1e-3))
    assert trained[4:] == [(0, 1)] * 2  # another recipe is another point


@pytest.mark.slow
def test_a_study_in_a_bucket_goes_on_from_its_lines(
    store: object_store.Store, tmp_path: Path, trained: list
) -> None:
    """Objects of others in the bucket are neither read nor changed."""
    made = study.Study("Why?", "nobody knows.", ("width", "data"), points)
    store.objects["b/a/large.bin"] = b"of another program", datetime.now(UTC)
    out = BucketPath("gs://b/a")
    for seeds in (2, 3):
        made.run(replace(settings(tmp_path, seeds=seeds), out=out))
    assert trained == [(0, 1)] * 2 + [(2,)] * 2
    assert store.objects["b/a/large.bin"][0] == b"of another program"
    assert "GET b/a/large.bin" not in store.requests
    assert {"results.jsonl", "report.html"} <= store.names("b/a")
    (tmp_path / "results.jsonl").write_bytes(store.objects["b/a/results.jsonl"][0])
    assert len(rows(tmp_path)) == 6
    with pytest.raises(InputError, match="out must be in a file system, got 'gs://b/a'"):
        run(replace(settings(tmp_path), out=out))


def test_other_data_is_another_point(tmp_path: Path, trained: list) -> None:
    given = settings(tmp_path)
    run(given)
    moved = {name: replace(c, data=waves(seed=1)) for name, c in points(given).items()}
    study.outcomes(given, ("width", "data"), moved)
    assert len(trained) == 4


def test_an_interrupted_study_keeps_what_ended_and_goes_on(
    tmp_path: Path, trained: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cnn.train

    counted = cnn.train.fit

    def fit(c: Config, on_step: object = None) -> Result:
        if c.model == model(features=3):
            raise KeyboardInterrupt
        return counted(c, on_step)  # type: ignore[arg-type]

    monkeypatch.setattr(cnn.train, "fit", fit)
    monkeypatch.setattr(runner, "POINTS_AT_A_TIME", 1)
    with pytest.raises(KeyboardInterrupt):
        run(settings(tmp_path))
    assert {r["width"] for r in rows(tmp_path)} == {"narrow"}
    monkeypatch.setattr(cnn.train, "fit", counted)
    run(settings(tmp_path))
    assert len(trained) == 2
    assert len(rows(tmp_path)) == 4


def test_a_point_without_a_step_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    given = settings(tmp_path, steps=1)
    two = points(given)
    bad = replace(two["wide", "waves"], optimizer="sgd", schedule="constant", lr=3e38)
    x = 100 * bad.data.train.x
    bad = replace(bad, data=replace(bad.data, train=replace(bad.data.train, x=x)))
    with pytest.raises(RunError, match=r"^point wide/waves: all 1 steps were skipped, because"):
        study.outcomes(given, ("width", "data"), two | {("wide", "waves"): bad})
    assert {row["width"] for row in rows(tmp_path)} == {"narrow"}


class Unfinished(nn.Module):
    """A network with a mistake."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return {"no": x}["yes"]


def test_points_that_cannot_train_are_named_and_the_others_are_kept(
    tmp_path: Path, trained: list, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings(tmp_path)
    more = {
        ("large", "waves"): given.config(Chain((Flatten(), Dense(3))), waves(), batch_size=16),
        ("unfinished", "waves"): given.config(Unfinished(), waves(), batch_size=16),
    }
    with pytest.raises(RunError) as error:
        study.outcomes(given, ("width", "data"), more | points(given))
    assert "\n" not in str(error.value)
    assert sorted(str(error.value).split("; ")) == [
        "all other points are kept: the same command trains the rest",
        "point large/waves: the model must return 2 values, one per class of waves, got shape "
        "(3,): build it with num_classes=2",
        "point unfinished/waves: KeyError: 'yes'",
    ]
    assert {row["width"] for row in rows(tmp_path)} == {"narrow", "wide"}
    said = capsys.readouterr().err
    assert 'return {"no": x}["yes"]' in said  # the traceback shows where the mistake is
    assert "point large/waves failed: the model must return 2 values" in said
    run(given)
    assert len(trained) == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"batch_size": 65}, "batch_size must be at most the 64 training examples, got 65"),
    ],
)
def test_an_invalid_setting_names_its_point_before_anything_is_written(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    given = settings(tmp_path / "new")
    bad = {("slow", "waves"): replace(points(given)["wide", "waves"], **changes)}
    with pytest.raises(InputError, match=f"^point slow/waves: {said}"):
        study.outcomes(given, ("width", "data"), points(given) | bad)
    assert not given.out.exists()


def test_a_line_cut_off_while_being_written_is_made_again(tmp_path: Path, trained: list) -> None:
    before = run(settings(tmp_path))
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    after = run(settings(tmp_path))
    assert len(trained) == 3
    assert len(trained[-1]) == 1
    assert len(rows(tmp_path)) == 4
    for name in before:
        np.testing.assert_allclose(before[name]["test_loss"], after[name]["test_loss"], rtol=1e-5)


@pytest.mark.parametrize("lost", ["test_accuracy", "train_loss"])
def test_a_line_of_another_version_is_named_and_its_seed_trained_again(
    lost: str, tmp_path: Path, trained: list, caplog: pytest.LogCaptureFixture
) -> None:
    before = run(settings(tmp_path))
    path = tmp_path / "results.jsonl"
    first, *others = path.read_text().splitlines()
    old = json.loads(first)
    old["measured"].remove(lost)
    path.write_text("\n".join([json.dumps(old | {lost: "0.5"}), *others, ""]))
    after = run(settings(tmp_path))
    assert caplog.messages == [f"{path}: skipped lines that are damaged or of another version (1)"]
    assert trained[2:] == [(old["seed"],)]
    for name in before:
        np.testing.assert_allclose(before[name][lost], after[name][lost], rtol=1e-5)


@pytest.mark.parametrize("name", ["results.jsonl", ".results.lock", "summary.json", "report.html"])
def test_a_folder_in_place_of_a_file_is_refused_at_once(
    name: str, tmp_path: Path, trained: list
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"/{name}' must be a file: move it away"):
        run(settings(tmp_path))
    assert trained == []
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_cannot_be_written_is_refused_at_once(
    tmp_path: Path, trained: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be written \(Not a directory\): choose another"):
        run(settings(tmp_path / "file" / "results"))

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)  # root may write anywhere else
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\): choose"):
        run(settings(tmp_path))
    assert trained == []


def test_measures_are_kept_beside_the_accuracies(tmp_path: Path) -> None:
    def double(config: Config, result: Result) -> Mapping[str, list[np.ndarray]]:
        both = np.stack([result.test_accuracy, result.train_accuracy], -1)
        return {"twice": list(2 * result.test_accuracy), "both": list(both)}

    outcome = run(settings(tmp_path), measure=double)["wide", "waves"]
    np.testing.assert_allclose(outcome["twice"], 2 * outcome["test_accuracy"])
    np.testing.assert_allclose(outcome["both"][:, 0], outcome["test_accuracy"])
    assert rows(tmp_path)[0]["twice"] == 2 * rows(tmp_path)[0]["test_accuracy"]  # type: ignore[operator]


def test_another_measure_is_measured_anew(tmp_path: Path, trained: list) -> None:
    """What was kept under the old one lacks what the new one asks for."""

    def first(config: Config, result: Result) -> Mapping[str, list[float]]:
        return {"old": list(result.test_loss)}

    def second(config: Config, result: Result) -> Mapping[str, list[float]]:
        return {"new": list(result.test_loss)}

    run(settings(tmp_path), measure=first)
    run(settings(tmp_path), measure=first)
    assert len(trained) == 2
    assert "new" in run(settings(tmp_path), measure=second)["wide", "waves"].values
    assert len(trained) == 4


def test_a_measure_typed_at_a_prompt_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    typed: dict[str, Any] = {}
    exec("def mine(config, result): return {}", typed)
    with pytest.raises(InputError, match=r"measure 'mine' has no source file.* write it"):
        run(settings(tmp_path / "new"), measure=typed["mine"])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("part", ["test", "validation"])
def test_lines_say_on_which_part_they_report(part: str, tmp_path: Path) -> None:
    given = settings(tmp_path, validate=part == "validation")
    for _ in range(2):  # trained, then read
        outcome = run(given)["wide", "waves"]
        line = next(row for row in rows(tmp_path) if row["width"] == "wide")
        assert {name for name in line if "accuracy" in name} == {
            f"{part}_accuracy",
            "train_accuracy",
        }
        assert line[f"{part}_accuracy"] == outcome["test_accuracy"][line["seed"]]


def test_labels_stay_beside_the_description(tmp_path: Path) -> None:
    """A sweep may vary the model, the steps or what it relaxes to."""
    given = settings(tmp_path)
    study.outcomes(given, ("model", "steps"), points(given))
    for row in rows(tmp_path):
        assert (row["model"], row["steps"]) in {("narrow", "waves"), ("wide", "waves")}
        assert row.get("config", {"steps": 4})["steps"] == 4  # type: ignore[attr-defined]
    assert [row["seed"] for row in rows(tmp_path) if "config" in row] == [0, 0]
    with pytest.raises(InputError, match=r"names of their own, got \['seed'\]"):
        study.outcomes(settings(tmp_path / "new"), ("seed", "data"), points(given))


def test_one_point_alone_and_an_unknown_one(tmp_path: Path) -> None:
    assert list(run(settings(tmp_path, only=("wide/waves",)))) == [("wide", "waves")]
    with pytest.raises(
        InputError, match="unknown point 'tall': choose one of narrow/waves, wide/waves"
    ):
        run(settings(tmp_path / "new", only=("tall",)))
    assert not (tmp_path / "new").exists()


def test_paired_differences_are_those_of_a_paired_t_test() -> None:
    a, b = np.array([0.9, 0.8, 0.95, 0.7]), np.array([0.85, 0.7, 0.97, 0.6])
    mean, half = study.paired(a, b)
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    np.testing.assert_allclose([mean - half, mean + half], interval)
    assert study.paired(a[:1], b[:1]) == (pytest.approx(0.05), np.inf)
    low, high = (100 * end for end in interval)
    assert (
        study.difference(a, b)
        == f"{100 * mean:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"
    )
    assert study.difference(a, b, brief=True) == f"{100 * mean:+.1f} ({low:+.1f} to {high:+.1f})"
    assert study.difference(a[1:2], b[1:2]) == "+10.0 points"
    results = {("a",): Outcome(1, {"test_accuracy": a}), ("b",): Outcome(1, {"test_accuracy": b})}
    table = study.differences(results, [(("a",), ("b",)), (("a",), ("c",))])
    assert table.rows == [
        ["a − b", "+5.75", f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"]
    ]


def test_the_larger_data_set(tmp_path: Path) -> None:
    """It has a folder of its own, in which a smoke test has another."""

    @dataclass(frozen=True, kw_only=True)
    class Digits(Settings):
        small: ClassVar[str] = "digits"

    assert Digits().load().name == "digits"
    full = Digits(full=True, data_dir=tmp_path, out=tmp_path / "some")
    with pytest.raises(InputError, match="'fashion_mnist' is not prepared in"):
        full.load()
    assert (Digits().title, full.title) == ("digits", "Fashion-MNIST")
    assert study.reduced(full).out == tmp_path / "some" / "full"
    assert study.reduced(replace(full, smoke=True)).out == tmp_path / "some" / "full" / "smoke"


def test_a_study_without_a_larger_data_set_refuses_full() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Generated(Settings):
        large: ClassVar[str] = ""

    with pytest.raises(InputError, match="full: this study has no larger data set"):
        study.reduced(Generated(full=True))


def test_large_points_train_alone_in_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heap alone keeps blocks of any size. By hand: 6 f + 2 weights for f features."""
    import cnn.train

    small, large, broken = (config(steps=1, model=model(features=f)) for f in (4, 50, 60))
    monkeypatch.setattr(runner, "LARGE", 302)
    in_main, kept = {}, []

    def fit(c: Config, on_step: object = None) -> Result:
        if c.model == broken.model:
            raise RunError("it is broken")
        in_main[c.model] = threading.current_thread() is threading.main_thread()
        return original(c)

    original = cnn.train.fit
    monkeypatch.setattr(cnn.train, "fit", fit)
    three = {("broken",): broken, ("large",): large, ("small",): small}
    failed = runner.train(three, lambda _: None, lambda name, *_: kept.append(name))
    assert in_main == {large.model: True, small.model: False}
    assert (failed, kept) == ({("broken",): "it is broken"}, [("small",), ("large",)])


def test_threads_switch_soon_while_points_train() -> None:
    before, seen = sys.getswitchinterval(), []

    def advance(steps: int) -> None:
        seen.append(sys.getswitchinterval())

    point = ("a",)
    runner.train({point: config(steps=1)}, advance, lambda *_: None)
    assert seen == [pytest.approx(runner.SWITCH_SECONDS)]
    assert before > 2 * runner.SWITCH_SECONDS
    assert sys.getswitchinterval() == before


def test_pooled_seeds() -> None:
    def one(value: float) -> Outcome:
        return Outcome(7, {"test_accuracy": np.array([value])})

    pooled = study.pool_seeds({("a", "0"): one(0.1), ("a", "1"): one(0.2), ("b", "0"): one(0.3)})
    assert {name: list(outcome["test_accuracy"]) for name, outcome in pooled.items()} == {
        ("a",): [0.1, 0.2],
        ("b",): [0.3],
    }
    assert pooled["a",].parameters == 7


def test_claims_and_summary_are_of_what_is_derived(tmp_path: Path) -> None:
    """The derived measure is the larger value of both seeds."""

    def derive(given: Settings, found: study.Results) -> study.Results:
        return {
            name: Outcome(one.parameters, {"largest": one["test_accuracy"].max(keepdims=True)})
            for name, one in found.items()
        }

    def summarize(given: Settings, found: study.Results) -> study.Summary:
        return study.Summary([f"{name}: {one['largest']}" for name, one in found.items()], [], {})

    claim = study.Claim("a is better", ("a",), ("b",), above=0.1, measure="largest")
    made = study.Study(
        "Q?", "none.", ("net", "seed drawn"), points, summarize, claims=(claim,), pooled=True
    )
    results = {
        (name, str(seed)): Outcome(7, {"test_accuracy": np.array([value])})
        for name, values in (("a", (0.25, 0.75)), ("b", (0.5, 0.25)))
        for seed, value in enumerate(values)
    }
    found = replace(made, derive=derive).conclude(settings(tmp_path), results, {})
    assert found.verdicts[0].mean == 0.25
    assert found.findings == ["('a',): [0.75]", "('b',): [0.5]"]


def test_a_study_of_points_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without accuracy: the table, the differences and the figure are those of the loss."""
    x = np.random.default_rng(0).standard_normal((64, 12, 1))
    data = Dataset.from_arrays(x, x[:, 0], (x[:24], x[:24, 0]), name="first samples")

    def make(given: Settings) -> dict[study.Name, Config]:
        nets = {
            "linear": Chain((Flatten(), Dense(1))),
            "conv": Chain((Conv(2, (3,)), Flatten(), Dense(1))),
        }
        return {
            (name,): given.config(net, data, batch_size=16, loss="squared-error")
            for name, net in nets.items()
        }

    mine = study.Study("Q?", "none.", ("net",), make)
    found = mine.run(settings(tmp_path))
    assert found.tables[0].heads == ["net", "parameters", "test loss"]
    assert [row[:2] for row in found.tables[0].rows] == [["linear", "13"], ["conv", "29"]]
    assert len(found.findings) == 1 and "net conv" in found.findings[0]
    assert {path.name for path in tmp_path.glob("[a-z]*")} == {
        "results.jsonl",
        "summary.json",
        "report.html",
        "points.png",
        "points.svg",
    }
    assert found.findings[0] in capsys.readouterr().out
    only = mine.run(settings(tmp_path, only=("conv",)))
    assert [row[0] for row in only.tables[0].rows] == ["conv"]
    assert found.findings[0] not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["narrow", ("narrow",), ("narrow", 3), ("a", "b", "c")])
def test_names_that_do_not_fit_the_labels_are_refused(tmp_path: Path, name: Any) -> None:
    made = {name: config()}
    mine = study.Study("Q?", "none.", ("width", "data"), lambda _: made)
    with pytest.raises(InputError, match=r"a tuple with a text for each of \('width', 'data'\)"):
        mine.run(settings(tmp_path / "new"))
    with pytest.raises(InputError, match="points must return at least one point"):
        study.Study("Q?", "none.", ("width",), lambda _: {}).run(settings(tmp_path / "new"))
    with pytest.raises(InputError, match=r"labels must be texts, .* got 'width'"):
        study.Study("Q?", "none.", "width", lambda _: made)
    named = study.Study("Q?", "none.", ("test_loss",), lambda _: {("narrow",): config()})
    with pytest.raises(InputError, match="must not be names of measures, got 'test_loss'"):
        named.run(settings(tmp_path / "new"))
    assert not (tmp_path / "new").exists()
