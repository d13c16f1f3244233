"""Checkpoints come back bit for bit, and only to the run they came from."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import jax
import pytest
from orbax.checkpoint._src import asyncio_utils

from cnn.errors import InputError
from cnn.train import fit
from cnn.train.checkpoints import MANIFEST, Checkpoints, digests, finish_writes, is_intact
from tests.small import assert_close, assert_same, config, model


def test_nothing_saved_is_nothing_restored(tmp_path: Path) -> None:
    states = fit(config(steps=1)).states
    with closing(Checkpoints(tmp_path, {"model": "a"})) as checkpoints:
        assert checkpoints.restore(lambda step: states) is None


def test_newest_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    first, second = fit(config(steps=1, seeds=2)).states, fit(config(steps=3, seeds=2)).states
    with closing(Checkpoints(tmp_path, {"model": "a"})) as checkpoints:
        checkpoints.save(1, first)
        checkpoints.save(3, second)
    with closing(Checkpoints(tmp_path, {"model": "a"})) as checkpoints:
        restored = checkpoints.restore(lambda step: first)
    assert restored is not None
    step, states = restored
    assert step == 3
    for got, saved in zip(states, second, strict=True):
        assert_same(
            (got.params, got.opt_state, got.step), (saved.params, saved.opt_state, saved.step)
        )
        assert_same(jax.random.key_data(got.key), jax.random.key_data(saved.key))
        assert jax.random.key_impl(got.key) == jax.random.key_impl(saved.key)


def test_another_model_is_refused_with_what_differs(tmp_path: Path) -> None:
    fit(config(tmp_path / "run", steps=2))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        InputError, match=r"of another run: model\.layers\[0\]\.features: 4 is not 5"
    ):
        fit(config(tmp_path / "run", steps=4, resume=True, model=model(features=5)))
    with pytest.raises(InputError, match=r"recipe\.lr: 0\.01 is not 0\.1"):
        fit(config(tmp_path / "run", steps=4, resume=True, lr=0.1))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_resume_is_bit_exact(tmp_path: Path, kind: str) -> None:
    """20 steps straight are 10 steps, the checkpoint, and 10 more; also onto other devices."""
    recipe = {"seeds": 2, "model": model(norm=True), "map_devices": kind}
    straight = fit(config(**recipe))
    fit(config(tmp_path / "run", steps=10, **recipe))
    resumed = fit(config(tmp_path / "run", resume=True, **recipe))
    for a, b in zip(straight.states, resumed.states, strict=True):
        assert_same((a.params, a.batch_stats, a.opt_state), (b.params, b.batch_stats, b.opt_state))
    assert straight.test_loss.tolist() == resumed.test_loss.tolist()


def test_a_run_goes_on_with_other_devices(tmp_path: Path) -> None:
    """Data order and model are those of one device; sums over devices round in another order."""
    straight = fit(config(steps=20))
    for devices, steps in ((4, 5), (1, 10), (4, 20)):
        run = fit(config(tmp_path / "run", steps=steps, devices=devices, resume=True))
    assert_close(run.states[0].params, straight.states[0].params, 1e-5)


def test_when_a_write_fails_the_others_end_before_their_loop_closes() -> None:
    finish_writes()
    ended = []

    async def fail() -> None:
        raise OSError("disk full")

    async def write() -> None:
        await asyncio.sleep(0.01)
        ended.append(True)

    async def save() -> None:
        await asyncio.gather(fail(), write())

    with pytest.raises(OSError, match="disk full"):
        asyncio_utils.run_sync(save())
    assert ended


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, "{}", "3", "\\ud800", '{"step": 1, "files": {}}'], ids=range(6)
)
def test_a_hostile_manifest_seals_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "item").mkdir()
    (tmp_path / "item" / "array").write_bytes(b"1")
    manifest = {"step": 1, "files": digests(tmp_path)}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert is_intact(tmp_path, 1)
    assert not is_intact(tmp_path, 2)
    (tmp_path / MANIFEST).write_text(text)
    assert not is_intact(tmp_path, 1)
