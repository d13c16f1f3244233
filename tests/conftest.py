"""Settings of every test: four fake CPU devices, strict JAX, reproducible examples."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

# JAX reads these once, when it is imported. With fewer than two threads for each fake device their
# collectives can deadlock; NPROC sets the number of threads.
os.environ.setdefault("NPROC", "16")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests, and the programs that they start, share what they compile with each other and the next run.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache/compiled")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# The fast implementations take longer to compile than the definitions. They are tested against
# these, each alone (tests/ops/cpu) and in training (tests/train/test_defaults.py); `make test-slow`
# runs all tests with them.
os.environ.setdefault("CNN_IMPLEMENTATION", "reference")
# Tests compile a lot and compute little. Where a test needs the bits of optimized programs it asks
# for `optimized`. A program in several parts would compile in several threads; a test has one core.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    + " --xla_cpu_parallel_codegen_split_count=1"
)
# Fusion emitters compile a third slower; later versions have no flag for them.
if version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

os.environ["FLAX_PROFILE"] = "0"  # no test reads the names of layers in a compiled program

import hypothesis
import jax
import pytest

from cnn.data import names
from cnn.train import compile, devices
from tests.object_store import store  # noqa: F401  found here by pytest, as these:
from tests.reliability import pytest_terminal_summary, tally  # noqa: F401

Prepared = Callable[[str], Path]

jax.config.update("jax_numpy_rank_promotion", "raise")
FOR_USERS: dict[str, int | bool] = dict(devices.CPU_COMPILER_OPTIONS)
if version("jaxlib").startswith("0.10."):
    FOR_USERS["xla_cpu_use_fusion_emitters"] = True
devices.CPU_COMPILER_OPTIONS["xla_backend_optimization_level"] = 0  # as in XLA_FLAGS
gc.set_threshold(100_000, 50, 100)  # a trace is many small objects that live long

hypothesis.settings.register_profile("quick", derandomize=True, deadline=None, max_examples=16)
hypothesis.settings.register_profile("slow", derandomize=True, deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure(config: pytest.Config) -> None:
    """Remove the compiled programs of earlier runs once they take more than 256 MB.

    JAX's own limit would make it read the size of every program whenever it adds one.
    """
    folder = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    is_worker = hasattr(config, "workerinput")
    if not is_worker and sum(file.stat().st_size for file in folder.glob("*")) > 2**28:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True, scope="module")
def free_memory() -> Iterator[None]:
    """Forget what one file of tests has traced and compiled: all of them took 5 GB a worker."""
    yield
    jax.clear_caches()


@pytest.fixture
def optimized(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile training programs as for users, so that what rounds alike there rounds alike."""
    for name, value in FOR_USERS.items():
        monkeypatch.setitem(devices.CPU_COMPILER_OPTIONS, name, value)
    compile._programs.cache_clear()
    yield
    compile._programs.cache_clear()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of prepared TFDS data sets: CNN_DATA_DIR, or `shared` beside the clone."""
    if named := os.environ.get("CNN_DATA_DIR"):
        return Path(named)
    beside = Path(__file__).parents[2] / "shared" / "data" / "tfds"
    if not beside.is_dir():
        pytest.skip(f"no prepared data sets: set CNN_DATA_DIR, or put them in {beside}")
    return beside


@pytest.fixture
def prepared(data_dir: Path) -> Prepared:
    """Return where the named data set is prepared, or skip the test."""

    def folder(name: str) -> Path:
        if name not in names(data_dir):
            pytest.skip(f"{name} is not prepared in {data_dir}")
        return data_dir

    return folder
