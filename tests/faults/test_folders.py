"""Full disks, read-only folders, and clocks that jump."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from cnn.errors import RunError
from cnn.train import files, fit, run_dir
from tests.faults.processes import SECONDS, SMALL, command, environment
from tests.reliability import Tally
from tests.small import assert_same, config

pytestmark = pytest.mark.fault


def in_small_disk(script: str, cache: Path, mount: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace with a disk of one megabyte at `mount`."""
    mount.mkdir()
    if shutil.which("unshare") is None:
        pytest.skip("no unshare: a small disk cannot be made without privileges")
    mounted = f"mount -t tmpfs -o size=1m none {mount}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mounted], capture_output=True).returncode:
        pytest.skip("this system does not let its users mount a small disk")
    whole = ["unshare", "-rm", "sh", "-c", f"{mounted}\n{script}"]
    return subprocess.run(
        whole, capture_output=True, text=True, env=environment(cache), timeout=SECONDS, check=False
    )


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_harms_nothing(tmp_path: Path, tally: Tally) -> None:
    disk = tmp_path / "disk"
    train = " ".join(command([*SMALL, "--steps", "40", "--out", str(disk / "run"), "--resume"]))
    script = f"""
        head -c 700000 /dev/zero > {disk}/filler
        {train}; echo "full: $?"
        cat {disk}/run/metrics.jsonl
        rm {disk}/filler
        {train}; echo "room: $?"
    """
    done = in_small_disk(script, tmp_path / "cache", disk)
    _, room = done.stdout.split("full: 1\n")
    assert [json.loads(line)["step"] for line in room.splitlines() if line.startswith('{"step')]
    assert room.rstrip().endswith("room: 0")
    assert "corrupt" not in done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "cannot be written" in error
    assert "--resume" in error
    assert "Traceback" not in done.stderr
    tally("full disks: one line, and the run goes on when there is room", 1)


@pytest.mark.slow
def test_a_disk_to_read_only_is_one_line(tmp_path: Path, tally: Tally) -> None:
    disk = tmp_path / "disk"
    train = " ".join(command([*SMALL, "--steps", "10", "--out", str(disk / "run"), "--resume"]))
    script = f"{train} || exit 9\nmount -o remount,ro {disk}\n{train}; echo $?"
    done = in_small_disk(script, tmp_path / "cache", disk)
    assert done.stdout.endswith("\n2\n"), done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: out ")
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    tally("folders to read only: one line", 1)


def test_a_record_is_written_whole_or_not_at_all(tmp_path: Path, tally: Tally) -> None:
    """Try every number of bytes that still fit into the file."""
    path = tmp_path / "metrics.jsonl"
    files.append_jsonl(path, [{"step": 1}])
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in range(len(whole)):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + room, before[1]))
            with pytest.raises(RunError, match=r"cannot be written \(File too large\): make room"):
                files.append_jsonl(path, [{"step": 2}, {"step": 3}])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == whole
        tally("records that did not fit: not written in part", 1)


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """Set back by a year, then ahead by two, while no checkpoint is under way."""
    straight = fit(config(steps=12)).states
    year, now, late = 3.2e7, time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: now() + late[0])
    out = tmp_path / "run"
    for steps, jump in ((6, -year), (12, year)):
        left = [3]

        def set_clock(advanced: int, left: list[int] = left, jump: float = jump) -> None:
            left[0] -= advanced
            if left[0] == 0:
                late[0] = jump

        run = config(out, steps=steps, checkpoint_every=6, log_every=6, resume=steps > 6)
        states = fit(run, set_clock).states
    for a, b in zip(states, straight, strict=True):
        assert_same(a.params, b.params)
    assert [line["step"] for line in run_dir.read_metrics(out)] == [6, 12, 12]
    tally("clocks that jump by years", 1)
