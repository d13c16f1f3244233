"""Checkpoints by Orbax: whole, sound, and of this run, or not taken.

Orbax gives a checkpoint its name when all of it is written. What happens to the files later it does
not see: flipped bytes restore as other values, without an error. So the last thing that is written
is a seal, the digests of all files; a checkpoint that does not agree with its seal is set aside,
and the one before it is taken.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from cnn.errors import InputError, RunError
from cnn.layers.serialization import differences
from cnn.train.ensemble import States
from cnn.train.run_dir import rename, write_atomic

SEAL, UNSOUND = "sha256.json", "unsound"
logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints in one folder; `identity` (JSON) says whose they are.

    The newest `keep_last` are kept, and besides the `keep_best` with the smallest scores.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], keep_last: int = 2, keep_best: int = 0
    ) -> None:
        # Orbax takes a second to import and is needed by runs that write only.
        import orbax.checkpoint as ocp
        from orbax.checkpoint.checkpoint_managers import preservation_policy as keep

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what Orbax logs, it raises too
        self._folder = folder.absolute()
        if folder.exists():
            check_files(folder)
        self._args = ocp.args
        self._identity = identity
        best = keep.BestN(
            get_metric_fn=lambda scores: scores["score"],
            reverse=True,
            n=keep_best,
            keep_checkpoints_without_metrics=False,
        )
        policies = [keep.LatestN(keep_last), *([best] if keep_best else [])]
        options = ocp.CheckpointManagerOptions(
            cleanup_tmp_directories=True,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
            preservation_policy=keep.AnyPreservationPolicy(policies),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._saving = -1

    def save(self, step: int, states: States, score: float | None = None) -> None:
        """Save `states` as they are after `step` steps, in the background.

        Raises `RunError` if it cannot be written, or the one before could not.
        """
        if step in self._manager.all_steps():
            return
        items = self._args.Composite(
            states=self._args.StandardSave(_raw_keys(states)),
            identity=self._args.JsonSave(self._identity),
        )
        self.wait()
        self._saving = step
        with self._writing():
            metrics = None if score is None else {"score": score}
            saved = self._manager.save(step, args=items, metrics=metrics)
        if not saved:
            raise RuntimeError(f"the checkpoint of step {step} was not written")

    def restore(self, like: Callable[[int], States]) -> tuple[int, States] | None:
        """Return the newest sound `(step, states)`, or None where there is no checkpoint.

        `like(step)` gives shapes, dtypes and placement. Raises `InputError` with the first
        differences if that belongs to another model, recipe or data set.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            if (damage := broken(self._folder / str(step), step)) is not None:
                self._set_aside(step, damage)
                continue
            self._check_identity(step)
            target = jax.tree.map(_abstract, _raw_keys(like(step)))
            return step, _typed_keys(self._item(step, "states", self._args.StandardRestore(target)))
        return None

    def _check_identity(self, step: int) -> None:
        identity = self._item(step, "identity", self._args.JsonRestore())
        if other := differences(identity, self._identity):
            more = f" (and {len(other) - 3} more)" if len(other) > 3 else ""
            raise InputError(
                f"the checkpoint of step {step} is of another run: {'; '.join(other[:3])}{more}: "
                "resume with the settings it was made with, or choose another folder"
            )

    def _item(self, step: int, name: str, how: Any) -> Any:
        return self._manager.restore(step, args=self._args.Composite(**{name: how}))[name]

    def _set_aside(self, step: int, damage: str) -> None:
        aside = self._folder.parent / UNSOUND
        taken = len(list(aside.glob(f"{step}*")))
        target = aside / (f"{step}-{taken}" if taken else str(step))
        rename(self._folder / str(step), target)
        self._manager.reload()
        logger.warning(
            "the checkpoint of step %d is not sound (%s): set aside as %s", step, damage, target
        )

    def _seal(self) -> None:
        """Write the seal; Orbax calls this just before it gives the folder its name."""
        (folder,) = self._folder.glob(f"{self._saving}.orbax-checkpoint-tmp*")
        seal = {"step": self._saving, "files": digests(folder)}
        write_atomic(folder / SEAL, json.dumps(seal, indent=1))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # files raise the one, tensorstore the other
            why = " ".join(str(error).split())[:200]
            raise RunError(
                f"a checkpoint cannot be written to {self._folder} ({why}): mend that, and go on "
                "from the one before with --resume"
            ) from error

    def wait(self) -> None:
        """Wait for a save under way. Raises `RunError` if it cannot be written."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for a save under way and release the folder. Raises `RunError` as `wait` does."""
        try:
            self.wait()
        finally:
            self._manager.close()


@contextmanager
def open_checkpoints(
    folder: Path, identity: dict[str, Any], keep_last: int = 2, keep_best: int = 0
) -> Iterator[Checkpoints]:
    """Open the checkpoints in `folder`, and close them whatever happens.

    Raises `InputError` for a folder with symbolic links, or files that may not be read.
    """
    checkpoints = Checkpoints(folder, identity, keep_last, keep_best)
    try:
        yield checkpoints
    finally:
        checkpoints.close()


def check_files(folder: Path) -> None:
    """Raise `InputError` for a symbolic link in `folder`, or a file that may not be read."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise InputError(f"checkpoint {path} is a symbolic link: copy what it stands for")
        if not os.access(path, os.R_OK):
            raise InputError(f"checkpoint {path} may not be read: change its permissions")


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a checkpoint's items, by its path in `folder`."""
    files = sorted(path for path in folder.glob("*/**/*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def broken(folder: Path, step: int) -> str | None:
    """Return what is wrong with the checkpoint in `folder`, None if it agrees with its seal."""
    try:
        seal = json.loads((folder / SEAL).read_bytes())
        sealed_step, files = seal["step"], dict(seal["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"it has no {SEAL} that can be read"
    if sealed_step != step:
        return f"it was saved as step {sealed_step}"
    found = digests(folder)
    wrong = sorted(n for n in files.keys() | found.keys() if files.get(n) != found.get(n))
    return f"{wrong[0]} is not as it was saved" if wrong else None


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _raw_keys(states: States) -> States:
    """Keys as the integers they are made of, so that how they are stored is ours to say."""
    return tuple(s.replace(key=jax.random.key_data(s.key)) for s in states)


def _typed_keys(states: States) -> States:
    return tuple(s.replace(key=jax.random.wrap_key_data(s.key)) for s in states)
