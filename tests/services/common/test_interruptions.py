"""Ctrl-C and SIGTERM while Ray starts, works, or waits for a busy cluster: 130, soon, and no traceback."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ray_head import RayHead

pytestmark = [pytest.mark.ray, pytest.mark.slow]

#: Far more than it takes on an idle machine, and far less than Ray's patience.
SECONDS = 30.0
PROGRAM = """
import sys
import services.cli.main as cli
from services.common.ray_environment import keep_ray_private
keep_ray_private()

def execute(name, arguments):
    import ray
    from services.common.ray_resources import Needs
    from services.common.ray_session import ray_session
    print("starting", flush=True)
    with ray_session(2, Needs(cpus=2)):
        print("inside", file=sys.stderr, flush=True)

        @ray.remote(num_cpus=2)
        def work():
            import time
            time.sleep(600)

        ray.get(work.remote())

cli.execute = execute
sys.exit(cli.main(["preprocess"]))
"""


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with RayHead() as running:
        yield running


class _Job:
    """A job that works for ever on two cores."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
            # As a shell in the foreground has it; and a group of its own, as a terminal interrupts it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, words: str, stream: str = "stderr") -> None:
        lines = []
        for line in getattr(self.process, stream):
            lines.append(line)
            if words in line:
                return
        raise AssertionError(f"it ended before {words!r}: {lines}")

    def interrupt(self, number: signal.Signals, *, group: bool) -> None:
        """Interrupt it; it leaves in time, with the code and a line."""
        started = time.monotonic()
        (os.killpg if group else os.kill)(self.process.pid, number)
        output, errors = self.process.communicate(timeout=120)
        assert time.monotonic() - started < SECONDS
        assert self.process.returncode == 130, errors[-3000:]
        assert "Traceback" not in errors
        assert "lungforge preprocess: interrupted; run the same command again to resume" in errors
        assert output in ("", "starting\n")


@pytest.mark.parametrize(
    ("moment", "number", "group"),
    [
        ("starting", signal.SIGINT, True),
        ("starting", signal.SIGTERM, False),
        ("inside", signal.SIGINT, True),
        ("inside", signal.SIGTERM, False),
    ],
)
def test_while_its_own_ray_starts_and_works(
    own_ray: Callable[[], dict[str, str]], moment: str, number: signal.Signals, group: bool
) -> None:
    job = _Job(own_ray())
    job.wait_for(moment, "stdout" if moment == "starting" else "stderr")
    job.interrupt(number, group=group)


def test_while_it_waits_for_a_busy_cluster(head: RayHead) -> None:
    environment = head.environment | {
        "RAY_ADDRESS": f"127.0.0.1:{head.ports['gcs']}",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    first = _Job(environment)
    first.wait_for("inside")
    second = _Job(environment)
    second.wait_for("waiting for a worker of 2 cores: the cluster has 2 cores and no GPU, of which 0 cores")
    second.interrupt(signal.SIGINT, group=True)
    first.interrupt(signal.SIGINT, group=False)
