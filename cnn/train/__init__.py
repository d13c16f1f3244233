"""Training: one pure step, composed over steps, seeds and devices.

state        what a step maps to its successor
step         the pure per-device step and its optimizer
devices      the map over devices: shard_map or pmap
population   the composition over steps and seeds, chosen per platform
feed         how examples come to the devices
batches      the data order as a function of (seed, epoch)
checkpoints  Orbax, behind one file, each with a seal
records      run folders, their lock, JSON lines
stopping     when to save, and being asked to stop
divergence   losses and gradients that are not finite
config       what a run is, what it measures, and what cannot be
relax        a constraint given up in the middle, weights and optimizer lifted
loop         steps one after another, evaluation
run          `fit(config)`, which puts these together
"""

from cnn.train.config import Config, Result
from cnn.train.preemption import Stopped, stop_on_signals
from cnn.train.recipe import Recipe
from cnn.train.training import fit

__all__ = ["Config", "Recipe", "Result", "Stopped", "fit", "stop_on_signals"]
