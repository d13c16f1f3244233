"""What all entry points share: flags in, one line and exit code 2 for bad input."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import experiments
from cnn.errors import InputError
from experiments.harness import cli, runtime


@dataclass(frozen=True, kw_only=True)
class Flags:
    steps: int = 3
    batch_size: int = 8
    resume: bool = False
    sizes: tuple[int, ...] = ()
    order: Literal["ordered", "permuted"] = "ordered"


@dataclass(frozen=True, kw_only=True)
class Named(Flags):
    model: str


def test_flags_are_typed() -> None:
    parsed = cli.parse(Named, ["--steps", "-5", "--batch_size=2", "--no-resume", "--model", "m"])
    assert parsed == Named(steps=-5, batch_size=2, resume=False, model="m")


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--stepz", "5"], "error: unknown argument '--stepz': did you mean --steps?"),
        (["--modl", "m"], "error: unknown argument '--modl': did you mean --model?"),
        (
            ["--model=m", "--batch=3"],
            "error: unknown argument '--batch': did you mean --batch-size?",
        ),
        (["--quux"], "error: unknown argument '--quux': --help lists the flags"),
        (["--steps", "5"], "error: missing argument --model: --help lists the flags"),
    ],
)
def test_unknown_or_missing_flag(
    args: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.parse(Named, args)
    assert stop.value.code == 2
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["--steps", "many"], "error: --steps must be a whole number, got 'many'"),
        (["--steps"], "error: --steps needs a value"),
        (["--sizes", "3", "x"], "error: --sizes must be whole numbers, got '3 x'"),
        (["--order=up"], "error: --order must be one of ordered, permuted, got 'up'"),
        (["more"], "error: unexpected argument 'more': --help lists the flags"),
    ],
)
def test_wrong_value(args: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.parse(Flags, args)
    assert stop.value.code == 2
    assert capsys.readouterr().err == line + "\n"


def test_one_value() -> None:
    assert cli.parse_value("steps", int | None, "3") == 3
    with pytest.raises(InputError, match="steps cannot be 'x'"):
        cli.parse_value("steps", int | None, "x")


def test_bad_input_is_a_line_and_a_defect_is_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["study"])

    def bad(_: Flags) -> None:
        raise InputError("steps must be 4 or more, got 3")

    with pytest.raises(SystemExit) as stop:
        cli.run(bad, Flags)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: steps must be 4 or more, got 3\n"

    def defect(_: Flags) -> None:
        raise ValueError("not the user's fault")

    with pytest.raises(ValueError, match="not the user's fault"):
        cli.run(defect, Flags)


def test_only_a_program_of_its_own_prepares_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[bool] = []
    monkeypatch.setattr(sys, "argv", ["study"])
    monkeypatch.setattr(runtime, "prepare", lambda: prepared.append(True))

    cli.run(lambda _: None, Flags)
    assert not prepared
    monkeypatch.setattr(Flags, "__module__", "__main__")
    cli.run(lambda _: None, Flags)
    assert prepared == [True]


def test_every_program_answers_help_without_a_slow_import() -> None:
    """Every file at the top of experiments/ is a program. JAX and others take seconds to import."""
    folder = Path(experiments.__file__).parent
    names = sorted(path.stem for path in folder.glob("[!_]*.py"))
    assert {"train", "ladder", "gallery"} <= set(names)
    code = (
        "import runpy, sys\n"
        f"for name in {names}:\n"
        "    sys.argv = [name, '--help']\n"
        "    try:\n"
        "        runpy.run_module('experiments.' + name, run_name='__main__', alter_sys=True)\n"
        "        sys.exit(name + ' is no program')\n"
        "    except SystemExit as stop:\n"
        "        slow = {'jax', 'tensorflow_datasets', 'matplotlib', 'orbax', 'sklearn'}\n"
        "        if stop.code or slow & set(sys.modules):\n"
        "            sys.exit(f'{name} {stop.code} {slow & set(sys.modules)}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"usage: python -m experiments.{name} [-h]" in done.stdout


def started(**options: Any) -> subprocess.Popen[bytes]:
    """Start a program that prints a table with ×."""
    command = [sys.executable, "-m", "experiments.describe", "--model", "lenet5"]
    command += ["--input", "28", "28", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **options)


def test_a_terminal_that_lacks_characters_shows_the_others() -> None:
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with started(stdout=subprocess.PIPE, env=ascii_only) as program:
        out, err = program.communicate(timeout=120)
    assert program.returncode == 0, err.decode()
    assert b"lenet5 on 28?28?1" in out and b"61,706" in out


def test_a_closed_pipe_is_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with started(stdout=writer) as program:
        os.close(writer)
        _, err = program.communicate(timeout=120)
    assert program.returncode == 1
    assert b"Traceback" not in err and b"Exception ignored" not in err


@dataclass(frozen=True)
class Folders:
    out: Path = Path("out")


def test_paths_of_every_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell leaves `--out=~/a` alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.parse(Folders, ["--out=~/a"]).out == tmp_path / "a"
    with pytest.raises(SystemExit) as stop:
        cli.parse(Folders, ["--out=gs://b/a"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: out must be in a file system, got 'gs:/b/a'")
