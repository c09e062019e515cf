"""Speed and memory of preprocessing: ``python -m benchmarks.preprocess``.

The data are phantoms of 512x512x120 voxels, with masks. The baseline is one process that only reads the
same volumes and masks with SimpleITK. Baseline, one worker and two workers alternate, so that a machine
that slows down affects all of them; medians are reported. On a machine with other load, wall-clock time is
unreliable (Ray's workers run at low priority); use the processor time of driver, workers and Ray. Jobs have
hundreds of volumes, like real ones, because starting a worker takes about two seconds; they are 8 distinct
volumes under many names. Memory is the peak of driver and Ray workers (Linux's proportional set size), for
8 and for 64 volumes.
"""

import argparse
import dataclasses
import itertools
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import SimpleITK

from benchmarks.processes import cpu_seconds, peak_memory
from lungforge.ct.phantoms.generate import write_phantoms
from services.common.progress import say
from services.common.ray_session import ray_session
from services.preprocess import job
from services.preprocess.config import PreprocessConfig

SIZE, SLICES = 512, 120


@dataclasses.dataclass(frozen=True)
class Timing:
    """Median times of one way to process the volumes."""

    what: str
    seconds: float
    volumes_per_second: float
    times_baseline: float
    cpu_seconds: float
    """Processor time of driver, workers and Ray."""
    cpu_times_baseline: float


def generate(folder: Path, volumes: int) -> None:
    """Generate ``volumes`` phantoms with a mask; those without are removed."""
    # Every fifth has no mask.
    write_phantoms(str(folder), series=volumes + volumes // 4 + 1, size=SIZE, slices=SLICES)
    masks = {path.stem for path in (folder / "seg-lungs-LUNA16").glob("*.mhd")}
    keep = sorted(masks)[:volumes]
    for path in [*folder.glob("subset*/*"), *(folder / "seg-lungs-LUNA16").iterdir()]:
        if path.stem not in keep:
            path.unlink()


def multiply(source: Path, out: Path, times: int) -> None:
    """Replicate each volume under new UIDs, with hard links to the same voxels."""
    for copy in range(times):
        for path in [*source.glob("subset*/*"), *(source / "seg-lungs-LUNA16").iterdir()]:
            target = out / path.parent.name / f"{path.stem}.{copy}{path.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".mhd":
                target.write_text(
                    path.read_text(encoding="utf-8").replace(path.stem, f"{path.stem}.{copy}"),
                    encoding="utf-8",
                )
            else:
                target.hardlink_to(path)
    for table in ("annotations.csv", "candidates_V2.csv"):
        header, *rows = (source / table).read_text(encoding="utf-8").splitlines()
        copied = [row.replace(",", f".{copy},", 1) for row in rows for copy in range(times)]
        (out / table).write_text("\n".join([header, *copied]) + "\n", encoding="utf-8")


def read_all(source: Path) -> None:
    """The baseline: read every volume and mask."""
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    for path in sorted(source.glob("*/*.mhd")):
        SimpleITK.GetArrayViewFromImage(SimpleITK.ReadImage(str(path)))


def process(source: Path, scratch: Path, workers: int, options: dict[str, Any]) -> job.PreprocessResult:
    """Preprocess the source into a new folder."""
    out = scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    return job.run(PreprocessConfig(str(source), str(out), workers=workers, **options))


def time_all(source: Path, scratch: Path, rounds: int, options: dict[str, Any]) -> list[Timing]:
    """Time baseline, one worker and two workers alternately, ``rounds`` times."""
    ways = {
        "reading with SimpleITK, one process": lambda: read_all(source),
        "preprocess, one worker": lambda: process(source, scratch, 1, options),
        "preprocess, two workers": lambda: process(source, scratch, 2, options),
    }
    volumes = len(list(source.glob("subset*/*.mhd")))
    seconds: dict[str, list[float]] = {what: [] for what in ways}
    cpu: dict[str, list[float]] = {what: [] for what in ways}
    # The first round fills the page cache and starts Ray's workers, and is not counted.
    for turn, (what, way) in itertools.product(range(rounds + 1), ways.items()):
        started, cpu_before = time.perf_counter(), cpu_seconds()
        way()
        if turn:
            seconds[what].append(time.perf_counter() - started)
            cpu[what].append(cpu_seconds() - cpu_before)
    wall = {what: statistics.median(values) for what, values in seconds.items()}
    work = {what: statistics.median(values) for what, values in cpu.items()}
    baseline = next(iter(ways))
    return [
        Timing(
            what,
            wall[what],
            volumes / wall[what],
            wall[what] / wall[baseline],
            work[what],
            work[what] / work[baseline],
        )
        for what in ways
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.preprocess", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--volumes", type=int, default=8, help="distinct volumes (default 8)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the timing (default 3)")
    parser.add_argument("--times", type=int, default=48, help="copies of each volume (default 48)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results: dict[str, object] = {"volumes": arguments.volumes, "voxels": [SLICES, SIZE, SIZE]}
    with tempfile.TemporaryDirectory(prefix="lungforge-bench-") as folder, ray_session(2):
        scratch = Path(folder)
        few, many, most = scratch / "few", scratch / "many", scratch / "most"
        say(f"generating {arguments.volumes} volumes")
        generate(scratch / "source", arguments.volumes)
        multiply(scratch / "source", few, 1)
        multiply(scratch / "source", many, 8)
        multiply(scratch / "source", most, arguments.times)
        everything = {"slices": "nodules", "healthy_every": 4, "crops": True}
        for name, source, options in (
            ("centre slices and crops", most, {"crops": True}),
            ("all slices of nodules, every 4th healthy one, crops", many, everything),
        ):
            timings = time_all(source, scratch, arguments.rounds, options)
            results[name] = [
                {"what": "volumes", "volumes": len(list(source.glob("subset*/*.mhd")))},
                *map(dataclasses.asdict, timings),
                {"what": "two workers against one", "times": timings[1].seconds / timings[2].seconds},
            ]
        for source in (few, many):
            with peak_memory() as peak:
                process(source, scratch, 2, everything)
            count = len(list(source.glob("subset*/*.mhd")))
            results[f"peak memory for {count} volumes, MB"] = round(peak[0] / 1e6)
        assert ray.is_initialized()
    if arguments.json:
        print(json.dumps(results))
        return
    for name, value in results.items():
        print(f"{name}: {value}" if not isinstance(value, list) or isinstance(value[0], int) else name)
        if isinstance(value, list) and not isinstance(value[0], int):
            for row in value:
                text = ", ".join(f"{key} {entry:.3g}" for key, entry in row.items() if key != "what")
                print(f"  {row['what']:<38} {text}")


if __name__ == "__main__":
    main()
