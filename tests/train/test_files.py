"""Files that are written whole or not at all, and what a reader makes of damaged ones."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given

from cnn.errors import InputError, RunError
from cnn.train import files
from cnn.train.run_dir import has_step
from tests.mutations import mutated


def test_write_whole_keeps_the_old_file_if_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    files.write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(
        RunError, match=r"f cannot be written \(No space left on device\): make room"
    ):
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
    b'{"step": true}',
    b'{"step": 2.0}',
    b'{"step": ' + b"9" * 5000 + b"}",
    b"",
]


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_is_named_and_skipped(
    line: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b'\n{"step": 3}\n' + line + b"\n")
    assert files.read_jsonl(path, has_step) == [{"step": 1}, {"step": 3}]
    assert caplog.messages == [
        f"{path}: skipped lines that are damaged or of another version (2, 4)"
    ]


def test_of_many_damaged_lines_the_first_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "m").write_bytes(b"?\n" * 99)
    assert files.read_jsonl(tmp_path / "m") == files.read_jsonl(tmp_path / "none") == []
    assert caplog.messages[0].endswith("damaged or of another version (1, 2, 3, 4, 5, ...)")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\): move it away$"):
        files.read_jsonl(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"\xff", b"9" * 5000], ids=range(5))
def test_a_file_that_is_not_json(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(text)
    with pytest.raises(ValueError):
        files.read_json(tmp_path / "f")


@given(mutated([{"step": 1, "train_loss": [0.5, None]}, {"step": 2, "final": True}]))
@example([{"step": True}])
def test_of_mutated_metrics_lines_with_a_step_are_read(records: list[Any]) -> None:
    valid = [r for r in records if isinstance(r, dict) and type(r.get("step")) is int]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        assert json.dumps(files.read_jsonl(path, has_step)) == json.dumps(valid)
