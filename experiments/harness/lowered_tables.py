"""Tables of what a traced step holds and does, and the least that it needs on TPU slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from cnn.train import sharding
from cnn.train.utilization import PASSES
from experiments.harness import chips, lowering
from experiments.harness.chips import Slice
from experiments.harness.compiled_tables import digits, mega, milli
from experiments.harness.lowering import Step
from experiments.harness.roofline import Roofline, Work, roofline
from experiments.harness.tables import Table

NOTE = """\
Not calibrated: least times by documented peak rates. Gradients and activations, their
memory and their traffic, are not in these numbers, and neither is the latency of all-reduces."""


class Plan(NamedTuple):
    """One slice and the step on it."""

    where: Slice
    step: Step
    work: Work
    sharded: bool
    """Whether the state is spread over the devices."""

    @property
    def times(self) -> Roofline:
        return roofline(self.work, self.where)


def tables(
    title: str, plans: Sequence[Plan], parameters: int, macs: int | None
) -> tuple[Table, ...]:
    """Return what the program holds and does, and what it needs on each slice."""
    # On one device batch normalization reduces nothing: the largest slice shows all collectives.
    largest = max(plans, key=lambda plan: plan.where.devices)
    step, state = largest.step, largest.step.state
    bytes_of = {
        "weights and running statistics": [(s.params, s.batch_stats) for s in state],
        "optimizer state": [s.opt_state for s in state],
        "moving average": [s.average for s in state],
    }
    facts = [["parameters", parameters]]
    facts += [[f"{name}, MB", mega(lowering.nbytes(tree))] for name, tree in bytes_of.items()]
    if largest.sharded:
        whole = sharding.bytes_per_device(state)[1] * largest.where.chip.devices
        facts += [[f"state on each chip of {largest.where.name}, MB", mega(largest.work.state)]]
        facts += [["of it in arrays that are not split, MB", mega(whole)]]
    facts += [["batch per chip, MB", mega(largest.work.batch)]]
    facts += [["multiply-accumulates per example", "not known" if macs is None else macs]]
    flops = largest.work.flops
    gflops = "not known" if flops is None else digits(flops / 1e9)
    facts += [[f"GFLOPs per step and chip (2 × {PASSES} × multiply-accumulates)", gflops]]

    lowered = []
    for platform in ("tpu", "cuda"):
        own = lowering.implementations(step, platform)
        chosen = ", ".join(f"{name} ({count})" for name, count in own.items())
        counts = lowering.count_operations(step, platform)
        lowered.append([platform, *counts.values(), chosen or "definitions"])
    reduced = [
        [f"{each.kind}: {each.place}", each.operations, mega(each.nbytes)]
        for each in lowering.collectives(step)
    ]
    operations = ["convolutions", "dot products", "custom calls", "implementations of its own"]
    kinds = ["collective", "operations", "MB"]
    heads = ["slice", "chips", "batch", "state + batch, GB", "HBM, GB"]
    heads += ["compute, ms", "memory, ms", "all-reduce, ms", "bound", "step, at least, ms"]
    return (
        Table(title, ["quantity", "value"], facts),
        Table(f"One step on {largest.where.name}, lowered", ["platform", *operations], lowered),
        Table("Its collectives, before XLA combines them", kinds, reduced),
        Table("Slices", heads, [_row(plan) for plan in plans]),
    )


def _row(plan: Plan) -> list[str]:
    where, work, times = plan.where, plan.work, plan.times
    return [
        *(where.name, f"{where.chips:,}", f"{plan.step.batch.y.shape[0]:,}"),
        *(f"{(work.state + work.batch) / 1e9:,.3g}", f"{where.chip.hbm / 1e9:,.3g}"),
        *(milli(times.compute), milli(times.memory), milli(times.all_reduce)),
        *(times.bound, milli(times.seconds)),
    ]


def does_not_fit(plan: Plan) -> str:
    """Return a line if state and batch alone exceed a chip's memory, or an empty string."""
    where, state, batch = plan.where, plan.work.state, plan.work.batch
    room = where.chip.hbm - batch
    if state <= room:
        return ""
    need = f"{where.name}: state and batch need {(state + batch) / 1e9:.3g} GB on each chip, which "
    need += f"has {where.chip.hbm / 1e9:.3g} GB: "
    if room <= 0:
        return need + "give a smaller --batch-per-chip"
    if plan.sharded:
        return need + "take a slice with more chips"
    one = state / where.chip.devices
    larger = [n for n, c in chips.CHIPS.items() if one * c.devices + batch <= c.hbm]
    remedy = f"--shard-params spreads it, over at least {math.ceil(state / room)} chips"
    return need + remedy + (f"; it fits {', '.join(larger)}" if larger else "")
