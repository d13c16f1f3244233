"""Training: one pure step, composed over steps, seeds and devices.

state        what a step maps to its successor
step         the pure per-device step and its optimizer
devices      the map over devices: shard_map or pmap
population   the composition over steps and seeds, chosen per platform
batches      the data order as a function of (seed, epoch)
checkpoints  Orbax, behind one file
records      run folders and JSON lines
loop         `fit(config)`, which puts these together
"""

from cnn.recipe import Recipe
from cnn.train.loop import Config, Result, fit

__all__ = ["Config", "Recipe", "Result", "fit"]
