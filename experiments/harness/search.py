"""Searches by Optuna: which points to train, and which to give up early."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from etils import epy

from cnn.errors import InputError
from experiments.harness.axes import Axis, Range
from experiments.harness.results import Name

with epy.lazy_imports():
    import numpy as np
    import optuna
    from optuna.storages import journal

    from cnn.layers import serialization

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

JOURNAL = "search.journal"
DIGITS = 4
"""Significant digits to which sampled numbers are rounded."""
Status = Literal["running", "finished", "pruned", "failed"]


@dataclass(frozen=True)
class Trial:
    """A point that the search has chosen, by its number."""

    number: int
    point: Name
    status: Status


def is_maximized(objective: str) -> bool:
    """Return whether a measure such as "validation_accuracy" should be large, by its name.

    Raises:
        InputError: If the name does not tell.
    """
    name = objective.partition("_")[2]
    if name.endswith("accuracy") or name.startswith("top-"):
        return True
    if any(word in name for word in ("loss", "error", "entropy")):
        return False
    raise InputError(
        f"objective must be a measure whose name says its direction (accuracy, top-K, loss, "
        f"error), got {objective!r}: rename the function of the metric"
    )


def check_installed() -> None:
    """Raise `InputError` if Optuna is missing."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("optuna is not installed: make install EXTRA=search")


class Search:
    """The trials of a search, in a journal that several workers share.

    Only the worker that holds a lock of its own may call `ask`.

    Args:
        out: Folder of the journal.
        kind: How points are sampled.
        axes: What varies.
        trials: Number of trials.
        objective: The measure that decides, see `is_maximized`.
        about: JSON that must be the same in a continued search, with the "seed" of the sampler.
            Each trial has a sampler of its own, so a search that is continued samples as if it had
            never stopped.

    Raises:
        InputError: If the journal cannot be read, or is of another search.
    """

    def __init__(
        self,
        out: Path,
        kind: Literal["random", "tpe"],
        axes: Sequence[Axis],
        trials: int,
        objective: str,
        about: dict[str, Any],
    ) -> None:
        self._kind, self._axes, self.wanted, self._seed = kind, axes, trials, about["seed"]
        self._distributions = {axis.name: _distribution(axis) for axis in axes}
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        direction: Any = "maximize" if is_maximized(objective) else "minimize"
        spaces = {name: repr(each) for name, each in self._distributions.items()}
        about = {**about, "objective": objective, "axes": spaces}
        try:
            # The lock of a process that was killed counts as left only if this path is absolute.
            backend = journal.JournalFileBackend(str((out / JOURNAL).absolute()))
            self._study = optuna.create_study(
                study_name="sweep",
                storage=optuna.storages.JournalStorage(backend),
                pruner=optuna.pruners.MedianPruner(),
                direction=direction,
                load_if_exists=True,
            )
            before = self._study.user_attrs.get("about")
            if before is None:
                self._study.set_user_attr("about", about)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{str(out / JOURNAL)!r} cannot be used ({error}): choose another out"
            ) from error
        if before is not None and (other := serialization.differences(before, about)):
            raise InputError(
                f"out {str(out)!r} holds a search with other settings ({'; '.join(other[:3])}): "
                "choose another folder"
            )
        self._failed_before = {t.number for t in self._read() if self._status(t) == "failed"}

    def trials(self) -> list[Trial]:
        """Return the trials, without those that were tried again, or never began."""
        every = self._read()
        again = {t.user_attrs.get("again") for t in every}
        return [
            Trial(t.number, self._point(t), self._status(t))
            for t in every
            if t.number not in again and self._is_whole(t)
        ]

    def is_done(self) -> bool:
        """Return whether all trials have ended."""
        ended = [t for t in self._counted() if self._status(t) != "running"]
        return len(ended) >= self.wanted

    def ask(self) -> Trial | None:
        """Return a new trial, or None if there are enough.

        Trials that had failed before this worker began come first, with the same values.
        """
        for t in self._read():
            if t.state.name == "RUNNING" and not self._is_whole(t):  # who asked for it is dead
                self._study.tell(t.number, state=optuna.trial.TrialState.FAIL)
        counted = self._counted()
        if len(counted) >= self.wanted and all(t.state.name != "WAITING" for t in counted):
            return None
        every = self._read()
        again = {t.user_attrs.get("again") for t in every}
        failed = [t for t in every if t.number in self._failed_before - again if self._is_whole(t)]
        if failed:
            self._study.enqueue_trial(failed[0].params, user_attrs={"again": failed[0].number})
        seed = int(np.random.SeedSequence([self._seed, len(every)]).generate_state(1)[0])
        samplers = optuna.samplers
        sampler = samplers.RandomSampler if self._kind == "random" else samplers.TPESampler
        self._study.sampler = sampler(seed=seed)
        number = self._study.ask(self._distributions).number
        return next(trial for trial in self.trials() if trial.number == number)

    def report(self, number: int, step: int, value: float | None) -> bool:
        """Report an evaluation. Return whether the trial is worse than the median and should stop.

        An evaluation that is reported already, before a worker was killed, does not count again.
        """
        frozen = self._study.get_trials(deepcopy=False)[number]
        trial = optuna.trial.Trial(self._study, frozen._trial_id)
        if step not in frozen.intermediate_values and value is not None:
            trial.report(value, step)
        return trial.should_prune()

    def finish(self, number: int, value: float) -> None:
        """Tell the objective of a trial."""
        self._study.tell(number, value, skip_if_finished=True)

    def end(self, number: int, status: Literal["pruned", "failed"]) -> None:
        """Tell that a trial was pruned, or failed."""
        states = optuna.trial.TrialState
        state = states.PRUNED if status == "pruned" else states.FAIL
        self._study.tell(number, state=state, skip_if_finished=True)

    def _read(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _counted(self) -> list[FrozenTrial]:
        """Return the trials that count: not those that had failed before this worker began."""
        return [
            t
            for t in self._read()
            if t.number not in self._failed_before
            and (self._is_whole(t) or t.state.name == "WAITING")
        ]

    def _is_whole(self, trial: FrozenTrial) -> bool:
        return set(trial.params) == set(self._distributions)

    def _point(self, trial: FrozenTrial) -> Name:
        return tuple(_text(axis, trial.params[axis.name]) for axis in self._axes)

    @staticmethod
    def _status(trial: FrozenTrial) -> Status:
        named: dict[str, Status] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
        return named.get(trial.state.name, "running")


def _distribution(axis: Axis) -> Any:
    values = axis.values
    if not isinstance(values, Range):
        return optuna.distributions.CategoricalDistribution(values)
    if isinstance(values.low, int) and isinstance(values.high, int):
        return optuna.distributions.IntDistribution(values.low, values.high, log=values.log)
    return optuna.distributions.FloatDistribution(values.low, values.high, log=values.log)


def _text(axis: Axis, value: str | int | float) -> str:
    """Return a sampled value as text, a number rounded but inside its range."""
    if not isinstance(value, float) or not isinstance(axis.values, Range):
        return str(value)
    rounded = float(f"{value:.{DIGITS}g}")
    return repr(min(max(rounded, float(axis.values.low)), float(axis.values.high)))
