"""Processes that train as one: the same run in all, and what process 0 finds out for all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnn.errors import InputError, RunError

ROOM = 8192
"""Bytes that every process sends: more than the names of all settings, with hashes, take."""
T = TypeVar("T")


def check_same(settings: Mapping[str, Any]) -> None:
    """Raise `InputError` in every process if `settings`, JSON by name, differ between them."""
    hashes = {name: _hash(value) for name, value in settings.items()}
    mine = np.frombuffer(json.dumps(hashes).encode().ljust(ROOM), np.uint8)
    sent = multihost_utils.process_allgather(mine)
    others = [json.loads(np.asarray(one).tobytes()) for one in sent]
    differing = [name for name in hashes if any(o.get(name) != hashes[name] for o in others)]
    if differing:
        value = " ".join(str(settings[differing[0]]).split())[:60]
        raise InputError(
            f"{', '.join(differing)} must be the same in all processes, got {value} in process "
            f"{jax.process_index()}: start all with the same flags and data"
        )


def on_process_zero(find: Callable[[], T]) -> T:
    """Return in all processes what `find` returns in process 0, which alone calls it.

    Args:
        find: A function whose result is JSON.

    Raises:
        InputError: In all processes, if `find` raises it.
        RunError: In all processes, if `find` raises it; in the others for any other error, too.
    """
    if jax.process_count() == 1:
        return find()
    value, failure, sent = None, None, b""
    if jax.process_index() == 0:
        try:
            value = find()
            sent = json.dumps([value, None, False]).encode()
        except Exception as error:
            failure = error
            is_known = isinstance(error, InputError | RunError)
            said = str(error) if is_known else f"process 0 failed ({type(error).__name__}: {error})"
            sent = json.dumps([None, said, isinstance(error, InputError)]).encode()
    # Programs of few sizes are compiled: JSON may end with spaces.
    value, said, is_input = json.loads(broadcast(sent.ljust(-(-len(sent) // ROOM) * ROOM)))
    if failure is not None:
        raise failure
    if said is not None:
        raise (InputError if is_input else RunError)(said)
    return value


def broadcast(content: bytes) -> bytes:
    """Return in all processes the bytes that process 0 gives.

    They are bytes because JAX broadcasts by sums, which make 0.0 of -0.0.
    """
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
    given = np.frombuffer(content, np.uint8) if jax.process_index() == 0 else np.zeros(size, "u1")
    return np.asarray(multihost_utils.broadcast_one_to_all(given)).tobytes()


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
