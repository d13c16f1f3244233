"""A new study runs as it is written, and names that would not work are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cnn.errors import InputError, RunError
from experiments import new


@pytest.mark.slow
def test_the_file_runs_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new.main(new.Flags(name="wide_window", folder=tmp_path / "mine"))
    path = tmp_path / "mine" / "wide_window.py"
    text = path.read_text()
    assert "NAME" not in text and "experiments.wide_window" not in text
    assert len(text.splitlines()) < 40
    out = capsys.readouterr().out
    assert out.endswith(f" {path} --smoke\n")
    command = [sys.executable, path.name, "--smoke", "--windows", "3", "5"]
    done = subprocess.run(
        command, cwd=path.parent, env=dict(os.environ), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Cannot tell from 2 seeds whether window 5 or window 3 has" in done.stdout
    summary = path.parent / "results" / "wide_window" / "smoke" / "summary.json"
    assert json.loads(summary.read_text())["question"].startswith("Does a convolution")


def test_a_study_of_the_package_is_run_as_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "experiments"
    package.mkdir()
    monkeypatch.setattr(new, "HERE", package)
    monkeypatch.chdir(tmp_path)
    path = new.write("wide_window", package)
    assert path == Path("experiments/wide_window.py")
    assert "\n    python -m experiments.wide_window --seeds 5\n" in path.read_text()
    assert new._command(path).endswith(" -m experiments.wide_window")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-study", "name must be a Python identifier, got 'my-study': write my_study"),
        ("3d", "name must be a Python identifier, got '3d': use letters, digits and underscores"),
        ("class", "name must be a Python identifier, got 'class': use letters, "),
        ("a/b", "name must be a Python identifier, got 'a/b': write a_b"),
        ("json", "name 'json' is that of a module"),
        ("flax", "name 'flax' is that of a module"),
        ("ladder", "name 'ladder' is that of a module"),
        ("harness", "name 'harness' is that of a module"),
        ("taken", "name 'taken' is taken, by "),
    ],
)
def test_names_that_do_not_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "taken.py").write_text("mine")
    with pytest.raises(InputError) as error:
        new.write(name, tmp_path)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.py"]
    assert (tmp_path / "taken.py").read_text() == "mine"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"wide_window.py cannot be written: "):
        new.write("wide_window", tmp_path / "file")
