"""What the forward pass and both gradients of a convolution cost on a CPU, in nanoseconds.

Each file of this folder that convolves in one group says when its program and its memory are within
bounds (`fits`), and sums what it computes, copies and slices (`cost`). `benchmarks.calibrate`
measures the constants. `CNN_COSTS=FILE` in the environment selects those of another machine.
"""

import functools
import json
import math
import os
from pathlib import Path
from typing import NamedTuple

from cnn.errors import InputError

Shape = tuple[int, ...]

NARROW = 8
"""A matrix product with a shorter side takes as long as with this one."""
CACHED = 2**22
"""Numbers that a cache holds."""
MAX_TAPS = 128
"""The most taps of a program with a slice for each of them."""


class Nanoseconds(NamedTuple):
    """The constants."""

    product: float
    """For a multiply-accumulate of a matrix product."""
    copied: float
    """For a number that is copied into the matrix of windows."""
    spilled: float
    """In addition, for each number of a matrix that no cache holds."""
    entry: float
    """For an entry of a matrix that is made from the kernel."""
    slice: float
    """For a slice of an array."""
    moved: float
    """For a number that is rearranged."""
    lax_product: float
    """For a multiply-accumulate in `lax`'s convolution."""
    lax_window: float
    """For a number in the windows of `lax`'s convolution."""
    lax_run: float
    """In addition, for each tap of these windows, whose channels are copied together."""
    tile: float
    """For an element of a transformed tile."""


SHIPPED = Nanoseconds(
    product=0.00993,
    copied=2.14,
    spilled=1.33,
    entry=1.74,
    slice=2880,
    moved=0.741,
    lax_product=0.0233,
    lax_window=1.48,
    lax_run=6.21,
    tile=4.05,
)
"""Of two cores of an x86_64."""


def constants() -> Nanoseconds:
    """Return the constants of the file `CNN_COSTS`, or else those of two cores of an x86_64."""
    file = os.environ.get("CNN_COSTS")
    return read(Path(file)) if file else SHIPPED


@functools.cache
def read(file: Path) -> Nanoseconds:
    """Return the constants of a file. Raise `InputError` if it has other ones or none."""
    try:
        found = {name: float(value) for name, value in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"CNN_COSTS must be a file of constants, got {file} ({error}): make it by "
            "benchmarks.calibrate"
        ) from None
    if found.keys() != set(Nanoseconds._fields) or not all(
        math.isfinite(value) and value > 0 for value in found.values()
    ):
        raise InputError(
            f"CNN_COSTS must have a positive number for each of {', '.join(Nanoseconds._fields)}, "
            f"got {file}: make it by benchmarks.calibrate"
        )
    return Nanoseconds(**found)


def products(ns: Nanoseconds, rows: int, inner: int, columns: int) -> float:
    """Return the time of a matrix product and of both of its gradients."""
    return 3 * ns.product * rows * max(inner, NARROW) * max(columns, NARROW)


def windows(ns: Nanoseconds, numbers: int) -> float:
    """Return the time to copy the numbers of all windows into a matrix."""
    return numbers * (ns.copied + ns.spilled * (numbers > CACHED))


def matrix(ns: Nanoseconds, entries: int) -> float:
    """Return the time to make a matrix from the kernel, and its gradient."""
    return entries * (ns.entry + ns.spilled * (entries > CACHED))
