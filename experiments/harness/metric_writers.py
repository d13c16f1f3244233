"""Send the metrics of a run on, as its lines are written: to TensorBoard, to Weights & Biases.

    python -m experiments.train ... --out runs/a --tensorboard
    tensorboard --logdir runs

The lines of `metrics.jsonl` are the record; what is sent is made from them, so a run that was
interrupted sends them again from the first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

Send = Callable[[int, dict[str, float]], None]
"""Takes a step and named numbers."""


@contextmanager
def following(
    path: Path, receivers: Sequence[AbstractContextManager[Send]]
) -> Iterator[Callable[[], None]]:
    """Yield a function that sends what has been written to `path` since it was last called.

    It is called a last time at the end. Receivers are opened when there is something to send.
    """
    at, sends = 0, list[Send]()

    with ExitStack() as stack:

        def follow() -> None:
            nonlocal at
            if not path.exists() or path.stat().st_size <= at:
                return
            with path.open("rb") as file:
                file.seek(at)
                whole, end, _ = file.read().rpartition(b"\n")
            at += len(whole + end)
            if not whole:
                return
            if not sends:
                sends.extend(stack.enter_context(receiver) for receiver in receivers)
            for line in whole.splitlines():
                record = json.loads(line)
                for send in sends:
                    send(record["step"], numbers(record))

        yield follow
        follow()


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """Return the measures of a line by name, one per seed where there are several.

    >>> numbers({"step": 9, "train_loss": [0.5, None], "test_accuracy": 0.75, "final": True})
    {'train_loss/0': 0.5, 'test_accuracy': 0.75}
    """
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, list) and name != "seeds":
            each = {f"{name}/{i}" if len(value) > 1 else name: v for i, v in enumerate(value)}
            found |= {key: v for key, v in each.items() if v is not None}
        elif isinstance(value, float):
            found[name] = value
    return found


@contextmanager
def to_tensorboard(folder: Path) -> Iterator[Send]:
    """Write event files into `folder`, without TensorFlow."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder)) as writer:

        def send(step: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield send


@contextmanager
def to_wandb(project: str, out: Path, config: dict[str, Any]) -> Iterator[Send]:
    """Log to a Weights & Biases project, as the run that is called like the folder `out`."""
    import wandb

    with wandb.init(project=project, name=out.name, dir=out, config=config) as run:
        yield lambda step, values: run.log(values, step=step)
