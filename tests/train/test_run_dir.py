"""Run folders: where a run may start, and files that are complete or absent."""

import json
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


def test_overwrite_never_removes_what_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match="not a run"):
        run_dir.check_folder(tmp_path, resume=False, overwrite=True)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="cannot be written"):
            run_dir.check_folder(out, resume=False, overwrite=False)


def test_overwrite_starts_anew(tmp_path: Path) -> None:
    run_dir.describe_run(tmp_path, {"model": 1}, overwrite=False)
    (tmp_path / "old").write_text("")
    run_dir.describe_run(tmp_path, {"model": 2}, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [run_dir.RUN]
    run = json.loads((tmp_path / run_dir.RUN).read_text())
    assert run["model"] == 2
    assert run["versions"]["jax"]


def test_write_whole_keeps_the_old_file_if_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    run_dir.write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(run_dir.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        run_dir.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_line_cut_off_while_writing_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    run_dir.append_jsonl(path, {"step": 1})
    run_dir.append_jsonl(path, {"step": 2})
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert [r["step"] for r in run_dir.read_jsonl(path)] == [1, 2][: whole[:cut].count(b"\n")]


def test_rewind_drops_what_will_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / run_dir.METRICS
    (tmp_path / run_dir.DIVERGED).write_text("{}")
    for step in (10, 20, 30):
        run_dir.append_jsonl(path, {"step": step})
    run_dir.append_jsonl(path, {"step": 20, "final": True})
    run_dir.rewind(tmp_path, 20)
    assert run_dir.read_jsonl(path) == [{"step": 10}, {"step": 20}]
    assert not (tmp_path / run_dir.DIVERGED).exists()
