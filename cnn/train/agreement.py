"""Processes that train as one must train the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnn.errors import InputError

ROOM = 8192
"""Bytes that every process sends: more than the names of all settings, with hashes, take."""


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


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
