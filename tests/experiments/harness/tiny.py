"""A study of two points and two seeds, and its lines, written by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cnn import layers
from cnn.data import Dataset, Split
from experiments.harness import plots, study
from experiments.harness.study import Claim, Points, Results, Summary, Table

DOC = """Is sharing worth anything?

    python -m experiments.ladder

Two rungs of a ladder.
"""
ACCURACIES = {("conv", 0): 0.9, ("conv", 1): 0.92, ("local", 0): 0.8, ("local", 1): 0.82}
ENVIRONMENT = {"jax": "0.10.2", "platform": "cpu", "implementations": "fastest"}
CONV, LOCAL = ("conv", "ordered"), ("local", "ordered")


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    seeds: int = 2
    steps: int = 5
    batch_size: int = 8


Settings.__module__ = "experiments.ladder"


def points(settings: Settings) -> Points:
    part = Split(np.zeros((40, 3, 1), np.float32), np.arange(40, dtype=np.int32) % 2)
    data = Dataset("tiny", part, part, ("a", "b"), (0.0,), (1.0,))
    flat = layers.Flatten()
    models = {CONV: (flat, layers.Dense(2)), LOCAL: (flat, layers.ReLU(), layers.Dense(2))}
    return {name: settings.config(layers.Chain(of), data) for name, of in models.items()}


def summarize(settings: Settings, results: Results) -> Summary:
    accuracy = {name[0]: one["test_accuracy"] for name, one in results.items()}
    sharing = 100 * (results[CONV]["test_accuracy"] - results[LOCAL]["test_accuracy"]).mean()
    finding = f"Sharing is worth {sharing:.1f} points. It is\nso in 95 % of cases."
    rows = [[rung, of] for rung, of in accuracy.items()]
    dots = plots.Dots([plots.Series("", [100 * of for of in accuracy.values()])], list(accuracy))
    table = Table("Test accuracy in percent", ["rung", "ordered, %"], rows)
    return Summary([finding, "More."], [table], {"ladder": plots.Figure([dots])})


def module(**changes: Any) -> ModuleType:
    """Return the study as a module."""
    claim = Claim("sharing helps", CONV, LOCAL, above=0.01)
    asked = {"question": "Is sharing worth anything?", "hypothesis": "it is."}
    made = ModuleType("experiments.ladder", DOC)
    made.__dict__["Settings"] = Settings
    made.__dict__["STUDY"] = study.Study(
        **asked,
        **{
            "labels": ("rung", "order"),
            "points": points,
            "summarize": summarize,
            "claims": (claim,),
            **changes,
        },
    )
    return made


def line(rung: str, seed: int, part: str = "test", **changes: Any) -> dict[str, Any]:
    """Return the line of a seed of a point."""
    return {
        "key": f"{rung}{seed}{part}",
        "rung": rung,
        "order": "ordered",
        "seed": seed,
        f"{part}_accuracy": ACCURACIES[rung, seed],
        "train_accuracy": 1.0,
        "measured": [f"{part}_accuracy", "train_accuracy"],
        "parameters": 10,
        "seconds": 90.0,
        "environment": ENVIRONMENT,
        "commit": "abc",
        "machine": "two cores",
        **changes,
    }


def lines() -> list[dict[str, Any]]:
    """Return all lines of the study."""
    return [line(rung, seed) for rung, seed in ACCURACIES]


def write(path: Path, of: Iterable[dict[str, Any]]) -> None:
    """Write lines into a file, in place of those that are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in of))
