"""Wrong arguments: each is one line on standard error and exit code 2, and nothing is written."""

from __future__ import annotations

import importlib
import json
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
    # names that do not exist
    ("train", "--model lenet --data mnist1d --out run", "unknown model 'lenet': did you mean"),
    ("train", "--model '' --data mnist1d --out run", "model is missing: give --model"),
    (
        "train",
        "--model cnn1d --data mnist --data-dir nowhere --out run",
        "data set 'mnist' is not prepared in nowhere (no folder)",
    ),
    ("train", "--model cnn1d --data mnist2d --data-dir . --out run", "'mnist1d'"),
    ("train", "--data mnist1d --out run", "model is missing: give --model, or --spec"),
    ("train", "--model cnn1d --out run", "missing argument --data"),
    ("train", f"{CNN} --step 3", "unknown argument '--step': did you mean --steps"),
    ("train", f"{CNN} --momentum 0.9", "unknown argument '--momentum'"),
    ("train", f"{CNN} more", "unexpected argument 'more'"),
    # what is of another type
    ("train", f"{CNN} --steps many", "--steps must be a whole number, got 'many'"),
    ("train", f"{CNN} --steps 1.5", "--steps must be a whole number, got '1.5'"),
    ("train", f"{CNN} --steps 1e3", "--steps must be a whole number, got '1e3'"),
    ("train", f"{CNN} --steps", "--steps needs a value"),
    ("train", f"{CNN} --steps 1 2", "unexpected argument '2'"),
    ("train", f"{CNN} --lr fast", "--lr must be a number, got 'fast'"),
    ("train", f"{CNN} --lr=", "--lr must be a number, got ''"),
    ("train", f"{CNN} --seed x", "--seed must be a whole number, got 'x'"),
    ("train", f"{CNN} --devices all", "--devices must be a whole number, got 'all'"),
    ("train", f"{CNN} --validate yes", "unexpected argument 'yes'"),
    ("train", f"{CNN} --optimizer adamm", "unknown optimizer 'adamm': did you mean 'adam'"),
    ("train", f"{CNN} --schedule linear", "got 'linear'"),
    ("train", f"{CNN} --map-devices vmap", "must be one of shard_map, pmap, got 'vmap'"),
    ("train", f"{CNN} --on-nan ignore", "must be one of stop, skip, got 'ignore'"),
    ("train", f"{CNN} --relax-to nothing", "must be one of local, dense, got 'nothing'"),
    # somebody's own optimizer, loss, metrics, model
    ("train", f"{CNN} --optimizer none:such", "optimizer 'none:such' cannot be imported"),
    ("train", f"{CNN} --optimizer optax:such", "must name a function, but optax has no such"),
    ("train", f"{CNN} --optimizer lbfgs", "optimizer 'lbfgs' cannot be used: "),
    ("train", f"{CNN} --optimizer schedule_free_adamw", "evaluates other weights than it trains"),
    ("train", f"{CNN} --optimizer-args b3=1", "unknown argument of optimizer adamw 'b3': did you"),
    ("train", f"{CNN} --optimizer-args b1", "optimizer_args must be NAME=VALUE with each name"),
    ("train", f"{CNN} --optimizer-args b1=x", "optimizer 'adamw' cannot be used: "),
    ("train", f"{CNN} --optimizer-args learning_rate=1", "must not contain learning_rate: give lr"),
    ("train", f"{CNN} --optimizer-args weight_decay=1", "must not contain weight_decay: give"),
    ("train", f"{CNN} --optimizer novograd --weight-decay 1", "weight_decay must be 0 with optim"),
    ("train", f"{CNN} --loss mse", "unknown loss 'mse': choose one of absolute-error, binary"),
    ("train", f"{CNN} --loss squared-error", "on mnist1d, loss squared-error needs float targets"),
    ("train", f"{CNN} --loss os:getcwd", "loss or metrics (os:getcwd) cannot be computed from"),
    ("train", f"{CNN} --loss huber --label-smoothing 0.1", "label_smoothing must be 0 with losses"),
    ("train", f"{CNN} --metrics acuracy", "unknown metric 'acuracy': did you mean 'accuracy'"),
    ("train", f"{CNN} --metrics top-11", "metric top-11 must be from top-1 to top-10"),
    ("train", f"{CNN} --metrics accuracy accuracy", "metrics must have different names, and none"),
    ("train", f"{CNN} --metrics squared-error", "loss squared-error needs float targets"),
    ("train", f"{CNN} --model-args width=3", "model 'cnn1d' cannot be made with"),
    ("train", f"{CNN} --model-args width", "model_args must be NAME=VALUE with each name once"),
    ("train", f"{CNN} --ablate unshared", "unknown ablation 'unshared': did you mean 'unshare'"),
    ("train", f"{CNN} --ablate tile", "ablation 'tile' does not fit tile: missing a required"),
    ("train", f"{CNN} --ablate repad:mode=torus", "torus"),
    ("train", "--spec no.json --data mnist1d --out run", "spec 'no.json' cannot be read"),
    ("train", "--spec file.json --data mnist1d --out run", "spec of a layer must be an object"),
    ("train", "--spec file.json --data mnist1d --model-args a=1", "model_args are for functions"),
    ("train", f"{CNN} --spec file.json", "give model or spec, got 'cnn1d' and 'file.json'"),
    # evaluations, epochs, settings in a file
    ("train", f"{CNN} --epochs 0", "epochs must be 1 or more, got 0"),
    ("train", f"{CNN} --epochs 2 --steps 5", "give steps or epochs, got 5 and 2"),
    ("train", f"{CNN} --evaluate-every 10", "evaluate_every needs validate: the test set is not"),
    ("train", f"{CNN} --validate --evaluate-every 0", "evaluate_every must be 1 or more, got 0"),
    ("train", f"{CNN} --patience 3", "patience counts evaluations: give evaluate_every"),
    ("train", f"{CNN} --augment mixup flip", "augment must be with at most one of mixup and cut"),
    (
        "train",
        f"{CNN} --augment mixup --devices 1 --batch-size 15",
        "batch_size must be even on each device",
    ),
    ("train", f"{CNN} --config no.toml", "config 'no.toml' cannot be read: "),
    ("train", f"{CNN} --config file.json", "config 'file.json' cannot be read: "),
    ("train", f"{CNN} --config wrong.toml", "unknown setting in wrong.toml 'rate'"),
    # data from elsewhere
    ("train", "--model cnn1d --data folder:nowhere --out run", "nowhere"),
    ("train", "--model cnn1d --data folder:other --out run", "other"),
    ("train", "--model cnn1d --data no.npz --out run", "no.npz"),
    ("train", "--model cnn1d --data broken.npz --out run", "broken.npz"),
    ("train", f"{CNN} --size 8 8", "size and channels are for images in files"),
    ("train", f"{CNN} --size 8", "--size"),
    # the list of runs
    ("runs", "runs --filter lr", "filter must be NAME=VALUE or NAME<VALUE, got 'lr'"),
    ("runs", "runs --filter 'lr<high'", "filter must compare with a number, got 'lr<high'"),
    ("runs", "runs --filter rl=1", "unknown column 'rl': "),
    ("runs", "runs --sort date", "unknown column 'date': did you mean 'data'"),
    ("runs", "runs --plot curves", "plot needs runs that have lines of metrics"),
    # what is out of range
    ("train", f"{CNN} --steps -1", "steps must be 0 or more, got -1"),
    ("train", f"{CNN} --batch-size 0", "batch_size must be 1 or more, got 0"),
    ("train", f"{CNN} --batch-size -8", "batch_size must be 1 or more, got -8"),
    (
        "train",
        f"{CNN} --batch-size 100000",
        "batch_size must be at most the 4000 training examples, got 100000",
    ),
    (
        "train",
        f"{CNN} --batch-size 10 --devices 4",
        "batch_size must be a multiple of 4 devices, got 10",
    ),
    ("train", f"{CNN} --seeds 0", "seeds must be 1 or more, got 0"),
    ("train", f"{CNN} --seed -1", "seed must be 0 or more, got -1"),
    ("train", f"{CNN} --lr 0", "lr must be positive and finite, got 0.0"),
    ("train", f"{CNN} --lr -0.1", "lr must be positive and finite, got -0.1"),
    ("train", f"{CNN} --lr nan", "lr must be positive and finite, got nan"),
    ("train", f"{CNN} --lr inf", "lr must be positive and finite, got inf"),
    ("train", f"{CNN} --warmup -1", "warmup must be 0 or more, got -1"),
    ("train", f"{CNN} --steps 10 --warmup 11", "warmup must be at most steps (10), got 11"),
    ("train", f"{CNN} --weight-decay -1", "weight_decay must be 0 or more, got -1.0"),
    ("train", f"{CNN} --weight-decay nan", "weight_decay must be 0 or more, got nan"),
    (
        "train",
        f"{CNN} --label-smoothing 1",
        "label_smoothing must be at least 0 and below 1, got 1.0",
    ),
    (
        "train",
        f"{CNN} --label-smoothing -0.1",
        "label_smoothing must be at least 0 and below 1, got -0.1",
    ),
    ("train", f"{CNN} --log-every 0", "log_every must be 1 or more, got 0"),
    ("train", f"{CNN} --checkpoint-every 0", "checkpoint_every must be 1 or more, got 0"),
    ("train", f"{CNN} --checkpoint-minutes 0", "checkpoint_minutes must be positive, got 0.0"),
    ("train", f"{CNN} --checkpoint-minutes nan", "checkpoint_minutes must be positive, got nan"),
    ("train", f"{CNN} --keep-last 0", "keep_last must be 1 or more, got 0"),
    ("train", f"{CNN} --keep-best -1", "keep_best must be 0 or more, got -1"),
    ("train", f"{CNN} --devices 0", "devices must be 1 or more, got 0"),
    ("train", f"{CNN} --devices 64", "devices must be at most the"),
    ("train", f"{CNN} --relax-at -1", "relax_at must be between 0 and steps"),
    ("train", f"{CNN} --steps 5 --relax-at 6", "relax_at must be between 0 and steps (5), got 6"),
    # what does not go together
    ("train", f"{CNN} --resume --overwrite", "exclude each other"),
    ("train", "--model cnn1d --data mnist1d --resume", "need a run folder: give out"),
    ("train", f"{CNN} --keep-best 1", "keep_best needs validate"),
    ("train", "--model cnn1d --data mnist1d --profile", "profile writes into a run folder"),
    (
        "train",
        "--model lenet5 --data mnist1d --out run",
        "on inputs of shape (40, 1) of mnist1d, layer layers_0: window must be",
    ),
    (
        "train",
        "--model lecture_cnn --data digits --out run",
        "window must fit into the padded size",
    ),
    ("train", "--model cnn1d --data mnist1d --out file/run", "out 'file/run' cannot be written"),
    ("train", "--model cnn1d --data mnist1d --out other", "contains something that is not a run"),
    ("train", "--model cnn1d --data mnist1d --out other --overwrite", "that is not a run"),
    # folders that cannot be used
    ("train", "--model cnn1d --data mnist1d --out run[1]", "out must not contain * ? or [, got "),
    ("train", "--model cnn1d --data mnist1d --out lr=[1e-3]/a", "out must not contain * ? or ["),
    ("train", "--model cnn1d --data mnist1d --out az://bucket/a", "out must be in a file system"),
    (
        "train",
        "--model cnn1d --data mnist1d --out s3://b/[1]",
        "out must not contain * ? or [, got ",
    ),
    ("train", "--model cnn1d --data mnist1d --out s3://b/a --profile", "profile writes into a run"),
    ("train", "--model cnn1d --data mnist1d --out s3://b/a --tensorboard", "in a file system"),
    ("sweep", "--data digits --model mlp --out az://b/a", "out must be in a file system"),
    (
        "train",
        "--model cnn1d --data mnist1d --data-dir az://b",
        "data_dir must be in a file system",
    ),
    ("train", "--model cnn1d --data mnist1d --out=~nobody-here/a", "a home folder that is known"),
    ("ladder", "--out az://bucket/a", "out must be in a file system, got 'az:/bucket/a'"),
    ("describe", "--model vgg16 --input 224 224 3 --out gs://bucket/a", "out must be in a file"),
    ("runs", "az://bucket", "folder must be in a file system"),
    # what no device has room for
    ("train", f"{CNN} --steps 3000000000", "steps must be below 2^31, got 3000000000"),
    ("describe", "--model lenet5 --input 3000000000 28 1", "must have below 2^31 positions"),
    ("describe", "--model lenet5 --input 2000000 2000000 1", "at most 2^40 in all"),
    # the other entry points
    (
        "sweep",
        "--data digits --model mlp --out run --over lr=1,-1",
        "lr must be positive and finite, got -1.0",
    ),
    ("sweep", "--data digits --out run --over model=mlp,mpl", "unknown model 'mpl'"),
    ("describe", "--model vgg --input 224 224 3", "unknown model 'vgg': did you mean"),
    ("describe", "--model vgg16 --input 224 x 3", "--input must be whole numbers, got '224 x 3'"),
    ("describe", "--model vgg16 --input 8 8 3", "the smallest input that works is (32, 32, 3)"),
    (
        "describe",
        "--model vgg16 --input 224 3",
        "window must be an int, or one int for each of 1 spatial axes, got (3, 3)",
    ),
    ("describe", "--model vgg16", "missing argument --input"),
    ("describe", "--model lenet5 --input 28 28 1 --compare no", "unknown model 'no'"),
    ("prepare", "", "missing argument name"),
    ("prepare", "mnist1d", "is built in"),
    ("prepare", "a b", "unexpected argument 'b'"),
    ("runs", "nowhere", "folder 'nowhere' does not exist"),
    ("runs", "other", "holds no run"),
    ("ladder", f"{STUDY} --only conv", "unknown point 'conv': "),
    ("ladder", f"{STUDY} --seeds 0", "seeds must be 1 or more, got 0"),
    ("ladder", f"{STUDY} --lr -1", "lr must be positive and finite, got -1.0"),
    ("bias_map", f"{STUDY} --data nothing", "nothing"),
    ("relax", f"{STUDY} --batch-size 0", "batch_size must be 1 or more, got 0"),
    ("permutation", f"{STUDY} --cuts 40", "cuts must be from 0 to 39, got 40"),
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
    (tmp_path / "file.json").write_text("[]")
    (tmp_path / "wrong.toml").write_text("rate = 1")
    (tmp_path / "broken.npz").write_text("PK")
    (tmp_path / "runs" / "a").mkdir(parents=True)
    run = {"model": {"layer": "Chain"}, "data": {"name": "a"}, "command": "", "recipe": {"lr": 1}}
    (tmp_path / "runs" / "a" / "run.json").write_text(json.dumps(run))
    before = sorted(tmp_path.rglob("*"))
    module = importlib.import_module(f"experiments.{entry}")
    study = getattr(module, "STUDY", None)
    main, flags = (study.run, module.Settings) if study else (module.main, module.Flags)
    monkeypatch.setattr(sys, "argv", [entry, *shlex.split(line)])
    with pytest.raises(SystemExit) as stop:
        cli.run(main, flags)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said
    assert sorted(tmp_path.rglob("*")) == before
    tally("wrong arguments: one line, exit code 2, nothing written", 1)
