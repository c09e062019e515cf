"""A store that answers writes with 503 for a while, or with 403: patience, or a clear error."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lungforge.datasets import Dataset, Kind
from lungforge.errors import InputError
from services.sample.config import SampleConfig
from services.sample.job import run

#: Gives the environment for a process that starts its Ray cluster.
OwnRay = Callable[[], dict[str, str]]

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.s3, pytest.mark.usefixtures("ray_local")]

#: Four parts of four images.
OPTIONS = ["--count=16", "--steps=2", "--part-images=4", "--batch=4", "--workers=2"]


def _config(model: str, slices: str, out: str) -> SampleConfig:
    """The run of those options."""
    return SampleConfig(
        model=model, data=slices, out=out, count=16, steps=2, part_images=4, batch=4, workers=2
    )


def _sample(model: str, slices: str, out: str, endpoint: str, own_ray: OwnRay) -> subprocess.CompletedProcess:
    """``lungforge sample`` against a store at an address."""
    arguments = [f"--model={model}", f"--data={slices}", f"--out={out}", *OPTIONS]
    return subprocess.run(
        [sys.executable, "-m", "services", "sample", *arguments],
        env=own_ray() | {"AWS_ENDPOINT_URL": endpoint},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def _parts(out: str) -> list[tuple[str, int, str]]:
    dataset = Dataset.open(out, Kind.SAMPLES)
    dataset.verify()
    return [(part.path, part.rows, part.sha256) for part in dataset.manifest.parts]


def test_slow_down_is_waited_out(
    model: str,
    slices: str,
    s3_uri: str,
    s3_server: Any,
    tmp_path: Path,
    start_proxy: Callable[..., str],
    own_ray: OwnRay,
) -> None:
    refused = []

    def fault(method: str, path: str) -> tuple[int, str] | None:
        # Every write is refused, until each kind of them has been several times.
        if method == "PUT" and "part-" in path and len(refused) < 8:
            refused.append(path)
            return 503, "SlowDown"
        return None

    done = _sample(model, slices, s3_uri, start_proxy(fault), own_ray)
    assert done.returncode == 0, done.stderr
    assert len(refused) == 8
    run(_config(model, slices, str(tmp_path / "plain")))
    assert _parts(s3_uri) == _parts(str(tmp_path / "plain"))


def test_a_refusal_stops_the_run_by_name_and_what_is_written_stays(
    model: str, slices: str, s3_uri: str, s3_server: Any, start_proxy: Callable[..., str], own_ray: OwnRay
) -> None:
    seen: set[str] = set()

    def fault(method: str, path: str) -> tuple[int, str] | None:
        if method != "PUT" or "part-" not in path:
            return None
        seen.add(path)
        return None if len(seen) <= 2 else (403, "AccessDenied")

    done = _sample(model, slices, s3_uri, start_proxy(fault), own_ray)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "access denied" in last
    assert "the policy of the bucket" in last
    assert s3_uri in last
    assert s3_server.secret_key not in done.stdout + done.stderr
    with pytest.raises(InputError, match=r"no manifest.json"):
        Dataset.open(s3_uri)
    run(_config(model, slices, s3_uri))
    assert sum(rows for _, rows, _ in _parts(s3_uri)) == 16
