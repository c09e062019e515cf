"""Every stage on a store that fails in its middle, in every way; mended, it ends as if undisturbed.

For each stage, one run after another into one place meets a fault, each further on than the last; one more
is killed; the last is undisturbed. What comes out is compared byte for byte with a run that met nothing.
"""

import contextlib
import dataclasses
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lungforge.ct.phantoms.generate import write_phantoms
from lungforge.datasets import Dataset, Kind
from lungforge.storage import join_uri, open_uri, read_bytes
from services.nightly.history import read_history
from tests.long_run import in_the_long_run
from tests.services.command_process import PROGRAM
from tests.services.nightly.test_whole import make_model, write_slices

pytestmark = [in_the_long_run, pytest.mark.slow, pytest.mark.ray, pytest.mark.s3, pytest.mark.timeout(1800)]


def _cut(content: bytes, length: int) -> tuple[bytes, int]:
    return content[: len(content) // 2], length


#: What the store does from some request on; the first half of a body goes only to who reads.
FAULTS: dict[str, Any] = {
    "slow down": (503, "SlowDown"),
    "denied": (403, "AccessDenied"),
    "cut": _cut,
    "broken": (500, "InternalError"),
    "gone": (404, "NoSuchKey"),
    "expired": (400, "ExpiredToken"),
}


class Commands:
    """A process with a Ray of its own that runs one command after another, through a proxy with faults."""

    def __init__(self, folder: Path, start_proxy: Callable[..., str]) -> None:
        self.errors, self._folder = folder / "errors", folder
        self.errors.touch()
        self._token = folder / "token"
        self._token.touch(mode=0o600)
        self._token.write_text(secrets.token_hex(32), encoding="utf-8")
        self._endpoint = start_proxy(self._answer)
        self._process: subprocess.Popen | None = None
        self.requests, self.start, self.fault = 0, sys.maxsize, None
        self.killed = False

    def run(self, command: list[str], *, fault: Any = None, start: int = sys.maxsize) -> tuple[int, str]:
        """The exit code and the stderr of a command; the fault begins at some request, or at the commit."""
        process = self._process or self._start()
        before = self.errors.stat().st_size
        self.requests, self.start, self.fault, self.killed = 0, start, fault, False
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        code = -signal.SIGKILL
        for line in process.stdout:
            if line.startswith("exit code"):
                code = int(line.split()[-1])
                break
        self.fault = None
        if self.killed:
            process.wait()
            self._process = None
        said = self.errors.read_bytes()[before:].decode(errors="replace")
        assert code >= 0 or self.killed, said
        return code, said

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()

    def _start(self) -> subprocess.Popen:
        # What goes wrong is not waited for: the store is asked twice.
        settings = {"AWS_ENDPOINT_URL": self._endpoint, "AWS_MAX_ATTEMPTS": "2", "AWS_RETRY_MODE": "standard"}
        others = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._token)}
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=others | token | settings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                start_new_session=True,
            )
        return self._process

    def _answer(self, method: str, path: str) -> Any:
        self.requests += 1
        commits = method == "PUT" and path.partition("?")[0].endswith(("manifest.json", "provenance.json"))
        if self.fault is None or not (self.requests > self.start or commits):
            return None
        if self.fault == "kill":
            assert self._process is not None
            self.killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            return 500, "InternalError"
        return self.fault if self.fault is not _cut or method == "GET" else None


@pytest.fixture(scope="module")
def commands(
    start_proxy: Callable[..., str], s3_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Commands]:
    running = Commands(tmp_path_factory.mktemp("commands"), start_proxy)
    yield running
    running.close()


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the stages start from."""

    source: str
    slices: str
    model: str
    samples: str


def _sample(slices: str, model: str, out: str) -> list[str]:
    options = ["--count=8", "--steps=2", "--part-images=2", "--batch=2", "--workers=2"]
    return ["sample", f"--model={model}", f"--data={slices}", f"--out={out}", "--subsets", "0", "1", *options]


@pytest.fixture(scope="module")
def inputs(commands: Commands, s3_store: str) -> Inputs:
    place = join_uri(s3_store, secrets.token_hex(8))
    source, slices, model, samples = (join_uri(place, name) for name in ("luna16", "slices", "m", "samples"))
    write_phantoms(source, series=4, seed=3, size=64, slices=12)
    make_model(model, write_slices(slices))
    code, said = commands.run(_sample(slices, model, samples))
    assert code == 0, said
    return Inputs(source, slices, model, samples)


#: The command of each stage, from its input and the place of its output.
STAGES: dict[str, Callable[[Inputs, str], list[str]]] = {
    "preprocess": lambda given, out: [
        "preprocess", f"--source={given.source}", f"--out={out}", "--size=32", "--crops",
    ],
    "train": lambda given, out: [
        "train", f"--data={given.slices}", f"--out={out}", "--subsets", "0", "1", "--preset=tiny",
        "--steps=12", "--batch=4", "--checkpoint-every=2",
    ],
    "sample": lambda given, out: _sample(given.slices, given.model, out),
    "evaluate": lambda given, out: [
        "evaluate", f"--real={given.slices}", f"--synthetic={given.samples}", f"--out={out}",
        "--subsets", "2", "3", "--allow-near-duplicates", f"--features={out}-features",
    ],
    "export": lambda given, out: ["export", f"--data={given.slices}", f"--out={out}", "--format=coco"],
}  # fmt: skip


def content(out: str) -> dict[str, bytes]:
    """The files that a reader of the output finds, by name."""
    if not open_uri(out)[0].exists(f"{out.removeprefix('s3://')}/manifest.json"):
        fs, path = open_uri(out)
        return {name.removeprefix(path): fs.cat_file(name) for name in fs.find(path)}
    dataset = Dataset.open(out)
    dataset.verify()
    names = ["manifest.json", *(part.path for part in dataset.manifest.parts)]
    return {name: read_bytes(join_uri(out, name)) for name in names}


def disturb(commands: Commands, command: list[str], requests: int, after: Callable[[], None]) -> None:
    """Run a command with each fault in turn, further on each time, and kill it at last."""
    kinds = [*FAULTS.items(), ("kill", "kill")]
    for number, (name, fault) in enumerate(kinds):
        code, said = commands.run(command, fault=fault, start=requests * (number + 1) // (len(kinds) + 2))
        after()
        if name == "kill":
            assert code == -signal.SIGKILL, said
            continue
        assert code in (1, 2), f"{name}: {said}"
        assert "Traceback" not in said, f"{name}: {said}"
        assert said.splitlines()[-1].startswith(f"lungforge {command[0]}: "), f"{name}: {said}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_met_every_fault_is_as_if_undisturbed(
    commands: Commands, inputs: Inputs, s3_uri: str, stage: str
) -> None:
    undisturbed, out = join_uri(s3_uri, "undisturbed"), join_uri(s3_uri, "out")
    code, said = commands.run(STAGES[stage](inputs, undisturbed))
    assert code == 0, said
    wanted, requests = content(undisturbed), commands.requests

    def nothing_is_committed() -> None:
        fs, path = open_uri(out)
        assert not fs.exists(f"{path}/manifest.json")
        assert not fs.exists(f"{path}/provenance.json")

    disturb(commands, STAGES[stage](inputs, out), requests, nothing_is_committed)
    code, said = commands.run(STAGES[stage](inputs, out))
    assert code == 0, said
    assert content(out) == wanted


def test_a_night_that_met_every_fault_is_as_if_undisturbed(commands: Commands, s3_uri: str) -> None:
    def night(store: str) -> list[str]:
        options = ["--date=2026-03-01", "--count=4", "--steps=2", "--workers=2"]
        return [
            "nightly",
            f"--store={store}",
            *options,
            "--subsets-of-maps",
            "0",
            "1",
            "--test-subsets",
            "2",
            "3",
        ]

    def measured(store: str) -> tuple[Any, ...]:
        (row,) = read_history(join_uri(store, "history.parquet"))
        folder = join_uri(store, "nights", "2026-03-01")
        samples = Dataset.open(join_uri(folder, "samples"), Kind.SAMPLES)
        samples.verify()
        rows = [part.rows for part in samples.manifest.parts]
        named = dict.fromkeys(("model", "model_sha256", "data", "data_sha256", "reason"), "")
        metrics = json.loads(Dataset.open(join_uri(folder, "report"), Kind.REPORT).read_file("metrics.json"))
        (measures,) = metrics["sets"]
        measures = {name: value for name, value in measures.items() if store not in json.dumps(value)}
        return (
            dataclasses.replace(row, seconds=0.0, **named),
            rows,
            measures,
        )

    undisturbed, store = join_uri(s3_uri, "undisturbed"), join_uri(s3_uri, "store")
    for place in (undisturbed, store):
        make_model(join_uri(place, "models", "small"), write_slices(join_uri(place, "slices")))
    code, said = commands.run(night(undisturbed))
    assert code == 0, said
    wanted, requests = measured(undisturbed), commands.requests

    def nothing_is_recorded() -> None:
        rows = read_history(join_uri(store, "history.parquet"))
        assert [row.status for row in rows] in ([], ["failed"])
        # A run that could not give its lease back keeps others out for a while.
        fs, path = open_uri(store)
        if fs.exists(f"{path}/lease"):
            fs.rm(f"{path}/lease", recursive=True)

    disturb(commands, night(store), requests, nothing_is_recorded)
    code, said = commands.run(night(store))
    assert code == 0, said
    assert measured(store) == wanted
