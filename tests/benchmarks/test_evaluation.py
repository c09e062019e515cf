"""What the benchmark of an evaluation states of its runs."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks.evaluation import Cost, describe, line
from benchmarks.processes import processor_time

COSTS = [Cost(images, 10 + 0.2 * images, 20 + 0.5 * images, 900) for images in (100, 200, 400)]


def test_the_fixed_part_and_that_of_an_image_are_those_of_the_line():
    assert line(COSTS, lambda cost: cost.seconds) == pytest.approx((10, 0.2))
    words = list(describe("kept", COSTS))
    assert words[0] == "kept, 100 images: 30 s, processors 70 s, at most 900 MB over driver and workers"
    assert words[3] == "kept, seconds: 10 and 0.200 an image; extrapolated to 2000: 410"
    assert words[4] == "kept, processor seconds: 20 and 0.500 an image; extrapolated to 2000: 1020"


def test_of_one_run_nothing_is_extrapolated():
    assert len(list(describe("kept", COSTS[:1]))) == 1


def test_processor_time_is_that_of_this_process_and_of_workers_that_have_ended(monkeypatch):
    monkeypatch.setattr("benchmarks.processes.is_ours", lambda pid: True)
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    with processor_time() as seconds:
        child = subprocess.Popen([sys.executable, "-c", busy])
        started = time.process_time()
        while time.process_time() < started + 0.3:
            pass
        child.wait()
    assert 0.25 < seconds[os.getpid()] < 2.0
    assert 0.3 < seconds[child.pid] < 1.5
