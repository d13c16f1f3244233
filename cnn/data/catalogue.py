"""The names of the data sets that TFDS can prepare."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from etils import epy

from cnn.errors import InputError, unknown_name

with epy.lazy_imports():  # slow to import, and only asked for names that are not found
    import tensorflow_datasets

SHOWN = 12
"""Most configurations that a message lists."""


def check_known(name: str, others: Iterable[str] = ()) -> None:
    """Raise `InputError` unless TFDS has a set, and a configuration of it, of this name.

    The message suggests names of TFDS and of `others`.
    """
    base, _, config = name.partition("/")
    catalogue = tensorflow_datasets.list_builders(with_community_datasets=False)
    if base not in catalogue:
        others = list(others)
        near = difflib.get_close_matches(base, sorted({*others, *catalogue}), n=3, cutoff=0.5)
        if near or others:
            raise unknown_name("data set", name, near or others)
        raise InputError(f"unknown data set {name!r}: TFDS has none with a name like it")
    configs = list(tensorflow_datasets.builder_cls(base).builder_configs)
    if config and not configs:
        raise InputError(f"data set {base!r} has no configurations, got {name!r}")
    if config and config not in configs:
        raise unknown_name(f"configuration of data set {base!r},", config, configs)
    if configs and not config:
        more = ", …" if len(configs) > SHOWN else ""
        listed = ", ".join(f"{base}/{each}" for each in configs[:SHOWN])
        raise InputError(f"data set {name!r} has configurations: give one of {listed}{more}")
