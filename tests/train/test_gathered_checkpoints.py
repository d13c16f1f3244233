"""Checkpoints of process 0 are those of any run, and come back bit for bit onto all devices."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest
from jax import numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn.errors import InputError
from cnn.train.checkpoints import MANIFEST, Checkpoints, raw_keys
from cnn.train.ensemble import States
from cnn.train.gathered_checkpoints import GatheredCheckpoints
from cnn.train.state import TrainState
from tests.small import assert_same

PAIRS = [
    (GatheredCheckpoints, Checkpoints),
    (Checkpoints, GatheredCheckpoints),
    (GatheredCheckpoints, GatheredCheckpoints),
]


def states(value: float = 1.5) -> States:
    """Return a state with a weight that four devices hold in parts, and a scale that all hold."""
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    whole, parts = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in ((), ("data",)))
    weight = np.array([value, -0.0, np.inf, 3], np.float32).repeat(2)
    params = {
        "weight": jax.device_put(weight, parts),
        "scale": jax.device_put(jnp.asarray([value], jnp.bfloat16), whole),
    }
    zero, key = jax.device_put((jnp.zeros((), jnp.int32), jax.random.key(3)), whole)
    return (TrainState(zero, zero, params, {}, (), key, zero.astype(jnp.float32), {}),)


def assert_equal(got: States, saved: States) -> None:
    for one, other in zip(got, saved, strict=True):
        assert_same(one.replace(key=None), other.replace(key=None))
        assert_same(jax.random.key_data(one.key), jax.random.key_data(other.key))
        assert np.signbit(np.asarray(one.params["weight"])[2])
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            assert a.sharding == b.sharding
            assert a.dtype == b.dtype


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_either_kind_reads_what_the_other_saved(
    writer: type[Checkpoints], reader: type[Checkpoints], tmp_path: Path
) -> None:
    with closing(writer(tmp_path / "of run", {"model": "a"})) as checkpoints:
        assert checkpoints.restore(lambda step: states()) is None
        checkpoints.save(3, states(2.5))
        checkpoints.save(7, states())
    with closing(reader(tmp_path / "of run", {"model": "a"})) as checkpoints:
        restored = checkpoints.restore(lambda step: states(0.25))
    assert restored is not None
    assert restored[0] == 7
    assert_equal(restored[1], states())


def test_process_zero_needs_no_devices_to_read(tmp_path: Path) -> None:
    """Those that saved the checkpoint may be gone."""
    empty = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), raw_keys(states()))
    with closing(Checkpoints(tmp_path / "of run", {}, alone=True)) as checkpoints:
        checkpoints.save(3, states())
        checkpoints.wait()
        read = jax.tree.leaves(checkpoints.read(3, empty))
    assert {type(leaf) for leaf in read} == {np.ndarray}


def test_damaged_ones_are_passed_over_and_those_of_another_run_refused(tmp_path: Path) -> None:
    with closing(GatheredCheckpoints(tmp_path / "of run", {"model": "a"})) as checkpoints:
        checkpoints.save(3, states(2.5))
        checkpoints.save(7, states())
        checkpoints.wait()
        (tmp_path / "of run" / "7" / MANIFEST).write_text("{}")
        restored = checkpoints.restore(lambda step: states())
        assert restored is not None
        assert restored[0] == 3
        assert_equal(restored[1], states(2.5))
        assert (tmp_path / "corrupt" / "7").is_dir()
    with (
        closing(GatheredCheckpoints(tmp_path / "of run", {"model": "b"})) as checkpoints,
        pytest.raises(InputError, match="of another run: model: 'a' is not 'b'"),
    ):
        checkpoints.restore(lambda step: states())
