"""Several processes that train as one: how they join, and how they end when one is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

from etils import epy

from cnn.errors import InputError, RunError

with epy.lazy_imports():
    import jax

LAST_PORT = 65535
LOST = (
    "error: this process ended because another one was lost or did not come: the output of that "
    "one says why; start all of them again with --resume"
)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes that train together. Without any of these flags there is one."""

    distributed: bool = False
    """Join the other processes of this TPU pod, GKE or Slurm job, which JAX detects."""
    coordinator: str | None = None
    """Elsewhere: HOST:PORT of process 0, the same for all."""
    processes: int | None = None
    """Elsewhere: number of processes."""
    process_id: int | None = None
    """Elsewhere: number of this process, from 0."""
    coordinator_port: int | None = None
    """With `distributed`: port of process 0, in place of the one that JAX chooses: 8482 on Cloud
    TPU, one made of the job's number on Slurm."""
    join_timeout: int = 1800
    """Seconds to wait until all processes are there. Hosts of a new slice can be minutes apart."""
    heartbeat_timeout: int = 100
    """Seconds of silence after which a process counts as lost, and the others end."""

    def check_processes(self) -> None:
        """Raise `InputError` if the settings do not describe processes."""
        for name in ("join_timeout", "heartbeat_timeout"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1 second, got {getattr(self, name)}")
            is_given = getattr(self, name) != getattr(Processes, name)
            if is_given and not (self.distributed or self.coordinator):
                raise InputError(f"{name} is for several processes: add distributed or coordinator")
        if self.coordinator_port is not None:
            if not self.distributed:
                raise InputError(
                    "coordinator_port is for distributed: elsewhere coordinator has the port"
                )
            if not 1 <= self.coordinator_port <= LAST_PORT:
                raise InputError(
                    f"coordinator_port must be 1 to {LAST_PORT}, got {self.coordinator_port}"
                )
        explicit = (self.coordinator, self.processes, self.process_id)
        if explicit == (None, None, None):
            return
        if self.coordinator is None or self.processes is None or self.process_id is None:
            raise InputError("coordinator, processes and process_id go together: give all")
        host, _, port = self.coordinator.rpartition(":")
        if not (host and port.isdecimal() and 1 <= int(port) <= LAST_PORT):
            raise InputError(f"coordinator must be HOST:PORT, got {self.coordinator!r}")
        if not 0 <= self.process_id < self.processes:
            raise InputError(
                f"process_id must be 0 to processes - 1 = {self.processes - 1}, "
                f"got {self.process_id}"
            )


@contextlib.contextmanager
def join(flags: Processes) -> Iterator[bool]:
    """Train with the other processes; yield whether this one prints and writes for all.

    When another process is lost, this one ends too, with a code other than 0 and one line that
    says so, because JAX cannot continue without it. The runtime may write more before that line.
    """
    if not (flags.distributed or flags.coordinator):
        yield True
        return
    if flags.coordinator_port is not None:
        os.environ["JAX_COORDINATOR_PORT"] = str(flags.coordinator_port)
    with _last_words():
        try:
            jax.distributed.initialize(
                flags.coordinator,
                flags.processes,
                flags.process_id,
                initialization_timeout=flags.join_timeout,
                heartbeat_timeout_seconds=flags.heartbeat_timeout,
                shutdown_timeout_seconds=flags.heartbeat_timeout,
            )
        except (ValueError, RuntimeError) as error:
            where = flags.coordinator or "no TPU pod, GKE or Slurm job found"
            reason = " ".join(str(error).split())[:120]
            raise InputError(
                f"cannot join the other processes ({where}; {reason}): start all of them, or give "
                "coordinator, processes and process_id"
            ) from error
        try:
            yield jax.process_index() == 0
        except jax.errors.JaxRuntimeError as error:
            # A collective failed. The usual way out would wait for the lost process, then abort.
            print(f"error: {' '.join(str(error).split())[:300]}", file=sys.stderr, flush=True)
            os._exit(1)
        except InputError:
            raise
        except Exception as error:
            # Its cause may be that another process is lost. This one is then aborted as it leaves.
            if isinstance(error, RunError):
                print(f"error: {error}", file=sys.stderr, flush=True)
            else:
                traceback.print_exc()
            jax.distributed.shutdown()
            raise SystemExit(1) from None


@contextlib.contextmanager
def _last_words() -> Iterator[None]:
    """Print `LOST` if this process ends before the context does.

    JAX's runtime aborts a process that has lost another, from a thread that Python cannot stop. A
    shell at the other end of a pipe outlives it.
    """
    shell = subprocess.Popen(
        ["sh", "-c", 'read line || echo "$0" >&2', LOST],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C does not reach it
    )
    try:
        yield
    finally:
        shell.communicate(b"done\n")
