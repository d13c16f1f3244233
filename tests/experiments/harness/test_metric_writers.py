"""Metrics sent on: every line once, numbers alone, as they are written."""

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.harness.metric_writers import Write, follow, numbers, tensorboard

LINES = [
    {"step": 5, "train_loss": [0.5, None], "seconds": 1.5},
    {"step": 10, "train_loss": [0.25, 0.125], "seconds": 2.5},
    {"step": 10, "final": True, "test_accuracy": 0.75, "parameters": 3, "seeds": [0, 1]},
]


def test_one_seed_needs_no_number() -> None:
    assert numbers({"step": 1, "train_loss": [0.5]}) == {"train_loss": 0.5}
    assert numbers(LINES[0]) == {"train_loss/0": 0.5, "seconds": 1.5}
    assert numbers({"step": 1, "train_loss": ["high", {}, True, 0.5]}) == {"train_loss/3": 0.5}
    assert numbers(LINES[2]) == {"test_accuracy": 0.75}


def test_every_whole_line_is_sent_once(tmp_path: Path) -> None:
    path, sent, opened = tmp_path / "m.jsonl", list[int](), list[bool]()

    @contextmanager
    def writer() -> Iterator[Write]:
        opened.append(True)
        yield lambda step, values: sent.append(step)
        opened.append(False)

    text = "".join(json.dumps(line) + "\n" for line in LINES)
    with follow(path, [writer()]) as send:
        send()
        assert opened == []
        for cut in range(len(text) + 1):
            path.write_text(text[:cut])
            send()
            assert sent == [5, 10, 10][: text[:cut].count("\n")]
    assert opened == [True, False]


def test_event_files_hold_the_numbers(tmp_path: Path) -> None:
    """Read back by hand: length, two checksums around a protocol buffer."""
    from tensorboardX.proto.event_pb2 import Event

    with tensorboard(tmp_path) as write:
        write(7, {"train_loss/0": 0.5})
    (path,) = tmp_path.iterdir()
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
        content = content[12 + length + 4 :]
    assert found == [(7, "train_loss/0", 0.5)]
