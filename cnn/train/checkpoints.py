"""Checkpoints by Orbax that are complete, undamaged and of this run when they are restored.

Orbax renames a checkpoint to its final name when all of it is written, but does not detect later
damage. So the last file written is a manifest with the SHA-256 digests of all files. A checkpoint
that does not match it is moved to the folder "corrupt", and the one before is restored.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
from etils import epy

from cnn.errors import InputError, RunError
from cnn.train.agreement import on_process_zero
from cnn.train.ensemble import States
from cnn.train.files import read_json, write_atomic
from cnn.train.run_dir import CORRUPT
from cnn.train.run_identity import check_identity

with epy.lazy_imports():  # takes a second to import, and only runs with a folder need it
    import orbax.checkpoint as ocp
    from orbax.checkpoint._src import asyncio_utils

MANIFEST = "sha256.json"
logger = logging.getLogger(__name__)
T = TypeVar("T")


class Checkpoints:
    """The checkpoints of one run in one folder. Call `close` at the end.

    Args:
        folder: A folder that all processes share, unless `alone`.
        identity: Description of the run, JSON. Only checkpoints with an equal one are restored.
        keep_last: Keep the newest ones, so many.
        keep_best: Keep those with the smallest scores, too, so many.
        alone: Only process 0 makes and calls this object, for arrays of its own.

    Raises:
        InputError: If the folder contains symbolic links or unreadable files.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        keep_last: int = 2,
        keep_best: int = 0,
        alone: bool = False,
    ) -> None:
        self._folder = folder.absolute()
        if folder.exists():
            check_files(folder)
        elif alone:  # Orbax makes it by all processes, or not at all
            folder.mkdir(parents=True)
        self._identity = identity
        keep = ocp.checkpoint_managers
        policies: list[Any] = [keep.LatestN(keep_last)]
        if keep_best:
            best = {"get_metric_fn": lambda scores: scores["score"], "reverse": True}
            policies += [keep.BestN(n=keep_best, keep_checkpoints_without_metrics=False, **best)]
        options = ocp.CheckpointManagerOptions(
            create=not alone,
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._write_manifest),
            preservation_policy=keep.AnyPreservationPolicy(policies),
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                active_processes={0} if alone else None
            ),
        )
        for name in ("absl", "asyncio"):  # Orbax also raises the errors that these log
            logging.getLogger(name).setLevel(logging.CRITICAL)
        finish_writes()
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._saving = -1

    def save(self, step: int, states: States, score: float | None = None) -> None:
        """Save `states` after `step` steps, in the background.

        Raises:
            RunError: If this checkpoint or the one before cannot be written.
        """
        self.write(step, raw_keys(states), score)

    def write(self, step: int, arrays: States, score: float | None) -> None:
        """Save states whose keys are integers, as `save` does."""
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(
            states=ocp.args.StandardSave(arrays),
            identity=ocp.args.JsonSave(self._identity),
        )
        self.wait()
        self._saving = step
        with self._writing():
            metrics = None if score is None else {"score": score}
            self._manager.save(step, args=items, metrics=metrics, force=True)

    def restore(self, template: Callable[[int], States]) -> tuple[int, States] | None:
        """Return `(step, states)` of the newest undamaged checkpoint, or None if there is none.

        `template(step)` returns states with the shapes, dtypes and shardings to restore.

        Raises:
            InputError: If the checkpoint is of another model, recipe or data set.
        """
        step = on_process_zero(self.newest)
        self._manager.reload()
        if step is None:
            return None
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, raw_keys(template(step)))
        return step, typed_keys(self.read(step, target))

    def newest(self) -> int | None:
        """Return the step of the newest undamaged checkpoint, as process 0 sees it.

        Raises:
            InputError: As `restore`.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            if is_intact(self._folder / str(step), step):
                identity = read_json(self._folder / str(step) / "identity" / "metadata")
                check_identity(step, identity, self._identity)
                return step
            self._quarantine(step)
        return None

    def read(self, step: int, target: States) -> States:
        """Return the states of a checkpoint, NumPy arrays where the target has them."""
        args = ocp.args.Composite(states=ocp.args.StandardRestore(target))
        states: States = self._manager.restore(step, args=args)["states"]
        return states

    def _quarantine(self, step: int) -> None:
        """Move a damaged checkpoint to the folder "corrupt"."""
        corrupt = self._folder.parent / CORRUPT
        taken = len(list(corrupt.glob(f"{step}*")))
        target = corrupt / (f"{step}-{taken}" if taken else str(step))
        corrupt.mkdir(exist_ok=True)
        os.replace(self._folder / str(step), target)
        self._manager.reload()
        logger.warning("the checkpoint of step %d is corrupt: moved to %s", step, target)

    def _write_manifest(self) -> None:
        """Write the manifest. Orbax calls this just before it renames the folder."""
        (folder,) = self._folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        manifest = {"step": self._saving, "files": digests(folder)}
        write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RunError) as error:  # tensorstore raises ValueError
            why = " ".join(str(error).split())[:200]
            raise RunError(
                f"a checkpoint cannot be written to {self._folder} ({why}): fix that, and continue "
                "from the checkpoint before with --resume"
            ) from error

    def wait(self) -> None:
        """Wait until the last checkpoint is written. Raise `RunError` if it cannot be."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait as `wait` does and release the folder."""
        with self._writing():
            try:
                self._manager.wait_until_finished()
            finally:
                self._manager.close()


@functools.cache
def finish_writes() -> None:
    """Let Orbax end the other writes of a checkpoint when one of them fails.

    It closes their event loop at the first failure. TensorStore then prints a traceback for every
    write that ends later.
    """
    run_sync = asyncio_utils.run_sync

    async def finished(coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return await coroutine
        except Exception:
            if others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others, timeout=60)
            raise

    asyncio_utils.run_sync = lambda coroutine: run_sync(finished(coroutine))


def check_files(folder: Path) -> None:
    """Raise `InputError` for a symbolic link or an unreadable file in `folder`."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise InputError(f"checkpoint {path} is a symbolic link: replace it by its target")
        if not os.access(path, os.R_OK):
            raise InputError(f"checkpoint {path} cannot be read: change its permissions")


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a checkpoint's items, by its path in `folder`."""
    found = {}
    for path in sorted(path for path in folder.glob("*/**/*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.relative_to(folder).as_posix()] = digest
    return found


def is_intact(folder: Path, step: int) -> bool:
    """Return whether the checkpoint in `folder` matches its manifest."""
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return False
    return bool(manifest == {"step": step, "files": digests(folder)})


def raw_keys(states: States) -> States:
    """Return the states with their keys as integers, a format that does not depend on Orbax."""
    return tuple(s.replace(key=jax.random.key_data(s.key)) for s in states)


def typed_keys(states: States) -> States:
    """Return the states with the keys that `raw_keys` took apart."""
    return tuple(s.replace(key=jax.random.wrap_key_data(s.key)) for s in states)
