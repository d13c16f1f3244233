"""Damage each file of the newest checkpoint in turn; restore from folders that others made."""

from __future__ import annotations

import pickle
import shutil
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import jax
import pytest

from cnn.errors import InputError
from cnn.train import fit
from cnn.train.checkpoints import CORRUPT, MANIFEST, Checkpoints
from cnn.train.ensemble import States
from tests.reliability import Tally
from tests.small import assert_same, config

pytestmark = pytest.mark.fault
IDENTITY = {"model": "a"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, States]]:
    """A folder with the checkpoints of steps 1 and 3, and their states."""
    out = tmp_path_factory.mktemp("saved")
    states = {step: fit(config(steps=step)).states for step in (1, 3)}
    with closing(Checkpoints(out / "checkpoints", IDENTITY)) as checkpoints:
        for step, population in states.items():
            checkpoints.save(step, population)
    return out, states


def restored(out: Path, template: States) -> tuple[int, States] | None:
    with closing(Checkpoints(out / "checkpoints", IDENTITY)) as checkpoints:
        return checkpoints.restore(lambda step: template)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0b100
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, flip, Path.unlink])
def test_wrong_values_never_come_back(
    damage: Callable[[Path], None],
    saved: tuple[Path, dict[int, States]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tally: Tally,
) -> None:
    source, states = saved
    files = [p for p in (source / "checkpoints" / "3").rglob("*") if p.is_file()]
    assert len(files) > 10
    steps = []
    for number, path in enumerate(files):
        out = tmp_path / str(number)
        shutil.copytree(source, out)
        damage(out / path.relative_to(source))
        caplog.clear()
        found = restored(out, states[3])
        assert found is not None
        step, population = found
        for a, b in zip(population, states[step], strict=True):
            assert_same((a.params, a.opt_state, a.step), (b.params, b.opt_state, b.step))
            assert_same(jax.random.key_data(a.key), jax.random.key_data(b.key))
        corrupt = out / CORRUPT / "3"
        assert corrupt.exists() == (step == 1)
        said = [record.getMessage() for record in caplog.records]
        assert [f"moved to {corrupt}" in line for line in said] == [True] * (step == 1)
        steps.append(step)
    # At most two files are neither in the manifest nor used to restore.
    assert steps.count(1) >= len(files) - 2
    tally(
        "files of a checkpoint truncated, emptied, flipped or deleted: fallen back", steps.count(1)
    )
    tally(
        "files of a checkpoint truncated, emptied, flipped or deleted: not needed", steps.count(3)
    )


def test_after_a_fall_back_the_same_steps_are_saved_again(
    saved: tuple[Path, dict[int, States]], tmp_path: Path
) -> None:
    """Orbax itself would silently refuse to save a step up to the newest that it knew."""
    out, states = tmp_path / "run", saved[1]
    for newest_sound in (1, 2):
        shutil.copytree(saved[0], out, dirs_exist_ok=True)
        (out / "checkpoints" / "3" / MANIFEST).unlink()
        with closing(Checkpoints(out / "checkpoints", IDENTITY)) as checkpoints:
            found = checkpoints.restore(lambda step: states[1])
            assert found is not None
            assert found[0] == newest_sound
            checkpoints.save(2, states[1])
            checkpoints.save(3, states[3])
        again = restored(out, states[3])
        assert again is not None
        assert again[0] == 3
    assert sorted(path.name for path in (out / CORRUPT).iterdir()) == ["3", "3-1"]


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.trace,)


def test_what_a_stranger_made_is_not_restored(
    saved: tuple[Path, dict[int, States]], tmp_path: Path, tally: Tally
) -> None:
    source, states = saved
    checkpoints, trace = tmp_path / "run" / "checkpoints", tmp_path / "trace"
    shutil.copytree(source, tmp_path / "run")
    pickled, zipped, moved = (checkpoints / str(step) for step in (10, 20, 30))
    for folder in (pickled, zipped):
        (folder / "states").mkdir(parents=True)
    (pickled / "states" / "state.pkl").write_bytes(pickle.dumps(Trap(trace)))
    with zipfile.ZipFile(zipped / "states" / "state.zip", "w") as archive:
        archive.writestr("../../../slipped", "out of the folder")
    shutil.copytree(checkpoints / "1", moved)  # an undamaged one under another step's name
    found = restored(tmp_path / "run", states[3])
    assert found is not None
    assert found[0] == 3
    assert not trace.exists()
    assert not list(tmp_path.rglob("slipped"))
    assert {p.name for p in (tmp_path / "run" / CORRUPT).iterdir()} == {"10", "20", "30"}
    tally("checkpoints made by a stranger (pickle, zip slip, symbolic links, renamed)", 3)


@pytest.mark.parametrize("what", ["3/states/d", "3", "."])
def test_symbolic_links_are_refused_and_left_alone(
    what: str, saved: tuple[Path, dict[int, States]], tmp_path: Path, tally: Tally
) -> None:
    source, states = saved
    shutil.copytree(source, tmp_path / "run")
    link, elsewhere = tmp_path / "run" / "checkpoints" / what, tmp_path / "elsewhere"
    link.rename(elsewhere)
    link.symlink_to(elsewhere)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="is a symbolic link: replace it by its target"):
        restored(tmp_path / "run", states[3])
    assert sorted(tmp_path.rglob("*")) == before
    tally("checkpoints made by a stranger (pickle, zip slip, symbolic links, renamed)", 1)
