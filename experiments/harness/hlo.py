"""What the text of a compiled program (HLO) says: its collective operations and XLA's cycles."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from experiments.harness import lowering
from experiments.harness.lowering import Collective

ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
HEAD = re.compile(r"(ENTRY|%[\w.\-]+) .*\{$")
INSTRUCTION = re.compile(r"(?:ROOT )?(%[\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)")
COLLECTIVE = re.compile(
    r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?"
)
CALLED = re.compile(
    r"(?:calls|body|condition|to_apply|\w+_computations?)=\{?(%[\w.\-]+(?:, %[\w.\-]+)*)"
)
OP_NAME = re.compile(r'op_name="([^"]*)"')
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')

UNNAMED = "several places together"
"""For GPUs XLA does not name what it combined."""


class Program(NamedTuple):
    """What one device does in one run of a program."""

    collectives: list[Collective]
    """By kind and place, after XLA combined them."""
    cycles: int
    """Of all instructions that XLA made an estimate for, as if none ran at the same time."""
    loops: bool
    """Whether there are any. XLA's other counts take the body of a loop once."""


def read(text: str) -> Program:
    """Return what `Compiled.as_text()` says.

    A loop whose number of repetitions is not known counts once.
    """
    computations = dict(_computations(text))
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    cycles, loops = 0, False
    for lines, times in _runs(computations):
        cycles += times * sum(map(int, CYCLES.findall("\n".join(lines))))
        instructions = [match for match in map(INSTRUCTION.match, lines) if match]
        shapes = {match[1]: match[2] for match in instructions}
        for match in instructions:
            loops |= match[3] == "while"
            if found := COLLECTIVE.fullmatch(match[3]):
                operands = re.findall(r"%[\w.\-]+", match[4].split("), ")[0])
                name = OP_NAME.search(match[4])
                key = found[1], lowering.place_of(name[1]) if name else UNNAMED
                counts[key] += times
                sizes[key] += times * _whole(found, match[2], [shapes[name] for name in operands])
    return Program([Collective(*key, counts[key], sizes[key]) for key in counts], cycles, loops)


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each computation, ENTRY for the first that runs, and its lines."""
    lines: list[str] = []
    for line in text.splitlines():
        if head := HEAD.match(line):
            lines = []
            yield head[1], lines
        else:
            lines.append(line.strip())


def _runs(
    computations: dict[str, list[str]], name: str = "ENTRY", times: int = 1
) -> Iterator[tuple[list[str], int]]:
    """Yield the lines of a computation and of those that it calls, and how often each runs."""
    lines = computations[name]
    yield lines, times
    for line in lines:
        repeated = int(match[1]) if (match := TRIPS.search(line)) else 1
        for names in CALLED.findall(line):
            for called in names.split(", "):
                yield from _runs(computations, called, times * repeated)


def _whole(found: re.Match[str], result: str, operands: list[str]) -> int:
    """Return the bytes of a collective's whole arrays: what it is given or makes."""
    given, made = sum(map(_nbytes, operands)), _nbytes(result)
    if found[2] and found[1] != "all-reduce":
        made -= given  # an asynchronous one returns its operands, too
    return max(given, made)


def _nbytes(shape: str) -> int:
    """Return the bytes of the arrays in a shape such as (f32[2,3]{1,0}, bf16[])."""
    total = 0
    for dtype, sizes in ARRAY.findall(shape):
        bits = re.search(r"\d+", dtype)  # none in pred, a byte
        entries = math.prod(int(size) for size in sizes.split(",") if size)
        total += math.ceil(entries * int(bits[0] if bits else 8) / 8)
    return total
