"""A local cluster with the chain run on it, which tests disturb: what they share."""

import dataclasses
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.local.cluster import BUCKET, DASHBOARD, LocalCluster

#: Seconds that anything may take here: far more than it does, even on a busy machine.
PATIENCE_S = 300

#: Of every file; this server keeps empty folders, and lists each as a file of no bytes.
_DIGESTS = """
import hashlib, json, sys, s3fs
store, prefix = s3fs.S3FileSystem(), sys.argv[1]
digests = {path.removeprefix(prefix): hashlib.sha256(store.cat_file(path)).hexdigest()
         for path, entry in store.find(prefix, detail=True).items() if entry["size"]}
print(json.dumps(digests))
"""
_CONTENT = "import sys, s3fs; sys.stdout.write(s3fs.S3FileSystem().cat_file(sys.argv[1]).decode())"


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of the chain.

    Attributes:
        name: The command.
        options: Its options but ``--out``; {chain} is where the undisturbed chain's datasets are, {out} where
            this run's is.
        done: What the files in the store are named that tell how far the work is, below {out}.
        busy: What the processes of Ray are called that do the work.
        spare: Whether a lost host must be back before the next one may go.
    """

    name: str
    options: str
    done: str
    busy: str
    spare: bool = False

    def arguments(self, chain: str, out: str) -> list[str]:
        options = self.options.format(chain=chain, out=out)
        return [self.name, "--out", out, *options.split()]


TRAIN_SUBSETS, TEST_SUBSETS = "0 1 2 3 4 5 6", "7 8 9"
STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            "preprocess",
            "--source {chain}/luna16 --size 32 --slices all --masks derived --crops",
            r"/parts-[^/]+/.*\.parquet",
            r"ray::Map\(preprocess_volume\)",
        ),
        # Two of three hosts train, and the third takes the place of one that is lost.
        Stage(
            "train",
            "--data {chain}/preprocess --preset tiny --network.channel-multipliers 1 "
            "--network.attention-sizes "
            f"--subsets {TRAIN_SUBSETS} --steps 96 --checkpoint-every 4 --keep 100 --workers 2",
            r"/checkpoints/.*/checkpoint\.json",
            r"ray::.*RayTrainWorker",
            spare=True,
        ),
        Stage(
            "sample",
            f"--model {{chain}}/train --data {{chain}}/preprocess --subsets {TRAIN_SUBSETS} --count 48"
            " --part-images 2 --steps 25 --workers 3",
            r"/parts-[^/]+/.*\.parquet",
            r"ray::SamplingActor\.sample",
        ),
        Stage(
            "evaluate",
            f"--real {{chain}}/preprocess --synthetic {{chain}}/sample --subsets {TEST_SUBSETS}"
            " --features {out}-features --workers 3",
            r"-features/.*\.npy",
            r"ray::read_(real|synthetic)_part",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Seen:
    """What there was at a time: addresses that Ray holds for alive, and files with when they were written."""

    time: float
    alive: tuple[str, ...]
    files: dict[str, str]

    def done(self, stage: Stage, out: str) -> dict[str, str]:
        """The files that show the progress of a run."""
        pattern = re.compile(re.escape(out.removeprefix(f"s3://{BUCKET}/")) + stage.done)
        return {name: written for name, written in self.files.items() if pattern.fullmatch(name)}

    def finished(self, out: str) -> bool:
        """Whether a run has written its manifest."""
        return f"{out}/manifest.json".removeprefix(f"s3://{BUCKET}/") in self.files


class Watch:
    """Watches Ray and the store from the head, for as long as that lives."""

    def __init__(self, cluster: LocalCluster) -> None:
        script = Path(__file__).with_name("local_watch.py")
        self._process = cluster.hosts["head"].run(
            [sys.executable, str(script), DASHBOARD, BUCKET], stdout=subprocess.PIPE, encoding="utf-8"
        )
        self._seen: list[Seen] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            record = json.loads(line)
            with self._news:
                self._seen.append(Seen(record["time"], tuple(record["alive"]), record["files"]))
                self._news.notify_all()

    def first(self, what: str, holds: Callable[[Seen], bool], after: float = 0.0, job: Any = None) -> Seen:
        """The first of what is seen after a time for which something holds; waits for it."""
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while True:
                for seen in self._seen:
                    if seen.time >= after and holds(seen):
                        return seen
                assert time.monotonic() < deadline, f"not seen in {PATIENCE_S} s: {what}"
                assert self._process.poll() is None, "nobody watches"
                assert job is None or job.poll() is None, f"the job was over and not seen: {what}"
                self._news.wait(timeout=0.5)

    def now(self) -> Seen:
        """The newest."""
        with self._news:
            return self._seen[-1]


@dataclasses.dataclass(frozen=True)
class Struck:
    """Something was done to a host: to which, when, and what was seen last before."""

    host: str
    time: float
    before: Seen


class Bench:
    """The cluster, what is seen of it, and the chain that ran on it undisturbed.

    Attributes:
        chain: Where the undisturbed chain's datasets are.
        seconds: How long each of its stages took.
    """

    def __init__(self, cluster: LocalCluster, log: Path) -> None:
        self.cluster, self.log = cluster, log
        self.watch = Watch(cluster)
        self.chain = f"s3://{BUCKET}/chain"
        self.seconds: dict[str, float] = {}

    def submit(self, *arguments: str) -> subprocess.Popen:
        with self.log.open("ab") as log:
            return self.cluster.submit(*arguments, stdout=log, stderr=log)

    def finish(self, job: subprocess.Popen) -> None:
        assert job.wait(PATIENCE_S) == 0, self.log.read_text(encoding="utf-8")[-6000:]

    def undisturbed(self, stage: Stage) -> None:
        """Run a stage of the chain, and the ones before it, unless they are done."""
        for earlier in STAGES.values():
            if earlier.name not in self.seconds:
                started = time.monotonic()
                self.finish(self.submit(*earlier.arguments(self.chain, f"{self.chain}/{earlier.name}")))
                self.seconds[earlier.name] = time.monotonic() - started
            if earlier == stage:
                return

    def digests(self, uri: str) -> dict[str, str]:
        """Files below a URI, by their sha256."""
        command = [sys.executable, "-c", _DIGESTS, uri.removeprefix("s3://")]
        done = self.cluster.hosts["s3"].run(command, stdout=subprocess.PIPE, encoding="utf-8")
        said, _ = done.communicate(timeout=PATIENCE_S)
        return {name: value for name, value in json.loads(said).items() if "/tensorboard/" not in name}

    def json(self, uri: str) -> Any:
        """The content of a JSON file."""
        command = [sys.executable, "-c", _CONTENT, uri.removeprefix("s3://")]
        done = self.cluster.hosts["s3"].run(command, stdout=subprocess.PIPE, encoding="utf-8")
        return json.loads(done.communicate(timeout=PATIENCE_S)[0])

    def require_equal(self, stage: Stage, out: str) -> None:
        """The output is that of the undisturbed run, byte for byte, and nothing more."""
        expected = self.digests(f"{self.chain}/{stage.name}")
        assert "/manifest.json" in expected
        found = self.digests(out)
        differing = {name for name in found.keys() | expected if found.get(name) != expected.get(name)}
        assert not differing, sorted(differing)

    def busy(self, stage: Stage) -> list[str]:
        """Workers that are at work on a stage, by the titles of their processes."""
        return [
            name
            for name in self.cluster.workers
            if self.cluster.hosts[name].alive
            and not self.cluster.hosts[name].cut_off
            and any(re.search(stage.busy, title) for title in self.cluster.hosts[name].processes().values())
        ]

    def strike(
        self, stage: Stage, out: str, after: int, job: subprocess.Popen, fault: Callable[[str], None]
    ) -> Struck:
        """As soon as ``after`` pieces of work are done, do something to a host that is at work."""
        self.watch.first(f"{after} done", lambda seen: len(seen.done(stage, out)) >= after, job=job)
        deadline = time.monotonic() + PATIENCE_S
        while not (busy := self.busy(stage)):
            assert job.poll() is None, "the job was over and no host was seen at work"
            assert time.monotonic() < deadline
        before = self.watch.now()
        fault(busy[-1])
        struck = Struck(busy[-1], time.monotonic(), before)
        assert not before.finished(out)
        return struck

    def recovery(self, stage: Stage, out: str, struck: Struck) -> tuple[float, float]:
        """Seconds until Ray noticed that a host is lost, and until a piece of work was done after that."""
        address = self.cluster.hosts[struck.host].address
        noticed = self.watch.first(
            f"{struck.host} lost", lambda seen: address not in seen.alive, after=struck.time
        )
        done = len(noticed.done(stage, out))
        went_on = self.watch.first(
            "more done",
            lambda seen: len(seen.done(stage, out)) > done or seen.finished(out),
            after=noticed.time,
        )
        return noticed.time - struck.time, went_on.time - struck.time

    def mend(self) -> None:
        """Bring every host back that is not up; returns when Ray knows all of them."""
        headless = not self.cluster.hosts["head"].alive
        for name, host in self.cluster.hosts.items():
            if not host.alive or host.cut_off:
                self.cluster.rejoin(name)
        self.cluster.await_workers()
        if headless:
            self.watch = Watch(self.cluster)
