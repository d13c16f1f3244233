"""Several processes that train as one: how they find each other, and end when one is lost."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cnn.errors import InputError

SECONDS_TO_JOIN = 300
SECONDS_OF_SILENCE = 10
"""After which a process counts as lost; the others have ended within 30 seconds of the loss."""
OF_THE_OTHERS = re.compile("gloo|nccl|unavailable|deadline.exceeded|heartbeat|barrier", re.I)
"""What collectives say, on CPU, GPU and in the coordination service, when another is gone."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes that train together; with no flag there is one."""

    distributed: bool = False
    """Join the other processes of this TPU pod, GKE or Slurm job, which is found out."""
    coordinator: str | None = None
    """Elsewhere: HOST:PORT of process 0, the same for all."""
    processes: int | None = None
    """Elsewhere: how many there are."""
    process_id: int | None = None
    """Elsewhere: which one this is, from 0."""

    def check(self) -> None:
        """Raise `InputError` for processes that cannot be."""
        explicit = (self.coordinator, self.processes, self.process_id)
        if any(given is not None for given in explicit):
            if self.coordinator is None or self.processes is None or self.process_id is None:
                raise InputError("coordinator, processes and process_id go together: give all")
            if not re.fullmatch(r".+:\d+", self.coordinator):
                raise InputError(f"coordinator {self.coordinator!r} cannot be: give HOST:PORT")
            if not 0 <= self.process_id < self.processes:
                raise InputError(
                    f"process_id {self.process_id} cannot be: give 0 to processes - 1, "
                    f"{self.processes - 1}"
                )
        super().check()  # type: ignore[misc]  # of the flags this is mixed into


@contextlib.contextmanager
def together(who: Processes) -> Iterator[bool]:
    """Train with the other processes; yields whether this one is to speak and write for all.

    When another one is lost, says so in one line and ends this process with a code other than 0:
    JAX's runtime cannot go on without it. Raises `InputError` where the others cannot be joined.
    """
    if not (who.distributed or who.coordinator):
        yield True
        return
    import jax

    _shorten_last_words()
    try:
        jax.distributed.initialize(
            who.coordinator,
            who.processes,
            who.process_id,
            initialization_timeout=SECONDS_TO_JOIN,
            heartbeat_timeout_seconds=SECONDS_OF_SILENCE,
            shutdown_timeout_seconds=SECONDS_OF_SILENCE,
        )
    except (ValueError, RuntimeError) as error:
        where = who.coordinator or "no TPU pod, GKE or Slurm job found"
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"the other processes cannot be joined ({where}; {reason}): start all of them, or give "
            "coordinator, processes and process_id"
        ) from error
    try:
        yield jax.process_index() == 0
    except Exception as error:
        if isinstance(error, InputError) or not OF_THE_OTHERS.search(str(error)):
            raise
        from experiments.launch.stderr_filter import LOST

        # Leaving the usual way would wait for the lost one, and then abort.
        print(LOST, file=sys.stderr, flush=True)
        os._exit(1)


def _shorten_last_words() -> None:
    """Send standard error through `last_words.py`, a process that outlives this one."""
    script = Path(__file__).with_name("last_words.py")
    reader = subprocess.Popen(
        [sys.executable, "-I", str(script)], stdin=subprocess.PIPE, start_new_session=True
    )
    if reader.stdin is not None:
        os.dup2(reader.stdin.fileno(), 2)
