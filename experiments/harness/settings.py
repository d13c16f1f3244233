"""`Settings`: what all studies can be told, from Python and from the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from etils import epy

from cnn.buckets import BucketPath
from cnn.errors import InputError
from cnn.train.fields import check_fields
from experiments.harness import comparison

with epy.lazy_imports():
    from cnn import data as datasets
    from cnn import train as training

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset
    from cnn.train import Config

RECIPE = ("steps", "batch_size", "schedule", "seed", "seeds", "validate")
LR = 2e-2
"""Learning rate of points that were not tuned."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that all studies share."""

    steps: int = 2000
    """Optimizer steps of every run."""
    batch_size: int = 100
    """Examples per step."""
    lr: float | None = None
    """Learning rate of Adam, the largest one of the schedule. By default that of each point in
    experiments/tuned/NAME.json, else 0.02."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate over the steps."""
    weight_decay: float | None = None
    """Decoupled weight decay of the kernels. By default the tuned one, else 0."""
    seed: int = 0
    """First seed."""
    seeds: int = 5
    """Seeds per point. A seed has the same data order at every point."""
    validate: bool = False
    """Hold out a validation part of the training set and report on it instead of the test set."""
    only: tuple[str, ...] = ()
    """Run only these points, named as in results.jsonl with slashes: conv/ordered."""
    tune: bool = False
    """Choose learning rate and weight decay of every point on the validation part, write them to
    experiments/tuned/NAME.json, and end."""
    smoke: bool = False
    """Check that the study runs: two seeds, two steps, 200 examples, into the folder OUT/smoke."""
    full: bool = False
    """Use the larger data set, which must be prepared, and the folder OUT/full."""
    data_dir: Path | BucketPath | None = None
    """Folder of prepared TFDS data sets, also in a bucket (gs://, s3://)."""
    out: Path | BucketPath = Path("results")
    """Folder for results.jsonl, figures and report.html, also in a bucket (gs://, s3://); full and
    smoke use subfolders."""

    small: ClassVar[str] = "mnist1d-50k"
    """Name of the built-in data set."""
    large: ClassVar[str] = "fashion_mnist"
    """Name of the data set of `full`; empty if the study has none."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def folder(self) -> Path:
        """The folder `out`, which is in a file system while a study runs."""
        if not isinstance(self.out, Path):
            raise InputError(f"out must be in a file system, got '{self.out}': run the whole study")
        return self.out

    @property
    def data_name(self) -> str:
        """Name of the data set of these settings."""
        return self.large if self.full else self.small

    def load(self) -> Dataset:
        """Return the data set. Raise `InputError` if the larger one is not prepared."""
        return datasets.load(self.data_name, self.data_dir)

    @property
    def title(self) -> str:
        """The data set's name for captions."""
        return comparison.TITLES.get(self.data_name, self.data_name)

    @property
    def part(self) -> str:
        """What accuracies are reported on: "test" or "validation"."""
        return "validation" if self.validate else "test"

    @property
    def protocol(self) -> str:
        """How often and how long each point is trained, for captions."""
        return f"mean ± standard deviation over {self.seeds} seeds, {self.steps:,} steps"

    def caption(self, by: str = "") -> str:
        """Return the caption of a table of accuracies; `by` says what the columns are."""
        what = f"{self.part.capitalize()} accuracy on {self.title} in percent"
        return f"{what}{by and f' by {by}'}, {self.protocol}"

    @property
    def seed_range(self) -> range:
        """All seeds."""
        return range(self.seed, self.seed + self.seeds)

    def config(self, model: nn.Module, data: Dataset, **changes: Any) -> Config:
        """Return a run with these settings, except `changes`."""
        recipe = {name: getattr(self, name) for name in RECIPE}
        recipe["lr"] = LR if self.lr is None else self.lr
        recipe["weight_decay"] = 0.0 if self.weight_decay is None else self.weight_decay
        return training.Config(model=model, data=data, **recipe | changes)


S = TypeVar("S", bound=Settings)


def reduced(settings: S) -> S:
    """Return the settings after `full` and `smoke` have changed the folder and the amount."""
    if settings.full:
        if not settings.large:
            raise InputError("full: this study has no larger data set; leave --full out")
        settings = replace(settings, out=settings.out / "full")
    if not settings.smoke:
        return settings
    return replace(settings, steps=2, seeds=2, smoke=False, out=settings.out / "smoke")
