"""Files that are written whole or not at all, also in a power cut: single files, JSON lines."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cnn.errors import InputError, RunError

PART = ".part"
"""Suffix of a file that is not complete."""
Check = Callable[[dict[str, Any]], bool]
"""Whether a record has the fields that its reader needs."""
logger = logging.getLogger(__name__)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make a `RunError` of what the operating system says while `path` is written."""
    try:
        yield
    except OSError as error:
        why = f"({error.strerror or error}): make room, or choose another folder"
        raise RunError(f"{path} cannot be written {why}") from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it appears complete or not at all.

    Raises:
        RunError: If it does not fit, or may not be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
    with _writing(path):
        try:
            with part.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            _sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the names of new files survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems have no such operation
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def append_jsonl(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Append lines of JSON, all of them or none. An incomplete last line is removed first.

    Only one process may write to a file at a time.

    Raises:
        RunError: If they do not fit, or may not be written.
    """
    left = "".join(json.dumps(record) + "\n" for record in records).encode()
    with _writing(path), path.open("a+b", buffering=0) as file:
        size = _whole_lines(path)
        try:
            file.truncate(size)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)
            raise
        if size == 0:
            _sync_folder(path.parent)


def _whole_lines(path: Path) -> int:
    """Return the size of a file without its incomplete last line."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read() in (b"", b"\n"):
            return size
        file.seek(0)
        return file.read().rfind(b"\n") + 1


def read_json(path: Path) -> Any:
    """Return the value in a file of JSON. Raise OSError or ValueError if it cannot be read."""
    return _parse(path.read_bytes())


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def read_jsonl(path: Path, is_valid: Check = lambda record: True) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines. It need not exist.

    Lines that are no JSON object, are not valid, or are incomplete, are skipped, and one warning
    names them.

    Raises:
        InputError: If the file cannot be read.
    """
    try:
        return parse_jsonl(path.read_bytes(), path, is_valid)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): move it away") from error


def parse_jsonl(content: bytes, path: Path, is_valid: Check) -> list[dict[str, Any]]:
    """Return the records in the `content` of the file `path`, as `read_jsonl` does."""
    records, bad = [], []
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        try:
            record = _parse(line) if line.endswith(b"\n") else None
        except ValueError:
            record = None
        if isinstance(record, dict) and is_valid(record):
            records.append(record)
        else:
            bad.append(str(number))
    if bad:
        more = ", ..." if len(bad) > 5 else ""
        what = "skipped lines that are damaged or of another version"
        logger.warning("%s: %s (%s%s)", path, what, ", ".join(bad[:5]), more)
    return records
