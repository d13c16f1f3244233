"""Fields of settings are held to their annotations from Python, too."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn.buckets import BucketPath
from cnn.errors import InputError
from cnn.train import Recipe
from experiments import train
from experiments.harness import cli
from experiments.harness.study import Settings
from tests.small import config

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "optimizer": ({"optimizer": 3}, "optimizer must be a name or an optax optimizer, got 3"),
    "schedule": (
        {"schedule": "linear"},
        "schedule must be constant, cosine, one-cycle or a function",
    ),
    "loss": ({"loss": None}, "loss must be a name or a function, got None"),
    "metrics": ({"metrics": ("accuracy", 5)}, "metrics must be names or functions, got ('acc"),
    "precision": ({"precision": "float16"}, "one of float32, bfloat16, got 'float16'"),
    "on_nan": ({"on_nan": "ignore"}, "on_nan must be one of stop, skip, got 'ignore'"),
    "map": ({"map_devices": "vmap"}, "one of shard_map, pmap, got 'vmap'"),
    "augment": ({"augment": ("flip", "turn")}, "augment must be one of crop, flip, shift, cutout"),
    "a name": ({"augment": "flip"}, "augment must be a tuple, got 'flip'"),
    "steps": ({"steps": 3.0}, "steps must be a whole number, got 3.0"),
    "array": ({"steps": np.array([3, 4])}, "steps must be a whole number, got array([3, 4])"),
    "large": ({"lr": 10**400}, "lr must be a number, got 1000"),
    "flag": ({"steps": True}, "steps must be a whole number, got True"),
    "none": ({"steps": None}, "steps must be a whole number, got None"),
    "text": ({"lr": "1e-3"}, "lr must be a number, got '1e-3'"),
    "bool": ({"validate": "yes"}, "validate must be True or False, got 'yes'"),
    "optional": ({"devices": "all"}, "devices must be a whole number, got 'all'"),
    "out": ({"out": 3}, "out must be a Path, got 3"),
    "bucket": ({"out": "az://b/a"}, "out must be in a file system, got 'az://b/a': mount"),
    "no bucket": ({"out": "s3://"}, "out must name a bucket, gs://BUCKET/FOLDER, got 's3://'"),
    "slashes": ({"out": Path("gs://")}, "FOLDER, got 'gs:'"),
    "nobody": ({"out": "~nobody-here"}, "a home folder that is known, got '~nobody-here'"),
    "bytes": ({"out": "a\udcff"}, "out must be UTF-8, got 'a\\udcff'"),
    "data": ({"data": "mnist1d"}, "data must be a Dataset, got 'mnist1d'"),
    "model": ({"model": "lenet5"}, "model must be a Module, got 'lenet5'"),
    "rates": ({"learning_rates": (1e-2, "1")}, "learning_rates must be a number, got '1'"),
    "lines": ({"model": np.eye(2)}, "model must be a Module, got array([[1., 0.], [0., 1.]])"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_value_of_another_type_or_choice_is_refused(name: str) -> None:
    fields, message = BAD[name]
    with pytest.raises(InputError) as error:
        config(**fields)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_recipes_and_settings_of_studies() -> None:
    with pytest.raises(InputError, match="precision must be one of"):
        Recipe(precision="float16")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="schedule must be one of constant, cosine, got 'linear'"):
        Settings(schedule="linear")  # type: ignore[arg-type]


def test_what_means_the_same_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given: dict[str, Any] = {"steps": np.int64(5), "lr": 1, "out": "~/a", "augment": ["flip"]}
    made = Recipe(**given)
    assert (made.steps, made.lr, made.out) == (5, 1.0, tmp_path / "a")
    assert [type(v) for v in (made.steps, made.lr)] == [int, float]
    assert made.augment == ("flip",)
    assert Recipe(out=Path("gs://b/a")).out == BucketPath("gs://b/a")
    assert Recipe(out=None, devices=None).devices is None


def test_a_home_folder_that_no_shell_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell leaves `--out=~/runs` alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    flags = cli.parse(train.Flags, ["--model=mlp", "--data=digits", "--out=~/a", "--data-dir=~/b"])
    assert (flags.out, flags.data_dir) == (tmp_path / "a", tmp_path / "b")
