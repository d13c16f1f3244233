"""Checkpoints in a folder that only process 0 has: it writes and reads them for all processes.

Orbax lets every process write its part of the arrays into one folder that all share. A run in a
bucket has no such folder, so process 0 gathers the arrays on its host, one after another, and sends
them to the others to restore them. Its host needs memory for two copies of the states while one is
saved, because Orbax makes its own. Every device needs it for one whole array more, and for two
while states are restored.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnn.train.agreement import broadcast, on_process_zero
from cnn.train.checkpoints import Checkpoints, raw_keys, typed_keys
from cnn.train.ensemble import States


class GatheredCheckpoints:
    """`Checkpoints`, which all processes call together. Only process 0 uses the folder.

    What is raised in process 0 is raised in all.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], keep_last: int = 2, keep_best: int = 0
    ) -> None:
        self._of_zero: list[Checkpoints] = []
        """One in process 0, none in the others."""

        def make() -> None:
            self._of_zero.append(Checkpoints(folder, identity, keep_last, keep_best, alone=True))

        on_process_zero(make)

    def save(self, step: int, states: States, score: float | None = None) -> None:
        """Save as `Checkpoints.save` does."""
        self.wait()  # so that there are no copies of the last ones when new ones are made
        arrays = jax.tree.map(_gathered, raw_keys(states))
        on_process_zero(lambda: self._of_zero[0].write(step, arrays, score))

    def restore(self, template: Callable[[int], States]) -> tuple[int, States] | None:
        """Restore as `Checkpoints.restore` does."""
        step = on_process_zero(lambda: self._of_zero[0].newest())
        if step is None:
            return None
        target, read = raw_keys(template(step)), list[States]()
        empty = jax.tree.map(lambda like: np.empty(like.shape, like.dtype), target)
        on_process_zero(lambda: read.append(self._of_zero[0].read(step, empty)))
        return step, typed_keys(jax.tree.map(_spread, target, *read or [empty]))

    def wait(self) -> None:
        """Wait as `Checkpoints.wait` does, in all processes."""
        on_process_zero(lambda: self._of_zero[0].wait())

    def close(self) -> None:
        """Wait in process 0 and release the folder. The others need not come: they may be lost."""
        for checkpoints in self._of_zero:
            checkpoints.close()


def _gathered(array: jax.Array) -> np.ndarray | None:
    """Return the whole array in process 0. All processes call it together."""
    whole = array
    if not array.is_fully_replicated:
        whole = multihost_utils.process_allgather(array, tiled=True)
    return jax.device_get(whole) if jax.process_index() == 0 else None


def _spread(like: jax.Array, whole: np.ndarray) -> jax.Array:
    """Return process 0's array, spread over the devices of all as another one."""
    content = broadcast(np.asarray(whole).tobytes() if jax.process_index() == 0 else b"")
    array = np.frombuffer(content, like.dtype).reshape(like.shape)
    return jax.make_array_from_callback(like.shape, like.sharding, array.__getitem__)
