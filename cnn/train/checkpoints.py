"""Checkpoints by Orbax: whole or not at all, and only for the model and recipe they came from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from cnn.errors import InputError
from cnn.spec import differences
from cnn.train.population import States


class Checkpoints:
    """The checkpoints in one folder; `identity` (JSON) says whose they are."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        # Orbax takes a second to import and is needed by runs that write only.
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.WARNING)
        self._ocp = ocp
        self._identity = identity
        options = ocp.CheckpointManagerOptions(max_to_keep=2, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, states: States) -> None:
        """Save `states` as they are after `step` steps, in the background."""
        if step in self._manager.all_steps():
            return
        args = self._ocp.args
        saved = self._manager.save(
            step,
            args=args.Composite(
                states=args.StandardSave(_raw_keys(states)),
                identity=args.JsonSave(self._identity),
            ),
        )
        if not saved:
            raise RuntimeError(f"the checkpoint of step {step} was not written")

    def restore(self, like: Callable[[int], States]) -> tuple[int, States] | None:
        """Return the newest `(step, states)`, or None where there is no checkpoint.

        `like(step)` gives shapes, dtypes and placement. Raises `InputError` with the first
        differences if the checkpoint belongs to another model, recipe or data set.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        args = self._ocp.args
        found = self._manager.restore(step, args=args.Composite(identity=args.JsonRestore()))
        other = differences(found["identity"], self._identity)
        if other:
            more = f" (and {len(other) - 3} more)" if len(other) > 3 else ""
            raise InputError(
                f"the checkpoint of step {step} is of another run: {'; '.join(other[:3])}{more}: "
                "resume with the settings it was made with, or choose another folder"
            )
        target = jax.tree.map(_abstract, _raw_keys(like(step)))
        restored = self._manager.restore(
            step, args=args.Composite(states=args.StandardRestore(target))
        )
        return step, _typed_keys(restored["states"])

    def close(self) -> None:
        """Wait for saves under way and release the folder."""
        self._manager.wait_until_finished()
        self._manager.close()


@contextmanager
def open_checkpoints(folder: Path, identity: dict[str, Any]) -> Iterator[Checkpoints]:
    """Open the checkpoints in `folder`, and close them whatever happens."""
    checkpoints = Checkpoints(folder, identity)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _raw_keys(states: States) -> States:
    """Keys as the integers they are made of, so that how they are stored is ours to say."""
    return tuple(s.replace(key=jax.random.key_data(s.key)) for s in states)


def _typed_keys(states: States) -> States:
    return tuple(s.replace(key=jax.random.wrap_key_data(s.key)) for s in states)
