"""Training: one pure step, composed over steps, seeds and devices (read `training` first)."""

from etils import epy

from cnn.train.recipe import Recipe

# Importing these imports JAX, which takes seconds; a command line needs only Recipe.
with epy.lazy_api_imports(globals()):
    from cnn.train.config import Config, Result
    from cnn.train.loading import Run, load_run
    from cnn.train.preemption import Stopped, stop_on_signals
    from cnn.train.run_list import list_runs
    from cnn.train.training import fit

__all__ = ["Config", "Recipe", "Result", "Run", "Stopped", "fit"]
__all__ += ["list_runs", "load_run", "stop_on_signals"]
