"""End training when the validation loss no longer falls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class EarlyStopping:
    """Counts the evaluations since the smallest validation loss. Without `patience` it never stops.

    Several seeds train together, so the loss that counts is their mean.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience, self._best, self._waited = patience, np.inf, 0

    def add(self, losses: Any) -> None:
        """Count the validation losses of one evaluation, one per seed; None stands for NaN."""
        loss = np.asarray(losses, float).mean()
        self._waited = 0 if loss < self._best else self._waited + 1
        self._best = min(loss, self._best) if loss == loss else self._best

    def replay(self, history: Iterable[Mapping[str, Any]], evaluate_every: int | None) -> None:
        """Count the evaluations in lines of metrics, as when they were made."""
        for line in history:
            if evaluate_every and line["step"] % evaluate_every == 0 and "validation_loss" in line:
                self.add(line["validation_loss"])

    @property
    def stopping(self) -> bool:
        """Whether training should end."""
        return self._patience is not None and self._waited >= self._patience
