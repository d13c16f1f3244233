"""Run folders: where a run may start, and what is left when it is killed."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cnn.errors import InputError
from cnn.train import run_dir


def test_a_missing_or_empty_folder_is_free(tmp_path: Path) -> None:
    run_dir.check_folder(tmp_path / "a" / "b", resume=False, overwrite=False)
    run_dir.check_folder(tmp_path, resume=False, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_neither_overwritten_nor_resumed_unasked(tmp_path: Path) -> None:
    run_dir.make_folder(tmp_path / "run")
    run_dir.describe_run(tmp_path / "run", {"model": 1}, overwrite=False)
    with pytest.raises(InputError, match=r"contains a run: add --resume or --overwrite"):
        run_dir.check_folder(tmp_path / "run", resume=False, overwrite=False)
    run_dir.check_folder(tmp_path / "run", resume=True, overwrite=False)
    run_dir.check_folder(tmp_path / "run", resume=False, overwrite=True)


@pytest.mark.parametrize("name", ["run[1]", "lr=[1e-3]/a", "a*", "a?"])
def test_a_name_that_is_a_pattern(name: str, tmp_path: Path) -> None:
    """A checkpoint saved there could not be restored, or another run's would be."""
    with pytest.raises(InputError, match="out must not contain"):
        run_dir.check_folder(tmp_path / name, resume=False, overwrite=False)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\)"):
        run_dir.check_folder(tmp_path / ("x" * 300), resume=False, overwrite=False)


def test_a_parent_whose_name_is_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "[1]").mkdir()
    monkeypatch.chdir(tmp_path / "[1]")
    with pytest.raises(InputError, match="out must not contain"):
        run_dir.check_folder(Path("run"), resume=False, overwrite=False)


def test_overwrite_never_removes_what_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match="not a run"):
        run_dir.check_folder(tmp_path, resume=False, overwrite=True)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="cannot be written"):
            run_dir.check_folder(out, resume=False, overwrite=False)


def named_pipe(path: Path) -> None:
    """Make what a reader would wait at for ever."""
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "diverged.json", ".lock"])
@pytest.mark.parametrize("make", [Path.mkdir, named_pipe])
def test_what_is_no_file_in_its_place(
    make: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    if name != "run.json":
        run_dir.describe_run(tmp_path, {"model": 1}, overwrite=False)
    make(tmp_path / name)
    for resume in (True, False):
        with pytest.raises(InputError, match=f"/{name}' must be a file: move it away"):
            run_dir.check_folder(tmp_path, resume=resume, overwrite=not resume)


@pytest.mark.parametrize("name", ["checkpoints", "corrupt"])
def test_a_file_in_place_of_a_folder(name: str, tmp_path: Path) -> None:
    run_dir.describe_run(tmp_path, {"model": 1}, overwrite=False)
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"/{name}' must be a folder: move it away"):
        run_dir.check_folder(tmp_path, resume=True, overwrite=False)


def test_overwrite_starts_anew(tmp_path: Path) -> None:
    run_dir.describe_run(tmp_path, {"model": 1}, overwrite=False)
    (tmp_path / "old").write_text("")
    run_dir.describe_run(tmp_path, {"model": 2}, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [run_dir.RUN]
    run = json.loads((tmp_path / run_dir.RUN).read_text())
    assert run["model"] == 2
    assert run["versions"]["jax"]


@pytest.mark.parametrize("removals", range(4))
def test_a_process_killed_while_it_overwrites(
    removals: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the old run is taken for the new one, and the folder stays one of a run."""

    class Killed(BaseException):
        pass

    run_dir.describe_run(tmp_path, {"model": 1}, overwrite=False)
    run_dir.append_metrics(tmp_path, {"step": 1})
    (tmp_path / run_dir.CHECKPOINTS / "1").mkdir(parents=True)
    (tmp_path / "other").write_text("")
    left = [removals]

    def removed(remove: Callable[..., None]) -> Callable[..., None]:
        def limited(*args: object, **options: object) -> None:
            if not left[0]:
                raise Killed
            left[0] -= 1
            remove(*args, **options)

        return limited

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", removed(Path.unlink))
        patch.setattr(run_dir.shutil, "rmtree", removed(run_dir.shutil.rmtree))
        with contextlib.suppress(Killed):
            run_dir.describe_run(tmp_path, {"model": 2}, overwrite=True)
    run_dir.check_folder(tmp_path, resume=True, overwrite=False)
    run_dir.describe_run(tmp_path, {"model": 2}, overwrite=False)
    assert {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")} == {run_dir.RUN}
    assert json.loads((tmp_path / run_dir.RUN).read_text())["model"] == 2


def test_rewind_drops_what_will_be_written_again(tmp_path: Path) -> None:
    (tmp_path / run_dir.DIVERGED).write_text("{}")
    for step in (10, 20, 30):
        run_dir.append_metrics(tmp_path, {"step": step})
    run_dir.append_metrics(tmp_path, {"step": 20, "final": True})
    run_dir.rewind(tmp_path, 20)
    assert run_dir.read_metrics(tmp_path) == [{"step": 10}, {"step": 20}]
    assert not (tmp_path / run_dir.DIVERGED).exists()
