"""Training: one pure step, composed over steps, seeds and devices.

The files, from the settings to what a run leaves:

    recipe          every setting of a run except the model and the data
    config          `Config`, a recipe with a model and a data set, and `Result`
    training        `fit(config)`, which puts the following together
    state           what a step maps to its successor
    optimizers      from the learning rate to the update
    step            the pure per-device training step
    ensemble        the composition over steps and seeds, chosen per platform
    devices         the map over devices: shard_map or pmap
    compile         the compiled programs of a run
    sampler         the data order as a function of (seed, epoch)
    input_pipeline  how examples come to the devices
    dispatch        how far the host calls ahead of the devices
    loop            steps one after another, and evaluation
    relax           a constraint given up in the middle, weights and optimizer lifted
    non_finite      losses and gradients that are not finite
    checkpoints     Orbax, with a digest of every file
    run_dir         run folders, their lock, JSON lines
    preemption      when to save, and stopping on a signal
"""

from etils import epy

from cnn.train.recipe import Recipe

# Importing these imports JAX, which takes seconds; a command line needs only Recipe.
with epy.lazy_api_imports(globals()):
    from cnn.train.config import Config, Result
    from cnn.train.preemption import Stopped, stop_on_signals
    from cnn.train.training import fit

__all__ = ["Config", "Recipe", "Result", "Stopped", "fit", "stop_on_signals"]
