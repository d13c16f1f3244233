"""A figure is a value: its data as JSON, and images as tiles."""

import json

import numpy as np

from experiments.harness import plots
from experiments.harness.plots import Curves, Figure, Image, Reference, Series

SEEDS = [np.array([1.0, 3.0]), np.array([5.0, 5.0]), np.array([np.nan, 1.0])]


def test_json_holds_the_data() -> None:
    panels = [
        Curves([Series("a", SEEDS, range(3))], references=[Reference(x=(0, 1), label="here")]),
        Image(plots.tile(np.ones((3, 1, 1)), columns=2)),
    ]
    found = json.loads(json.dumps(plots.to_json(Figure(panels)), allow_nan=False))
    curves, image = found["panels"]
    assert (curves["kind"], image["kind"]) == ("Curves", "Image")
    assert curves["series"][0]["values"] == [[1, 3], [5, 5], [None, 1]]
    assert curves["references"][0]["x"] == [0, 1]
    assert image["values"] == [[1, None, 1], [None, None, None], [1, None, None]]
