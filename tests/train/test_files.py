"""Files that are written whole or not at all, and what a reader makes of damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnn.train import files


def test_write_whole_keeps_the_old_file_if_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    files.write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_line_cut_off_while_writing_is_left_out_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    files.append_jsonl(path, [{"step": 1}])
    files.append_jsonl(path, [{"step": 2}])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        complete = [{"step": 1}, {"step": 2}][: whole[:cut].count(b"\n")]
        assert files.read_jsonl(path) == complete
        files.append_jsonl(path, [{"step": 3}, {"step": 4}])
        lines = path.read_bytes().splitlines()
        assert [json.loads(line) for line in lines] == [*complete, {"step": 3}, {"step": 4}]


DAMAGED = [
    b'{"step": 1, "',  # two processes wrote at once
    b"\0" * 40,  # a power cut
    b"\xff\xfe",
    b"<<<<<<< HEAD",
    b"[1]",
    b"[" * 100_000,
    b'{"steps": 2}',
    b'{"step": "2"}',
    b"",
]


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_is_named_and_skipped(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n' + line + b"\n")
    assert files.read_jsonl(path, {"step": int}) == [{"step": 1}, {"step": 3}]
    assert caplog.messages == [f"{path}: skipped damaged lines (2, 4)"]


def test_of_many_damaged_lines_the_first_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "m").write_bytes(b"?\n" * 99)
    assert files.read_jsonl(tmp_path / "m") == files.read_jsonl(tmp_path / "none") == []
    assert caplog.messages == [f"{tmp_path / 'm'}: skipped damaged lines (1, 2, 3, 4, 5, ...)"]
