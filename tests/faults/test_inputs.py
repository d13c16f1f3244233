"""Wrong arguments: each is one line on standard error and exit code 2, and nothing is written."""

from __future__ import annotations

import importlib
import shlex
import sys
from pathlib import Path

import pytest

from experiments.harness import cli
from tests.reliability import Tally

pytestmark = pytest.mark.fault

CNN = "--model cnn1d --data mnist1d --out run"
STUDY = "--out run"

WRONG = [
    # what does not exist
    ("train", "--model lenet --data mnist1d --out run", "unknown model 'lenet': did you mean"),
    ("train", "--model '' --data mnist1d --out run", "unknown model '': "),
    (
        "train",
        "--model cnn1d --data mnist --data-dir nowhere --out run",
        "looked for nowhere (no folder)",
    ),
    ("train", "--model cnn1d --data mnist2d --data-dir . --out run", "'mnist1d'"),
    ("train", "--data mnist1d --out run", "missing argument --model"),
    ("train", "--model cnn1d --out run", "missing argument --data"),
    ("train", f"{CNN} --step 3", "unknown argument '--step': did you mean --steps"),
    ("train", f"{CNN} --momentum 0.9", "unknown argument '--momentum'"),
    ("train", f"{CNN} more", "unexpected argument 'more'"),
    # what is of another type
    ("train", f"{CNN} --steps many", "argument --steps 'many' is not a whole number"),
    ("train", f"{CNN} --steps 1.5", "argument --steps '1.5' is not a whole number"),
    ("train", f"{CNN} --steps 1e3", "argument --steps '1e3' is not a whole number"),
    ("train", f"{CNN} --steps", "argument --steps has no value"),
    ("train", f"{CNN} --steps 1 2", "unexpected argument '2'"),
    ("train", f"{CNN} --lr fast", "argument --lr 'fast' is not a number"),
    ("train", f"{CNN} --lr=", "argument --lr '' is not a number"),
    ("train", f"{CNN} --seed x", "argument --seed 'x' is not a whole number"),
    ("train", f"{CNN} --devices all", "argument --devices 'all' is not a whole number"),
    ("train", f"{CNN} --validate yes", "unexpected argument 'yes'"),
    ("train", f"{CNN} --optimizer adamw", "'adamw' is not one of adam, sgd"),
    ("train", f"{CNN} --schedule linear", "'linear' is not one of"),
    ("train", f"{CNN} --map-devices vmap", "'vmap' is not one of shard_map, pmap"),
    ("train", f"{CNN} --on-nan ignore", "'ignore' is not one of stop, skip"),
    ("train", f"{CNN} --relax-to nothing", "'nothing' is not one of local, dense"),
    # what is out of range
    ("train", f"{CNN} --steps -1", "steps -1 cannot be: give 0 or more"),
    ("train", f"{CNN} --batch-size 0", "batch_size 0 cannot be: give 1 or more"),
    ("train", f"{CNN} --batch-size -8", "batch_size -8 cannot be"),
    ("train", f"{CNN} --batch-size 100000", "exceeds the 4000 training examples"),
    ("train", f"{CNN} --batch-size 10 --devices 4", "not divisible by 4 devices"),
    ("train", f"{CNN} --seeds 0", "seeds 0 cannot be: give 1 or more"),
    ("train", f"{CNN} --seed -1", "seed -1 cannot be: give 0 or more"),
    ("train", f"{CNN} --lr 0", "lr 0.0 cannot be: give a positive number"),
    ("train", f"{CNN} --lr -0.1", "lr -0.1 cannot be"),
    ("train", f"{CNN} --lr nan", "lr nan cannot be"),
    ("train", f"{CNN} --lr inf", "lr inf cannot be"),
    ("train", f"{CNN} --warmup -1", "warmup -1 cannot be"),
    ("train", f"{CNN} --steps 10 --warmup 11", "warmup 11 cannot be: give at most steps, 10"),
    ("train", f"{CNN} --weight-decay -1", "weight_decay -1.0 cannot be"),
    ("train", f"{CNN} --weight-decay nan", "weight_decay nan cannot be"),
    ("train", f"{CNN} --label-smoothing 1", "label_smoothing 1.0 cannot be"),
    ("train", f"{CNN} --label-smoothing -0.1", "label_smoothing -0.1 cannot be"),
    ("train", f"{CNN} --log-every 0", "log_every 0 cannot be"),
    ("train", f"{CNN} --checkpoint-every 0", "checkpoint_every 0 cannot be"),
    ("train", f"{CNN} --checkpoint-minutes 0", "checkpoint_minutes 0.0 cannot be"),
    ("train", f"{CNN} --checkpoint-minutes nan", "checkpoint_minutes nan cannot be"),
    ("train", f"{CNN} --keep-last 0", "keep_last 0 cannot be"),
    ("train", f"{CNN} --keep-best -1", "keep_best -1 cannot be"),
    ("train", f"{CNN} --devices 0", "devices 0 cannot be"),
    ("train", f"{CNN} --devices 64", "devices 64 exceeds"),
    ("train", f"{CNN} --relax-at -1", "relax_at -1 cannot be"),
    ("train", f"{CNN} --steps 5 --relax-at 6", "relax_at 6 cannot be: give 0 to steps, 5"),
    # what does not go together
    ("train", f"{CNN} --resume --overwrite", "exclude each other"),
    ("train", "--model cnn1d --data mnist1d --resume", "need a run folder: give out"),
    ("train", f"{CNN} --keep-best 1", "keep_best 1 needs validate"),
    ("train", "--model cnn1d --data mnist1d --profile", "profile writes into a run folder"),
    ("train", "--model lenet5 --data mnist1d --out run", "window (5, 5)"),
    ("train", "--model lecture_cnn --data digits --out run", "exceeds padded size"),
    ("train", "--model cnn1d --data mnist1d --out file/run", "out 'file/run' cannot be written"),
    ("train", "--model cnn1d --data mnist1d --out other", "holds something that is not a run"),
    ("train", "--model cnn1d --data mnist1d --out other --overwrite", "is not a run"),
    # the other entry points
    ("describe", "--model vgg --input 224 224 3", "unknown model 'vgg': did you mean"),
    ("describe", "--model vgg16 --input 224 x 3", "argument --input 'x' is not a whole number"),
    ("describe", "--model vgg16 --input 8 8 3", "the smallest input that works is (32, 32, 3)"),
    ("describe", "--model vgg16 --input 224 3", "window (3, 3) has 2 entries for 1 spatial axes"),
    ("describe", "--model vgg16", "missing argument --input"),
    ("describe", "--model lenet5 --input 28 28 1 --compare no", "unknown model 'no'"),
    ("prepare", "", "missing argument name"),
    ("prepare", "mnist1d", "is built in"),
    ("prepare", "a b", "unexpected argument 'b'"),
    ("runs", "nowhere", "folder 'nowhere' is not there"),
    ("runs", "other", "holds no run"),
    ("ladder", f"{STUDY} --only conv", "unknown point 'conv': "),
    ("ladder", f"{STUDY} --seeds 0", "seeds 0 cannot be"),
    ("ladder", f"{STUDY} --lr -1", "lr -1.0 cannot be"),
    ("bias_map", f"{STUDY} --data nothing", "nothing"),
    ("relax", f"{STUDY} --batch-size 0", "batch_size 0 cannot be"),
    ("permutation", f"{STUDY} --blocks 7", "7"),
]


@pytest.mark.parametrize(("entry", "line", "message"), WRONG, ids=[f"{e} {a}" for e, a, _ in WRONG])
def test_one_line_and_nothing_written(
    entry: str,
    line: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tally: Tally,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    before = sorted(tmp_path.rglob("*"))
    module = importlib.import_module(f"experiments.{entry}")
    flags = getattr(module, "Study", None) or module.Flags
    monkeypatch.setattr(sys, "argv", [entry, *shlex.split(line)])
    with pytest.raises(SystemExit) as stop:
        cli.run(module.main, flags)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said
    assert sorted(tmp_path.rglob("*")) == before
    tally("wrong arguments: one line, exit code 2, nothing written", 1)
