"""Send the metrics of a run to TensorBoard and Weights & Biases while it trains.

    python -m experiments.train ... --out runs/a --tensorboard
    tensorboard --logdir runs

The lines of `metrics.jsonl` are the record, and what is sent is read from them. A run that was
interrupted therefore sends them again from the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from etils import epy

with epy.lazy_imports():
    import tensorboardX
    import wandb as wandb_client

    from cnn.train import files, run_dir

Write = Callable[[int, dict[str, float]], None]
"""Takes a step, and numbers by name."""


@contextmanager
def follow(
    path: Path, writers: Sequence[AbstractContextManager[Write]]
) -> Iterator[Callable[[], None]]:
    """Yield a function that sends all lines added to `path` since its last call.

    It is called once more at the end. The writers are opened when there is something to send.
    """
    offset, opened = 0, list[Write]()

    with ExitStack() as stack:

        def send() -> None:
            nonlocal offset
            if not path.exists() or path.stat().st_size <= offset:
                return
            with path.open("rb") as file:
                file.seek(offset)
                complete, end, _ = file.read().rpartition(b"\n")
            offset += len(complete + end)
            if complete and not opened:
                opened.extend(stack.enter_context(writer) for writer in writers)
            for record in files.parse_jsonl(complete + end, path, run_dir.has_step):
                for write in opened:
                    write(record["step"], numbers(record))

        yield send
        send()


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """Return the measures of a line by name, one per seed where there are several.

    >>> numbers({"step": 9, "train_loss": [0.5, None], "test_accuracy": 0.75, "final": True})
    {'train_loss/0': 0.5, 'test_accuracy': 0.75}
    """
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, list):
            each = {f"{name}/{i}" if len(value) > 1 else name: v for i, v in enumerate(value)}
            found |= {key: v for key, v in each.items() if isinstance(v, float)}
        elif isinstance(value, float):
            found[name] = value
    return found


@contextmanager
def tensorboard(folder: Path) -> Iterator[Write]:
    """Write event files into `folder`, without TensorFlow."""
    with tensorboardX.SummaryWriter(str(folder)) as writer:

        def write(step: int, values: dict[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield write


@contextmanager
def wandb(project: str, out: Path, config: dict[str, Any]) -> Iterator[Write]:
    """Log to a project of Weights & Biases, as a run with the name of the folder `out`."""
    with wandb_client.init(project=project, name=out.name, dir=out, config=config) as run:
        yield lambda step, values: run.log(values, step=step)
