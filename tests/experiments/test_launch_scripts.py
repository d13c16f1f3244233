"""The templates in experiments/launch, with programs in place of those that need a cluster."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments import train
from experiments.harness import cli

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "experiments" / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
TRAIN = ["--model", "mlp", "--data", "digits", "--out", "runs/with space"]
STANDS_IN = """#!/usr/bin/env bash
printf '%s|' {name} "$@" >>"$LOG"; echo >>"$LOG"
{does}
"""


class Bench:
    """A folder with programs that log their arguments, and do what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        self.env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(self.log)}

    def stand_in(self, name: str, does: str = "") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STANDS_IN.format(name=name, does=does))
        path.chmod(0o755)

    def bash(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", *args],
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def calls(self, name: str) -> list[list[str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split("|")[1:-1] for line in lines if line.startswith(name + "|")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True, timeout=30)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True, timeout=30)


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (2, False), (1, True), (134, True)])
def test_a_slurm_job_is_requeued_unless_it_is_done_or_refused(
    code: int, requeued: bool, bench: Bench
) -> None:
    bench.stand_in("srun", f"exit {code}")
    bench.stand_in("scontrol")
    script = str(LAUNCH / "train.sbatch")
    assert bench.bash(script, *TRAIN, SLURM_JOB_ID="7").returncode == code
    assert bench.calls("scontrol") == ([["requeue", "7"]] if requeued else [])
    python, *args = bench.calls("srun")[0][1:]
    assert (python, args[:2]) == (".venv/bin/python", ["-m", "experiments.train"])
    flags = cli.parse(train.Flags, args[2:])
    assert (flags.distributed, flags.resume, str(flags.out)) == (True, True, "runs/with space")
    bench.bash(script, SLURM_JOB_ID="7", SLURM_RESTART_COUNT="5")
    assert len(bench.calls("scontrol")) == requeued


def test_a_slurm_job_in_a_container(bench: Bench) -> None:
    bench.stand_in("srun")
    bench.bash(str(LAUNCH / "train.sbatch"), *TRAIN, IMAGE="my cnn.sqsh")
    image, workdir, mounts = bench.calls("srun")[0][1:4]
    assert image == "--container-image=my cnn.sqsh"
    assert workdir == "--container-workdir=/cnn"
    assert mounts == f"--container-mounts={bench.folder}/runs:/cnn/runs"
    assert (bench.folder / "runs").is_dir()


STATES = """case $* in *describe*)
    n=$(wc -l <"$COUNT"); echo >>"$COUNT"
    set -- $STATES; shift "$n"; echo "$1" ;;
*ssh*) exit "${CODE:-0}" ;;
esac"""


def pod(bench: Bench, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run tpu_pod.sh; `STATES` are what the cloud says of the slice, one after another."""
    bench.stand_in("gcloud", STATES)
    (bench.folder / "count").write_text("")
    given = {"NAME": "cnn", "ZONE": "z", "POLL": "0", "COUNT": str(bench.folder / "count")}
    given |= {"REPOSITORY": "https://example.org/cnn"}
    return bench.bash(str(LAUNCH / "tpu_pod.sh"), *args, **given | env)


def test_a_slice_is_queued_for_and_set_up_once_it_is_there(bench: Bench) -> None:
    done = pod(bench, "create", STATES="WAITING_FOR_RESOURCES PROVISIONING ACTIVE", SPOT="1")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.split() == ["WAITING_FOR_RESOURCES", "PROVISIONING"]
    first, *_, last = bench.calls("gcloud")
    assert first == [
        *("compute", "tpus", "queued-resources", "create", "cnn", "--zone=z", "--node-id=cnn"),
        *("--spot", "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"),
    ]
    assert last[:6] == ["compute", "tpus", "tpu-vm", "ssh", "cnn", "--zone=z"]
    assert len(bench.calls("gcloud")) == 5


@pytest.mark.parametrize("share", ["", "10.0.0.2:/runs"])
def test_a_slice_mounts_the_share_that_is_given(bench: Bench, share: str) -> None:
    assert pod(bench, "create", STATES="ACTIVE", SHARE=share).returncode == 0
    setup = bench.log.read_text()
    assert ("nfs-common" in setup) == bool(share)
    assert ("sudo mount 10.0.0.2:/runs /mnt/runs &&" in setup) == bool(share)
    assert "make install EXTRA='tpu bucket'" in setup


def test_a_request_that_failed_is_not_waited_for(bench: Bench) -> None:
    done = pod(bench, "create", STATES="WAITING_FOR_RESOURCES FAILED")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the request is FAILED: delete it")


@pytest.mark.parametrize(
    ("code", "states", "attempts"),
    [
        ("0", "ACTIVE", 1),
        ("2", "ACTIVE", 1),
        ("1", "ACTIVE ACTIVE ACTIVE ACTIVE ACTIVE", 5),
        ("1", "ACTIVE SUSPENDED", 2),
    ],
    ids=["done", "refused", "lost", "preempted"],
)
def test_a_pod_trains_again_while_it_is_there(
    code: str, states: str, attempts: int, bench: Bench
) -> None:
    done = pod(bench, "train", *TRAIN, CODE=code, STATES=states)
    assert done.returncode == int(code)
    sent = [call for call in bench.calls("gcloud") if "ssh" in call]
    assert len(sent) == attempts
    assert ("delete it, create it again" in done.stderr) == ("SUSPENDED" in states)
    assert r"--out runs/with\ space" in sent[0][-1]


def test_a_pod_is_deleted_with_its_hosts(bench: Bench) -> None:
    assert pod(bench, "delete").returncode == 0
    assert bench.calls("gcloud")[0][2:] == [
        *("queued-resources", "delete", "cnn", "--zone=z", "--force", "--quiet")
    ]
    assert pod(bench, "destroy").stderr.startswith("error: unknown action 'destroy'")


def load(name: str) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the templates")
    return yaml.safe_load((LAUNCH / name).read_text())


def test_the_jobset_runs_the_command_on_every_host_of_its_slice() -> None:
    spec = load("jobset.yaml")["spec"]["replicatedJobs"][0]["template"]["spec"]
    [container] = spec["template"]["spec"]["containers"]
    flags = cli.parse(train.Flags, [*container["command"][3:], *container["args"]])
    assert flags.distributed
    assert flags.resume
    selected = spec["template"]["spec"]["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    rows, columns = map(int, selected.split("x"))
    chips = container["resources"]["limits"]["google.com/tpu"]
    assert spec["completions"] == spec["parallelism"] == rows * columns // chips


def test_the_job_of_the_jobset_fits_the_schema_of_kubernetes() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="it has the schemas")
    template = load("jobset.yaml")["spec"]["replicatedJobs"][0]["template"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "cnn"}, **template}
    validate.validate(job, validate.latest_version(), strict=True)


def test_machines_of_skypilot_find_each_other(bench: Bench) -> None:
    """The variables are those that SkyPilot sets on each machine."""
    task = load("skypilot.yaml")
    bench.stand_in(".venv/bin/python")
    (bench.folder / "run.sh").write_text(task["run"])
    ranks = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    bench.bash(
        "run.sh", ARGS="--model mlp --data digits --out a", SKYPILOT_NODE_IPS="a\nb", **ranks
    )
    flags = cli.parse(train.Flags, bench.calls(".venv/bin/python")[0][2:])
    flags.check()
    assert (flags.coordinator, flags.processes, flags.process_id) == ("a:8482", 2, 1)
    assert {name for name, value in task["envs"].items() if value is None} == {"ARGS"}


def slurm(*command: str) -> str:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True, cwd=ROOT
    ).stdout


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Slurm cluster, whose nodes have this clone and its `.venv`. One node will do."""
    if shutil.which("sbatch") is None:
        pytest.skip("sbatch is not installed")
    if subprocess.run(["sinfo"], capture_output=True, timeout=30).returncode:
        pytest.skip("no Slurm cluster answers: sinfo fails")
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("the jobs use .venv, which is not there")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("XLA_FLAGS", raising=False)


def wait_for(what: Callable[[], bool], seconds: float = 240) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until
        time.sleep(0.5)


def process_of_task(task: int, out: Path) -> int:
    """Return the id of the process of a task on this machine that trains into `out`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is another user's
            continue
        of_task = f"SLURM_PROCID={task}".encode() in variables
        if of_task and str(out).encode() in words and words[0].endswith(b"python"):
            return int(folder.name)
    pytest.skip(f"task {task} does not run on this machine: nobody here can kill it")


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_slurm_job_that_loses_a_process_starts_again_and_ends_by_signal(
    nodes: int, tmp_path: Path
) -> None:
    """Two tasks. SIGTERM, which Slurm sends before the time is over, saves."""
    if len(set(slurm("sinfo", "-h", "-N", "-o", "%N").split())) < nodes:
        pytest.skip(f"the cluster has fewer than {nodes} nodes")
    out, log = tmp_path / "run", tmp_path / "log"
    job = slurm(
        *("sbatch", "--parsable", f"--nodes={nodes}", f"--ntasks-per-node={2 // nodes}"),
        *(
            "--gpus-per-node=0",
            "--cpus-per-task=1",
            "--time=30",
            f"--output={log}",
            str(LAUNCH / "train.sbatch"),
        ),
        *("--model", "mlp", "--data", "digits", "--steps", "10000000", "--batch-size", "16"),
        *("--checkpoint-every", "50", "--log-every", "50", "--out", str(out)),
    ).strip()

    def described(words: str) -> bool:
        return words in slurm("scontrol", "show", "job", job)

    def newest() -> int:
        names = [each.name for each in out.glob("checkpoints/*")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    try:
        wait_for(lambda: newest() >= 100)
        os.kill(process_of_task(1, out), signal.SIGKILL)
        wait_for(lambda: described("Restarts=1"))
        before = newest()
        slurm("scontrol", "update", f"JobId={job}", "StartTime=now")
        wait_for(lambda: newest() > before)
        slurm("scancel", "--signal=TERM", job)
        wait_for(lambda: described("JobState=COMPLETED"))
    finally:
        subprocess.run(["scancel", job], timeout=30, check=False)
    assert f"stopped after step {newest()} of 10000000" in log.read_text()


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.usefixtures("cluster")
def test_the_jobs_of_a_slurm_array_share_a_sweep(tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    slurm(
        *("sbatch", "--wait", "--array=0-1", "--gpus=0", "--cpus-per-task=1", "--time=30"),
        *(f"--output={tmp_path}/log-%a", str(LAUNCH / "sweep.sbatch"), "--model", "mlp"),
        *("--data", "digits", "--steps", "20", "--over", "lr=1e-3,1e-2", "--out", str(out)),
    )
    logs = [(tmp_path / f"log-{job}").read_text() for job in range(2)]
    for point in ("lr=1e-3", "lr=1e-2"):
        assert (out / point / "run.json").exists()
        trained = [f"{point}: validation accuracy" in log for log in logs]
        assert sorted(trained) == [False, True]
