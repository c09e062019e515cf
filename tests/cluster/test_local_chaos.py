"""The whole chain on hosts in namespaces, while hosts are killed and cut off from the network."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.local.cluster import BUCKET, LocalCluster
from cluster.local.hosts import missing_for_namespaces
from tests.cluster.local_bench import PATIENCE_S, STAGES, Bench
from tests.long_run import in_the_long_run

REASON = missing_for_namespaces()
pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.s3,
    pytest.mark.ray,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("cluster")
    with LocalCluster(folder, workers=3) as cluster:
        phantom = ["phantom", "--out", f"s3://{BUCKET}/chain/luna16", "--series", "30", "--size", "64"]
        # The server makes its first volumes now, for which a busy machine takes longer than a client waits.
        patient = ["env", "AWS_RETRY_MODE=standard", "AWS_MAX_ATTEMPTS=20"]
        command = [*patient, sys.executable, "-m", "services", *phantom, "--slices", "10"]
        drawing = cluster.hosts["s3"].run(command)
        assert drawing.wait(PATIENCE_S) == 0
        yield Bench(cluster, folder / "jobs.log")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tell(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[str], None]]:
    """Prints to the terminal also of a test that passes; when the test is over, every host is up again."""

    def print_uncaptured(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    yield print_uncaptured
    bench.mend()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("preprocess", "sample") else in_the_long_run)
        for name in STAGES
    ],
)
def test_one_host_killed_and_another_cut_off(bench: Bench, tell: Callable[[str], None], name: str) -> None:
    stage, out, cluster = STAGES[name], f"s3://{BUCKET}/disturbed/{name}", bench.cluster
    bench.undisturbed(stage)
    started = time.monotonic()
    job = bench.submit(*stage.arguments(bench.chain, out))
    killed = bench.strike(stage, out, 2, job, cluster.kill)
    if stage.spare:
        bench.recovery(stage, out, killed)
        cluster.rejoin(killed.host)
        cluster.await_workers()
    more = len(bench.watch.now().done(stage, out)) + 1
    cut = bench.strike(stage, out, more, job, cluster.cut)
    bench.finish(job)
    seconds = time.monotonic() - started
    lines = [
        f"{name}: {struck.host} {what}: noticed after {noticed:.1f} s, went on after {went_on:.1f} s"
        for struck, what in ((killed, "killed"), (cut, "cut off"))
        for noticed, went_on in [bench.recovery(stage, out, struck)]
    ]
    tell("\n".join([*lines, f"{name}: {seconds:.0f} s in all, undisturbed {bench.seconds[name]:.0f} s"]))
    bench.require_equal(stage, out)


@in_the_long_run
@pytest.mark.parametrize("name", STAGES)
def test_the_head_killed(bench: Bench, tell: Callable[[str], None], name: str) -> None:
    stage, out, cluster = STAGES[name], f"s3://{BUCKET}/headless/{name}", bench.cluster
    bench.undisturbed(stage)
    job = bench.submit(*stage.arguments(bench.chain, out))
    killed = bench.strike(stage, out, 1, job, lambda busy: cluster.kill("head"))
    assert job.wait(PATIENCE_S) != 0
    bench.mend()
    whole = time.monotonic() - killed.time
    there = bench.watch.first("the store", lambda seen: True).done(stage, out)
    assert set(killed.before.done(stage, out)) <= set(there)
    job = bench.submit(*stage.arguments(bench.chain, out))
    # The workers may have done all of it before they missed their head; then only the manifest is left.
    went_on = bench.watch.first(
        "more done", lambda seen: len(seen.done(stage, out)) > len(there) or seen.finished(out), job=job
    )
    bench.finish(job)
    tell(
        f"{name}: head killed: hosts and Ray up again after {whole:.1f} s, "
        f"the job, submitted again, resumed after {went_on.time - killed.time:.1f} s"
    )
    bench.require_equal(stage, out)
    now = went_on.done(stage, out)
    assert {file: now[file] for file in there} == there, "what was there was not done again"


@in_the_long_run
@pytest.mark.real_data
def test_the_chain_on_luna16(bench: Bench) -> None:
    folder = os.environ.get("LUNGFORGE_REAL_DATA")
    if not folder:
        pytest.skip("LUNGFORGE_REAL_DATA names no folder with luna16_mini")
    out = f"s3://{BUCKET}/luna16"
    for command in (
        # The hosts share the machine's files, as those of a laboratory share its file server.
        f"preprocess --source {folder}/luna16_mini --subsets 0 1 --size 32"
        f" --minimum-diameter-mm 12 --out {out}/slices",
        f"train --data {out}/slices --subsets 0 --preset tiny --network.channel-multipliers 1 "
        f"--network.attention-sizes --steps 12 --workers 3 --batch 6 --out {out}/model",
        f"sample --model {out}/model --data {out}/slices --subsets 0 --count 12 --part-images 4"
        f" --steps 4 --workers 3 --out {out}/samples",
        f"evaluate --real {out}/slices --synthetic {out}/samples --subsets 1 --workers 3 --out {out}/report",
    ):
        bench.finish(bench.submit(*command.split()))
    slices, model, samples, report = (
        bench.json(f"{out}/{name}")
        for name in (
            *(f"{name}/manifest.json" for name in ("slices", "model", "samples")),
            "report/metrics.json",
        )
    )
    assert slices["details"]["rejected"] == []
    assert set(slices["details"]["subsets"]) == {"0", "1"}
    in_subset = {name: counts["slices"] for name, counts in slices["details"]["subsets"].items()}
    assert model["details"]["rows"] == in_subset["0"]
    assert sum(part["rows"] for part in samples["parts"]) == 12
    assert report["real"]["images"] == in_subset["1"]
    assert report["real"]["searched"] == in_subset["0"] + in_subset["1"]
