"""Jobs of Slurm on two nodes: what comes out, what they leave with, and that nothing stays behind."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lungforge.datasets import Dataset, Kind
from tests.cluster.slurm_cluster import BIN, SCRIPT, SlurmCluster, missing

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]
#: A node has one core here, so that two workers need both.
TWO_NODES = ("--nodes=2", "--cpus-per-task=1", "--mem=3G")
TRAIN = "train --data slices --preset tiny --subsets 0 1 2 3 4 5 6 --workers 2"
CHAIN = (
    ("--nodes=1", "phantom --out luna16 --series 10 --size 96 --slices 24"),
    ("--nodes=2", "preprocess --source luna16 --out slices --size 32 --slices nodules"),
    ("--nodes=2", f"{TRAIN} --out store/models/first --steps 10"),
    (
        "--nodes=2",
        "sample --model store/models/first --data slices --out samples --subsets 0 1 2 3 4 5 6 --count 8"
        " --steps 4 --workers 2",
    ),
    ("--nodes=2", "evaluate --real slices --synthetic samples --out report --subsets 7 8 9"),
)


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    """Two nodes, which the jobs of this file share one after another."""
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def chain(slurm: SlurmCluster) -> list[int]:
    """A job a stage, each after the one before; ended."""
    jobs: list[int] = []
    for nodes, command in CHAIN:
        after = [f"--dependency=afterok:{jobs[-1]}", "--kill-on-invalid-dep=yes"] if jobs else []
        # What the user's shell says of another cluster is not meant here.
        elsewhere = {"RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_TOKEN": "of-another-cluster"}
        jobs.append(slurm.submit(command, *TWO_NODES, nodes, *after, **elsewhere))
    for job in jobs:
        slurm.wait_end(job, 240)
        assert slurm.state(job)["ExitCode"] == "0:0", slurm.account(job)
    return jobs


def test_the_chain_runs_on_both_nodes(slurm: SlurmCluster, chain: list[int]) -> None:
    for job, (nodes, command) in zip(chain, CHAIN, strict=True):
        names = "n1 n2" if nodes == "--nodes=2" else "n1"
        assert f"all nodes have joined ({names})" in slurm.output(job), command
        assert not (slurm.folder / f"lungforge-{job}").exists()
    assert Dataset.open(str(slurm.folder / "samples"), Kind.SAMPLES).rows == 8
    report = Dataset.open(str(slurm.folder / "report"))
    assert {parent.kind for parent in report.manifest.parents} == {Kind.SLICES, Kind.SAMPLES}
    assert (slurm.folder / "report" / "report.html").stat().st_size > 1000
    slurm.wait_until_nothing_is_left()


def test_a_night_runs_from_cron(slurm: SlurmCluster, chain: list[int]) -> None:
    # Cron gives hardly any environment: what the job needs is in the line.
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(slurm.folder),
        "SLURM_CONF": slurm.environment["SLURM_CONF"],
    }
    line = (
        f"cd {slurm.folder} && LUNGFORGE_VENV={BIN.parent} LUNGFORGE_JOIN_SECONDS=150"
        f" sbatch --wait --nodes 2 {SCRIPT}"
        " nightly --store store --data slices --date 2026-11-02 --count 8 --steps 4"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=240,
    )
    job = int(done.stdout.split()[-1])
    assert done.returncode == 0, slurm.account(job)
    assert (slurm.folder / "store" / "history.parquet").exists()
    slurm.wait_until_nothing_is_left()


def test_the_exit_code_is_that_of_the_command(slurm: SlurmCluster) -> None:
    job = slurm.submit("preprocess --source nowhere --out slices-of-nothing", *TWO_NODES)
    slurm.wait_end(job)
    assert slurm.state(job)["ExitCode"] == "2:0", slurm.account(job)
    assert slurm.state(job)["JobState"] == "FAILED"
    assert "nowhere" in slurm.account(job)
    # The logs stay where something went wrong, the token never.
    assert sorted(path.name for path in (slurm.folder / f"lungforge-{job}").iterdir()) == [
        "n1.log",
        "n2.log",
        "srun.log",
    ]
    slurm.wait_until_nothing_is_left()


def test_a_stopped_job_saves_and_resumes_and_a_cancelled_one_leaves_nothing(
    slurm: SlurmCluster, chain: list[int]
) -> None:
    command = f"{TRAIN} --out endless --steps 1000000 --checkpoint-every 1000000"
    job = slurm.submit(command, *TWO_NODES, "--gpus-per-node=1")
    slurm.wait_for_line(job, "train: ")
    token_file = slurm.folder / f"lungforge-{job}" / "token"
    assert token_file.stat().st_mode & 0o777 == 0o600
    token = token_file.read_text(encoding="utf-8")
    assert len(token) == 64
    assert token not in slurm.run("scontrol", "show", "job", str(job))
    assert token not in slurm.run("scontrol", "write", "batch_script", str(job), "-")
    commands = slurm.processes().values()
    assert any("ray start" in command for command in commands)
    assert not any(token in command for command in commands)
    resources = slurm.ray_resources(job)
    assert set(resources) == {"n1", "n2"}
    for has in resources.values():
        assert (has["CPU"], has["GPU"]) == (1, 1)
        assert has["memory"] + has["object_store_memory"] == pytest.approx(3 * 2**30, rel=0.01)

    slurm.run("scancel", "--batch", "--signal=TERM", str(job))
    slurm.wait_end(job)
    assert slurm.state(job)["ExitCode"] == "130:0", slurm.account(job)
    saved = int(slurm.wait_for_line(job, "saved: ").split()[1])
    assert saved > 1
    slurm.wait_until_nothing_is_left()

    again = slurm.submit(command, *TWO_NODES)
    steps = slurm.wait_for_line(again, "train: ")
    assert int(steps.split()[1].split("/")[0]) >= saved
    slurm.run("scancel", str(again))
    slurm.wait_end(again)
    assert slurm.state(again)["JobState"] == "CANCELLED"
    slurm.wait_until_nothing_is_left(killed=True)
    assert not (slurm.folder / f"lungforge-{again}" / "token").exists()


@pytest.mark.parametrize("fault", ["its Ray hangs", "its slurmd hangs", "its Ray fails"])
def test_a_node_that_does_not_join_is_named_within_a_minute(slurm: SlurmCluster, fault: str) -> None:
    programs = slurm.folder / fault.replace(" ", "-") / "bin"
    programs.mkdir(parents=True)
    faults = {"its Ray hangs": "exec sleep 1000", "its Ray fails": "echo out of order; exit 1"}
    on_n2 = f'[ "$SLURMD_NODENAME" = n1 ] || {{ {faults.get(fault, "true")}; }}'
    for name, first in (("lungforge", "true"), ("python", "true"), ("ray", on_n2)):
        (programs / name).write_text(f'#!/bin/sh\n{first}\nexec {BIN / name} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    if fault == "its slurmd hangs":
        slurm.slurmd["n2"].send_signal(signal.SIGSTOP)
    expected = "n2 did not join within 50 s" if fault == "its Ray hangs" else "a node was lost"
    began = time.monotonic()
    try:
        job = slurm.submit(
            "show slices", *TWO_NODES, LUNGFORGE_VENV=str(programs.parent), LUNGFORGE_JOIN_SECONDS=""
        )
        line = slurm.wait_for_line(job, f"lungforge.sbatch: {expected}")
        assert time.monotonic() - began < 60
    finally:
        slurm.slurmd["n2"].send_signal(signal.SIGCONT)
    slurm.wait_end(job)
    assert f"lungforge-{job}/NODE.log" in line
    assert slurm.state(job)["ExitCode"] == "1:0", slurm.account(job)
    if fault == "its Ray fails":
        assert "out of order" in (slurm.folder / f"lungforge-{job}" / "n2.log").read_text(encoding="utf-8")
    slurm.wait_until_nothing_is_left(killed=fault == "its slurmd hangs")


@pytest.mark.parametrize("gpus", ["0", "1"])
def test_every_program_runs_inside_of_the_image(slurm: SlurmCluster, gpus: str) -> None:
    # Apptainer is not available: a stand-in records its arguments and runs the rest.
    programs = slurm.folder / f"apptainer-{gpus}"
    programs.mkdir()
    notes = programs / "notes"
    (programs / "apptainer").write_text(
        f"""#!{sys.executable}
import json, os, sys
rest = sys.argv[sys.argv.index("lungforge.sif") + 1 :]
with open({str(notes)!r}, "a") as notes:
    print(json.dumps([sys.argv[1 : -len(rest)], rest[:2]]), file=notes)
os.environ["PATH"] = {str(BIN)!r} + ":" + os.environ["PATH"]
os.execvp(rest[0], rest)
""",
        encoding="utf-8",
    )
    (programs / "apptainer").chmod(0o755)
    job = slurm.submit(
        f"phantom --out {programs}/luna16 --series 1 --size 64 --slices 16",
        "--nodes=1",
        *([f"--gpus-per-node={gpus}"] if gpus != "0" else []),
        PATH=f"{programs}:/usr/bin:/bin",
        LUNGFORGE_VENV="",
        LUNGFORGE_IMAGE="lungforge.sif",
    )
    slurm.wait_end(job)
    assert slurm.state(job)["ExitCode"] == "0:0", slurm.account(job)
    noted = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    here = str(slurm.folder)
    gpu = ["--nv"] if gpus != "0" else []
    assert all(
        options == ["exec", *gpu, "--bind", here, "--pwd", here, "lungforge.sif"] for options, _ in noted
    )
    assert {tuple(rest) for _, rest in noted} >= {
        ("lungforge", "--version"),
        ("ray", "start"),
        ("lungforge", "submit"),
    }
