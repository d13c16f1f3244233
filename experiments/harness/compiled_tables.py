"""Tables of what compiled steps need on TPU slices, one row or more for each slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.harness.chips import Slice
from experiments.harness.roofline import Roofline, ring_seconds
from experiments.harness.tables import Table

if TYPE_CHECKING:
    from experiments.harness.compilation import Compiled

NOTE = """\
Not calibrated: no chip was asked. Collectives are what rings send, without latency: each
instruction adds it once, and on a larger slice more of it. Compute is XLA's FLOPs over the peak
rate. Memory is all that instructions read and write over the bandwidth of HBM, also what stays on
the chip: at most so much. Cycles are the sum of XLA's estimates, as if nothing overlapped."""
LOOPS = "XLA's FLOPs and bytes take the body of a loop once: the step has more of them."


def tables(compiled: Sequence[tuple[Slice, Compiled]]) -> tuple[Table, ...]:
    """Return memory and work of each chip, the collectives, and estimates of a step's time."""
    work = ["slice", "arguments, GB", "temporaries, GB", "peak, GB", "GFLOPs", "accessed, GB"]
    sent = ["slice", "collective", "instructions", "MB", "at least, ms"]
    times = ["slice", "compute, ms", "memory, ms", "collectives, ms", "bound", "step, ms"]
    counted = [each for each in compiled if each[1].flops is not None]
    made = (
        Table("Compiled by XLA, on each chip", work, [_work(*each) for each in compiled]),
        Table(
            "Collectives, after XLA combined them",
            sent,
            [row for each in compiled for row in _collectives(*each)],
        ),
    )
    if not counted:
        return made
    title = "Time of a step by XLA's counts, not calibrated"
    return *made, Table(title, [*times, "XLA's cycles"], [_times(*each) for each in counted])


def _work(where: Slice, step: Compiled) -> list[str]:
    on_device = [step.arguments, step.temporaries, step.peak, step.flops, step.accessed]
    return [
        where.name,
        *("not known" if n is None else digits(where.chip.devices * n / 1e9) for n in on_device),
    ]


def _collectives(where: Slice, step: Compiled) -> list[list[str]]:
    return [
        [
            *(where.name, f"{each.kind}: {each.place}", f"{each.operations:,}"),
            *(mega(each.nbytes), milli(ring_seconds(each.reduced, where))),
        ]
        for each in step.program.collectives
    ]


def _times(where: Slice, step: Compiled) -> list[str]:
    chip = where.chip
    times = Roofline(
        compute=(step.flops or 0) * chip.devices / chip.flops,
        memory=(step.accessed or 0) * chip.devices / chip.hbm_bandwidth,
        all_reduce=ring_seconds(sum(each.reduced for each in step.program.collectives), where),
    )
    return [
        *(where.name, milli(times.compute), milli(times.memory), milli(times.all_reduce)),
        *(times.bound, milli(times.seconds), f"{step.program.cycles:,}"),
    ]


def mega(count: float) -> str:
    """Return a number of bytes in MB."""
    return digits(count / 1e6)


def digits(value: float) -> str:
    """Return four digits, or whole thousands with commas."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def milli(seconds: float | None) -> str:
    """Return a time in ms."""
    return "not known" if seconds is None else digits(1e3 * seconds)
