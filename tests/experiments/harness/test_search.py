"""Searches: the same points again, pruning, and trials that were left unfinished."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from cnn.errors import InputError
from experiments.harness import axes, search
from experiments.harness.search import Search

OVER = ["lr=1e-4..1e-1:log", "width=2..9", "model=a,b,c"]
AXES = axes.parse(OVER, ["lr", "width", "model"])


def searched(out: Path, kind: str = "tpe", trials: int = 12, **about: Any) -> Search:
    about = {"seed": 0, **about}
    kinds: Any = kind
    return Search(out, kinds, AXES, trials, "validation_accuracy", about)


def value(point: tuple[str, ...]) -> float:
    """Return what is best at b and a learning rate of 1e-2."""
    return -abs(float(point[0]) - 1e-2) - (point[2] != "b")


def ask(one: Search) -> search.Trial:
    trial = one.ask()
    assert trial is not None
    return trial


def finish_all(one: Search) -> list[tuple[str, ...]]:
    while (trial := one.ask()) is not None:
        one.finish(trial.number, value(trial.point))
    return [trial.point for trial in one.trials()]


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_a_seed_gives_the_same_points_also_when_the_search_is_continued(
    kind: str, tmp_path: Path
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    straight = finish_all(searched(tmp_path / "a", kind))
    assert len(set(straight)) == 12
    assert finish_all(searched(tmp_path / "c", kind, seed=1))[0] != straight[0]
    for end in range(1, 13):  # each trial in a process of its own
        one = searched(tmp_path / "b", kind)
        trial = ask(one)
        one.finish(trial.number, value(trial.point))
        assert one.is_done() == (end == 12)
    assert [trial.point for trial in searched(tmp_path / "b", kind).trials()] == straight
    for lr, width, model in straight:
        assert 1e-4 <= float(lr) <= 1e-1 and 2 <= int(width) <= 9 and model in "abc"
        assert len(lr.replace(".", "").replace("e-0", "").lstrip("0")) <= 5  # four digits


def test_tpe_comes_closer_than_chance(tmp_path: Path) -> None:
    """An independent count: of 30 later points, how many have the best model."""
    hits = {}
    for kind in ("random", "tpe"):
        (tmp_path / kind).mkdir()
        points = finish_all(searched(tmp_path / kind, kind, trials=40))
        hits[kind] = sum(model == "b" for _, _, model in points[10:])
    assert hits["tpe"] > hits["random"]


def test_two_workers_share_the_trials(tmp_path: Path) -> None:
    workers = searched(tmp_path, trials=6), searched(tmp_path, trials=6)
    asked = [ask(workers[i % 2]) for i in range(6)]
    assert workers[0].ask() is None and workers[1].ask() is None
    assert [trial.number for trial in asked] == list(range(6))
    assert not workers[0].is_done()
    for trial in asked:
        workers[1].finish(trial.number, value(trial.point))
    assert workers[0].is_done() and workers[0].ask() is None


def test_a_trial_that_was_left_keeps_its_values(tmp_path: Path) -> None:
    trial = ask(searched(tmp_path))
    other = searched(tmp_path)
    assert other.trials() == [trial] and trial.status == "running"
    other.finish(trial.number, 0.5)
    assert other.trials()[0].status == "finished"
    other.finish(trial.number, 0.7)  # the first worker was late
    assert other._study.best_value == 0.5


def test_a_trial_without_all_values_does_not_count(tmp_path: Path) -> None:
    """Its worker was killed while it asked."""
    one = searched(tmp_path, trials=1)
    one._study.ask({"lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)})
    assert one.trials() == [] and not one.is_done()
    trial = ask(one)
    assert trial.number == 1
    one.finish(1, 0.0)
    assert one.is_done()


def test_a_worse_trial_is_pruned_and_an_evaluation_counts_once(tmp_path: Path) -> None:
    one = searched(tmp_path)
    for _ in range(5):
        trial = ask(one)
        assert not one.report(trial.number, 10, 0.9)
        one.finish(trial.number, 0.9)
    good, bad = ask(one), ask(one)
    assert not one.report(good.number, 10, 0.91)
    assert not one.report(bad.number, 5, 0.1)  # nobody else has reported that step
    assert one.report(bad.number, 10, 0.1)
    assert searched(tmp_path).report(bad.number, 10, 0.95)  # after a kill: no warning, no change
    one.end(bad.number, "pruned")
    assert one.trials()[bad.number].status == "pruned"


def test_a_loss_is_minimized(tmp_path: Path) -> None:
    one = Search(tmp_path, "random", AXES, 2, "validation_loss", {"seed": 0})
    for loss in (0.3, 0.2):
        one.finish(ask(one).number, loss)
    assert one._study.best_value == 0.2
    names = ("validation_accuracy", "test_top-5", "train_binary-accuracy")
    assert all(search.is_maximized(name) for name in names)
    names = ("train_loss", "validation_squared-error")
    assert not any(search.is_maximized(name) for name in names)
    with pytest.raises(InputError, match="objective must be a measure whose name says its direct"):
        search.is_maximized("validation_confusion")


def test_what_failed_is_tried_again_by_the_next_start_only(tmp_path: Path) -> None:
    first = searched(tmp_path, trials=2)
    failed, good = ask(first), ask(first)
    first.end(failed.number, "failed")
    first.finish(good.number, 0.5)
    assert first.is_done() and first.ask() is None
    second = searched(tmp_path, trials=2)
    assert not second.is_done()
    again = ask(second)
    assert again.number == 2 and again.point == failed.point
    assert [trial.number for trial in second.trials()] == [1, 2]
    second.end(again.number, "failed")
    assert second.is_done() and second.ask() is None
    third = searched(tmp_path, trials=2)
    assert ask(third).point == failed.point


def test_other_settings_are_refused(tmp_path: Path) -> None:
    searched(tmp_path, model="mlp")
    with pytest.raises(InputError, match=r"holds a search with other settings \(model: 'mlp' is n"):
        searched(tmp_path, model="cnn")
    with pytest.raises(InputError, match="holds a search with other settings"):
        Search(tmp_path, "tpe", AXES[:1], 2, "validation_accuracy", {"seed": 0, "model": "mlp"})
    with pytest.raises(InputError, match="objective: 'validation_accuracy' is not 'validation_lo"):
        Search(tmp_path, "tpe", AXES, 2, "validation_loss", {"seed": 0, "model": "mlp"})


def test_the_lock_of_a_worker_that_was_killed_is_left_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it wrote to the journal, in a folder with a relative path."""
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    dead: Any = searched(Path("out"))._study._storage
    dead._backend._lock.acquire()
    seconds = iter(range(1000))
    clock = SimpleNamespace(monotonic=lambda: next(seconds), sleep=lambda wanted: None)
    monkeypatch.setattr("optuna.storages.journal._file.time", clock)
    assert ask(searched(Path("out"))).number == 0
    assert 30 < next(seconds) < 1000


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / search.JOURNAL).write_text("no JSON\nno JSON\n")
    with pytest.raises(InputError, match=r"search\.journal' cannot be used .*: choose another out"):
        searched(tmp_path)


def test_optuna_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    search.check_installed()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="optuna is not installed: make install EXTRA=search"):
        search.check_installed()
