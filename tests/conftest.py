"""What holds for every test: four fake CPU devices, strict JAX, reproducible hypothesis."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

# JAX reads these once, when it is imported. Fewer than two threads per fake device can deadlock
# their collectives, and the thread count follows NPROC.
os.environ.setdefault("NPROC", "16")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["GLIBC_TUNABLES"] = ""  # programs that tests start do not start over, which takes time
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"  # programs that tests start leave nothing
# Fast ways to compute on a CPU take longer to compile than the definitions they are held to
# (tests/ops/cpu); `make test-slow` runs all tests with them.
os.environ.setdefault("CNN_IMPLEMENTATION", "reference")
# Tests compile a lot and compute little. (At level 0 batch normalisation came out differently on
# one and on four devices, by 1e-2.)
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=4 --xla_backend_optimization_level=1"
)
if version("jaxlib").startswith("0.10."):  # they compile a third slower; unknown in later ones
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

os.environ["FLAX_PROFILE"] = "0"  # nobody looks up a layer's name in what is compiled here

import hypothesis
import jax
import pytest

from cnn.data import names
from cnn.train import devices
from tests.reliability import pytest_terminal_summary, tally  # noqa: F401  found here by pytest

Prepared = Callable[[str], Path]

jax.config.update("jax_numpy_rank_promotion", "raise")
devices.CPU_COMPILER_OPTIONS["xla_backend_optimization_level"] = 1  # as in XLA_FLAGS
gc.set_threshold(100_000, 50, 100)  # traces are many small objects that live on: a twentieth

hypothesis.settings.register_profile("quick", derandomize=True, deadline=None, max_examples=16)
hypothesis.settings.register_profile("slow", derandomize=True, deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of prepared TFDS data sets: CNN_DATA_DIR, else the one shared beside the clone."""
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
