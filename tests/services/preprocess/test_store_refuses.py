"""A source on S3 that is denied, gone, cut short or damaged in the middle of the job.

One process with a Ray of its own runs one command after another, through a proxy with the fault of the test.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lungforge.ct.phantoms.generate import phantom_series_uid, write_phantoms
from lungforge.datasets import Dataset, Kind
from lungforge.errors import InputError
from lungforge.storage import join_uri, read_bytes, write_bytes_atomic
from tests.services.command_process import PROGRAM

pytestmark = [pytest.mark.ray, pytest.mark.s3]

SERIES, SIZE, SLICES = 5, 64, 12
UIDS = [phantom_series_uid(3, index, size=SIZE, slices=SLICES) for index in range(SERIES)]
#: The volume with the fault, in the middle of the work.
BAD = 2


@dataclass
class Commands:
    """Runs ``lungforge preprocess``; ``fault`` is what the store does wrong meanwhile."""

    process: subprocess.Popen
    errors: Path
    source: str
    fault: Callable[[str, str], Any] | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)

    def run(self, out: str, *options: str, source: str | None = None) -> tuple[int, str]:
        """The exit code and the stderr of the command."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        before = self.errors.stat().st_size
        self.requests.clear()
        command = ["preprocess", f"--source={source or self.source}", f"--out={out}", "--size=32", "--crops"]
        self.process.stdin.write(json.dumps([*command, *options]) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("exit code"):
                return int(line.split()[-1]), self.errors.read_bytes()[before:].decode()
        raise AssertionError(self.errors.read_text(encoding="utf-8")[-3000:])

    def answer(self, method: str, path: str) -> Any:
        """What the proxy asks for each request."""
        self.requests.append((method, path))
        return None if self.fault is None else self.fault(method, path)


@pytest.fixture(scope="module")
def source(s3_store: str) -> str:
    uri = join_uri(s3_store, secrets.token_hex(8))
    write_phantoms(uri, series=SERIES, seed=3, size=SIZE, slices=SLICES)
    return uri


@pytest.fixture(scope="module")
def process(
    source: str, start_proxy: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("commands")
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="utf-8")
    faults: list[Commands] = []
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "AWS_ENDPOINT_URL": start_proxy(lambda method, path: faults[0].answer(method, path)),
    }
    errors = folder / "errors"
    with (
        errors.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            encoding="utf-8",
        ) as running,
    ):
        faults.append(Commands(running, errors, source))
        yield faults[0]
        assert running.stdin is not None
        running.stdin.close()


@pytest.fixture
def commands(process: Commands) -> Iterator[Commands]:
    yield process
    process.fault = None


@pytest.fixture(scope="module")
def undisturbed(process: Commands, s3_store: str) -> str:
    out = join_uri(s3_store, secrets.token_hex(8))
    code, said = process.run(out)
    assert code == 0, said
    return out


def datasets(out: str) -> list[bytes]:
    """The manifests of the slices and of the crops, whose parts are as they say."""
    for uri, kind in ((out, Kind.SLICES), (join_uri(out, "crops"), Kind.CROPS)):
        Dataset.open(uri, kind).verify()
    return [read_bytes(join_uri(out, name)) for name in ("manifest.json", "crops/manifest.json")]


def voxels(source: str, index: int) -> str:
    return join_uri(source, f"subset{index}", f"{UIDS[index]}.raw")


def is_bad(path: str, ending: str = "raw") -> bool:
    return f"{UIDS[BAD]}.{ending}" in path and "list-type" not in path


def denied(method: str, path: str) -> Any:
    return (403, "AccessDenied") if is_bad(path) else None


def expired(method: str, path: str) -> Any:
    return (400, "ExpiredToken") if is_bad(path) else None


def gone(method: str, path: str) -> Any:
    return (404, "NoSuchKey") if is_bad(path) else None


def header_gone(method: str, path: str) -> Any:
    return (404, "NoSuchKey") if is_bad(path, "mhd") else None


def short(method: str, path: str) -> Any:
    if method != "GET" or not is_bad(path):
        return None
    return lambda content, length: (content[:-100], length - 100)


@pytest.mark.parametrize(
    ("fault", "leaves_with", "words"),
    [
        (denied, 2, "access denied"),
        pytest.param(expired, 2, "credentials have expired", marks=pytest.mark.slow),
        pytest.param(gone, 1, "gone since it was listed", marks=pytest.mark.slow),
        pytest.param(header_gone, 1, "gone since it was listed", marks=pytest.mark.slow),
        pytest.param(short, 1, "bytes arrived", marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_store_that_refuses_ends_the_job_and_mended_it_is_as_if_undisturbed(
    commands: Commands,
    undisturbed: str,
    s3_uri: str,
    fault: Callable[..., Any],
    leaves_with: int,
    words: str,
) -> None:
    commands.fault = fault
    code, said = commands.run(s3_uri)
    last = said.strip().splitlines()[-1]
    assert code == leaves_with, said
    assert last.startswith(f"lungforge preprocess: {commands.source}/subset{BAD}/{UIDS[BAD]}.")
    assert words in last
    assert "rejected" not in said
    assert "; tried again in 0.05 s" in said
    # The request is tried three times before the job ends.
    asked = [method for method, path in commands.requests if fault(method, path)]
    assert max(map(asked.count, asked)) >= 3
    for uri in (s3_uri, join_uri(s3_uri, "crops")):
        with pytest.raises(InputError, match=r"no manifest.json"):
            Dataset.open(uri)
    commands.fault = None
    code, said = commands.run(s3_uri)
    assert code == 0, said
    assert datasets(s3_uri) == datasets(undisturbed)


def test_a_list_that_is_denied_ends_the_job(commands: Commands, s3_uri: str) -> None:
    commands.fault = lambda method, path: (403, "AccessDenied") if "seg-lungs" in path else None
    code, said = commands.run(s3_uri)
    assert (code, said.strip().splitlines()[-1].partition(" (")[0]) == (
        2,
        f"lungforge preprocess: {commands.source}/seg-lungs-LUNA16: access denied",
    )
    with pytest.raises(InputError, match=r"no manifest.json"):
        Dataset.open(s3_uri)


def test_what_looks_damaged_is_read_again(commands: Commands, undisturbed: str, s3_uri: str) -> None:
    asked = []

    def too_short_at_first(method: str, path: str) -> Any:
        if method == "HEAD" and is_bad(path):
            asked.append(path)
            if len(asked) == 1:
                return lambda content, length: (content, length - 100)
        return None

    commands.fault = too_short_at_first
    code, said = commands.run(s3_uri)
    assert code == 0, said
    assert "bad volumes, read once more: 1\n" in said
    assert "rejected" not in said
    assert datasets(s3_uri) == datasets(undisturbed)


@pytest.mark.slow
def test_damage_is_rejected_by_name_and_retried_on_request(
    commands: Commands, undisturbed: str, s3_store: str, s3_uri: str
) -> None:
    source = join_uri(s3_store, secrets.token_hex(8))
    write_phantoms(source, series=SERIES, seed=3, size=SIZE, slices=SLICES)
    whole = read_bytes(voxels(source, BAD))
    write_bytes_atomic(voxels(source, BAD), whole[:-100])
    code, said = commands.run(s3_uri, source=source)
    assert code == 0, said
    assert f"rejected: {UIDS[BAD]}: {source}/subset{BAD}/{UIDS[BAD]}.mhd: its header states" in said
    first = datasets(s3_uri)
    details = Dataset.open(s3_uri).manifest.details
    assert [entry["series_uid"] for entry in details["rejected"]] == [UIDS[BAD]]
    assert sum(subset["volumes"] for subset in details["subsets"].values()) == SERIES - 1

    code, said = commands.run(s3_uri, "--retry-rejected", source=source)
    assert code == 0, said
    assert datasets(s3_uri) == first  # still damaged: nothing changes

    write_bytes_atomic(voxels(source, BAD), whole)
    code, said = commands.run(s3_uri, source=source)
    assert code == 0
    assert "is finished already; it lacks what is rejected (1): --retry-rejected tries that again" in said
    assert datasets(s3_uri) == first

    commands.fault = denied
    code, said = commands.run(s3_uri, "--retry-rejected", source=source)
    assert code == 2, said
    assert datasets(s3_uri) == first

    commands.fault = None
    code, said = commands.run(s3_uri, "--retry-rejected", source=source)
    assert code == 0, said
    mended, other = Dataset.open(s3_uri).manifest, Dataset.open(undisturbed).manifest
    assert mended.details == other.details
    assert [(part.name, part.rows) for part in mended.parts] == [
        (part.name, part.rows) for part in other.parts
    ]
    again = datasets(s3_uri)
    code, said = commands.run(s3_uri, "--retry-rejected", source=source)
    assert "is finished already\n" in said
    assert datasets(s3_uri) == again
