"""How long the answer takes: the small ladder here, in plain Flax, and in plain PyTorch.

    python -m benchmarks.answer

Each way is a process of its own that trains conv, local and dense on MNIST-1D, in order and
permuted, with three seeds (`make demo`). Its time includes imports, compilation and evaluation.
"Cold" has no compiled programs from before, "warm" those of the cold run. The ways take turns.
Writes `results/answer.json` and a table in `docs/performance.md`.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import page
from benchmarks.plain_answer import RUNGS, SEEDS
from cnn.errors import InputError
from experiments import ladder
from experiments.harness import cli
from experiments.harness.results import of_lines

WAYS = {
    "cold": "here, cold",
    "warm": "here, warm",
    "flax": "plain Flax",
    "torch": "plain PyTorch",
}


@dataclass(frozen=True, kw_only=True)
class Flags(page.Output):
    """What is trained, and how often."""

    rungs: tuple[str, ...] = RUNGS
    """Rungs of the ladder."""
    seeds: int = SEEDS
    """Seeds per point."""
    steps: int = 2000
    """Steps of every run."""
    rounds: int = 3
    """Turns of each way."""
    ways: tuple[str, ...] = tuple(WAYS)
    """Ways to time, of cold, warm, flax and torch; warm needs cold."""


@dataclass(frozen=True)
class Turn:
    """What one process took, and what it found."""

    seconds: float
    cpu_seconds: float
    accuracies: Mapping[str, float]
    """Mean test accuracy by rung and order."""


def main(flags: Flags) -> None:
    """Time each way in turn, and write the table."""
    if unknown := set(flags.ways) - set(WAYS):
        raise InputError(f"ways must be of {', '.join(WAYS)}, got {min(unknown)!r}")
    if "warm" in flags.ways and "cold" not in flags.ways:
        raise InputError("ways: warm needs cold, which compiles: add it")
    turns: dict[str, list[Turn]] = {way: [] for way in WAYS if way in flags.ways}
    for _ in range(flags.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for way, of in turns.items():
                of.append(take_turn(way, flags, Path(folder)))
                print(f"{WAYS[way]}: {of[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    result = {way: [vars(turn) for turn in of] for way, of in turns.items()}
    page.publish("answer", flags, {"machine": page.machine(), "ways": result}, text(turns, flags))


def take_turn(way: str, flags: Flags, folder: Path) -> Turn:
    """Run one way in a process of its own. Its compiled programs are kept in `folder`."""
    out = folder / way
    subject = ["--rungs", *flags.rungs, "--seeds", flags.seeds, "--steps", flags.steps]
    if way in ("cold", "warm"):
        program = ["experiments.ladder", "--variants", ladder.STANDARD, "--out", out]
    else:
        program = ["benchmarks.plain_answer", "--library", way, "--file", out]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    if way == "flax":  # JAX keeps no programs by default
        del environment["JAX_COMPILATION_CACHE_DIR"]
    command = [sys.executable, "-m", *map(str, [*program, *subject])]
    before, start = _cpu_seconds(), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds, cpu = time.perf_counter() - start, _cpu_seconds() - before
    if done.returncode:
        line = (done.stderr.strip() or "no output").splitlines()[-1]
        raise InputError(f"ways: {WAYS[way]} failed ({line}): leave {way!r} out, or mend it")
    return Turn(seconds, cpu, accuracies(out))


def accuracies(out: Path) -> dict[str, float]:
    """Return mean test accuracy by rung and order, from a folder of the ladder or a JSON file."""
    values: dict[str, list[float]] = {}
    if out.is_dir():
        lines = map(json.loads, (out / "results.jsonl").read_text().splitlines())
        for name, outcome in of_lines(lines, ladder.STUDY.labels).items():
            values.setdefault(f"{name[0]}, {name[2]}", []).extend(outcome["test_accuracy"])
    else:
        for point, found in json.loads(out.read_text()).items():
            rung, _, order, _ = point.split("/")
            values.setdefault(f"{rung}, {order}", []).extend(found)
    return {name: float(statistics.mean(of)) for name, of in values.items()}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def text(turns: Mapping[str, Sequence[Turn]], flags: Flags) -> str:
    """Return the table, and a line about how it was made."""
    base = statistics.median(turn.seconds for turn in turns["cold"]) if "cold" in turns else None
    points = list(next(iter(turns.values()))[0].accuracies)
    rows = []
    for way, of in turns.items():
        seconds = statistics.median(turn.seconds for turn in of)
        means = [statistics.mean(turn.accuracies[point] for turn in of) for point in points]
        rows.append(
            [
                WAYS[way],
                page.spread([turn.seconds for turn in of], 1),
                page.spread([turn.cpu_seconds for turn in of], 1),
                f"{seconds / base:.2f}" if base else "",
                *(f"{100 * mean:.1f}" for mean in means),
            ]
        )
    head = ["", "seconds", "CPU-seconds", "times here, cold", *points]
    trained = f"{', '.join(flags.rungs)}, {flags.seeds} seeds, {flags.steps:,} steps"
    note = f"Median [least – most] of {flags.rounds} turns; {trained}; test accuracy in percent; "
    return f"{page.markdown(head, rows)}\n\n{note}{page.machine()}."


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
