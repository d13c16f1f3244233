"""What all entry points share: flags in, one line and exit code 2 for bad input."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from cnn.errors import InputError
from experiments.harness import cli, runtime


@dataclass(frozen=True, kw_only=True)
class Flags:
    steps: int = 3
    batch_size: int = 8
    resume: bool = False


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


def test_wrong_type(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.parse(Flags, ["--steps", "many"])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert "--steps" in said.out + said.err


def test_bad_input_is_a_line_and_a_defect_is_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["study"])

    def bad(_: Flags) -> None:
        raise InputError("steps 3 cannot be: give more")

    with pytest.raises(SystemExit) as stop:
        cli.run(bad, Flags)
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: steps 3 cannot be: give more\n"

    def defect(_: Flags) -> None:
        raise ValueError("not the user's fault")

    with pytest.raises(ValueError, match="not the user's fault"):
        cli.run(defect, Flags)


def test_only_a_program_of_its_own_prepares_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[bool] = []
    monkeypatch.setattr(sys, "argv", ["study"])
    monkeypatch.setattr(runtime, "prepare", lambda: prepared.append(True))

    def main(_: Flags) -> None:
        pass

    cli.run(main, Flags)
    assert not prepared
    main.__module__ = "__main__"
    cli.run(main, Flags)
    assert prepared == [True]


@pytest.mark.parametrize(
    "module", ["train", "sweep", "prepare", "describe", "relax", "sample_efficiency", "permutation"]
)
def test_help_waits_for_no_slow_import(module: str) -> None:
    """JAX, TFDS, matplotlib and Orbax take seconds to import; help needs none of them."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['{module}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('experiments.{module}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as stop:\n"
        "    slow = {'jax', 'tensorflow_datasets', 'matplotlib', 'orbax', 'sklearn'}\n"
        "    sys.exit(f'{slow & set(sys.modules)}' if slow & set(sys.modules) else stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout
