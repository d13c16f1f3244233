"""Does a convolution with a wider window see more?

One convolution on MNIST-1D, then the mean over positions:
    python -m experiments.NAME --seeds 5
"""

from dataclasses import dataclass
from pathlib import Path

from etils import epy

from experiments.harness import cli, study

with epy.lazy_imports():  # loaded when it is used, so that --help is fast
    from cnn import layers

QUESTION = "Does a convolution with a wider window see more?"
HYPOTHESIS = "the wider the window, the more accurate, because a digit is wider than 3 samples."


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    windows: tuple[int, ...] = (3, 5, 9)
    """Sizes of the window. All are compared with the first one."""
    out: Path = Path("results/NAME")


def points(settings: Settings) -> study.Points:
    """Return a run for each window, by name."""
    data = settings.load()
    top = (layers.ReLU(), layers.GlobalAvgPool(), layers.Dense(data.outputs))
    models = {w: layers.Chain((layers.Conv(16, w), *top)) for w in settings.windows}
    return {(str(w),): settings.config(model, data) for w, model in models.items()}


STUDY = study.Study(QUESTION, HYPOTHESIS, ("window",), points)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
